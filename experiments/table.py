"""All methods × all movies: the table that README shows, and what experiments on rare events and on the SNR illusion read.

    python -m experiments.table [--out FOLDER] [--naomi FOLDER] [--add NAME=DENOISED.tif …] [--full]

`--add` scores a movie that another program made of a movie of the table, in counts of the raw one. Which one is seen from
its mean image, or said: `--add 'SUPPORT@GCaMP6s, 2 photons=out.tif'`. The raw movies lie in FOLDER/movies/…/simulation.
Filters are given the best setting with the truth of the very movie; networks train on the movie itself; udenoise runs with
its default settings and never sees the truth. Interrupted, it goes on. About half an hour a movie on one CPU core.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import udenoise
from experiments import bench, foreign, tables
from experiments.movies import reported
from experiments.naomi import NAOMI, load_naomi
from udenoise import metrics
from udenoise.baselines import roi_traces
from udenoise.errors import InputError
from udenoise.io.tiff_writer import write_tiff

README = Path(__file__).parents[1] / "README.md"
NETWORKS = {
    "noise2void": {"widths": (16, 32), "steps": 500, "decay": 0.3},
    "deepinterpolation-small": {"steps": 2500, "decay": 0.3},
    "deepinterpolation": {"steps": 500, "crop": 32, "decay": 0.3},
}
"""What two cores can train; `--full` takes each network's own number of steps."""
FILTERS = ("raw", "temporal-gaussian", "gaussian", "temporal-median", "pmd")
BOUND, OURS, WITHOUT = "oracle Wiener (bound)", "udenoise", "udenoise --no-innovations"
COLUMNS = {
    "movie": "{}", "method": "{}", "ROI error": "{:.2f}", "levelled": "{:.2f}", "fast": "{:.2f}",
    "amplitude": "{:.2f}", "missed": "{:.0%}",
    "invented": "{:.0%}", "rare kept": "{:.2f}", "wobble": "{:.3f}", "95 % holds": "{:.1%}", "in events": "{:.1%}",
    "pixel SNR": "{:.0f}×", "ROI SNR": "{:.1f}×", "samples": "{:,}", "seconds": "{:.0f}",
}  # fmt: skip
HELD = {"movie": "{}", "method": "{}", "frames": "{}", **{f"{q} %": "{:.1%}" for q in (50, 80, 90, 95, 99)}, "width 95 %": "{:.2f}",
        "sd/RMSE": "{:.2f}", "CRPS": "{:.3g}"}  # fmt: skip
HELD_TITLE = (
    "How often corridors hold the truth, and how wide they are beside the narrowest constant band that holds as often"
)
LEGEND = """ROI error: mean squared, of the best temporal Gaussian's; levelled: the same when every trace is given its true mean;
fast: in the fastest 3 % of frames; amplitude: of events, 1 is true; missed and invented: events at five times the
trace's own spread; rare kept: median share left of planted one-off local events with a matched-filter SNR of at least
8; wobble: spread of the pattern within a cell, of its brightness; 95 % holds: how often the corridor holds the truth;
SNR: gain over raw, of single pixels and of ROIs; samples: crops a network was trained on, of udenoise at most;
seconds: of `udenoise --no-innovations` beyond those of `udenoise`, whose network it has."""


def main(
    out: Path = Path("experiments-out"),
    naomi: Path | None = None,
    add: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=DENOISED.tif")] = (),
    full: bool = False,
) -> None:
    """Measure what is not measured yet, and write the table into README.md."""
    scenes = [bench.prepare(movie, out) for movie in reported(full)]
    scenes += [] if naomi is None else [naomi_scene(naomi, name, out) for name in NAOMI]
    others = [foreign.parse(entry, scenes) for entry in add]
    rows, held, seconds = [], [], 0.0
    for scene in scenes:
        results = measure(scene, out, full)
        seconds += sum(r["seconds"] for r in results.values())
        held += [row for name in (OURS, WITHOUT) for row in holds(scene.name, name, results[name]["row"])]
        results |= {other.method: foreign.measure(scene, other.path) for other in others if other.movie == scene.name}
        rows += [line(scene.name, name, result, results) for name, result in results.items()]
        print(tables.markdown(rows, COLUMNS), flush=True)
    text = "\n\n".join([
        said(rows), LEGEND, tables.markdown(rows, COLUMNS), HELD_TITLE, tables.markdown(held, HELD), tables.measured(seconds),
    ])  # fmt: skip
    tables.fill(README, "table", text)


