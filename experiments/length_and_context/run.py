"""How long must a movie be, how many frames should the network see, and what does the frame rate change?

    python -m experiments.length_and_context.run [--out FOLDER] [--full]

Movies of 200 to 20,000 frames; contexts of 2 to 60 frames on each side; 2.5 to 60 Hz with as many photons per second. Fields of
64×64 pixels unless in full. About 45 minutes on one CPU core.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

import udenoise
from experiments import bench, tables
from experiments.movies import Reported
from udenoise.config import PopulationConfig, SimulationConfig

FRAMES, CONTEXTS, RATES_HZ = (200, 600, 2000, 6000, 20000), (2, 5, 12, 30, 60), (2.5, 7.0, 15.0, 30.0, 60.0)
BASE = SimulationConfig(
    frames=2000, height=64, width=64, cells=8, photons=1.0, population=PopulationConfig("GCaMP6f"), seed=650
)
COLUMNS = {
    "frames": "{}", "Hz": "{:g}", "context": "{}", "of Gaussian's": "{:.2f}", "of Wiener's": "{:.2f}", "fast": "{:.2f}",
    "amplitude": "{:.2f}", "95 % holds": "{:.1%}", "95 % fast": "{:.1%}", "sd/RMSE": "{:.2f}", "seconds": "{:.0f}",
}  # fmt: skip


def main(out: Path = Path("experiments-out"), full: bool = False) -> None:
    """Measure what is not measured yet, and write the tables into README.md beside this file."""
    base = replace(BASE, height=256, width=256, cells=None) if full else BASE
    parts = {
        "Length of the movie (trained on itself)": [(replace(base, frames=n), None) for n in FRAMES],
        "Context on each side": [(base, context) for context in CONTEXTS],
        "Frame rate, as many photons per second": [
            (replace(base, frame_rate_hz=rate, photons=base.photons * base.frame_rate_hz / rate, seed=651 + k), None)
            for k, rate in enumerate(RATES_HZ)
        ],
    }
    texts, seconds = [], 0.0
    for title, movies in parts.items():
        rows = [measure(config, context, full, out) for config, context in movies]
        seconds += sum(row["seconds"] for row in rows)
        texts += [title, tables.markdown(rows, COLUMNS)]
        print("\n\n".join(texts[-2:]), flush=True)
    tables.fill(Path(__file__).with_name("README.md"), "result", "\n\n".join([*texts, tables.measured(seconds)]))


def measure(config: SimulationConfig, context: int | None, full: bool, out: Path) -> dict[str, Any]:
    """One row: our error against the best Gaussian's and the Wiener filter's on the same movie."""
    scene = bench.prepare(Reported(f"{config.frames} frames at {config.frame_rate_hz:g} Hz", config), out)
    settings = udenoise.Config(network=udenoise.NetworkConfig(context=context), train=bench.training(full))
    result, gaussian = bench.measure_ours(scene, settings, out), bench.measure_baseline(scene, "temporal-gaussian", out)
    row, other = result["row"], gaussian["row"]
    used = udenoise.load_denoiser(bench.run_folder(scene, settings, out) / "denoiser").config.context
    return {
        "frames": config.frames, "Hz": config.frame_rate_hz, "context": used,
        "of Gaussian's": row["roi_error"] / other["roi_error"],
        "of Wiener's": row["roi_error"] / bench.measure_wiener(scene, out)["row"]["roi_error"],
        "fast": row["fast_error"] / other["fast_error"], "amplitude": row["amplitude"], "95 % holds": row["coverage_95"],
        "95 % fast": row["fast_coverage_95"], "sd/RMSE": row["sd_ratio"], "seconds": result["seconds"],
    }  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
