"""Single-pixel figures, to be reported last, and what remains of them when neighbouring errors are not independent.

"Neighboring pixels of a denoised movie are correlated since their original values have influenced each other. It is therefore
not justified to compare something like a SNR based on single pixels or single frames between raw and denoised data": the side
note "Computing the SNR from raw and denoised pixels" in "Self-supervised denoising of calcium imaging data" (Rupprecht, blog
gcamp6f.com, 2022). The correction below is this package's reading of it: n pixels of a cell are worth `effective_pixels`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from udenoise.arrays import Frames, Image
from udenoise.errors import InputError
from udenoise.metrics.wobble import Cells, Masks, cells_of


class PixelSums(NamedTuple):
    """Sums over frames of errors e = estimate − truth and of brightness above the offset."""

    cells: Cells
    frames: int
    error: Image
    square: Image
    right: Float[np.ndarray, "Y X-1"]
    """Σ e(y, x)·e(y, x + 1)."""
    below: Float[np.ndarray, "Y-1 X"]
    """Σ e(y, x)·e(y + 1, x)."""
    roi: Float[np.ndarray, "N"]
    """Σ of the error of each ROI's mean."""
    roi_square: Float[np.ndarray, "N"]
    truth: Float[np.ndarray, "P"]
    value: Float[np.ndarray, "P"]
    """Σ of the estimate."""
    value_square: Float[np.ndarray, "P"]


class PixelScore(NamedTuple):
    """Per ROI (N) where not said otherwise; noise is the standard deviation in time of the error."""

    error: float
    """Mean squared error of all pixels of the field, unit²."""
    neighbour_correlation: tuple[float, float]
    """Of the errors with the next pixel along Y, along X, pooled over the field."""
    pixels: Int[np.ndarray, "N"]
    effective_pixels: Float[np.ndarray, "N"]
    """n_eff = (mean of the pixels' error variances)/(error variance of their mean): n if independent, 1 if all are one."""
    snr: Float[np.ndarray, "N"]
    """True mean brightness over the root mean square of the pixels' noise."""
    corrected_snr: Float[np.ndarray, "N"]
    """snr·√(n_eff/n): of a pixel with independent noise that would give the ROI the signal-to-noise it has."""
    roi_snr: Float[np.ndarray, "N"]
    """True mean brightness over the noise of the ROI's mean, = snr·√n_eff."""
    untrue_snr: Float[np.ndarray, "N"]
    """Mean over standard deviation in time of the estimate itself, mean over pixels: needs no truth, rewards swallowing events."""


def start_pixels(masks: Masks) -> PixelSums:
    """Sums over no frame."""
    cells, (N, Y, X) = cells_of(masks), masks.shape
    P = len(cells.pixel)
    shapes = ((Y, X), (Y, X), (Y, X - 1), (Y - 1, X), N, N, P, P, P)
    return PixelSums(cells, 0, *map(np.zeros, shapes))


def add_pixels(sums: PixelSums, estimate: Frames, truth: Frames, offset: float | int = 0.0) -> PixelSums:
    """The sums with some more frames; `offset` is the counts at zero light, of both movies."""
    cells = sums.cells
    e = np.subtract(estimate, truth, dtype=np.float64)
    means, value = cells.mean(cells.gather(e)), cells.gather(estimate) - offset
    new = (
        e.sum(axis=0),
        np.square(e).sum(axis=0),
        np.einsum("tyx,tyx->yx", e[:, :, 1:], e[:, :, :-1]),
        np.einsum("tyx,tyx->yx", e[:, 1:], e[:, :-1]),
        means.sum(axis=0),
        np.square(means).sum(axis=0),
        (cells.gather(truth) - offset).sum(axis=0),
        value.sum(axis=0),
        np.square(value).sum(axis=0),
    )
    return PixelSums(cells, sums.frames + len(e), *(old + more for old, more in zip(sums[2:], new, strict=True)))


def pixel_score(sums: PixelSums) -> PixelScore:
    """The figures of all frames added so far. Raises InputError for fewer than two."""
    if sums.frames < 2:
        raise InputError(f"{sums.frames} frame added; a noise in time needs two or more")
    cells, T = sums.cells, sums.frames
    variance = _variance(sums.error, sums.square, T)
    noise = cells.mean(variance.ravel()[cells.pixel])
    roi_noise = _variance(sums.roi, sums.roi_square, T)
    brightness = cells.mean(sums.truth) / T
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = sums.value / T / np.sqrt(_variance(sums.value, sums.value_square, T))
        effective, snr, roi_snr = noise / roi_noise, brightness / np.sqrt(noise), brightness / np.sqrt(roi_noise)
    return PixelScore(
        float(sums.square.mean() / T), _neighbour_correlation(sums, variance), cells.size, effective,
        snr, snr * np.sqrt(effective / cells.size), roi_snr, cells.mean(ratio),
    )  # fmt: skip


def _variance(total: np.ndarray, square: np.ndarray, T: int) -> np.ndarray:
    return np.maximum(square / T - np.square(total / T), 0.0)


def _neighbour_correlation(sums: PixelSums, variance: np.ndarray) -> tuple[float, float]:
    mean, T = sums.error / sums.frames, sums.frames
    down = sums.below / T - mean[1:] * mean[:-1], (variance[1:] + variance[:-1]) / 2
    across = sums.right / T - mean[:, 1:] * mean[:, :-1], (variance[:, 1:] + variance[:, :-1]) / 2
    with np.errstate(invalid="ignore"):  # a perfect estimate has no errors to correlate
        return tuple(float(covariance.sum() / power.sum()) for covariance, power in (down, across))
