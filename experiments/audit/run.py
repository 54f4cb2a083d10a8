"""Does the audit's error estimate agree with the true error, and does it rank denoisers as the truth does?

    python -m experiments.audit.run [--out FOLDER]

Two movies of the table, the darkest and the brightest, are split into halves; six programs denoise the first: one that blurs, one
that swallows, one of low rank, one that invents, an interpolating network and udenoise itself. The audit judges each by the second
half, without the truth; the truth then judges the audit. About 12 minutes on one CPU core.
"""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
import zarr
from jaxtyping import Float
from scipy import ndimage, stats

import udenoise
from experiments import bench, tables
from experiments.movies import REPORTED
from udenoise import audit, metrics
from udenoise.baselines import METHODS, roi_traces
from udenoise.config import DeepInterpolationConfig, GaussianConfig, MedianConfig, PmdConfig
from udenoise.io import open_movie
from udenoise.io.store import read_json
from udenoise.io.tiff_writer import write_tiff

MOVIES = (REPORTED[0], REPORTED[2])
SEED = 0
LEAST_SNR = 8.0
TEMPLATE_Z, DECAY_FRAMES = 2.0, 20.0
HALF = 0.5
ERRORS = {"movie": "{}", "program": "{}", "pixel: true": "{:.4g}", "estimate": "{:.4g}", "se": "{:.2g}", "z": "{:+.1f}",
          "ROI: true": "{:.4g}", "estimate ": "{:.4g}", "se ": "{:.2g}", "z ": "{:+.1f}", "slope: true": "{:.3f}",
          "estimate  ": "{:.3f}", "z  ": "{:+.1f}"}  # fmt: skip
RANKS = {"movie": "{}", "of": "{}", "by the truth": "{}", "by the audit": "{}", "pairs in order": "{}",
         "of those further apart than 2 se": "{}"}  # fmt: skip
EVENTS = {
    "movie": "{}", "program": "{}", "swallowed": "{}", "right sign": "{:.0%}", "half as large": "{:.0%}", "invented": "{}",
    "right sign ": "{:.0%}", "half as large ": "{:.0%}", "moved": "{}", "flashes lost": "{}", "of these listed": "{:.0%}",
}  # fmt: skip


class Made(NamedTuple):
    """What a program made of the input half (T Y X, counts of it), and what it says of its error."""

    movie: Float[np.ndarray, "T Y X"]
    sd: Float[np.ndarray, "T Y X"] | None = None


def main(out: Path = Path("experiments-out")) -> None:
    """Measure what is not measured yet, and write the tables into README.md beside this file."""
    rows, seconds = [], 0.0
    for movie in MOVIES:
        scene = bench.prepare(movie, out)
        for name in PROGRAMS:
            result = measure(scene, name, out)
            rows.append({"movie": scene.name, "program": name} | result["row"])
            seconds += result["seconds"]
            print(tables.markdown(rows[-1:], ERRORS), flush=True)
    text = "\n\n".join([
        "Mean squared errors (counts²) by the truth and by the audit, its standard error, and their distance in standard errors; "
        "the slope of the measured change on the shown one (all frames of all ROIs; below 1: part of what is shown is not there)",
        tables.markdown(rows, ERRORS), "Order, the best first", tables.markdown(ranks(rows), RANKS),
        "Events that the audit lists at an FDR of 5 %: whether the true difference there, seen through the template, has their "
        "sign, and at least half their size; and planted flashes and dendritic events (SNR 8 and more in the raw movie) of which "
        "the program left less than half",
        tables.markdown(rows, EVENTS), tables.measured(seconds, SEED),
    ])  # fmt: skip
    print(text)
    tables.fill(Path(__file__).with_name("README.md"), "result", text)


def measure(scene: bench.Scene, name: str, out: Path) -> dict[str, Any]:
    """One program on one movie."""
    folder = out / "audits" / scene.folder.parent.name

    def compute() -> dict[str, Any]:
        done = bench.timed(lambda: _measure(scene, name, folder))
        return {"row": done.value, "seconds": done.seconds}

    return bench.cached(out / "rows" / f"audit-{name.replace(' ', '-')}-{scene.folder.parent.name}.json", compute)


