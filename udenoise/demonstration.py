"""A movie with known truth through the whole job, and a table that says how well it went."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from udenoise import metrics
from udenoise.config import Config, SimulationConfig, TraceConfig, TrainConfig, from_json
from udenoise.io.store import read_group, read_json, write_json
from udenoise.io.tiff_writer import map_tiff
from udenoise.pipeline import run
from udenoise.regions import neuropil_rings
from udenoise.results import load_rois_npz
from udenoise.simulate import write_simulation
from udenoise.traces import f0, filled, positive

DEMO_STEPS = 1000


class Outcome(NamedTuple):
    """How one run compares with the truth; ROI errors in counts², each ROI divided by its raw error where relative."""

    raw_error: float
    gaussian_sigma: float
    gaussian_error: float
    wiener_error: float
    error: float
    relative_to_gaussian: float
    fluorescence: metrics.Summary
    dff_levels: tuple[float, ...]
    dff_coverage: tuple[float, ...]
    simultaneous_coverage: tuple[float, ...]


def demo(output: str | Path = "udenoise-demo", seed: int = 1, overwrite: bool = False, quiet: bool = False) -> Path:
    """Simulate a movie, run the whole job on it, print how close it came to the truth, and leave a report."""
    folder = Path(output)
    settings = SimulationConfig(seed=seed)
    known = folder / "simulation" / "simulation.json"
    if overwrite or not known.is_file() or read_json(known) != asdict(settings):
        write_simulation(settings, folder / "simulation")
    source = folder / "simulation"
    config = replace(Config(seed=seed), train=TrainConfig(steps=DEMO_STEPS))
    run(source / "movie.tif", folder / "run", source / "rois.npy", config, overwrite, quiet=quiet)
    outcome = judge(folder / "run", source / "truth.npz")
    write_json(folder / "outcome.json", plain(outcome))
    print_outcomes({f"{settings.photons:g} photons": outcome})
    Console().print(f"Report: {folder / 'run' / 'report.html'}")
    return folder


def judge(folder: Path, truth_file: Path) -> Outcome:
    """Compare a run's traces with the truth of its simulation: truth.npz, and clean.tif beside it."""
    with np.load(truth_file, allow_pickle=False) as truth:
        true, rate = truth["traces"], float(truth["frame_rate_hz"])
    clean = map_tiff(truth_file.with_name("clean.tif"))
    arrays, about = read_group(folder / "traces.zarr")
    levels = tuple(about["levels"])
    raw, mean, sd = (arrays[name] for name in ("raw", "mean", "sd"))
    known = np.stack([filled(trace) for trace in raw])
    gaussian = metrics.best_temporal_gaussian(known, true, np.array(metrics.SIGMAS))
    raw_error = metrics.roi_error(known, true)
    wiener = metrics.oracle_wiener(known, true, raw_error)
    summary = metrics.summary(true, mean, sd, arrays["lower"], arrays["upper"], levels)
    error = metrics.roi_error(mean, true)
    relative = np.mean(error / raw_error) / np.mean(metrics.roi_error(gaussian.estimate, true) / raw_error)
    deviation = np.abs(mean - true)
    within = [float(np.mean((deviation <= k[:, None] * sd).all(1))) for k in arrays["simultaneous"]]
    dff_truth = true_dff(folder, true, clean, rate)
    defined = np.isfinite(dff_truth) & np.isfinite(arrays["dff/mean"])  # where F₀ is positive
    held = [
        metrics.coverage(dff_truth, low, high, defined)
        for low, high in zip(arrays["dff/lower"], arrays["dff/upper"], strict=True)
    ]
    return Outcome(
        float(raw_error.mean()), gaussian.sigma, float(gaussian.error), float(metrics.roi_error(wiener, true).mean()),
        float(error.mean()), float(relative), summary, levels, tuple(held), tuple(within),
    )  # fmt: skip


def true_dff(folder: Path, true: np.ndarray, clean: np.ndarray, rate: float) -> np.ndarray:
    """ΔF/F of the noiseless movie by the same neuropil ring, coefficient and F₀; NaN where that is not positive."""
    config = from_json(TraceConfig, read_json(folder / "config.json")["config"]["trace"])
    rings = neuropil_rings(load_rois_npz(folder / "rois.npz"))
    around = np.stack([clean.reshape(len(clean), -1)[:, i] @ w for i, w in zip(rings.index, rings.weight, strict=True)])
    ratio = config.neuropil_coefficient
    subtracted = true - config.offset_counts - ratio * (around - config.offset_counts)
    return subtracted / positive(f0(subtracted, config, rate)) - 1


def plain(outcome: Outcome) -> dict[str, Any]:
    """The outcome as plain data."""
    return outcome._asdict() | {"fluorescence": outcome.fluorescence._asdict()}


def print_outcomes(outcomes: dict[str, Outcome]) -> None:
    """Two tables: errors of ROI traces, and how often each corridor holds."""
    console = Console(width=max(Console().width, 110))
    for title, rows in tables(outcomes).items():
        table = Table(title=title, title_justify="left")
        for column in rows[0]:
            table.add_column(column, justify="right")
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)


def tables(outcomes: dict[str, Outcome]) -> dict[str, list[list[str]]]:
    """Title and rows (the first is the head) of what design §8 asks for."""
    head = (
        "raw",
        "Gaussian in time",
        "oracle Wiener",
        "udenoise",
        "/ Gaussian",
        "per ROI",
        "fast",
        "amplitude",
        "CRPS",
        "sd/RMSE",
    )
    errors = [["movie", *head], *([name, *_errors(o)] for name, o in outcomes.items())]
    levels = next(iter(outcomes.values())).fluorescence.levels
    held = [["movie", "frames", *(f"{100 * q:g} %" for q in levels)]]
    for name, o in outcomes.items():
        s = o.fluorescence
        which = {
            "all": s.coverage,
            "fastest 3 %": s.fast_coverage,
            "events": s.event_coverage,
            "ΔF/F, all": o.dff_coverage,
            "whole trace at once": o.simultaneous_coverage,
        }
        held += [[name, kind, *(f"{100 * v:.1f}" for v in values)] for kind, values in which.items()]
    return {
        "ROI error against the truth (counts², mean over ROIs and frames; fast: the fastest 3 % of frames)": errors,
        "How often the corridor holds the truth (%)": held,
    }


def _errors(o: Outcome) -> list[str]:
    s = o.fluorescence
    return [
        f"{o.raw_error:.3g}",
        f"{o.gaussian_error:.3g} (σ {o.gaussian_sigma:g})",
        f"{o.wiener_error:.3g}",
        f"{o.error:.3g}",
        f"{o.error / o.gaussian_error:.2f}",
        f"{o.relative_to_gaussian:.2f}",
        f"{s.fast_error:.3g}",
        f"{s.event_amplitude:.2f}",
        f"{s.crps:.3g}",
        f"{s.width_ratio:.2f}",
    ]
