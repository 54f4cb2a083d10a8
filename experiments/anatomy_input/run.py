"""What does the network gain from seeing the anatomy?

    python -m experiments.anatomy_input.run [--out FOLDER] [--full]

The same network without anatomy (absolute output), with the mean image as a baseline only, as an input, with the variance above
noise, with the correlation image; on two movies, and on the second one without any activity, where all change is invented.
About 45 minutes on one CPU core.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tyro

import udenoise
from experiments import bench, tables
from experiments.movies import null, reported
from udenoise import metrics

CHOICES = {
    "none": "nothing (absolute output)", "baseline": "mean as baseline only", "mean": "+ mean as input (default)",
    "std": "+ variance above noise", "correlation": "+ correlation image",
}  # fmt: skip
COLUMNS = {
    "movie": "{}", "anatomy": "{}", "ROI error": "{:.3f}", "fast": "{:.3f}", "pixel error": "{:.3f}", "wobble": "{:.4f}",
    "amplitude": "{:.2f}", "rare kept": "{:.2f}", "95 % holds": "{:.1%}",
}  # fmt: skip
NULL_COLUMNS = {
    "anatomy": "{}", "ROI change": "{:.2%}", "pixel change": "{:.2%}", "wobble": "{:.4f}", "events / ROI / minute": "{:.2f}",
}  # fmt: skip


def main(out: Path = Path("experiments-out"), full: bool = False) -> None:
    """Measure what is not measured yet, and write the tables into README.md beside this file."""
    movies = reported(full)[:2]
    rows, seconds = [], 0.0
    for movie in movies:
        scene = bench.prepare(movie, out)
        raw = bench.measure_baseline(scene, "raw", out)["row"]
        for choice, name in CHOICES.items():
            result = bench.measure_ours(scene, settings(choice, full), out)
            seconds += result["seconds"]
            rows.append({"movie": scene.name, "anatomy": name} | figures(result, raw))
    flat, nothing = bench.prepare(null(movies[1]), out), []
    for choice, name in CHOICES.items():
        result = measure_null(flat, settings(choice, full), out)
        seconds += result["seconds"]
        nothing.append({"anatomy": name} | result)
    text = "\n\n".join([
        "Errors are mean squared, of the raw movie's (ROIs: 1 is no gain).", tables.markdown(rows, COLUMNS),
        f"{flat.name}: what changes in time although nothing does, standard deviation of its brightness.",
        tables.markdown(nothing, NULL_COLUMNS), tables.measured(seconds),
    ])  # fmt: skip
    print(text)
    tables.fill(Path(__file__).with_name("README.md"), "result", text)


def settings(choice: str, full: bool) -> udenoise.Config:
    """The settings of a run."""
    return udenoise.Config(network=udenoise.NetworkConfig(anatomy=choice), train=bench.training(full))


def figures(result: dict[str, Any], raw: dict[str, float]) -> dict[str, Any]:
    """The columns of the first table."""
    row = result["row"]
    return {
        "ROI error": row["roi_error"] / raw["roi_error"], "fast": row["fast_error"] / raw["fast_error"],
        "pixel error": row["pixel_error"] / raw["pixel_error"], "wobble": row["wobble"], "amplitude": row["amplitude"],
        "rare kept": bench.rare_kept(result), "95 % holds": row["coverage_95"],
    }  # fmt: skip


def measure_null(scene: bench.Scene, config: udenoise.Config, out: Path) -> dict[str, Any]:
    """What a denoiser makes of a movie in which nothing happens."""

    def compute() -> dict[str, Any]:
        result = bench.timed(lambda: bench.ours(scene, config, out))
        movie, estimate = result.value
        return invented(scene, movie, estimate.mean) | {"seconds": result.seconds}

    return bench.cached(out / "rows" / f"null-{bench.key_of(scene.folder.parent.name, config)}.json", compute)


def invented(scene: bench.Scene, movie: np.ndarray, traces: np.ndarray) -> dict[str, float]:
    """Temporal spread of ROIs, of pixels and of the pattern within cells; events at five times a trace's own spread."""
    bright = scene.truth.mean(1) - scene.offset
    ripple = metrics.add_wobble(metrics.start_wobble(scene.weights > 0), movie, scene.clean, scene.offset)
    z = metrics.z_scores(traces)
    starts = (z[:, 1:] > 5) & (z[:, :-1] <= 5)
    minutes = movie.shape[0] / scene.frame_rate_hz / 60
    inside = (scene.weights > 0).any(0)
    return {
        "ROI change": float(np.median((traces - scene.truth).std(1) / bright)),
        "pixel change": float(np.median(((movie - scene.clean).std(0) / (scene.clean.mean(0) - scene.offset))[inside])),
        "wobble": float(np.median(metrics.wobble(ripple))),
        "events / ROI / minute": float(starts.sum() / len(traces) / minutes),
    }


if __name__ == "__main__":
    tyro.cli(main)
