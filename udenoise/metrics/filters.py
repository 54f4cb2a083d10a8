"""Filters in time that know the truth: what an estimate is held against."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.fft import dct, idct
from scipy.ndimage import gaussian_filter1d

from udenoise.metrics.errors import roi_error
from udenoise.metrics.states import Traces

SIGMAS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0)
"""Widths (frames) among which the best temporal Gaussian is sought."""


class GaussianFit(NamedTuple):
    """The best single temporal Gaussian."""

    sigma: float
    """Its width, frames."""
    error: float
    """Its error, pooled over ROIs."""
    estimate: Traces


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


def _cosine_transform(traces: np.ndarray) -> np.ndarray:
    return np.asarray(dct(traces.astype(np.float64), norm="ortho", axis=1))


def _gaussian_fit(raw: np.ndarray, truth: np.ndarray, sigma: float) -> GaussianFit:
    estimate = gaussian_filter1d(raw.astype(np.float64), sigma, axis=1, mode="reflect")
    return GaussianFit(sigma, float(roi_error(estimate, truth).mean()), estimate)
