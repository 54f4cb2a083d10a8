"""Does the corridor hold, and does the trace beat the best temporal Gaussian, at three photon levels?

    python experiments/three_photon_levels/run.py [FOLDER]

Simulates three movies (128×128×2000, seeds, indicators and detectors that no default was chosen on), runs the whole job
on each with default settings, and writes `table.md` and `outcomes.json` into FOLDER (default: three-photon-levels).
Interrupted, it goes on. Expected: see README.md beside this file. About 8 minutes a movie on two CPU cores.
"""

import sys
import time
from pathlib import Path

from udenoise.config import Config, SimulationConfig
from udenoise.demonstration import judge, markdown, plain, print_outcomes, write_simulation
from udenoise.io.store import read_json, write_json
from udenoise.pipeline import run

MOVIES = {
    "0.5 photons": SimulationConfig(
        frames=2000, photons=0.5, decay_s=0.5, rise_s=0.05, gain=60.0, read_noise=8.0, offset=50.0, seed=301
    ),
    "2 photons": SimulationConfig(frames=2000, photons=2.0, decay_s=1.0, rise_s=0.12, event_rate_hz=0.06, seed=302),
    "8 photons, correlated noise": SimulationConfig(
        frames=2000, photons=8.0, decay_s=0.7, correlation_x=0.3, bleaching=0.15, excess_noise=1.4, seed=303
    ),
}


def main(folder: Path) -> None:
    """Simulate, run, judge, and write the table."""
    outcomes, seconds = {}, {}
    for number, (name, settings) in enumerate(MOVIES.items()):
        place = folder / str(number)
        if not (place / "simulation" / "truth.npz").is_file():
            write_simulation(settings, place / "simulation")
        run(place / "simulation" / "movie.tif", place / "run", place / "simulation" / "rois.npy", Config())
        outcomes[name] = judge(place / "run", place / "simulation" / "truth.npz")
        seconds[name] = sum(read_json(place / "run" / "timing.json").values())
    print_outcomes(outcomes)
    write_json(folder / "outcomes.json", {name: plain(o) | {"seconds": seconds[name]} for name, o in outcomes.items()})
    (folder / "table.md").write_text(markdown(outcomes) + f"\n\n{time.strftime('%Y-%m-%d')}; seconds a movie: "
                                     + ", ".join(f"{s:.0f}" for s in seconds.values()) + "\n")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("three-photon-levels"))