def _measure(scene: bench.Scene, name: str, folder: Path) -> dict[str, Any]:
    if not (folder / "audit.json").is_file():
        audit.split(scene.folder / "movie.tif", folder, SEED, quiet=True)
    rate, made = scene.frame_rate_hz, PROGRAMS[name](scene, folder)
    target = folder / f"{name}.tif"
    write_tiff(target, made.movie.astype(np.float32), rate)
    if made.sd is not None:
        write_tiff(folder / f"{name} sd.tif", made.sd.astype(np.float32), rate)
    stated = None if made.sd is None else folder / f"{name} sd.tif"
    scored = audit.score(folder, target, folder / f"score {name}", scene.folder / "rois.npy", stated, quiet=True)
    shown = made.movie - np.float32(read_json(folder / "audit.json")["offset_added"])
    return beside(scene, shown, read_json(scored / "score.json")) | listed(scene, shown, scored / "events.csv")


def beside(scene: bench.Scene, shown: np.ndarray, said: dict[str, Any]) -> dict[str, Any]:
    """Estimates and truth."""
    error = shown - scene.clean
    traces = roi_traces(shown, scene.weights)
    wrong = traces - scene.truth
    change = traces - traces.mean(1, keepdims=True)
    unit = np.sqrt(scene.noise_variance)[:, None]  # as the audit weighs ROIs
    slope = 1 - float((change * (wrong - wrong.mean(1, keepdims=True)) / unit**2).sum() / (change**2 / unit**2).sum())
    pixel, roi, all_frames = said["pixel"], said["roi"], said["amplitude"][-1]
    true_pixel, true_roi = float(np.mean(np.square(error), dtype=np.float64)), float(np.mean(wrong**2))
    return {
        "pixel: true": true_pixel, "estimate": pixel["error"], "se": pixel["error_se"],
        "z": (pixel["error"] - true_pixel) / pixel["error_se"], "ROI: true": true_roi, "estimate ": roi["error"],
        "se ": roi["error_se"], "z ": (roi["error"] - true_roi) / roi["error_se"], "slope: true": slope,
        "estimate  ": all_frames["slope"], "z  ": (all_frames["slope"] - slope) / all_frames["se"],
        "stated": None if said["coverage"] is None else said["coverage"]["pixel"][-1]["ratio"]["value"],
    }  # fmt: skip


def listed(scene: bench.Scene, shown: np.ndarray, table: Path) -> dict[str, Any]:
    """The listed events against the truth."""
    with table.open(newline="", encoding="utf-8") as file:
        events = list(csv.DictReader(file))
    missing = scene.clean - shown
    row: dict[str, Any] = {"moved": sum(event["kind"] == "moved" for event in events)}
    for kind, blank in (("swallowed", ""), ("invented", " ")):
        some = [event for event in events if event["kind"] == kind]
        share = np.array([_through(missing, event) / float(event["height"]) for event in some])
        row |= {kind: len(some), f"right sign{blank}": float(np.mean(share > 0)) if some else None}
        row |= {f"half as large{blank}": float(np.mean(share >= HALF)) if some else None}
    seen = metrics.footprint_traces(shown - np.float32(scene.offset), scene.rare.planted.footprint)
    left = metrics.recovered_amplitudes(scene.rare.planted, seen, scene.rare.truth)
    lost = np.flatnonzero((scene.rare.roi < 0) & (scene.rare.snr >= LEAST_SNR) & (left < HALF))
    told = [_told(scene, k, [event for event in events if event["kind"] == "swallowed"]) for k in lost]
    return row | {"flashes lost": len(lost), "of these listed": float(np.mean(told)) if told else None}


def _through(frames: np.ndarray, event: dict[str, str]) -> float:
    """Height of an event's template, as the audit measures it: least squares."""
    first, y, x = (int(event[name]) for name in ("frame", "y", "x"))
    ys, xs = np.ogrid[: frames.shape[1], : frames.shape[2]]
    spot = np.exp(-((ys - y) ** 2 + (xs - x) ** 2) / (2 * float(event["sigma_px"]) ** 2))
    part = frames[first : first + int(event["frames"])]
    return float((part * spot).sum() / ((spot**2).sum() * max(len(part), 1)))


