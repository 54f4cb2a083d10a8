"""The posterior movie and the regions' moments, written in whole blocks of frames: a block on disk is never computed twice."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from udenoise import inference, innovation
from udenoise.innovation import Events, Spread
from udenoise.io import rois_dense
from udenoise.io.store import MovieStore, create_movie_store, open_movie_store
from udenoise.metrics import Pooled, SteadinessSums, add_steadiness, pooled_steadiness, start_steadiness
from udenoise.posterior import FramePosterior, Recalibration, Region
from udenoise.progress import progress_bar
from udenoise.recording import Recording
from udenoise.roi_posterior import Added
from udenoise.runfolder import Run, forget
from udenoise.scan import Ground, Peaks, Scan, Seen, Whitened, add_frames, joined, start_scan, take
from udenoise.watch import Borders, Sight, Sights, border_sums, borders_of, brightness, uncertain_sights

FRAMES_WITHOUT_MOVIE = 256
"""In a block where no movie is written; otherwise a block is a shard."""
STEADY_SUMS = (
    "frames", "brightness", "shown", "seen", "both", "noise", "spread", "stated", "shown_mean", "seen_mean", "spread_mean",
    "variance",
)  # fmt: skip
"""Of `metrics.SteadinessSums`, which add up over blocks."""
FOUND = "found.npz"
"""What flags are made of, kept with the run."""


def write_blocks(
    job: Run, machine: inference.Inference, by: Recalibration, widths: Spread | None, write_movie: bool
) -> None:
    """Stream the movie; a block counts once its moments are on disk. With `widths`, events are sought in the frames themselves."""
    T, part = len(job.movie), job.folder / "posterior.zarr.part"
    whole, moments = job.folder / "posterior.zarr", job.folder / "moments"
    flagged = not job.config.flag.flags or (job.folder / FOUND).is_file()
    if whole.exists() and job.rois is None and flagged:
        return
    names = ["mean", "sd", *(["prior_mean", "prior_sd"] if job.config.denoise.write_prior else [])]
    store = _movie_store(part, names, job, moments) if write_movie and not whole.exists() else None
    written = store or (open_movie_store(whole) if whole.exists() else None)
    block = written.frames_per_shard if written else FRAMES_WITHOUT_MOVIE
    moments.mkdir(exist_ok=True)
    ground = machine.ground
    borders = None if job.rois is None or ground is None else borders_of(job.rois, machine.recording, ground)
    steady = None if borders is None else _start_steady(job, machine.recording)
    bright = None if ground is None else brightness(machine.recording)
    task = _Task(job, machine, by, widths, ground, bright, borders, steady)
    scan = None
    with progress_bar("denoise", T, job.quiet) as bar:
        for start in range(0, T, block):
            stop = min(start + block, T)
            if not (moments / f"{start:08d}.npz").is_file():
                scan = _caught_up(task, scan, start)
                scan = _block(task, scan, store, names, start, stop, bar)
            bar(stop)
    if store is not None:
        part.rename(whole)


class _Task(NamedTuple):
    """What does not change from block to block."""

    job: Run
    machine: inference.Inference
    by: Recalibration
    widths: Spread | None
    ground: Ground | None
    bright: np.ndarray | None
    borders: Borders | None
    steady: SteadinessSums | None

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, FramePosterior, inference.Heard]]:
        """Chunk by chunk."""
        seed = self.job.config.seed
        yield from inference.stream_with_events(self.machine, start, stop, self.by, self.widths, seed)


def _start_steady(job: Run, recording: Recording) -> SteadinessSums | None:
    """Of the ROIs that are brighter than zero light; None where there is none."""
    offset, mean, weights = job.config.trace.offset_counts, recording.anatomy.mean, rois_dense(job.rois)
    bright = [mask for mask in weights > 0 if mean[mask].mean() > offset]
    return start_steadiness(np.stack(bright), mean, offset, recording.noise.kernel) if bright else None


def _movie_store(part: Path, names: list[str], job: Run, moments: Path) -> MovieStore:
    """The store of an interrupted run, or a new one (then no block counts as done)."""
    if part.is_dir() and moments.is_dir():
        return open_movie_store(part)
    forget(job.folder, part.name, moments.name)
    return create_movie_store(part, names, job.movie.shape, job.movie.frame_rate_hz)


def _caught_up(task: _Task, scan: Scan | None, start: int) -> Scan | None:
    """The scan as it was before a block; of an interrupted run, the frames that it still needs are looked at again."""
    if task.ground is None or scan is not None:
        return scan
    scan = start_scan(task.ground, start)
    chunk = task.machine.config.chunk
    first = scan.start // chunk * chunk
    for at, _, heard in task.stream(first, start) if first < start else ():
        skip = max(scan.start - at, 0)
        scan = add_frames(scan, Whitened(*(part[skip:] for part in heard.sight.residual)))
    return take(scan)[1]


def _block(
    task: _Task,
    scan: Scan | None,
    store: MovieStore | None,
    names: list[str],
    start: int,
    stop: int,
    bar: Callable[[int], None],
) -> Scan | None:
    pixels, found, heard, steady = {name: [] for name in names} if store else {}, [], [], task.steady
    for first, result, events in task.stream(start, stop):
        for name, kept in pixels.items():
            kept.append(getattr(result, name))
        found.append(result.regions)
        if steady is not None:
            steady = add_steadiness(steady, *events.blind[:3], events.blind.good, events.blind.stated_variance)
        heard.append((first, events._replace(blind=None)))
        bar(first + len(result.mean))
    if store:
        store.write(start, {name: np.concatenate(kept) for name, kept in pixels.items()})
    arrays = {} if found[0] is None else {f: np.concatenate([getattr(r, f) for r in found]) for f in Region._fields}
    if task.widths is not None:
        arrays |= _heard(heard)
    if task.ground is not None:
        sight = jax.tree.map(lambda *parts: np.concatenate(parts), *(events.sight for _, events in heard))
        scan, seen = _seen(scan, sight, task.bright, start, stop == len(task.job.movie))
        arrays |= seen
        if task.borders is not None:
            arrays |= dict(
                zip(("border_heard", "border_doubt"), border_sums(sight.residual, task.borders), strict=True)
            )
    if steady is not None:
        arrays |= {f"steady_{name}": getattr(steady, name)[None] for name in STEADY_SUMS}
    path = task.job.folder / "moments" / f"{start:08d}.npz"
    with path.with_suffix(".part").open("wb") as file:
        np.savez(file, **arrays)
    path.with_suffix(".part").rename(path)
    return scan


def _seen(scan: Scan, sight: Sight, bright: np.ndarray, start: int, last: bool) -> tuple[Scan, dict[str, np.ndarray]]:
    """The scan after a block, and what is kept of the block for the flags."""
    seen, scan = take(add_frames(scan, sight.residual), last)
    shown = uncertain_sights(sight, bright, start)
    arrays = {f"peak_{name}": part for name, part in seen.peaks._asdict().items()}
    arrays |= {f"shown_{name}": part for name, part in shown._asdict().items()}
    return scan, arrays | {"power": seen.power[None], "displacement": sight.displacement,
                           "given": sight.given, "disagreement": sight.disagreement}  # fmt: skip


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


def load_sights(folder: Path) -> Sights | None:
    """What flags are made of, of a whole movie; None where it was not kept."""
    power = _joined(folder, "power")
    if power is None:
        return None
    peaks = Peaks(*(_joined(folder, f"peak_{name}") for name in Peaks._fields))
    shown = Peaks(*(_joined(folder, f"shown_{name}") for name in Peaks._fields))
    rest = (_joined(folder, name) for name in ("displacement", "given", "disagreement"))
    return Sights(joined([Seen(peaks, power.sum(0))]), shown, *rest)


def load_steadiness(job: Run, recording: Recording) -> Pooled | None:
    """How much of the pattern change that the blind prediction shows inside ROIs is real."""
    steady = _start_steady(job, recording)
    if steady is None:
        return None
    return pooled_steadiness(
        steady._replace(**{name: _joined(job.folder, f"steady_{name}").sum(0) for name in STEADY_SUMS})
    )


def load_border_sums(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """`watch.border_sums` of a whole movie."""
    return _joined(folder, "border_heard"), _joined(folder, "border_doubt")


def _joined(folder: Path, name: str) -> np.ndarray | None:
    parts = []
    for path in sorted((folder / "moments").glob("*.npz")):
        with np.load(path, allow_pickle=False) as block:
            if name in block:
                parts.append(block[name])
    return np.concatenate(parts) if parts else None
