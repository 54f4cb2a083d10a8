"""Summary images of a movie in one streaming pass, and the mean image without one frame."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from udenoise.arrays import Frames, Image, RawFrames, Rows
from udenoise.errors import InputError
from udenoise.io import Movie
from udenoise.io.store import read_group, write_group
from udenoise.noise import NoiseModel, good_rows

NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Half of the eight; the other half are the same pairs seen from the other pixel."""
PIXELS_AT_ONCE, REFERENCE_FRAMES = 2**22, 16
HALF_BLOCKS = 20
"""Blocks of time that belong to one half of the movie and to the other in turn."""


class Anatomy(NamedTuple):
    """Images of the movie over its good frames; counts unless said otherwise."""

    total: Float[np.ndarray, "Y X"]
    """Sum over good frames, float64: exact for integer movies."""
    count: Int[np.ndarray, "Y X"]
    """Good frames."""
    mean: Image
    std: Image
    """Standard deviation over time, noise and drift included."""
    excess: Image
    """Variance above the noise, counts², without what follows the field's mean brightness; it may be negative."""
    correlation: Image
    """Mean correlation with the eight neighbours, without what follows the field's brightness or is noise."""
    maximum: Image


class _Sums(NamedTuple):
    """Sums over good frames of deviations `d` from a reference image; `f` is the field's centred brightness."""

    count: np.ndarray  # Y 1
    total: np.ndarray  # Y X, of the counts themselves
    square: np.ndarray  # Y X, of d²
    field: np.ndarray  # Y X, of d f
    field_total: np.ndarray  # Y 1, of f
    field_square: np.ndarray  # Y 1, of f²
    pairs: np.ndarray  # 4 Y X, of d d'
    pair_count: np.ndarray  # 4 Y 1
    maximum: np.ndarray  # Y X


