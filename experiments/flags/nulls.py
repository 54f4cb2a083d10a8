"""Movies in which nothing happens: how many have a flag, and is chance as large as the flags take it to be?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import udenoise
from experiments import bench, tables
from experiments.movies import CHOOSING, Reported, check_apart
from udenoise.config import SimulationConfig
from udenoise.flags import read_flags
from udenoise.io import open_movie
from udenoise.recording import load_recording
from udenoise.sampling import colour, spectrum_of
from udenoise.scan import (
    DURATIONS,
    SIGMAS_PX,
    Chance,
    Ground,
    Peaks,
    Whitened,
    add_frames,
    event_sizes,
    join_peaks,
    joined,
    start_scan,
    take,
)
from udenoise.simulate import quiet
from udenoise.watch import ground_of

PHOTONS, CORRELATIONS, SEEDS = (0.05, 0.2, 1.0, 5.0), (0.0, 0.4), (951, 952)
LEVELS = (4.0, 4.5, 5.0)
CONFIG = udenoise.Config(train=udenoise.TrainConfig(steps=200, validate_every=100))
"""There is nothing to learn: a short training."""
ANY = {"photons": "{:g}", "noise": "{}", "movies": "{}", "with a flag": "{}", "flags": "{}", "largest": "{:.2f}",
       **{f"events ≥ {u:g}": "{}" for u in LEVELS}}  # fmt: skip
SCALES = {"spot σ (px)": "{}", "frames": "{}", **{f"peaks ≥ {u:g}": "{}" for u in LEVELS}}


def movies() -> list[tuple[float, float, Reported]]:
    """Photons, correlation along X, movie: all seeds of a kind of movie one after the other."""
    base = SimulationConfig(frames=600, height=80, width=80, cells=12, gain=80.0)
    kinds = [(p, c) for p in PHOTONS for c in CORRELATIONS]
    return [
        (p, c, Reported(f"{p:g} photons, correlation {c:g}, {seed}", quiet(replace(base, photons=p, correlation_x=c, seed=seed))))
        for p, c in kinds for seed in SEEDS
    ]  # fmt: skip


check_apart(CHOOSING, tuple(movie for *_, movie in movies()))


def measure(out: Path) -> dict[str, Any]:
    """One row a movie. The first of each kind trains the network that the others are given: without activity it knows nothing of
    its movie that is not true of theirs."""
    rows, seconds, network = [], 0.0, None
    for photons, correlation, movie in movies():
        if movie.config.seed == SEEDS[0]:
            network = None
        scene = bench.prepare(movie, out)
        folder = out / "nulls" / scene.folder.parent.name
        result = bench.cached(out / "rows" / f"null-{bench.key_of(scene.folder.parent.name, 3)}.json",
                              lambda s=scene, f=folder, n=network: _one(s, f, n))  # fmt: skip
        network = network or folder / "denoiser"
        rows.append({"photons": photons, "correlation": correlation} | result["row"])
        seconds += result["seconds"]
        print(movie.name, result["row"]["flags"], round(result["row"]["largest"], 2), flush=True)
    return {"rows": rows, "seconds": seconds}


def _one(scene: bench.Scene, folder: Path, network: Path | None) -> dict[str, Any]:
    movie, rois = scene.folder / "movie.tif", scene.folder / "rois.npy"
    done = bench.timed(lambda: udenoise.run(movie, folder, rois, CONFIG, denoiser=network, quiet=True))
    judged = bench.timed(lambda: counted(scene, folder))
    return {"seconds": done.seconds + judged.seconds, "row": judged.value}


def counted(scene: bench.Scene, folder: Path) -> dict[str, Any]:
    """Flags; events and peaks of each template above each level, beside those that noise of this law makes."""
    flags = [flag for flag in read_flags(folder / "flags.csv") if flag.kind == "contradicted"]
    with np.load(folder / "found.npz") as kept:
        peaks, chance = Peaks(*(kept[f"peaks_{name}"] for name in Peaks._fields)), Chance(*kept["chance"].tolist())
    sizes = event_sizes(peaks.z, join_peaks(peaks))
    ground = ground_of(load_recording(open_movie(scene.folder / "movie.tif"), folder))
    law = [of_law(ground, scene.movie.shape, seed) for seed in range(2)]
    return {
        "flags": len(flags), "scores": [flag.score for flag in flags], "largest": float(sizes.max(initial=0)),
        "steepness": chance.steepness, "events": [int((sizes >= u).sum()) for u in LEVELS],
        "events_expected": [float(chance.above(np.array(u)) * scene.movie.size) for u in LEVELS],
        "peaks": by_scale(peaks).tolist(), "peaks_law": np.mean([by_scale(part) for part in law], 0).tolist(),
    }  # fmt: skip


def of_law(ground: Ground, shape: tuple[int, int, int], seed: int) -> Peaks:
    """Peaks of fresh noise: photons of the skewness of each pixel, coloured as the recording's."""
    photons = np.maximum(ground.skewness, 0.01) ** -2.0
    unit = (np.random.default_rng([seed, 77]).poisson(photons, shape) - photons) / np.sqrt(photons)
    if np.count_nonzero(ground.kernel) > 1:
        unit = colour(unit, spectrum_of(ground.kernel, shape[1:]))
    return scanned(ground, Whitened(unit.astype(np.float32), np.zeros(shape, np.float32)))


