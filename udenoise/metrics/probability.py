"""Is the whole predicted distribution right? Scores and transforms of a Gaussian (mean, sd) or of draws (S N T)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from udenoise.errors import InputError
from udenoise.metrics.states import Traces


class PitHistogram(NamedTuple):
    """Probability integral transforms against the uniform distribution."""

    density: Float[np.ndarray, "bins"]
    """Equal bins of [0, 1], 1 where uniform: ∪ bars too narrow, ∩ too wide, a slope is a bias."""
    distance: float
    """Kolmogorov–Smirnov: the largest coverage error of any one-sided band. Frames are correlated: no p-value."""
    bias: float
    """Mean − 1/2: positive where the estimate is too low."""
    spread: float
    """12 × variance: 1 if the error bar is true, above 1 too narrow, below 1 too wide."""


def crps_gaussian(mean: Traces, sd: Traces, truth: Traces) -> Traces:
    """Continuous ranked probability score of Normal(mean, sd²), smaller is better, in units of the trace.

    sd · (z(2Φ(z) − 1) + 2φ(z) − 1/√π), z = (truth − mean)/sd (Gneiting & Raftery 2007, sec. 4.2).
    """
    z = _z_score(mean, sd, truth)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return sd * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))


def crps_draws(draws: Float[np.ndarray, "S N T"], truth: Traces) -> Traces:
    """The same from draws: mean|x − truth| − Σ_{s<s'}|x_s − x_s'| / (S(S − 1)), unbiased in S (Ferro 2014).

    The double sum is Σ_s (2s − S − 1)·x_(s) over sorted draws. Raises InputError for fewer than two draws.
    """
    S = len(draws)
    if S < 2:
        raise InputError(f"{S} draw; the score from draws needs two or more: --draws 200")
    weight = 2 * np.arange(1, S + 1) - S - 1
    score = np.empty(truth.shape)
    for n, true in enumerate(truth):  # one ROI at a time: sorting copies
        ordered = np.sort(draws[:, n].astype(np.float64), axis=0)
        score[n] = np.abs(ordered - true).mean(axis=0) - weight @ ordered / (S * (S - 1))
    return score


def pit(mean: Traces, sd: Traces, truth: Traces) -> Traces:
    """Probability integral transform Φ((truth − mean)/sd): uniform on [0, 1] if the error bar is true (Dawid 1984)."""
    return ndtr(_z_score(mean, sd, truth))


def pit_draws(draws: Float[np.ndarray, "S N T"], truth: Traces) -> Traces:
    """The rank of the truth among the draws, (draws below + ½)/(S + 1): uniform on S + 1 values (Hamill 2001).

    Ties count half.
    """
    below = (draws < truth).sum(axis=0) + 0.5 * (draws == truth).sum(axis=0)
    return (below + 0.5) / (len(draws) + 1)


def pit_histogram(values: Traces, bins: int = 20) -> PitHistogram:
    """Histogram of transforms of all ROIs and frames, and how far it is from uniform.

    With few draws choose `bins` so that S + 1 is a multiple of it.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    density = np.histogram(ordered, bins, range=(0, 1))[0] * (bins / ordered.size)
    after = np.arange(1, ordered.size + 1) / ordered.size  # the empirical distribution, just after each value
    distance = max((after - ordered).max(), (ordered - after).max() + 1 / ordered.size)
    return PitHistogram(density, float(distance), float(ordered.mean() - 0.5), float(12 * ordered.var()))


def _z_score(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.subtract(truth, mean, dtype=np.float64) / sd
