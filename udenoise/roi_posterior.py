"""The posterior of ROI traces: the blind prediction filtered in time, its noise weighed, and the frame itself heard."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from udenoise.posterior import Region
from udenoise.roi_error import FOLDS, RoiCalibration, causes, expected_ratio, noise_of, with_variance
from udenoise.smoothing import Answer, Blind, answered, fit_smoother, smooth

QUIET = 0.9
"""Quantile of change, rise and height above which frames do not count for the noise."""
OUTLIER = 4.0
"""Residuals beyond this many robust standard deviations are events that nothing foretold: white, but no noise."""
REPORTED_LAGS = (1, 2, 4, 8, 16)
"""Lags (frames) at which the report compares errors with their prediction."""
WHITE_LAGS = 6
"""Lags (frames) at which the covariance of the errors is measured."""
SHAPE_DOUBT = 0.15
"""Relative error of the errors' variance when it is continued from these lags to lag 0."""
TEMPLATE_DOUBT = 0.06
"""Relative error of an event's size in a region because no template has its shape."""
NOISE_DOUBT = 0.01
"""Relative error of the noise model's variance of a region's raw trace."""


class Response(NamedTuple):
    """How regions answered fresh noise on frames [start, start + t): the noise itself, and what it changed (counts)."""

    start: int
    fresh: Float[np.ndarray, "t K N"]
    left: Float[np.ndarray, "t K N"]


class Fused(NamedTuple):
    """Regions after the frame itself has been heard (counts, counts²)."""

    mean: Float[np.ndarray, "T K N"]
    covariance: Float[np.ndarray, "T N K K"]


class Added(NamedTuple):
    """What events of `innovation` add to regions, left out of their moments until all else is done (counts, counts²)."""

    mean: Float[np.ndarray, "T K N"]
    variance: Float[np.ndarray, "T K N"]


def improve(moments: Region, response: Response, segment: Int[np.ndarray, "T"]) -> tuple[Region, Response]:
    """The blind predictions filtered in time (`smoothing`), and what then is left of fresh noise."""
    kinds = range(moments.raw.shape[1])
    mean, left = zip(*(_improve(moments, response, segment, k) for k in kinds), strict=True)
    return moments._replace(mean=np.stack(mean, 1)), response._replace(left=np.stack(left, 1))