def scanned(ground: Ground, frames: Whitened) -> Peaks:
    """All peaks of a movie's residual."""
    return joined([take(add_frames(start_scan(ground), frames), last=True)[0]])


def by_scale(peaks: Peaks) -> np.ndarray:
    """How many above each level, of each spot size (displacements together) and duration: spots durations levels."""
    spot = np.minimum(peaks.spot, 4)
    return np.array([[[np.sum((spot == s) & (peaks.duration == d) & (np.abs(peaks.z) >= u)) for u in LEVELS]
                      for d in range(len(DURATIONS))] for s in range(5)])  # fmt: skip


def report(rows: list[dict[str, Any]]) -> str:
    """Both tables."""
    kinds = sorted({(row["photons"], row["correlation"]) for row in rows})
    table = [_kind(p, c, [r for r in rows if (r["photons"], r["correlation"]) == (p, c)]) for p, c in kinds]
    table.append(_kind(None, None, rows))
    seen, law = (np.sum([row[name] for row in rows], 0) for name in ("peaks", "peaks_law"))
    names = [*(f"{sigma:g}" if sigma > 1 else "one pixel" for sigma in SIGMAS_PX[:4]), "displaced, 5"]
    scales = [
        {"spot σ (px)": names[s], "frames": DURATIONS[d]}
        | {f"peaks ≥ {u:g}": beside(seen[s, d, k], law[s, d, k]) for k, u in enumerate(LEVELS)}
        for s in range(5) for d in range(len(DURATIONS))
    ]  # fmt: skip
    return "\n\n".join([
        "Movies without any activity: those with a contradicted flag (nominal: at most 5 % of them), and events as large as |z| "
        "observed / expected by the run's own chance (95 % Poisson interval of the observed number)",
        tables.markdown(table, ANY),
        "All of them, peaks of every template: observed / in fresh noise of the same law (95 % interval of the observed number)",
        tables.markdown(scales, SCALES),
    ])  # fmt: skip


def _kind(photons: float | None, correlation: float | None, rows: list[dict[str, Any]]) -> dict[str, Any]:
    seen, expected = (np.sum([row[name] for row in rows], 0) for name in ("events", "events_expected"))
    name = {None: "all", 0.0: "white"}.get(correlation, "correlated")
    return {
        "photons": photons, "noise": name, "movies": len(rows), "with a flag": sum(row["flags"] > 0 for row in rows),
        "flags": sum(row["flags"] for row in rows), "largest": max(row["largest"] for row in rows),
    } | {f"events ≥ {u:g}": beside(seen[k], expected[k]) for k, u in enumerate(LEVELS)}  # fmt: skip


def beside(seen: float, expected: float) -> str:
    """Observed (its exact Poisson interval, Garwood 1936) / expected."""
    low = stats.chi2.ppf(0.025, 2 * seen) / 2 if seen else 0.0
    return f"{seen:.0f} ({low:.0f}–{stats.chi2.ppf(0.975, 2 * seen + 2) / 2:.0f}) / {expected:.1f}"
