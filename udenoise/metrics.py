"""How good an estimate and its error bar are, when the truth is known. Traces are (N T) in any one unit.

Errors are mean squared; `where` (N T) restricts a figure to some frames, e.g. `fast_changes(truth)`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.fft import dct, idct
from scipy.ndimage import gaussian_filter1d, maximum_position
from scipy.special import ndtr

Traces = Float[np.ndarray, "N T"]
Where = Bool[np.ndarray, "N T"]
Bands = Float[np.ndarray, "L N T"]


class GaussianFit(NamedTuple):
    """The best single temporal Gaussian."""

    sigma: float
    """Its width, frames."""
    error: float
    """Its error, pooled over ROIs."""
    estimate: Traces


class Summary(NamedTuple):
    """One row of the table that decides what is better (design §8); pooled over ROIs and frames."""

    roi_error: float
    """Mean squared error."""
    fast_error: float
    """The same over the fastest 3 % of frames of each ROI."""
    event_amplitude: float
    """Median ratio of estimated to true event peak, 1 is unbiased."""
    levels: tuple[float, ...]
    coverage: tuple[float, ...]
    """How often the band of each level holds the truth."""
    fast_coverage: tuple[float, ...]
    """The same over the fastest 3 % of frames."""
    event_coverage: tuple[float, ...]
    """The same during events."""
    width_ratio: float
    """Mean standard deviation over root mean squared error; an oracle of constant error has 1."""
    crps: float
    """Continuous ranked probability score of Normal(mean, sd)."""


def roi_error(estimate: Traces, truth: Traces, where: Where | None = None) -> Float[np.ndarray, "N"]:
    """Mean over frames of (estimate − truth)², per ROI; its mean is the pooled error. NaN where `where` is empty."""
    squared = np.square(np.subtract(estimate, truth, dtype=np.float64))
    return _mean_where(squared, where)


def relative_roi_error(
    estimate: Traces, reference: Traces, truth: Traces, where: Where | None = None
) -> Float[np.ndarray, "N"]:
    """Error of the estimate over the error of a reference (raw, a filter), per ROI: below 1 is better than it."""
    return roi_error(estimate, truth, where) / roi_error(reference, truth, where)


def coverage(truth: Traces, lower: Traces, upper: Traces, where: Where | None = None) -> float:
    """Fraction of frames of all ROIs at which lower ≤ truth ≤ upper."""
    inside = (lower <= truth) & (truth <= upper)
    return float(np.mean(inside if where is None else inside[where]))


def roi_coverage(truth: Traces, lower: Traces, upper: Traces, where: Where | None = None) -> Float[np.ndarray, "N"]:
    """Coverage of each ROI."""
    return _mean_where(((lower <= truth) & (truth <= upper)).astype(np.float64), where)


def mean_width(lower: Traces, upper: Traces, where: Where | None = None) -> float:
    """Mean of upper − lower."""
    width = np.subtract(upper, lower, dtype=np.float64)
    return float(np.mean(width if where is None else width[where]))


def crps_gaussian(mean: Traces, sd: Traces, truth: Traces) -> Traces:
    """Continuous ranked probability score of Normal(mean, sd²), smaller is better, in units of the trace.

    sd · (z(2Φ(z) − 1) + 2φ(z) − 1/√π), z = (truth − mean)/sd (Gneiting & Raftery 2007, eq. 21).
    """
    z = _z_score(mean, sd, truth)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return sd * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))


def pit(mean: Traces, sd: Traces, truth: Traces) -> Traces:
    """Probability integral transform Φ((truth − mean)/sd): uniform on [0, 1] if the error bar is true (Dawid 1984)."""
    return ndtr(_z_score(mean, sd, truth))


def fast_changes(truth: Traces, fraction: float = 0.03) -> Where:
    """The `fraction` of frames of each ROI (at least one) with the largest |truth[t+1] − truth[t−1]|/2."""
    speed = np.abs(np.gradient(truth.astype(np.float64), axis=1))
    count = max(1, round(fraction * truth.shape[1]))
    fastest = np.argsort(-speed, axis=1, kind="stable")[:, :count]
    chosen = np.zeros(truth.shape, bool)
    np.put_along_axis(chosen, fastest, True, axis=1)
    return chosen


def event_mask(truth: Traces, height: float = 0.5) -> Where:
    """Frames during events: more than `height` of the way from the ROI's median to its maximum."""
    median = np.median(truth, axis=1, keepdims=True)
    return truth - median > height * (truth.max(axis=1, keepdims=True) - median)