def measure(scene: bench.Scene, out: Path, full: bool) -> dict[str, dict[str, Any]]:
    """The results of all methods on one movie, by name."""
    found = {name: bench.measure_baseline(scene, name, out) for name in FILTERS}
    found |= {name: bench.measure_baseline(scene, name, out, **({} if full else how)) for name, how in NETWORKS.items()}
    usual, without = udenoise.Config(), udenoise.Config(denoise=udenoise.DenoiseConfig(innovations=False))
    return found | {
        BOUND: bench.measure_wiener(scene, out), OURS: bench.measure_ours(scene, usual, out),
        WITHOUT: bench.measure_ours(scene, without, out, like=usual),
    }  # fmt: skip


def holds(movie: str, method: str, row: dict[str, float]) -> list[dict[str, Any]]:
    """Coverage of our corridors at all levels."""
    kinds = {"all": "coverage", "fastest 3 %": "fast_coverage", "events": "event_coverage", "events it shows": "seen_coverage",
             "poorest tenth of ROIs": "poorest_coverage", "whole trace at once": "simultaneous_coverage"}  # fmt: skip
    names = {f"{q} %": q for q in (50, 80, 90, 95, 99)}
    rows = [
        {"movie": movie, "method": method, "frames": kind} | {n: row[f"{key}_{q}"] for n, q in names.items()}
        for kind, key in kinds.items()
    ]
    return [
        rows[0] | {"width 95 %": row["relative_width_95"], "sd/RMSE": row["sd_ratio"], "CRPS": row["crps"]},
        *rows[1:],
    ]


def said(rows: list[dict[str, Any]]) -> str:
    """What the table says of udenoise, from its own numbers."""

    def span(method: str, column: str, form: str) -> str:
        values = [row[column] for row in rows if row["method"] == method and row[column] is not None]
        return f"{form.format(min(values))} to {form.format(max(values))}" if values else "–"

    share, percent = "{:.2f}", "{:.0%}"
    return (
        f"udenoise, with nothing chosen on these movies: ROI error {span(OURS, 'ROI error', share)} of the best temporal\n"
        f"Gaussian's (oracle Wiener filter: {span(BOUND, 'ROI error', share)}); the 95 % corridor holds "
        f"{span(OURS, '95 % holds', percent)} of frames,\n{span(OURS, 'in events', percent)} in events; planted one-off "
        f"events keep {span(OURS, 'rare kept', share)} of their amplitude\n"
        f"({span(WITHOUT, 'rare kept', share)} with `--no-innovations`)."
    )


def line(movie: str, method: str, result: dict[str, Any], results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One row of the table."""
    row, gaussian, raw = (r["row"] for r in (result, results["temporal-gaussian"], results["raw"]))
    ratio = {name: row[name] / gaussian[name] for name in ("roi_error", "fast_error")}
    gain = {name: row[name] / raw[name] if name in row else None for name in ("pixel_snr", "roi_snr")}
    return {
        "movie": movie, "method": method, "ROI error": ratio["roi_error"],
        "levelled": row["levelled_error"] / gaussian["levelled_error"], "fast": ratio["fast_error"],
        "amplitude": row["amplitude"], "missed": 1 - row["z_recall"], "invented": 1 - row["z_precision"],
        "rare kept": bench.rare_kept(result), "wobble": row.get("wobble"), "95 % holds": row.get("coverage_95"),
        "in events": row.get("event_coverage_95"), "pixel SNR": gain["pixel_snr"], "ROI SNR": gain["roi_snr"],
        "samples": samples(result), "seconds": result["seconds"],
    }  # fmt: skip


def samples(result: dict[str, Any]) -> int | None:
    """How many crops a network was trained on; of udenoise, which may stop earlier, the most."""
    own = result["settings"].get("train")
    return own["steps"] * own["batch"] if own else result.get("about", {}).get("samples")


def naomi_scene(folder: Path, name: str, out: Path) -> bench.Scene:
    """A NAOMi movie as a scene without planted events."""
    level = NAOMI[name]
    known, place = load_naomi(folder, level), out / "movies" / f"naomi-{level}" / "simulation"
    movie = udenoise.open_movie(folder / f"movie_{level}.tif").read(0, len(known.clean))
    if not (place / "movie.tif").is_file():
        place.mkdir(parents=True, exist_ok=True)
        np.save(place / "rois.npy", known.weights)
        write_tiff(place / "movie.tif", movie, known.frame_rate_hz)
    movie = movie.astype(np.float32)
    variance = metrics.roi_error(roi_traces(movie, known.weights), known.traces)
    return bench.Scene(
        name, place, movie, known.clean, known.weights, known.traces, variance, known.offset, known.frame_rate_hz, None
    )


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
