"""The posterior movie and the regions' moments, written in whole blocks of frames: a block on disk is never computed twice."""

from pathlib import Path

import numpy as np

from udenoise import inference, innovation
from udenoise.innovation import Events, Spread
from udenoise.io.store import MovieStore, create_movie_store, open_movie_store
from udenoise.posterior import Recalibration, Region
from udenoise.progress import progress_bar
from udenoise.roi_posterior import Added
from udenoise.runfolder import Run, forget

FRAMES_WITHOUT_MOVIE = 256
"""In a block where no movie is written; otherwise a block is a shard."""


def write_blocks(
    job: Run, machine: inference.Inference, by: Recalibration, widths: Spread | None, write_movie: bool
) -> None:
    """Stream the movie; a block counts once its moments are on disk. With `widths`, events are sought in the frames themselves."""
    T, part = len(job.movie), job.folder / "posterior.zarr.part"
    whole, moments = job.folder / "posterior.zarr", job.folder / "moments"
    if whole.exists() and job.rois is None:
        return
    names = ["mean", "sd", *(["prior_mean", "prior_sd"] if job.config.denoise.write_prior else [])]
    store = _movie_store(part, names, job, moments) if write_movie and not whole.exists() else None
    written = store or (open_movie_store(whole) if whole.exists() else None)
    block = written.frames_per_shard if written else FRAMES_WITHOUT_MOVIE
    moments.mkdir(exist_ok=True)
    with progress_bar("denoise", T, job.quiet) as bar:
        for start in range(0, T, block):
            stop = min(start + block, T)
            if not (moments / f"{start:08d}.npz").is_file():
                _block(job, machine, by, widths, store, names, start, stop, bar)
            bar(stop)
    if store is not None:
        part.rename(whole)


def _movie_store(part: Path, names: list[str], job: Run, moments: Path) -> MovieStore:
    """The store of an interrupted run, or a new one (then no block counts as done)."""
    if part.is_dir() and moments.is_dir():
        return open_movie_store(part)
    forget(job.folder, part.name, moments.name)
    return create_movie_store(part, names, job.movie.shape, job.movie.frame_rate_hz)


def _block(job, machine, by, widths, store, names, start, stop, bar) -> None:
    pixels, found, heard = {name: [] for name in names} if store else {}, [], []
    for first, result, events in _streamed(job, machine, by, widths, start, stop):
        for name, kept in pixels.items():
            kept.append(getattr(result, name))
        found.append(result.regions)
        heard.append((first, events))
        bar(first + len(result.mean))
    if store:
        store.write(start, {name: np.concatenate(kept) for name, kept in pixels.items()})
    arrays = {} if found[0] is None else {f: np.concatenate([getattr(r, f) for r in found]) for f in Region._fields}
    if widths is not None:
        arrays |= _heard(heard)
    path = job.folder / "moments" / f"{start:08d}.npz"
    with path.with_suffix(".part").open("wb") as file:
        np.savez(file, **arrays)
    path.with_suffix(".part").rename(path)


def _streamed(job, machine, by, widths, start, stop):
    seed = job.config.seed
    if widths is not None:
        yield from inference.stream_with_events(machine, start, stop, by, widths, seed)
        return
    for first, result in inference.stream(machine, start, stop, by, seed=seed):
        yield first, result, None


def _heard(parts: list[tuple[int, inference.Heard]]) -> dict[str, np.ndarray]:
    events = innovation.joined([innovation.shifted(heard.events, first) for first, heard in parts])
    arrays = {f"event_{name}": part for name, part in events._asdict().items()}
    if parts[0][1].added is not None:
        arrays |= {"added": np.concatenate([heard.added for _, heard in parts])}
        arrays |= {"added_variance": np.concatenate([heard.variance for _, heard in parts])}
    return arrays


def load_moments(folder: Path) -> Region:
    """The regions' moments of a whole movie (T first), joined from its blocks."""
    return Region(*(_joined(folder, name) for name in Region._fields))


def load_added(folder: Path) -> Added | None:
    """What events add to the regions; None where none were sought."""
    mean = _joined(folder, "added")
    return None if mean is None else Added(mean, _joined(folder, "added_variance"))


def load_events(folder: Path) -> Events:
    """All events of a movie in which they were sought."""
    return Events(*(_joined(folder, f"event_{name}") for name in Events._fields))


def _joined(folder: Path, name: str) -> np.ndarray | None:
    parts = []
    for path in sorted((folder / "moments").glob("*.npz")):
        with np.load(path, allow_pickle=False) as block:
            if name in block:
                parts.append(block[name])
    return np.concatenate(parts) if parts else None
