"""How much of a pattern change that an estimate shows inside a cell is real, without ground truth.

Inside a cell a frame is its brightness times the cell's mean pattern π, and the rest: `x = P D`, `P = 1 − π πᵀ/πᵀπ`. A
measurement y whose noise is independent of the estimate D in that frame knows how much of the rest is real: `Σ (P y)·x` is
on average `Σ (P F)·x`, F the noiseless frame. Over `Σ x·x` it is the share of the shown change that is real; what is left
to 1 the estimate has invented. The measurement is a frame that was predicted blindly, or the judging half of a split movie. As in
`wobble`, a pattern that is always wrong alike (a blur) counts nothing, nor does a wrong brightness.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from udenoise.arrays import Frames, Image, Rows
from udenoise.errors import InputError
from udenoise.metrics.wobble import Cells, Masks, cells_of


class SteadinessSums(NamedTuple):
    """Sums over frames; b is the brightness of the estimate, x = P D and f = P y the pattern changes, v the noise variance."""

    cells: Cells
    pattern: Float[np.ndarray, "P"]
    """π, mean 1 in each ROI."""
    rows: Int[np.ndarray, "P"]
    """Row of the frame in which each pixel lies."""
    correlation: sparse.csr_array
    """ρ of the noise of two pixels of one ROI (P P)."""
    offset: float
    """Counts at zero light."""
    frames: Float[np.ndarray, "N"]
    """How many."""
    brightness: Float[np.ndarray, "N"]
    """Σ b²."""
    shown: Float[np.ndarray, "N"]
    """Σ x·x."""
    seen: Float[np.ndarray, "N"]
    """Σ f·f."""
    both: Float[np.ndarray, "N"]
    """Σ f·x."""
    noise: Float[np.ndarray, "N"]
    """Expected noise in Σ f·f."""
    spread: Float[np.ndarray, "N"]
    """Σ xᵀ N x: noise variance of Σ f·x."""
    stated: Float[np.ndarray, "N"]
    """What the stated variance of independent pixels puts into Σ (f − x)²; NaN if nothing is stated."""
    shown_mean: Float[np.ndarray, "P"]
    """Σ b x."""
    seen_mean: Float[np.ndarray, "P"]
    """Σ b f."""
    spread_mean: Float[np.ndarray, "P"]
    """Σ b N x."""
    variance: Float[np.ndarray, "P"]
    """Σ b² v."""


class Steadiness(NamedTuple):
    """Per ROI: pattern changes relative to its brightness, and how much of them is real. NaN before any frame."""

    shown: Float[np.ndarray, "N"]
    """Temporal standard deviation of the shown pattern, root mean square over pixels; 0.1 is a tenth of the brightness."""
    real_share: Float[np.ndarray, "N"]
    """Share of the shown change (of its variance) that is real; 1 less this is invented."""
    real_share_se: Float[np.ndarray, "N"]
    """From the known noise alone."""
    error: Float[np.ndarray, "N"]
    """Variance of the pattern's error, in units of the squared brightness: measured less noise, so it may be negative."""
    error_se: Float[np.ndarray, "N"]
    stated: Float[np.ndarray, "N"]
    """The same as the stated variance of independent pixels has it: pixels that err together err less in pattern."""


class Pooled(NamedTuple):
    """`Steadiness` of all ROIs together; each counts by its own relative change."""

    shown: float
    real_share: float
    real_share_se: float
    error: float
    error_se: float
    stated: float


