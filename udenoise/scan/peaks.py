"""Where residuals are larger than chance, at any of many sizes: from one pixel in one frame to a soma for a second.

Residuals come in units of the noise, r, with the stated standard deviation of the prediction in the same units, u, as far as
neighbours share it. A template k is a Gaussian spot, or the change that a displacement of what is in it would make (the gradient of
the mean image, Lucas & Kanade 1981), for 1, 3, 9 or 27 frames. Its matched filter

    z = Σ k r / √(f² ρ_k Σ k² + (Σ k u)²)

has the noise's correlation in ρ_k and takes the prediction's own errors as wrong together over the template, which says too little
rather than too much; f ≥ 1 is what z has beyond that in this movie where nothing happens. Photon counts are skewed: z is made
normal by the Gamma distribution of the same skewness (Wilson & Hilferty 1931), and templates of too few photons are left out.

A movie is scanned once, in order, in groups of 27 frames: memory is a group and the sums of those before it that longer templates
still need.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import ndimage

from udenoise.innovation import CLIP, CLIPPED_POWER, normal_score
from udenoise.regions import correlated_share

SIGMAS_PX = (0.3, 1.3, 2.4, 5.0, 5.0, 5.0, 5.0, 5.0)
"""Standard deviations of the spots, pixels: the first is a single pixel, the last four are displacements."""
STEPS_PX = (1, 1, 2, 4, 4, 4, 4, 4)
"""Distance between the places at which each is tried."""
SHIFTS = (4, 5, 6, 7)
WAYS = np.array([[1.0, 0.0], [0.5**0.5, 0.5**0.5], [0.0, 1.0], [0.5**0.5, -(0.5**0.5)]])
"""Their directions (Y X)."""
LEAST_SHARP_PX = 1.0
"""A displacement is sought where noise leaves it less uncertain than this, pixels: elsewhere there is no border to move."""
DURATIONS = (1, 3, 9, 27)
"""How long they last, frames; each begins at a third of the one before it, or at any frame."""
GROUP = DURATIONS[-1]
THRESHOLD = 4.0
"""Least score of a peak."""
MOST_SKEWED = 1.0
"""Skewness of a template's noise beyond which it is not used (about one photon, or four with the detector's own spread)."""
GRADIENT_PX = 0.7
"""Gaussian smoothing of the mean image before its gradient is taken, pixels."""
CELL = 16
"""Side of the cells in which the spread of z is measured, pixels."""
SMOOTH_CELLS = 1.5
MOST_OF_GROUP, MOST_PEAKS = 6000, 1_000_000
"""Peaks that are kept of 27 frames and of a movie, the largest; chance alone makes a tenth of these."""


class Ground(NamedTuple):
    """What the scan of a recording holds constant: the noise's spatial correlation, and images of the field (Y X)."""

    kernel: Float[np.ndarray, "ky kx"]
    skewness: Float[np.ndarray, "Y X"]
    """Third cumulant over standard deviation cubed of a pixel's noise, before that of neighbours was mixed."""
    gradient: Float[np.ndarray, "2 Y X"]
    """Change of the mean image for a pixel of displacement along Y and X, in standard deviations of the noise."""


def gradient_of(mean: Float[np.ndarray, "Y X"], sd: Float[np.ndarray, "Y X"]) -> Float[np.ndarray, "2 Y X"]:
    """`Ground.gradient` of a mean image and its noise (counts)."""
    smooth = ndimage.gaussian_filter(mean, GRADIENT_PX, mode="nearest")
    return (np.stack(np.gradient(smooth)) / sd).astype(np.float32)


class Whitened(NamedTuple):
    """Successive frames in units of the noise's standard deviation: residual (0 where nothing was measured), stated error."""

    value: Float[Array | np.ndarray, "F Y X"]
    doubt: Float[Array | np.ndarray, "F Y X"]


class Peaks(NamedTuple):
    """P local maxima of |z|: first frame and centre, template (spot and duration by number), signed score, and how high the
    residual is there, in standard deviations of a pixel's noise; of displacements, how far, in pixels."""

    frame: Int[np.ndarray, "P"]
    y: Int[np.ndarray, "P"]
    x: Int[np.ndarray, "P"]
    spot: Int[np.ndarray, "P"]
    duration: Int[np.ndarray, "P"]
    z: Float[np.ndarray, "P"]
    height: Float[np.ndarray, "P"]


class Seen(NamedTuple):
    """What was found in some frames: peaks, and sums for f (clipped z², and of how many) over cells, of each spot and duration."""

    peaks: Peaks
    power: Float[np.ndarray, "2 spots durations cy cx"]


