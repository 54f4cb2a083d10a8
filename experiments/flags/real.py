"""Errors that nobody planted in the residual: what a network of another movie makes up, and events that ours does not keep."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import udenoise
from experiments import bench
from experiments.flags.planted import TOUCH_PX, threshold
from experiments.flags.sight import CERTAIN, Sight, judge, look, truly_wrong, voxels
from udenoise import metrics
from udenoise.flags import read_flags
from udenoise.io.store import read_json
from udenoise.pipeline import traces
from udenoise.regions import correlated_share

BLOCK_PX, BLOCK_FRAMES = 8, 9
"""About a soma, and 0.3 s: over these an error is pooled."""
LEAST_Z = 6.0
LEAST_SNR, DRAWS = 5.0, 200
SNRS = ((5.0, 6.0), (6.0, 8.0), (8.0, 12.0), (12.0, 1e3))


def foreign(scenes: list[bench.Scene], out: Path) -> list[dict[str, Any]]:
    """Each movie with the network of the one before."""
    rows = []
    for other, scene in pairwise([scenes[-1], *scenes]):
        network = bench.ran(other, udenoise.Config(), out) / "denoiser"
        key = bench.key_of(scene.folder.parent.name, other.folder.parent.name, 3)
        result = bench.cached(out / "rows" / f"flags-foreign-{key}.json",
                              lambda s=scene, n=network, k=key: _foreign(s, n, out / "foreign-flags" / k))  # fmt: skip
        rows.append(result | {"movie": scene.name, "network of": other.name})
    return rows


def _foreign(scene: bench.Scene, network: Path, folder: Path) -> dict[str, Any]:
    movie, rois = scene.folder / "movie.tif", scene.folder / "rois.npy"
    done = bench.timed(lambda: udenoise.run(movie, folder, rois, denoiser=network, quiet=True))
    sight = look(scene, folder)
    judged = bench.timed(lambda: hallucinations(scene, sight))
    kinds = read_json(folder / "flags.json")["counts"]
    about = {"unfamiliar": kinds["unfamiliar"], "contradicted": kinds["contradicted"]}
    about |= {"verdict": read_json(folder / "report.json")["trust"]["verdict"]}
    return {"seconds": done.seconds + judged.seconds, "row": judged.value | about}


def hallucinations(scene: bench.Scene, sight: Sight) -> dict[str, Any]:
    """Blocks of soma size that are wrong beyond corridor and noise, and which of them flags and two maps point at."""
    judged = judge(sight, sight.residual.value)
    pointed = np.zeros(sight.error.shape, np.int8)
    right = [truly_wrong(sight, found) for found in judged.found]
    blind = [truly_wrong(sight, found, blind=True) for found in judged.found]
    for found in judged.found:
        frames, mask = voxels(found, sight.error.shape)
        pointed[frames, mask] = 1
    alarms = max(len(right) - sum(right), 1)
    left = scene.movie - sight.mean
    maps = [np.abs(left), np.abs(left) / sight.noise_sd]
    free = np.ones(left.shape, bool)
    above = [part > threshold(part, free, sight, alarms) for part in maps]
    row = {"flags": len(judged.found), "right": int(sum(right)), "right, blind": int(sum(blind)), "alarms": alarms}
    for name, error, sd in (
        ("picture", sight.error, sight.sd), ("prediction", sight.blind_error, sight.residual.doubt * sight.unit)
    ):  # fmt: skip
        wrong = wrong_blocks(sight, error, sd)
        row |= {f"{name} wrong": int(wrong.sum()), f"{name} flagged": int((wrong & reached(pointed)).sum())}
        row |= {f"{name} map {k}": int((wrong & reached(part)).sum()) for k, part in enumerate(above)}
    return row


def wrong_blocks(sight: Sight, error: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Blocks whose mean error lies beyond 1.96 stated standard deviations, taken as alike, and beyond `LEAST_Z` times the noise."""
    square = np.ones((BLOCK_PX, BLOCK_PX))
    widened = correlated_share(square, sight.recording.noise.kernel)
    mean, stated, power = blocks(error), blocks(sd), blocks(sight.noise_sd**2)
    noise = np.sqrt(power * widened / (BLOCK_FRAMES * BLOCK_PX**2))
    return (np.abs(mean) > CERTAIN * stated) & (np.abs(mean) >= LEAST_Z * noise)


def blocks(frames: np.ndarray) -> np.ndarray:
    """Means over blocks; a rest at the ends is left out."""
    T, Y, X = (side // n for side, n in zip(frames.shape, (BLOCK_FRAMES, BLOCK_PX, BLOCK_PX), strict=True))
    cut = frames[: T * BLOCK_FRAMES, : Y * BLOCK_PX, : X * BLOCK_PX]
    return cut.reshape(T, BLOCK_FRAMES, Y, BLOCK_PX, X, BLOCK_PX).mean((1, 3, 5), dtype=np.float64)


def reached(pointed: np.ndarray) -> np.ndarray:
    """Blocks in which anything is pointed at."""
    return blocks(pointed.astype(np.float32)) > 0


def rare(scene: bench.Scene, sight: Sight, folder: Path, out: Path) -> list[dict[str, Any]]:
    """Planted local events of a movie that stand out of the raw one: kept within the corridor of their place, or flagged."""
    chosen = (scene.rare.roi < 0) & (scene.rare.snr >= LEAST_SNR)
    planted = metrics.Planted(*(part[chosen] for part in scene.rare.planted))
    there = out / "places" / f"{folder.name}-flags"
    there.parent.mkdir(parents=True, exist_ok=True)
    np.save(there.with_suffix(".npy"), planted.footprint.astype(np.float32))
    traces(folder, there.with_suffix(".npy"), output=there, overwrite=True, quiet=True)
    draws = udenoise.load_draws(there, "counts", DRAWS)
    weights = planted.footprint / planted.footprint.sum((1, 2), keepdims=True)
    measured = partial(metrics.at_start, planted)
    band, true = (
        udenoise.propagate(list(draws), measured, (0.95,), draws.mean),
        measured(bench.roi_traces(scene.clean, weights)),
    )
    inside = (band.lower[0] <= true) & (true <= band.upper[0])
    judged = judge(sight, sight.residual.value)
    listed = [flag for flag in read_flags(folder / "flags.csv") if flag.kind == "contradicted"]
    rows = []
    for k, snr in enumerate(scene.rare.snr[chosen]):
        lasts = int((planted.course[k] > planted.course[k].max() / 7).sum())
        when = int(planted.start[k]), int(planted.start[k]) + max(lasts, 1)
        distance = ndimage.distance_transform_edt(planted.footprint[k] <= 0.2 * planted.footprint[k].max())
        found = [one.flag for one in judged.found if one.flag.frame_start < when[1] and one.flag.frame_stop > when[0]
                 and (distance[one.footprint.y, one.footprint.x] <= one.footprint.radius + TOUCH_PX).any()]  # fmt: skip
        own = [flag for flag in listed if flag.frame_start < when[1] and flag.frame_stop > when[0]
               and distance[round(flag.y), round(flag.x)] <= np.sqrt(flag.area / np.pi) + TOUCH_PX]  # fmt: skip
        rows.append({
            "movie": scene.name, "kind": str(scene.rare.kind[chosen][k]), "snr": float(snr), "kept": bool(inside[k]),
            "flagged": bool(found or own), "share": float(measured(draws.mean)[k] / true[k]),
        })  # fmt: skip
    return rows