def start_steadiness(
    masks: Masks | Cells, mean: Image, offset: float | int = 0.0, kernel: Float[np.ndarray, "ky kx"] | None = None
) -> SteadinessSums:
    """Sums over no frame. `mean` (counts) gives the cells' patterns, `offset` is the counts at zero light.

    `kernel` is the correlation of the noise of two pixels (dy, dx) apart; None is white noise. Raises InputError for a mask
    without a pixel, and where a cell of the mean image is not brighter than the offset.
    """
    cells = masks if isinstance(masks, Cells) else cells_of(masks)
    light = mean.reshape(-1)[cells.pixel].astype(np.float64) - offset
    level = cells.mean(light)
    if not np.all(level > 0):
        raise InputError(
            "a ROI of the mean image is not brighter than the offset; pass the counts at zero light: offset=…"
        )
    X, own, each = mean.shape[1], np.zeros(len(cells.size)), np.zeros(len(cells.pixel))
    return SteadinessSums(
        cells, pattern=light / cells.spread(level), rows=cells.pixel // X, correlation=_within(cells, X, kernel),
        offset=float(offset), frames=own, brightness=own, shown=own, seen=own, both=own, noise=own, spread=own,
        stated=np.full(len(own), np.nan), shown_mean=each, seen_mean=each, spread_mean=each, variance=each,
    )  # fmt: skip


def _within(cells: Cells, X: int, kernel: np.ndarray | None) -> sparse.csr_array:
    """Noise correlation of the pixels of each ROI with each other."""
    P = len(cells.pixel)
    if kernel is None or np.count_nonzero(kernel) == 1:
        return sparse.csr_array(sparse.eye_array(P))
    owner = np.repeat(np.arange(len(cells.size)), cells.size)
    y, x = cells.pixel // X, cells.pixel % X
    wide, middle = X + 2 * kernel.shape[1], np.array(kernel.shape) // 2
    key = (owner * (y.max() + 2 * len(kernel)) + y + len(kernel)) * wide + x + kernel.shape[1]
    order = np.argsort(key)
    first, second, value = [], [], []
    for dy, dx in np.argwhere(kernel != 0) - middle:
        near = key + dy * wide + dx
        at = np.minimum(np.searchsorted(key, near, sorter=order), P - 1)
        hit = key[order[at]] == near
        first, second = [*first, np.flatnonzero(hit)], [*second, order[at[hit]]]
        value = [*value, np.full(hit.sum(), kernel[dy + middle[0], dx + middle[1]])]
    return sparse.csr_array((np.concatenate(value), (np.concatenate(first), np.concatenate(second))), shape=(P, P))


def add_steadiness(
    sums: SteadinessSums,
    measured: Frames,
    estimate: Frames,
    noise_variance: Frames,
    good: Rows | None = None,
    stated_variance: Frames | None = None,
) -> SteadinessSums:
    """The sums with some more frames: measured and estimated counts, and the noise variance (counts²) of what was measured.

    The variance may be a noisy one that is right on average, such as that at the measured counts, and then even negative.
    A ROI is left out of a frame in which one of its rows is not `good`. `stated_variance` is what the estimate says of its
    own error (counts²).
    """
    cells, π = sums.cells, sums.pattern
    weight = np.ones((len(measured), len(cells.size))) if good is None else _whole(sums, good)
    own = π / cells.spread(_total(cells, π * π))

    def apart(frames: Frames) -> tuple[np.ndarray, np.ndarray]:
        values = (cells.gather(frames) - sums.offset) * cells.spread(weight)
        bright = _total(cells, values * own)
        return bright, values - cells.spread(bright) * π

    (b, x), (_, f) = apart(estimate), apart(measured)
    v = cells.gather(noise_variance) * cells.spread(weight)
    root = np.sqrt(np.maximum(v, 0))
    heard = root * (sums.correlation @ (root * x).T).T
    along = own * (sums.correlation @ π)
    wide = cells.spread(b)
    stated = sums.stated if stated_variance is None else np.nan_to_num(sums.stated)
    if stated_variance is not None:
        stated = stated + _total(cells, cells.gather(stated_variance) * cells.spread(weight) * (1 - own * π)).sum(0)
    return sums._replace(
        frames=sums.frames + weight.sum(0),
        brightness=sums.brightness + np.square(b).sum(0),
        shown=sums.shown + _total(cells, x * x).sum(0),
        seen=sums.seen + _total(cells, f * f).sum(0),
        both=sums.both + _total(cells, f * x).sum(0),
        noise=sums.noise + _total(cells, v * (1 - along)).sum(0),
        spread=sums.spread + _total(cells, x * heard).sum(0),
        stated=stated,
        shown_mean=sums.shown_mean + (wide * x).sum(0),
        seen_mean=sums.seen_mean + (wide * f).sum(0),
        spread_mean=sums.spread_mean + (wide * heard).sum(0),
        variance=sums.variance + (wide**2 * np.maximum(v, 0)).sum(0),
    )