def _improve(moments: Region, response: Response, segment: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    unit, mean = np.sqrt(noise_of(moments, k)), moments.mean[:, k]
    span, fresh, left = _answer(response, unit, k)
    expected = expected_ratio(moments, segment, k)
    blind = Blind((moments.raw[:, k] - mean) / unit, (mean - mean.mean(0)) / unit, expected, segment)
    answer = Answer(span.start, fresh, left)
    smoother = fit_smoother(blind, answer)
    return mean + unit * smooth(smoother, blind), answered(smoother, blind, answer) * unit[span]


def _answer(response: Response, unit: Float[np.ndarray, "T N"], k: int) -> tuple[slice, np.ndarray, np.ndarray]:
    """The frames that were given fresh noise, the noise and what it changed, in units of each region's noise."""
    span = slice(response.start, response.start + len(response.fresh))
    return span, response.fresh[:, k] / unit[span], response.left[:, k] / unit[span]


def weigh_noise(moments: Region, response: Response, segment: Int[np.ndarray, "T"]) -> Float[np.ndarray, "K"]:
    """Noise variance of the regions' raw traces over what the noise model says, one factor for ROIs and one for rings.

    After filtering the error may be 3 % of the noise, which no photon-transfer curve knows that well. But noise is white and
    errors are not: with `h(k) = E[n_t μ_{t+k}]/n`, the error's covariance at lag k is `E[r_t r_{t+k}]/n + h(k) + h(−k)`, whatever
    n is. Continued to lag 0 in the shape of the response to fresh noise, it leaves the noise. Both accounts are weighed.
    """
    return np.array([_weigh_noise(moments, response, segment, k) for k in range(moments.raw.shape[1])])


def _weigh_noise(moments: Region, response: Response, segment: np.ndarray, k: int) -> float:
    unit = np.sqrt(noise_of(moments, k))
    span, fresh, left = _answer(response, unit, k)
    residual = (moments.raw[:, k] - moments.mean[:, k]) / unit
    if np.isnan(residual).all():
        return 1.0
    outlier = np.abs(residual) > OUTLIER * 1.4826 * np.nanmedian(np.abs(residual))
    residual = np.where(_quiet(moments, segment, k) & ~outlier, residual, np.nan)
    by_lags, chance = _error_by_lags(residual, segment, fresh, left, segment[span])
    if not np.isfinite(chance):
        return 1.0
    squared, count = np.nanmean(residual**2), (~np.isnan(residual)).sum()
    doubt = np.array([chance + (SHAPE_DOUBT * by_lags) ** 2, 2 / count + NOISE_DOUBT**2])
    error = np.average([by_lags, squared - 1], weights=1 / doubt)
    return float(np.clip(squared - error, 0.8, 1.25))


def _error_by_lags(
    residual: np.ndarray, segment: np.ndarray, fresh: np.ndarray, left: np.ndarray, fresh_segment: np.ndarray
) -> tuple[float, float]:
    """Variance of the error in units of the noise, from lags 1 … WHITE_LAGS alone, and its sampling variance.

    The latter from the spread over regions and stretches of time: white noise alone would make it less than half as large.
    """
    lags = range(1, min(WHITE_LAGS, len(fresh) // 4) + 1)
    shape = np.array([_lagged(left, left, j, fresh_segment) for j in lags]) / np.mean(left**2)
    known, power = np.sum(shape**2), np.mean(fresh**2)
    if known == 0 or np.isnan(residual).all():
        return 0.0, np.inf
    own = [_products(residual, residual, j, segment) for j in lags]
    heard = [_products(fresh, left, j, fresh_segment) + _products(left, fresh, j, fresh_segment) for j in lags]
    error = shape @ [_mean(product) for product in own] + shape @ [_mean(product) for product in heard] / power
    doubt = _sampling_variance(shape, own) + _sampling_variance(shape, heard) / power**2
    return float(error / known), doubt / known**2


def _sampling_variance(shape: np.ndarray, products: list[np.ndarray]) -> float:
    """Of `Σ_j shape_j mean(products_j)`: its variance between regions in FOLDS stretches, over their number."""
    stretches = [np.array_split(product, FOLDS) for product in products]
    cells = shape @ np.array(
        [[_mean(part[:, [n]]) for part in parts for n in range(part.shape[1])] for parts in stretches]
    )
    return float(cells.var() / max(len(cells) - 1, 1))


def _quiet(moments: Region, segment: np.ndarray, k: int) -> np.ndarray:
    noise = noise_of(moments, k)
    change, rise, height = causes(moments.mean[:, k], np.ones_like(noise), noise, segment)[2:5]
    return np.all([part <= np.quantile(part, QUIET) for part in (change, rise, height)], axis=0)


def _lagged(a: np.ndarray, b: np.ndarray, lag: int, segment: np.ndarray) -> float:
    """Mean of a_t b_{t+lag} within trials; 0 where there is none."""
    return _mean(_products(a, b, lag, segment))


def _products(a: np.ndarray, b: np.ndarray, lag: int, segment: np.ndarray) -> np.ndarray:
    return (a[:-lag] * b[lag:])[segment[:-lag] == segment[lag:]]


def _mean(product: np.ndarray) -> float:
    return float(np.nanmean(product)) if np.any(~np.isnan(product)) else 0.0


def fuse_regions(moments: Region, calibration: RoiCalibration) -> Fused:
    """`μ + S (S + n)⁻¹ (y − μ)` and `S − S (S + n)⁻¹ S` for each ROI with its ring; blind where no row is real.

    S is as measured: its variances, and by one factor its correlations.
    """
    S = with_variance(moments.covariance, calibration.variance) * calibration.correlation
    n = np.where(np.isnan(moments.raw), 1e12, moments.noise_variance).transpose(0, 2, 1)
    residual = np.nan_to_num(moments.raw - moments.mean).transpose(0, 2, 1)
    gain = np.linalg.solve(S + n[..., None] * np.eye(S.shape[-1]), S).swapaxes(-1, -2)  # S (S + n)⁻¹
    mean = moments.mean + np.einsum("tnkl,tnl->tkn", gain, residual)
    return Fused(mean, S - gain @ S)


def with_added(moments: Region, added: Added | None) -> Region:
    """The regions as they were measured, events included."""
    return moments if added is None else moments._replace(raw=moments.raw + added.mean)


def add_events(fused: Fused, added: Added | None) -> Fused:
    """The events that were left out of the fusion, with their variance and what a template misses of an event's shape."""
    if added is None:
        return fused
    variance = added.variance + np.square(TEMPLATE_DOUBT * added.mean)
    own = variance.transpose(0, 2, 1)[..., None] * np.eye(added.mean.shape[1])
    return Fused(fused.mean + added.mean, fused.covariance + own)


def left_after_fusion(moments: Region, calibration: RoiCalibration, response: Response) -> Float[np.ndarray, "t K N"]:
    """What fresh noise leaves in the fused traces: fusion is linear in the prediction and the frame, so it is fused likewise."""
    span = slice(response.start, response.start + len(response.fresh))
    there = Region(*(np.asarray(part)[span] for part in moments))
    fresh = np.where(np.isnan(there.raw), np.nan, response.fresh)
    known = calibration._replace(variance=calibration.variance[span])
    return fuse_regions(there._replace(raw=fresh, mean=response.left), known).mean


def share_of_noise(moments: Region, fused: Fused, response: Response, left: Float[np.ndarray, "t K N"]) -> float:
    """How much of the ROIs' error variance is noise that passed through; the rest is what the estimate misses."""
    passed = (left[:, 0] ** 2).mean(0) / np.maximum((response.fresh[:, 0] ** 2).mean(0), 1e-12)
    share = passed * moments.noise_variance[:, 0].mean(0) / np.maximum(fused.covariance[:, :, 0, 0].mean(0), 1e-12)
    return float(np.clip(np.median(share), 0.0, 1.0))


class Lags(NamedTuple):
    """Correlation of the ROIs' errors some frames apart, measured without ground truth."""

    lag: Int[np.ndarray, "lags"]
    measured: Float[np.ndarray, "lags"]
    measured_se: Float[np.ndarray, "lags"]


def error_by_lags(moments: Region, fused: Fused, response: Response, segment: Int[np.ndarray, "T"]) -> Lags:
    """`E[r_t r_{t+k}] + E[n_t e_{t+k}] + E[e_t n_{t+k}]` over the stated variance: what estimate and frame differ by, cleared of
    the noise that the estimate holds of frames k apart, which its response to fresh noise tells (`left` after fusion)."""
    unit = np.sqrt(noise_of(moments, 0))
    span, fresh, left = _answer(response, unit, 0)
    residual, sd = (moments.raw - fused.mean)[:, 0] / unit, np.sqrt(fused.covariance[:, :, 0, 0]) / unit
    lags = [lag for lag in REPORTED_LAGS if lag < len(fresh) // 2]
    found = [_error_at(lag, residual, sd, fresh, left, segment, segment[span]) for lag in lags]
    return Lags(np.array(lags, int), *(np.array([one[i] for one in found], float) for i in (0, 1)))


def _error_at(lag, residual, sd, fresh, left, segment, fresh_segment) -> tuple[float, float]:
    own = _products(residual, residual, lag, segment)
    heard = (_lagged(fresh, left, lag, fresh_segment) + _lagged(left, fresh, lag, fresh_segment)) / np.mean(fresh**2)
    stated = _mean(_products(sd, sd, lag, segment))
    doubt = np.sqrt(_sampling_variance(np.ones(1), [own]) + (SHAPE_DOUBT * heard) ** 2)
    return (_mean(own) + heard) / max(stated, 1e-12), float(doubt) / max(stated, 1e-12)
