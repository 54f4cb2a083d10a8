"""From expected photons to counts: Poisson, pulse heights, read noise, bandwidth, clipping, saturation, lost rows.

To second order `Var[counts | F] = a·F + c`, a = gain · excess noise · Σh², c = read_noise² − a·offset, and noise is
correlated along X only, by the autocorrelation of the detector's filter h.
"""

import numpy as np
from jaxtyping import Float, Int, UInt16

from udenoise.config import SimulationConfig


def detector_taps(correlation_x: float, bandwidth_px: float = 0.0) -> Float[np.ndarray, "H"]:
    """The detector's filter along X, sum 1, odd length, its present pixel in the middle.

    (r, 1, r)/(1 + 2r), whose output has correlation 2r/(1 + 2r²) between neighbours, after a one-pole low-pass
    exp(−k/bandwidth), k ≥ 0, which alone has correlation exp(−|dx|/bandwidth).
    """
    r = (1 - np.sqrt(1 - 2 * correlation_x**2)) / (2 * correlation_x) if correlation_x else 0.0
    reach = int(np.ceil(7 * bandwidth_px))
    trail = np.exp(-np.arange(reach + 1) / bandwidth_px) if reach else np.ones(1)
    taps = np.convolve([r, 1.0, r], np.concatenate([np.zeros(reach), trail]))
    return taps / taps.sum()


def noise_kernel(taps: Float[np.ndarray, "H"]) -> Float[np.ndarray, "K K"]:
    """Correlation ρ(dy, dx) of noise that went through the filter, K = 2 H − 1."""
    kernel = np.zeros((2 * len(taps) - 1,) * 2)
    kernel[len(taps) - 1] = np.correlate(taps, taps, "full") / (taps @ taps)
    return kernel


def filter_x(padded: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filter along X (the last axis); the input carries H // 2 more columns on either side."""
    width = padded.shape[-1] - len(taps) + 1
    return sum(h * padded[..., k : k + width] for k, h in enumerate(taps[::-1]) if h)


def detect(
    photons: Float[np.ndarray, "Y W"], taps: Float[np.ndarray, "H"], config: SimulationConfig, rng: np.random.Generator
) -> UInt16[np.ndarray, "Y X"]:
    """One frame of counts; W = X + H − 1. The pulses of k photons sum to Gamma(k·shape)/shape, shape = 1/(excess − 1)."""
    detected = rng.poisson(photons).astype(np.float64)
    if config.excess_noise > 1:
        shape = 1 / (config.excess_noise - 1)
        detected = rng.standard_gamma(detected * shape) / shape
    read = rng.normal(0, config.read_noise / np.sqrt(taps @ taps), photons.shape)
    counts = config.offset + filter_x(config.gain * detected + read, taps)
    return np.clip(np.rint(counts), config.detector.floor_counts, config.detector.ceiling_counts).astype(np.uint16)


def dropped_rows(config: SimulationConfig, rng: np.random.Generator) -> Int[np.ndarray, "n 2"]:
    """(frame, row) pairs that are lost."""
    return np.argwhere(rng.random((config.frames, config.height)) < config.dropped_rows)