def _total(cells: Cells, values: Float[np.ndarray, "... P"]) -> Float[np.ndarray, "... N"]:
    return np.add.reduceat(values, cells.first, axis=-1)


def _whole(sums: SteadinessSums, good: Rows) -> Float[np.ndarray, "frames N"]:
    """1 where all rows of a ROI are good, else 0."""
    return np.minimum.reduceat(good[:, sums.rows], sums.cells.first, axis=1).astype(np.float64)


def steadiness(sums: SteadinessSums) -> Steadiness:
    """Per ROI. The part of the pattern that is constant, in proportion to the brightness, is taken off first."""
    parts = _parts(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        share, share_se = parts.real / parts.shown, np.sqrt(parts.spread) / parts.shown
    return Steadiness(
        np.sqrt(parts.shown / sums.cells.size), share, share_se, parts.error / sums.cells.size,
        np.sqrt(parts.error_variance) / sums.cells.size, sums.stated / sums.brightness / sums.cells.size,
    )  # fmt: skip


def pooled_steadiness(sums: SteadinessSums) -> Pooled:
    """All ROIs together; the noise of one is taken as independent of that of another. ROIs that were never whole are left out."""
    known, size = sums.brightness > 0, sums.cells.size
    if not known.any():
        return Pooled(*[float("nan")] * 6)
    parts = _Parts(*(part[known] / size[known] ** power for part, power in zip(_parts(sums), _POWERS, strict=True)))
    shown, n = parts.shown.sum(), known.sum()
    return Pooled(
        float(np.sqrt(shown / n)), float(parts.real.sum() / shown), float(np.sqrt(parts.spread.sum()) / shown),
        float(parts.error.mean()), float(np.sqrt(parts.error_variance.sum()) / n),
        float(np.mean((sums.stated / sums.brightness / size)[known])),
    )  # fmt: skip


class _Parts(NamedTuple):
    """Sums over pixels once the constant part of each pattern is off, in units of Σ b² (N each); variances in its square."""

    shown: np.ndarray
    real: np.ndarray
    spread: np.ndarray
    error: np.ndarray
    error_variance: np.ndarray


_POWERS = (1, 1, 2, 1, 2)


def _parts(sums: SteadinessSums) -> _Parts:
    cells, B = sums.cells, sums.brightness
    with np.errstate(invalid="ignore", divide="ignore"):
        shown_mean, seen_mean = (part / cells.spread(B) for part in (sums.shown_mean, sums.seen_mean))
        noise = sums.noise * (1 - 1 / np.maximum(sums.frames, 1))  # the constant part has taken its share
        shown = np.maximum(sums.shown - B * _total(cells, shown_mean**2), 0)
        real = sums.both - B * _total(cells, shown_mean * seen_mean)
        root = np.sqrt(sums.variance) * shown_mean
        constant = _total(cells, root * (sums.correlation @ root))
        spread = np.maximum(sums.spread - 2 * _total(cells, shown_mean * sums.spread_mean) + constant, 0)
        error = sums.seen - B * _total(cells, seen_mean**2) - 2 * real + shown - noise
    return _Parts(shown / B, real / B, spread / B**2, error / B, _doubt(sums, error) / B**2)


def _doubt(sums: SteadinessSums, error: np.ndarray) -> Float[np.ndarray, "N"]:
    """`2 tr N² + 4 dᵀ N d`: variance of Σ (d + n)² for Gaussian noise n, with d smooth."""
    cells, rho = sums.cells, sums.correlation
    each = np.maximum(sums.noise, 0) / np.maximum(sums.frames * cells.size, 1)
    squared, plain = (_total(cells, np.asarray(part.sum(1)).ravel()) / cells.size for part in (rho.multiply(rho), rho))
    return 2 * sums.frames * cells.size * each**2 * squared + 4 * np.maximum(error, 0) * each * plain
