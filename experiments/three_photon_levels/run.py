"""Does the corridor hold, and does the trace beat the best temporal Gaussian, at three photon levels?

    python -m experiments.three_photon_levels.run [--out FOLDER] [--naomi FOLDER]

Simulates three movies (128×128×2000, seeds, indicators and detectors that no default was chosen on), runs the whole job
on each with default settings, and writes the tables into README.md here and at the root. With the folder of the two NAOMi
movies (600×136×136, `movie_low.tif`, `movie_mid.tif`, `truth.npz`), these too. Interrupted, it goes on. About 5 minutes a
movie on two CPU cores.
"""

from pathlib import Path

import numpy as np
import tyro

from experiments import tables
from experiments.movies import CHOOSING, Reported, check_apart
from experiments.naomi import NAOMI, load_naomi
from udenoise import demonstration
from udenoise.config import Config, MovieConfig, SimulationConfig
from udenoise.demonstration import judge, plain, print_outcomes
from udenoise.io.store import read_json, write_json
from udenoise.io.tiff_writer import write_tiff
from udenoise.pipeline import run
from udenoise.simulate import write_simulation

MOVIES = {
    "0.5 photons": SimulationConfig(
        frames=2000, photons=0.5, decay_s=0.5, rise_s=0.05, gain=60.0, read_noise=8.0, offset=50.0, seed=501
    ),
    "2 photons": SimulationConfig(frames=2000, photons=2.0, decay_s=1.0, rise_s=0.12, event_rate_hz=0.06, seed=502),
    "8 photons, correlated noise": SimulationConfig(
        frames=2000, photons=8.0, decay_s=0.7, correlation_x=0.3, bleaching=0.15, excess_noise=1.4, seed=503
    ),
}
check_apart(CHOOSING, tuple(Reported(name, config) for name, config in MOVIES.items()))


def main(out: Path = Path("experiments-out"), naomi: Path | None = None) -> None:
    """Simulate, run, judge, and write the tables."""
    folder, outcomes, seconds = out / "three-photon-levels", {}, {}
    for number, (name, settings) in enumerate(MOVIES.items()):
        place = folder / str(number)
        if not (place / "simulation" / "simulation.json").is_file():
            write_simulation(settings, place / "simulation")
        outcomes[name], seconds[name] = measure(place, place / "simulation" / "movie.tif", None)
    for name, level in NAOMI.items() if naomi else ():
        place = folder / level
        rate = borrow(naomi, level, place / "simulation")
        outcomes[name], seconds[name] = measure(place, naomi / f"movie_{level}.tif", rate)
    print_outcomes(outcomes)
    write_json(folder / "outcomes.json", {name: plain(o) | {"seconds": seconds[name]} for name, o in outcomes.items()})
    parts = [f"{title}\n\n{tables.grid(rows)}" for title, rows in demonstration.tables(outcomes).items()]
    text = "\n\n".join([*parts, tables.measured(sum(seconds.values()))])
    for readme in (Path(__file__).with_name("README.md"), Path(__file__).parents[2] / "README.md"):
        tables.fill(readme, "three photon levels", text)


def measure(place: Path, movie: Path, frame_rate_hz: float | None) -> tuple:
    """Run the whole job on one movie, compare with its truth; the outcome and the seconds it took."""
    config = Config(movie=MovieConfig(frame_rate_hz=frame_rate_hz))
    run(movie, place / "run", place / "simulation" / "rois.npy", config)
    outcome = judge(place / "run", place / "simulation" / "truth.npz")
    return outcome, sum(read_json(place / "run" / "timing.json").values())


def borrow(naomi: Path, level: str, place: Path) -> float:
    """Write the truth of a NAOMi movie as our own simulations do; its frame rate in Hz."""
    known = load_naomi(naomi, level)
    place.mkdir(parents=True, exist_ok=True)
    np.save(place / "rois.npy", known.rois)
    np.savez(place / "truth.npz", traces=known.traces, frame_rate_hz=known.frame_rate_hz)
    write_tiff(place / "clean.tif", known.clean, known.frame_rate_hz)
    return known.frame_rate_hz


if __name__ == "__main__":
    tyro.cli(main)
