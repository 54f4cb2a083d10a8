"""Which frequencies an estimate keeps, loses and invents; and the noise level of raw traces."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float
from scipy.signal import csd, welch

from udenoise.errors import InputError
from udenoise.metrics.states import Traces


class Spectra(NamedTuple):
    """One-sided power densities (unit²/Hz), mean over ROIs, and two ratios of these means; NaN where the truth has no power."""

    frequency_hz: Float[np.ndarray, "F"]
    truth: Float[np.ndarray, "F"]
    estimate: Float[np.ndarray, "F"]
    error: Float[np.ndarray, "F"]
    """Of estimate − truth."""
    transfer: Complex[np.ndarray, "F"]
    """H = cross spectrum/true spectrum: |H| below 1 is smoothing; of filtered truth plus unrelated noise it is the filter."""
    coherence: Float[np.ndarray, "F"]
    """|cross|²/(true · estimated spectrum): the share of the estimate's power that follows the truth linearly."""


def spectra(estimate: Traces, truth: Traces, frame_rate_hz: float, segment: int = 256) -> Spectra:
    """Welch's spectra (1967): Hann windows of `segment` frames, half overlapping, each segment's mean removed.

    Transfer function and coherence as in Bendat & Piersol (2010, ch. 6). A single segment has coherence 1 whatever the
    traces of one ROI are: raises InputError unless two segments fit.
    """
    T = truth.shape[1]
    if 2 * segment > T:
        raise InputError(f"{T} frames are too few for segments of {segment}; give segment={T // 2} or less")
    settings = {"fs": frame_rate_hz, "nperseg": segment, "axis": 1}
    s, x = truth.astype(np.float64), estimate.astype(np.float64)
    frequency, true = welch(s, **settings)
    powers = [power.mean(axis=0) for power in (true, *(welch(y, **settings)[1] for y in (x, x - s)))]
    cross = csd(s, x, **settings)[1].mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        transfer, coherence = cross / powers[0], np.abs(cross) ** 2 / (powers[0] * powers[1])
    return Spectra(frequency, *powers, transfer, coherence)


def half_power_hz(result: Spectra) -> float:
    """The first frequency at which |H|² falls to a half, on straight lines between bins; NaN if it never does.

    The zero frequency is left out: segments have no mean.
    """
    frequency, power = result.frequency_hz[1:], np.square(np.abs(result.transfer[1:]))
    low = np.flatnonzero(power <= 0.5)
    if not len(low):
        return float("nan")
    part = slice(max(low[0] - 1, 0), low[0] + 1)
    return float(np.interp(-0.5, -power[part], frequency[part]))


def noise_level_nu(dff: Traces, frame_rate_hz: float) -> Float[np.ndarray, "N"]:
    """Standardised noise level ν of raw ΔF/F (a fraction, without neuropil subtraction), in % per √Hz.

    median over t of |100·ΔF/F[t+1] − 100·ΔF/F[t]| / √frame rate (Rupprecht et al. 2021).
    On denoised traces it is meaningless.
    """
    return np.median(np.abs(np.diff(100.0 * dff, axis=1)), axis=1) / np.sqrt(frame_rate_hz)