def event_amplitude_ratio(estimate: Traces, truth: Traces, height: float = 0.5) -> float:
    """Median over events of estimated over true amplitude; below 1, events are flattened. NaN without any event.

    An event is a run of `event_mask`. Its amplitude is the value at the true peak minus the trace's own median
    (at the true peak, since the maximum of a noisy trace is too high).
    """
    during = event_mask(truth, height)
    starts = np.diff(during, axis=1, prepend=False) & during
    if not starts.any():
        return float("nan")
    runs = np.where(during, np.cumsum(starts).reshape(truth.shape), 0)  # numbered from 1
    peaks = tuple(np.array(maximum_position(truth, runs, np.arange(1, runs.max() + 1))).T)
    rises = [(trace - np.median(trace, axis=1, keepdims=True))[peaks] for trace in (estimate, truth)]
    return float(np.median(rises[0] / rises[1]))


def noise_level_nu(dff: Traces, frame_rate_hz: float) -> Float[np.ndarray, "N"]:
    """Standardised noise level ν of raw ΔF/F (a fraction, without neuropil subtraction), in % per √Hz.

    median over t of |100·ΔF/F[t+1] − 100·ΔF/F[t]| / √frame rate (Rupprecht et al. 2021).
    On denoised traces it is meaningless.
    """
    return np.median(np.abs(np.diff(100.0 * dff, axis=1)), axis=1) / np.sqrt(frame_rate_hz)


def best_temporal_gaussian(raw: Traces, truth: Traces, sigmas: Float[np.ndarray, "K"]) -> GaussianFit:
    """Filter all raw traces with one Gaussian in time, of the σ (frames) whose error to the truth is smallest."""
    fits = [_gaussian_fit(raw, truth, float(sigma)) for sigma in sigmas]
    return min(fits, key=lambda fit: fit.error)


def oracle_wiener(raw: Traces, truth: Traces, noise_variance: Float[np.ndarray, "N"], smooth_bins: int = 0) -> Traces:
    """The Wiener filter S/(S + noise) of each ROI, with the power spectrum S of the truth itself (cosine transform).

    With `smooth_bins` = 0 the spectrum is this very trace's: no time-invariant filter with reflecting ends has a
    smaller expected error. A smoothed spectrum (Gaussian, in bins) is what one could know of the process.
    `noise_variance` is that of one frame of the ROI's raw trace (white in time).
    """
    power = np.square(_cosine_transform(truth))
    if smooth_bins:
        power[:, 1:] = gaussian_filter1d(power[:, 1:], smooth_bins, axis=1)
    response = power / (power + noise_variance[:, None])
    return np.asarray(idct(response * _cosine_transform(raw), norm="ortho", axis=1))


def summary(truth: Traces, mean: Traces, sd: Traces, lower: Bands, upper: Bands, levels: tuple[float, ...]) -> Summary:
    """The table of design §8 for one estimate with its error bar and its bands (L levels)."""
    fast, event = fast_changes(truth), event_mask(truth)
    rates = [
        tuple(coverage(truth, low, high, where) for low, high in zip(lower, upper, strict=True))
        for where in (None, fast, event)
    ]
    error = float(roi_error(mean, truth).mean())
    return Summary(
        roi_error=error,
        fast_error=float(roi_error(mean, truth, fast).mean()),
        event_amplitude=event_amplitude_ratio(mean, truth),
        levels=tuple(levels),
        coverage=rates[0],
        fast_coverage=rates[1],
        event_coverage=rates[2],
        width_ratio=float(np.mean(sd) / np.sqrt(error)),
        crps=float(np.mean(crps_gaussian(mean, sd, truth))),
    )


def _mean_where(value: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    if where is None:
        return value.mean(axis=1)
    with np.errstate(invalid="ignore"):
        return (value * where).sum(axis=1) / where.sum(axis=1)


def _z_score(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.subtract(truth, mean, dtype=np.float64) / sd


def _cosine_transform(traces: np.ndarray) -> np.ndarray:
    return np.asarray(dct(traces.astype(np.float64), norm="ortho", axis=1))


def _gaussian_fit(raw: np.ndarray, truth: np.ndarray, sigma: float) -> GaussianFit:
    estimate = gaussian_filter1d(raw.astype(np.float64), sigma, axis=1, mode="reflect")
    return GaussianFit(sigma, float(roi_error(estimate, truth).mean()), estimate)
