"""What in an ROI neither its past and future nor noise explain: single frames whose residual is too large for both.

`r ~ (1 − ε) Normal(0, S + n) + ε Normal(0, S + n + τ n)`: in most frames the blind error has its measured variance S, in few it
is larger by τ times the noise variance, as where a steep onset is off by a frame. Rate and size are the likeliest for all ROIs
together (expectation maximisation, Dempster et al. 1977). A frame is fused under both, weighed by how likely each is for its own
residual; where it may be either, the variance holds both. `innovation` finds events too small for an ROI's mean; this
finds those as large as the ROI.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from udenoise.posterior import Region
from udenoise.roi_error import RoiCalibration, noise_of
from udenoise.roi_posterior import Fused, fuse_regions

ITERATIONS = 60
START = (1e-3, 10.0)
LEAST_SIZE = 8.0
"""τ: no surprise is smaller, so that a small error of S or n is not taken for many of them."""
RATES = (1e-5, 0.05)


class Surprises(NamedTuple):
    """How often ROIs surprise, by how much (variance, in units of the noise), and the probability that they did."""

    rate: float
    size: float
    probability: Float[np.ndarray, "T N"]


def find_surprises(moments: Region, calibration: RoiCalibration) -> Surprises:
    """The likeliest rate and size, and each frame's probability; 0 where no row is real."""
    noise = noise_of(moments, 0)
    squared = (moments.raw[:, 0] - moments.mean[:, 0]) ** 2 / noise
    known = ~np.isnan(squared)
    squared, usual = np.where(known, squared, 0.0), 1 + calibration.variance[:, 0] / noise
    rate, size = START
    for _ in range(ITERATIONS if known.any() else 0):
        p = known * _probability(squared, usual, rate, size)
        rate = float(np.clip(p.sum() / known.sum(), *RATES))
        size = float(max((p * (squared - usual)).sum() / max(p.sum(), 1e-9), LEAST_SIZE))
    return Surprises(rate, size, known * _probability(squared, usual, rate, size))


def _probability(squared: np.ndarray, usual: np.ndarray, rate: float, size: float) -> Float[np.ndarray, "T N"]:
    larger = usual + size
    odds = np.log(rate / (1 - rate)) + (np.log(usual / larger) + squared / usual - squared / larger) / 2
    return 1 / (1 + np.exp(-np.clip(odds, -60, 60)))


def fuse_surprised(moments: Region, calibration: RoiCalibration, surprises: Surprises, usual: Fused) -> Fused:
    """ROIs with their rings after the frame has been heard: mean and covariance of the mixture of both cases (counts, counts²).

    `usual` is what `fuse_regions` makes of them where nothing surprises.
    """
    variance = calibration.variance.copy()
    variance[:, 0] += surprises.size * noise_of(moments, 0)
    larger = fuse_regions(moments, calibration._replace(variance=variance))
    p, apart = surprises.probability, larger.mean - usual.mean
    between = (p * (1 - p))[..., None, None] * np.einsum("tkn,tln->tnkl", apart, apart)
    share = p[..., None, None]
    covariance = (1 - share) * usual.covariance + share * larger.covariance + between
    return Fused(usual.mean + p[:, None] * apart, covariance)