class Scan(NamedTuple):
    """A scan under way."""

    ground: Ground
    templates: list
    start: int
    """The first frame it was given."""
    stop: int
    """First frame of the group that is not complete."""
    waiting: Whitened
    """The frames of that group."""
    carried: list
    """Sums that longer templates still need, of each spot."""
    seen: Seen


class _Template(NamedTuple):
    """A spot on its grid."""

    least: np.ndarray
    """|z| from which the score is `THRESHOLD` (durations y x); infinite where the noise is too skewed."""
    skewness: np.ndarray
    """durations y x."""
    weight: Array
    """What the residual is multiplied by (Y X)."""
    constants: tuple[Array, Array, Array]
    """ρ Σ k², which z is divided by; what a height of 1, or a displacement of 1 pixel, adds to Σ k r in a frame; `_bounds`."""
    places: np.ndarray
    """How many there are in each cell."""


def start_scan(ground: Ground, at: int = 0) -> Scan:
    """Before the first frame, or before a later one: give it the frames from `Scan.start` on, and `take` away what they hold."""
    shape, start = ground.skewness.shape, max(at // GROUP - 1, 0) * GROUP
    nothing = np.zeros((0, *shape), np.float32)
    templates = [_template(ground, spot) for spot in range(len(SIGMAS_PX))]
    carried = [np.zeros((2, 3, 2, *(-(-side // step) for side in shape)), np.float32) for step in STEPS_PX]
    return Scan(ground, templates, start, start, Whitened(nothing, nothing), carried, _nothing(shape))


def _nothing(shape: tuple[int, int]) -> Seen:
    cells = tuple(-(-side // CELL) for side in shape)
    return Seen(no_peaks(), np.zeros((2, len(SIGMAS_PX), len(DURATIONS), *cells)))


def no_peaks() -> Peaks:
    """An empty table."""
    kinds = np.int64, np.int32, np.int32, np.int8, np.int8, np.float64, np.float64
    return Peaks(*(np.zeros(0, kind) for kind in kinds))


def add_frames(scan: Scan, frames: Whitened) -> Scan:
    """The scan of some more frames, which follow those before."""
    waiting = Whitened(*(np.concatenate(both).astype(np.float32) for both in zip(scan.waiting, frames, strict=True)))
    whole = len(waiting.value) // GROUP * GROUP
    for first in range(0, whole, GROUP):
        scan = _add_group(scan, Whitened(*(part[first : first + GROUP] for part in waiting)), GROUP)
    return scan._replace(waiting=Whitened(*(part[whole:] for part in waiting)))


def take(scan: Scan, last: bool = False) -> tuple[Seen, Scan]:
    """What was found since it was last taken, and the scan without it; the `last` time with the group that is not complete."""
    left = len(scan.waiting.value)
    if last and left:
        missing = np.zeros((GROUP - left, *scan.ground.skewness.shape), np.float32)
        scan = _add_group(scan, Whitened(*(np.concatenate([part, missing]) for part in scan.waiting)), left)
    return scan.seen, scan._replace(seen=_nothing(scan.ground.skewness.shape))


def joined(parts: list[Seen]) -> Peaks:
    """All peaks of a movie, by score: what z has beyond chance everywhere is taken from it."""
    peaks = _strongest(join_tables([part.peaks for part in parts]), MOST_PEAKS)
    spread = _spread(np.sum([part.power for part in parts], axis=0))
    z = peaks.z / spread[peaks.spot, peaks.duration, peaks.y // CELL, peaks.x // CELL]
    return some_peaks(peaks._replace(z=z), np.abs(z) >= THRESHOLD)


def _spread(power: np.ndarray) -> Float[np.ndarray, "spots durations cy cx"]:
    """f: root mean square of clipped z, smooth over the field, at least 1."""
    squared, count = ndimage.gaussian_filter(power, (0, 0, 0, SMOOTH_CELLS, SMOOTH_CELLS), mode="nearest")
    return np.sqrt(np.maximum(squared / np.maximum(count, 1e-9) / CLIPPED_POWER, 1.0))


def _add_group(scan: Scan, group: Whitened, real: int) -> Scan:
    """27 frames, of which the last may be missing."""
    found, carried, power, frames = [], [], [], [jnp.asarray(part) for part in group]
    for spot, template in enumerate(scan.templates):
        sums = _heard(*frames, template.weight, SIGMAS_PX[spot], STEPS_PX[spot])
        ratios, heights, after, clipped = _scores(sums, scan.carried[spot], *template.constants, STEPS_PX[spot])
        carried.append(after)
        power.append(np.stack([clipped, _counted(template, scan.stop > scan.start)]))
        for duration, both in enumerate(zip(ratios, heights, strict=True)):
            found.append(_peaks(*map(np.asarray, both), template, spot, duration, scan.stop))
    peaks = join_tables(found)
    peaks = some_peaks(peaks, (peaks.frame >= scan.start) & (peaks.frame < scan.stop + real))
    peaks = join_tables([scan.seen.peaks, _strongest(peaks, MOST_OF_GROUP)])
    return scan._replace(
        stop=scan.stop + real, carried=carried, seen=Seen(peaks, scan.seen.power + np.stack(power, axis=1))
    )


def _bounds(least: np.ndarray, spot: int) -> Float[np.ndarray, "2 durations y x"]:
    """|z| of the least score, above and below; a template with light and dark parts has no longer side."""
    below = np.where(np.isfinite(least), np.float32(THRESHOLD), np.float32(np.inf))
    return np.stack([least, least if spot in SHIFTS else below])


def _strongest(peaks: Peaks, most: int) -> Peaks:
    size = np.abs(peaks.z)
    return peaks if len(size) <= most else some_peaks(peaks, size >= np.partition(size, -most)[-most])


def join_tables(parts: list[Peaks]) -> Peaks:
    """One table of several."""
    return Peaks(*(np.concatenate(column) for column in zip(no_peaks(), *parts, strict=True)))


def some_peaks(peaks: Peaks, which: np.ndarray) -> Peaks:
    """Those that are chosen, by position or by truth."""
    return Peaks(*(part[which] for part in peaks))


def _template(ground: Ground, spot: int) -> _Template:
    sigma, step, weight = SIGMAS_PX[spot], STEPS_PX[spot], _weight(ground, spot)
    line = _line(sigma)
    power, third = (
        _blurred(image, line**n, step) for image, n in ((weight**2, 2), (ground.skewness * np.abs(weight) ** 3, 3))
    )
    unit = _blurred(weight**2, line, step) if spot in SHIFTS else power
    width = max(correlated_share(np.outer(line, line), ground.kernel), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.nan_to_num(third / power**1.5, nan=np.inf)
    frames = np.array(DURATIONS)[:, None, None]
    each = skewness / np.sqrt(frames)
    used = (each <= MOST_SKEWED) & ((spot not in SHIFTS) | (power * frames >= width / LEAST_SHARP_PX**2))
    least = np.where(used, _least_z(np.minimum(each, MOST_SKEWED)), np.inf).astype(np.float32)
    constants = tuple(jnp.asarray(part, jnp.float32) for part in (power * width, unit, _bounds(least, spot)))
    return _Template(least, each, jnp.asarray(weight), constants, _in_cells((power > 0).astype(np.float32), step))


def _blurred(image: Float[np.ndarray, "Y X"], line: np.ndarray, step: int) -> Float[np.ndarray, "y x"]:
    """As `_blur`, of one image."""
    for axis in (0, 1):
        image = ndimage.correlate1d(image.astype(float), line, axis, mode="constant")
    return image[::step, ::step]


def _least_z(skewness: np.ndarray) -> np.ndarray:
    """z at which `innovation.normal_score` is the threshold."""
    k = 4 / np.maximum(skewness, 1e-3) ** 2
    return np.sqrt(k) * ((THRESHOLD / (3 * np.sqrt(k)) + 1 - 1 / (9 * k)) ** 3 - 1)


def _weight(ground: Ground, spot: int) -> np.ndarray:
    """What the residual is multiplied by: of a displacement the gradient along its way."""
    if spot not in SHIFTS:
        return np.ones_like(ground.skewness)
    return np.tensordot(WAYS[spot - SHIFTS[0]], ground.gradient, 1).astype(np.float32)


def _line(sigma_px: float) -> Float[np.ndarray, "W"]:
    """Profile of a Gaussian spot of height 1, three standard deviations to either side."""
    half = int(3 * sigma_px)
    return np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma_px**2)).astype(np.float32)


@partial(jax.jit, static_argnames="spot")
def spot_means(frames: Array | np.ndarray, spot: int) -> Float[Array, "F y x"]:
    """Weighted means of frames (F Y X) over a spot, on its grid."""
    line, step = _line(SIGMAS_PX[spot]), STEPS_PX[spot]
    return _blur(frames, line, step) / _blur(jnp.ones_like(frames[:1]), line, step)


@partial(jax.jit, static_argnames=("sigma", "step"))
def _heard(value: Array, doubt: Array, weight: Array, sigma: float, step: int) -> Float[Array, "2 27 y x"]:
    """Σ k r and Σ k u of every frame."""
    return jnp.stack([_blur(part * weight, _line(sigma), step) for part in (value, doubt)])


def _blur(frames: Array, line: np.ndarray, step: int) -> Array:
    """Correlation with line ⊗ line at every `step`-th place; beyond the field is nothing."""
    if step > 1:
        rows, columns = (_band(size, line, step) for size in frames.shape[1:])
        return jnp.einsum("iy,fyx,jx->fij", rows, frames, columns, precision=jax.lax.Precision.HIGHEST)
    half = len(line) // 2
    for axis in (1, 2):
        size = frames.shape[axis]
        padded = jnp.pad(frames, [(half, half) if a == axis else (0, 0) for a in range(3)])
        frames = sum(float(w) * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, w in enumerate(line))
    return frames


def _band(size: int, line: np.ndarray, step: int) -> Float[np.ndarray, "places size"]:
    """The same as a matrix."""
    offset = np.arange(size) - np.arange(0, size, step)[:, None] + len(line) // 2
    return np.where((offset >= 0) & (offset < len(line)), line[np.clip(offset, 0, len(line) - 1)], 0).astype(np.float32)


@partial(jax.jit, static_argnames="step")
def _scores(sums: Array, carried: Array, power: Array, unit: Array, least: Array, step: int) -> tuple:
    """z over its least value and the height for each duration (starts y x), what is carried on, clipped z² summed over cells."""
    ratios, heights, after, clipped, bins = [], [], [], [], sums
    for level, frames in enumerate(DURATIONS):
        if level:
            whole = jnp.concatenate([carried[:, level - 1], bins], axis=1)
            after.append(whole[:, -2:])
            part = whole[:, :-2] + whole[:, 1:-1] + whole[:, 2:]
            bins = bins.reshape(2, -1, 3, *bins.shape[2:]).sum(2)
        else:
            part = sums
        z = part[0] * jax.lax.rsqrt(jnp.maximum(power * frames + part[1] ** 2, 1e-12))
        z = jnp.where(power > 0, z, 0.0)
        heights.append(part[0] / jnp.maximum(unit * frames, 1e-12))
        clipped.append(_in_cells(jnp.minimum(z**2, CLIP**2).sum(0), step))
        ratios.append(z / jnp.where(z > 0, least[0, level], least[1, level]))
    return ratios, heights, jnp.stack(after, axis=1), jnp.stack(clipped)


def _in_cells(image: Array | np.ndarray, step: int) -> Array | np.ndarray:
    side = CELL // step
    Y, X = image.shape
    padded = (np if isinstance(image, np.ndarray) else jnp).pad(image, ((0, -Y % side), (0, -X % side)))
    return padded.reshape(-(-Y // side), side, -(-X // side), side).sum((1, 3))


def _counted(template: _Template, before: bool) -> Float[np.ndarray, "durations cy cx"]:
    """How many z of a group went into each cell; windows that begin before the first frame do not count."""
    starts = [GROUP // max(frames // 3, 1) - (0 if before else 2 * (frames > 1)) for frames in DURATIONS]
    return template.places * np.array(starts)[:, None, None]


def _normal(ratio: np.ndarray, least: np.ndarray, skewness: np.ndarray, both: bool) -> np.ndarray:
    """Scores from z over the least one; `both`: of a template with light and dark parts, where neither side is the longer."""
    if both:
        return np.sign(ratio) * normal_score(np.abs(ratio) * least.astype(float), skewness)
    return normal_score(ratio * np.where(ratio > 0, least, THRESHOLD).astype(float), skewness)


def _peaks(ratio: np.ndarray, height: np.ndarray, template: _Template, spot: int, duration: int, first: int) -> Peaks:
    """Places whose |z| passes and is the largest of its eight neighbours'."""
    size = np.abs(ratio)
    t, y, x = np.nonzero(size >= 1)
    here, largest = size[t, y, x], np.zeros(len(t), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            ny, nx = np.clip(y + dy, 0, size.shape[1] - 1), np.clip(x + dx, 0, size.shape[2] - 1)
            largest = np.maximum(largest, size[t, ny, nx])
    t, y, x = (part[here >= largest] for part in (t, y, x))
    z = _normal(ratio[t, y, x], template.least[duration, y, x], template.skewness[duration, y, x], spot in SHIFTS)
    frames, step = DURATIONS[duration], STEPS_PX[spot]
    start = first + (t if frames == 1 else (t - 2) * (frames // 3))
    kind = np.full(len(t), spot, np.int8), np.full(len(t), duration, np.int8)
    at = start.astype(np.int64), (y * step).astype(np.int32), (x * step).astype(np.int32)
    return Peaks(*at, *kind, z, height[t, y, x].astype(float))