def estimate_anatomy(
    movie: Movie,
    noise: NoiseModel,
    progress: Callable[[int], object] | None = None,
    counted: Bool[np.ndarray, "T"] | None = None,
) -> Anatomy:
    """Summary images of a movie (T Y X counts), read once; bad rows and frames count nowhere.

    Slow common changes (bleaching, ramps, neuropil that glows everywhere) would light up in every pixel, so `excess`
    and `correlation` are taken after linear regression of each pixel on the field's brightness (`noise.frame_mean`).
    `excess` is that variance minus `noise.pixel_variance(mean)`; `correlation` is that covariance minus the noise's own,
    `sqrt(v v') ρ`, over the standard deviations (noise included): a dim cell is less correlated than a bright one.
    `progress(frames done)` is called per chunk; `counted` leaves frames out. Raises InputError where no frame is good.
    """
    counted = np.ones(len(movie), bool) if counted is None else counted
    reference = _reference(movie, noise, counted)
    field = (noise.frame_mean - noise.frame_mean.mean()).astype(np.float64)
    sums = _empty(movie.shape[1:])
    for start, frames in movie.chunks(max(1, PIXELS_AT_ONCE // (movie.shape[1] * movie.shape[2]))):
        stop = start + len(frames)
        good = good_rows(noise, start, stop, movie.shape[1]) & counted[start:stop, None]
        sums = _add(sums, _sums(frames, good, field[start:stop], reference))
        if progress:
            progress(stop)
    return _images(sums, reference, noise)


def half_of(frame: Int[np.ndarray, "n"], frames: int) -> Int[np.ndarray, "n"]:
    """0 or 1 in turn, by blocks of time."""
    return frame // max(frames // HALF_BLOCKS, 1) % 2


def anatomy_maps(
    movie: Movie, noise: NoiseModel, progress: Callable[[int], object] | None = None
) -> Float32[np.ndarray, "2 Y X 2"]:
    """Variance above noise, `arcsinh(excess/noise)`, and correlation image of the two halves (`half_of`) of a movie.

    What is shown with a frame is the map of the half that the frame is not in: it cannot know the frame.
    """
    half, T = half_of(np.arange(len(movie)), len(movie)), len(movie)
    images = []
    for number in (0, 1):
        report = None if progress is None else lambda done, before=number * T: progress((before + done) // 2)
        a = estimate_anatomy(movie, noise, report, half == number)
        images.append(np.stack([np.arcsinh(a.excess / noise.pixel_variance(a.mean)), a.correlation], axis=-1))
    return np.stack(images).astype(np.float32)


def leave_one_out(anatomy: Anatomy, frames: RawFrames, good: Rows) -> Frames:
    """For each frame the mean image of all *other* good frames: `(total - y) / (count - 1)`, counts.

    `frames` are frames of the movie (n Y X) and `good` says which of their rows were counted (n Y). The result does not
    depend on the frame: the difference is exact for integer movies, and below float32 rounding for others.
    """
    counted = good[:, :, None]
    others = np.maximum(anatomy.count - counted, 1)
    return ((anatomy.total - np.where(counted, frames, 0).astype(np.float64)) / others).astype(np.float32)


def save_anatomy(anatomy: Anatomy, path: str | Path) -> None:
    """Write the images as a zarr v3 group of arrays with dimensions (y, x)."""
    write_group(path, {name: (image, ("y", "x")) for name, image in anatomy._asdict().items()}, {"unit": "counts"})


def load_anatomy(path: str | Path) -> Anatomy:
    """Read what `save_anatomy` wrote. InputError when it is something else."""
    arrays, _ = read_group(path)
    missing = [name for name in Anatomy._fields if name not in arrays]
    if missing:
        raise InputError(f"{path} has no {missing[0]}: it is no anatomy; write it anew with: udenoise run MOVIE -o RUN")
    return Anatomy(*(np.asarray(arrays[name]) for name in Anatomy._fields))


def _reference(movie: Movie, noise: NoiseModel, counted: np.ndarray) -> np.ndarray:
    """A rough mean image, so that variances are no differences of large numbers; the same whatever the chunks."""
    first = int(counted.argmax())
    frames = movie.read(first, min(first + REFERENCE_FRAMES, len(movie)))
    stop = first + len(frames)
    good = (good_rows(noise, first, stop, movie.shape[1]) & counted[first:stop, None])[:, :, None]
    return np.where(good, frames, 0).sum(0, dtype=np.float64) / np.maximum(good.sum(0), 1)


def _empty(shape: tuple[int, int]) -> _Sums:
    Y, X = shape
    row, image = np.zeros((Y, 1)), np.zeros((Y, X))
    return _Sums(row, image, image, image, row, row, np.zeros((4, Y, X)), np.zeros((4, Y, 1)), np.full((Y, X), -np.inf))


def _add(one: _Sums, other: _Sums) -> _Sums:
    added = _Sums(*(a + b for a, b in zip(one[:-1], other[:-1], strict=True)), one.maximum)
    return added._replace(maximum=np.maximum(one.maximum, other.maximum))


def _sums(frames: RawFrames, good: Rows, field: np.ndarray, reference: np.ndarray) -> _Sums:
    weight = good.astype(np.float64)
    deviation = ((frames - reference) * weight[:, :, None]).astype(np.float32)  # frames Y X
    bright = weight * field[:, None]
    pairs, pair_count = np.zeros((4, *reference.shape)), np.zeros((4, len(reference), 1))
    for k, (dy, dx) in enumerate(NEIGHBOURS):
        here, there = _overlap(dy, dx)
        pairs[k][here] = np.einsum("tyx,tyx->yx", deviation[:, *here], deviation[:, *there])
        pair_count[k, : len(reference) - dy, 0] = (good[:, : len(reference) - dy] & good[:, dy:]).sum(0)
    return _Sums(
        count=weight.sum(0)[:, None],
        total=np.einsum("tyx,ty->yx", frames.astype(np.float64), weight),
        square=np.einsum("tyx,tyx->yx", deviation, deviation).astype(np.float64),
        field=np.einsum("tyx,ty->yx", deviation, bright),
        field_total=bright.sum(0)[:, None],
        field_square=(bright * field[:, None]).sum(0)[:, None],
        pairs=pairs,
        pair_count=pair_count,
        maximum=np.where(good[:, :, None], frames, -np.inf).max(0),
    )


def _overlap(dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The pixels that have a neighbour (dy, dx) away, and these neighbours; dy ≥ 0."""
    here = slice(0, -dy or None), slice(max(0, -dx), -dx if dx > 0 else None)
    there = slice(dy, None), slice(max(0, dx), dx if dx < 0 else None)
    return here, there


def _images(sums: _Sums, reference: np.ndarray, noise: NoiseModel) -> Anatomy:
    if not sums.count.any():
        raise InputError("movie has no good frame: all are blank or repeated; pass the recording itself")
    n = np.maximum(sums.count, 1)
    mean = np.where(sums.count > 0, sums.total / n, reference)
    shift = (mean - reference) * (sums.count > 0)
    variance = np.maximum(sums.square / n - shift**2, 0)
    field_mean = sums.field_total / n
    field_variance = np.maximum(sums.field_square / n - field_mean**2, 1e-12 + 1e-12 * mean.mean() ** 2)
    slope = (sums.field / n - shift * field_mean) / np.sqrt(field_variance)  # covariance with the standardised field
    own = np.maximum(variance - slope**2, 0)
    return Anatomy(
        total=sums.total,
        count=np.broadcast_to(sums.count, mean.shape).astype(np.int32),
        mean=mean.astype(np.float32),
        std=np.sqrt(variance).astype(np.float32),
        excess=(own - noise.pixel_variance(mean)).astype(np.float32),
        correlation=_correlation(sums, shift, slope, own, noise.pixel_variance(mean), noise.kernel).astype(np.float32),
        maximum=np.where(np.isfinite(sums.maximum), sums.maximum, reference).astype(np.float32),
    )


def _correlation(
    sums: _Sums, shift: np.ndarray, slope: np.ndarray, own: np.ndarray, noise_variance: np.ndarray, kernel: np.ndarray
) -> Float[np.ndarray, "Y X"]:
    summed, neighbours, centre = np.zeros_like(own), np.zeros_like(own), len(kernel) // 2
    for k, (dy, dx) in enumerate(NEIGHBOURS):
        here, there = _overlap(dy, dx)
        rows = np.maximum(np.broadcast_to(sums.pair_count[k], own.shape)[here], 1)
        covariance = sums.pairs[k][here] / rows - shift[here] * shift[there] - slope[here] * slope[there]
        covariance -= np.sqrt(noise_variance[here] * noise_variance[there]) * kernel[centre + dy, centre + dx]
        correlation = covariance / np.maximum(np.sqrt(own[here] * own[there]), 1e-12)
        for side in (here, there):
            summed[side] += np.where(own[here] * own[there] > 0, correlation, 0)
            neighbours[side] += 1
    return np.clip(summed / np.maximum(neighbours, 1), -1, 1)