def _told(scene: bench.Scene, k: int, events: list[dict[str, str]]) -> bool:
    """Whether an event is listed at the place and time of a planted one."""
    footprint, start = scene.rare.planted.footprint[k], int(scene.rare.planted.start[k])
    stop = start + int((scene.rare.planted.course[k] > 0.2).sum())
    distance = ndimage.distance_transform_edt(footprint <= 0.2 * footprint.max())
    return any(
        int(event["frame"]) < stop and int(event["frame"]) + int(event["frames"]) > start
        and distance[int(event["y"]), int(event["x"])] <= 1.5 * float(event["sigma_px"])
        for event in events
    )  # fmt: skip


def ranks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both orders of each movie's programs."""
    table = []
    for movie in MOVIES:
        some = [row for row in rows if row["movie"] == movie.name]
        for of, true, estimate, se in (
            ("pixels", "pixel: true", "estimate", "se"),
            ("ROIs", "ROI: true", "estimate ", "se "),
        ):
            truth, said, doubt = (np.array([row[name] for row in some]) for name in (true, estimate, se))
            first, second = np.triu_indices(len(some), 1)
            right = np.sign(truth[first] - truth[second]) == np.sign(said[first] - said[second])
            apart = np.abs(said[first] - said[second]) > 2 * np.hypot(doubt[first], doubt[second])
            names = [row["program"] for row in some]
            table.append({
                "movie": movie.name, "of": of, "by the truth": ", ".join(names[i] for i in np.argsort(truth)),
                "by the audit": ", ".join(names[i] for i in np.argsort(said)), "pairs in order": f"{right.sum()} of {len(right)}",
                "of those further apart than 2 se": f"{(right & apart).sum()} of {apart.sum()}",
            })  # fmt: skip
    return table


def _baseline(name: str, settings: Any, scene: bench.Scene, folder: Path) -> Made:
    return Made(METHODS[name].denoise(_input(folder), settings, SEED, True).movie)


def _input(folder: Path) -> Float[np.ndarray, "T Y X"]:
    movie = open_movie(folder / "input.tif")
    return movie.read(0, len(movie)).astype(np.float32)


def templates(scene: bench.Scene, folder: Path) -> Made:
    """Smooths, and draws a whole transient wherever a cell's trace is twice its noise above its median: most of them are none."""
    smooth = METHODS["gaussian"].denoise(_input(folder), GaussianConfig(3.0, 1.0), SEED, True).movie
    traces, kernel = roi_traces(smooth, scene.weights), np.exp(-np.arange(60) / DECAY_FRAMES)
    rest = np.median(traces, 1, keepdims=True)
    sd = (rest[:, 0] - np.quantile(traces, stats.norm.cdf(-1), axis=1))[:, None]
    starts = (traces > rest + TEMPLATE_Z * sd) & (ndimage.maximum_filter1d(traces, 15, axis=1) == traces)
    shown = np.stack([np.convolve(row, kernel)[: traces.shape[1]] for row in starts.astype(float)])
    height = np.quantile(traces - rest, 0.99, axis=1)[:, None]
    added = np.tensordot((shown * height).T, scene.weights > 0, 1)
    return Made((np.median(smooth, 0) + added).astype(np.float32))


def ourselves(scene: bench.Scene, folder: Path) -> Made:
    """udenoise, trained on the input half for a quarter of its usual steps."""
    config = udenoise.Config(train=bench.training(False))
    run = udenoise.run(folder / "input.tif", folder / "udenoise", scene.folder / "rois.npy", config, quiet=True)
    shown = zarr.open_group(run / "posterior.zarr", mode="r")
    return Made(*(np.asarray(shown[f"{name}/0"], np.float32) for name in ("mean", "sd")))


_SMALL = DeepInterpolationConfig(widths=(16, 32, 64, 128, 256), steps=400)
PROGRAMS: dict[str, Callable[[bench.Scene, Path], Made]] = {
    "blurs (Gaussian, 6 frames, 2 px)": partial(_baseline, "gaussian", GaussianConfig(6.0, 2.0)),
    "swallows (median of 13 frames)": partial(_baseline, "temporal-median", MedianConfig(13)),
    "low rank (pmd)": partial(_baseline, "pmd", PmdConfig()),
    "invents (templates)": templates,
    "interpolates (DeepInterpolation, small)": partial(_baseline, "deepinterpolation", _SMALL),
    "udenoise": ourselves,
}

if __name__ == "__main__":
    tyro.cli(main)
