"""How wrong blind ROI traces are, measured without ground truth, and what their errors come with.

At the level that is reported every variance is measured: the pixels' own fusion rests on a model of their correlation,
that of the regions on `E[(wᵀ(y − μ))²] = wᵀ Σ w + wᵀ N w`, which holds frame by frame because y_t never enters μ_t.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage, optimize

from udenoise.posterior import Region

EVERYWHERE = ((0.03, 0.07), (0.03, 0.06))
NEARBY = ((0.12, 0.55), (0.06, 0.15))
"""Shares of ROIs and rings that are expected before anything is measured, and how far they scatter between movies."""
MOST_TOGETHER = 0.9
MOST_REGIONS = 2000
"""Regions whose pairs are looked at."""
SLOPE_SIGMA = 2.0
"""Gaussian smoothing (frames) of the trace whose rise counts."""
CAUSES = ("always", "stated", "change", "rise", "activity", "large change", "large rise")
"""What errors of blind traces go with; see `causes`."""
LARGE = 3.0
"""Robust standard deviations beyond which errors may grow with change and rise themselves instead of with their squares."""
FOLDS = 10
"""Stretches of the recording, odd against even, for checking one half by the other."""
GROUPS = (0.5, 0.8, 0.9, 0.97, 0.99)
"""Quantiles of the expected error that part the groups of frames in which it is checked."""
LEAST_STATED = 0.3
"""The error variance is at least this share of what the network states, whatever the residuals say."""
USUAL = 1.55
"""Error variance at rest over the variance of the noise that passes into the prediction; 1.5 to 1.7 on the simulated movies that
settings are chosen on, 2.3 on one of them."""
USUAL_SPREAD = 0.2
"""Relative error of that on another movie."""
USUAL_LIMITS = (0.2, 5.0)
PRIOR_FRAMES = 100
"""Weight of what is usual in action, in frames of one region."""
REST = 0.8
"""Quantile of the stated error up to which frames are at rest."""
NOISE_LEFT = 0.007
"""Relative error of the noise variance that is left after it was weighed: more frames do not help against it."""
RESAMPLINGS = 20
"""Recordings as this one might have been, over whose weights the mean is taken."""
STRETCHES = 20
"""Of time, which are drawn with replacement for a resampling, as the regions are."""
MOST_SQUARES = 200_000
"""Squared residuals that one resampling looks at."""
OWN_DOUBT = 0.02
"""Relative error of the noise model for one region against the others."""
OWN_SPREAD = 0.5
"""Largest standard deviation that the regions' own factors are believed to have."""
OWN_LIMITS = (0.4, 2.5)
"""Least and largest of these factors."""


class Together(NamedTuple):
    """What the errors of different regions of a kind (ROIs, rings) have in common: shares of their variance."""

    everywhere: Float[np.ndarray, "K"]
    nearby: Float[np.ndarray, "K"]
    """Of regions at the same place; it fades over `regions.SHARED_PX`."""


class Groups(NamedTuple):
    """Frames of all regions of a kind, grouped by their expected error: is it true also where it is large?

    The expectation is that of a fit to the other half of the recording; all in units of the noise variance.
    """

    predicted: Float[np.ndarray, "K groups"]
    measured: Float[np.ndarray, "K groups"]
    measured_se: Float[np.ndarray, "K groups"]


class RoiCalibration(NamedTuple):
    """Error variance of the blind predictions of ROIs (k = 0) and rings (k = 1), measured without ground truth."""

    variance: Float[np.ndarray, "T K N"]
    """Of every frame, counts²."""
    predicted: Float[np.ndarray, "K N"]
    """Mean of what a fit to the other half of the recording expects (`FOLDS`), before the region's own factor, counts²."""
    measured: Float[np.ndarray, "K N"]
    """Mean squared residual minus noise, counts²; unbiased, and therefore sometimes negative."""
    measured_se: Float[np.ndarray, "K N"]
    factor: Float[np.ndarray, "K N"]
    """Of each region, shrunk towards 1."""
    shares: Float[np.ndarray, "K causes"]
    """Mean share of each of `CAUSES` in the error variance, in units of the noise variance."""
    groups: Groups
    correlation: Float[np.ndarray, "K K"]
    """Factor on the stated correlation of the errors of an ROI and its ring, 0 to 1."""


def noise_of(moments: Region, k: int) -> Float[np.ndarray, "T N"]:
    """Noise variance of ROIs (k = 0) or rings (k = 1), counts², kept from zero."""
    return np.maximum(moments.noise_variance[:, k], 1e-9)


def calibrate_rois(
    moments: Region, blind: Region, segment: Int[np.ndarray, "T"], usual: Float[np.ndarray, "K"]
) -> RoiCalibration:
    """Where the error of a blind prediction comes from, fitted to the squared residuals: `r² ~ n (1 + Σ_j θ_j φ_j)`, θ ≥ 0.

    The causes φ (`causes`) are shared by all regions of a kind; each region's own factor is drawn towards 1 by its
    uncertainty. Maximum likelihood of Normal residuals; at rest, what is `usual` (a factor on what the network states) counts
    as many frames as would tell it as well. `blind` are the moments before `improve`: only there does an ROI's prediction hold
    nothing of its ring's noise.
    """
    parts = zip(*(_calibrate(moments, segment, k, usual[k]) for k in range(len(usual))), strict=True)
    variance, *rest, groups = (list(part) for part in parts)
    variance = np.stack(variance, 1)
    grouped = Groups(*(np.stack(part) for part in zip(*groups, strict=True)))
    return RoiCalibration(variance, *(np.stack(part) for part in rest), grouped, _correlation(blind, variance))


def _calibrate(moments: Region, segment: np.ndarray, k: int, usual: float) -> tuple:
    noise, (squared, why) = noise_of(moments, k), _squares_and_causes(moments, segment, k)
    stated = why[CAUSES.index("stated")]
    weights = _fit(squared, usual * stated, why)
    ratio = np.einsum("j,jtn->tn", weights, why)
    factor = _own_factor(squared - 1, ratio)
    expected = _expected_by_the_other_half(squared, usual * stated, why)
    return (
        factor * ratio * noise,
        np.mean(expected * noise, 0),
        *_mean_and_se((squared - 1) * noise),
        factor,
        weights * why.mean((1, 2)),
        _grouped(squared - 1, expected),
    )


def usual_error(
    moments: Region, fresh: Float[np.ndarray, "t K N"], left: Float[np.ndarray, "t K N"]
) -> Float[np.ndarray, "K"]:
    """Factor on what the network states of ROIs and rings, from the variance that fresh noise leaves in the predictions."""
    passed = (left**2).mean((0, 2)) / np.maximum((fresh**2).mean((0, 2)), 1e-12)
    stated = np.diagonal(moments.covariance, axis1=2, axis2=3).transpose(0, 2, 1) / np.maximum(
        moments.noise_variance, 1e-9
    )
    calm = stated <= np.quantile(stated, REST, axis=0)
    rest = (stated * calm).sum((0, 2)) / calm.sum((0, 2))
    return np.clip(USUAL * passed / np.maximum(rest, 1e-12), *USUAL_LIMITS)


def expected_ratio(moments: Region, segment: Int[np.ndarray, "T"], k: int) -> Float[np.ndarray, "T N"]:
    """Error variance to expect of ROIs (k = 0) or rings (k = 1), in units of the noise variance, before their own factors."""
    squared, why = _squares_and_causes(moments, segment, k)
    return np.einsum("j,jtn->tn", _fit(squared, why[CAUSES.index("stated")], why), why)


def _squares_and_causes(moments: Region, segment: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared residuals (T N) and what errors come with (causes T N), in units of the noise variance."""
    noise = noise_of(moments, k)
    squared = (moments.raw[:, k] - moments.mean[:, k]) ** 2 / noise
    return squared, causes(moments.mean[:, k], moments.covariance[:, :, k, k] / noise, noise, segment)


def _mean_and_se(value: Float[np.ndarray, "T N"]) -> tuple[np.ndarray, np.ndarray]:
    """Over the frames that were measured; NaN where there are none."""
    count = (~np.isnan(value)).sum(0)
    none, count = count == 0, np.maximum(count, 1)
    mean = np.nansum(value, 0) / count
    spread = np.nansum((value - mean) ** 2, 0) / count
    return np.where(none, np.nan, mean), np.where(none, np.nan, np.sqrt(spread / count))


def _expected_by_the_other_half(squared: np.ndarray, usual: np.ndarray, why: np.ndarray) -> Float[np.ndarray, "T N"]:
    fold = np.arange(len(squared)) * FOLDS // len(squared) % 2
    out = np.empty_like(usual)
    for half in (0, 1):
        weights = _fit(np.where(fold[:, None] == half, np.nan, squared), usual, why)
        out[fold == half] = np.einsum("j,jtn->tn", weights, why[:, fold == half])
    return out


def _grouped(excess: Float[np.ndarray, "T N"], expected: Float[np.ndarray, "T N"]) -> Groups:
    known = ~np.isnan(excess)
    if not known.any():
        return Groups(*np.full((3, len(GROUPS) + 1), np.nan))
    excess, expected = excess[known], expected[known]
    member = np.searchsorted(np.quantile(expected, GROUPS), expected, side="right")
    count = np.maximum(np.bincount(member, minlength=len(GROUPS) + 1), 1)
    mean, square, predicted = (np.bincount(member, x, len(GROUPS) + 1) / count for x in (excess, excess**2, expected))
    return Groups(predicted, mean, np.sqrt(np.maximum(square - mean**2, 0) / count))


def causes(
    mean: Float[np.ndarray, "T N"],
    stated: Float[np.ndarray, "T N"],
    noise: Float[np.ndarray, "T N"],
    segment: Int[np.ndarray, "T"],
) -> Float[np.ndarray, "causes T N"]:
    """What errors of blind traces go with, in units of the noise variance; nothing here has seen the hidden frame.

    A constant; the variance that the network states; squared change per frame, since an onset that is off by δt errs by
    δt·slope; squared rise of the smoothed trace; height above the median. An onset cannot be missed by more than the event
    itself: beyond `LARGE` times what is usual, change and rise count once more, linearly. Neighbours' predictions have seen
    y_t, but in differences that are odd in time it cancels; an even one, such as the curvature, would betray the noise.
    """
    unit = np.sqrt(noise)
    change = _by_trial(_slope, mean, segment) / unit
    slow = _by_trial(lambda part: _slope(ndimage.gaussian_filter1d(part, SLOPE_SIGMA, axis=0)), mean, segment) / unit
    height, rise = np.maximum(mean - np.median(mean, axis=0), 0) / unit, np.maximum(slow, 0)
    return np.stack(
        [
            np.ones_like(mean),
            stated,
            change**2,
            rise**2,
            height,
            _less_than_squared(change, change),
            _less_than_squared(rise, slow),
        ]
    )


def _less_than_squared(value: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """value² where it is small against the spread of `usual`, proportional to |value| where it is large."""
    large = LARGE * 1.4826 * np.median(np.abs(usual), axis=0) + 1e-9
    return value**2 / (1 + np.abs(value) / large)


def _by_trial(change, mean: np.ndarray, segment: np.ndarray) -> np.ndarray:
    out = np.empty_like(mean)
    for trial in np.unique(segment):
        out[segment == trial] = change(mean[segment == trial])
    return out


def _slope(part: np.ndarray) -> np.ndarray:
    return np.gradient(part, axis=0) if len(part) > 1 else np.zeros_like(part)


def _fit(squared: np.ndarray, usual: np.ndarray, why: np.ndarray) -> Float[np.ndarray, "causes"]:
    """Mean of the likeliest weights over resamplings of regions and stretches of time (bagging, Breiman 1996).

    One fit of few regions lets weights go to zero that may as well be large; their mean stands for what they may be.
    """
    random, (T, N) = np.random.default_rng(0), squared.shape
    stretches = np.array_split(np.arange(T), max(min(STRETCHES, T // 10), 1))
    step, prior = max(squared.size // MOST_SQUARES, 1), _weight_of_the_usual(squared, usual)
    nothing = np.where(np.array(CAUSES) == "stated", usual.sum() / why[1].sum(), 0.0)

    def once() -> np.ndarray:
        drawn = random.integers(0, len(stretches), len(stretches))
        frames = np.concatenate([stretches[i] for i in drawn])[random.integers(0, step) :: step]
        at = np.ix_(frames, random.integers(0, N, N))
        seen = squared[at] + prior[at] * (1 + usual[at] - squared[at])
        known = ~np.isnan(seen)
        return _likeliest(seen[known], np.stack([part[at][known] for part in why])) if known.any() else nothing

    return np.mean([once() for _ in range(RESAMPLINGS)], axis=0)


def _weight_of_the_usual(squared: np.ndarray, usual: np.ndarray) -> Float[np.ndarray, "T N"]:
    """Against the residuals, at rest; in action it is worth a hundred frames. A mean of N squares has variance 2 (1 + v)²/N, and
    the noise behind them is not known better than to `NOISE_LEFT`; the usual v is off by `USUAL_SPREAD`."""
    calm = usual < np.quantile(usual, REST, axis=0)  # none where the network states the same everywhere
    known = ~np.isnan(squared)
    v, count = max(float((usual * calm).sum() / max(calm.sum(), 1)), 1e-6), max(int(known[calm].sum()), 1)
    chance = 2 * (1 + v) ** 2 / count + NOISE_LEFT**2
    everywhere = PRIOR_FRAMES / (PRIOR_FRAMES + known.sum())
    return np.maximum(calm * chance / (chance + (USUAL_SPREAD * v) ** 2), everywhere)


def _likeliest(seen: Float[np.ndarray, "n"], why: Float[np.ndarray, "causes n"]) -> Float[np.ndarray, "causes"]:
    size = why.mean(1)
    size = np.where(size > 0, size, 1.0)
    X = why / size[:, None]

    def misfit(weights: np.ndarray) -> tuple[float, np.ndarray]:
        v = 1 + weights @ X
        return float(np.mean(np.log(v) + seen / v)), X @ (1 / v - seen / v**2) / len(seen)

    least = np.where(np.array(CAUSES) == "stated", LEAST_STATED * size, 0.0)
    start = least + max(seen.mean() - 1, 0.01) / len(X)
    found = optimize.minimize(misfit, start, jac=True, bounds=[(low, None) for low in least])
    return found.x / size


def _own_factor(excess: Float[np.ndarray, "T N"], ratio: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "N"]:
    """Of each region: excess over ratio, frames weighted by what they tell (the variance of a square is 2 (1 + ratio)²).

    What the noise model is off for this region (`OWN_DOUBT`) looks like error, however many frames there are.
    """
    weight = np.where(np.isnan(excess), 0.0, ratio / (1 + ratio) ** 2)
    total = np.maximum((weight * ratio).sum(0), 1e-12)
    quotient = np.nansum(weight * excess, 0) / total
    chance = (2 * weight**2 * (1 + ratio) ** 2).sum(0)
    doubt = np.sqrt(np.maximum(chance + (OWN_DOUBT * weight.sum(0)) ** 2, 1e-12)) / total
    return _shrink(quotient, doubt)


def _shrink(quotient: Float[np.ndarray, "N"], doubt: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Draw noisy quotients towards 1: their true spread is what the measured one leaves after its own error
    (method of moments, DerSimonian & Laird 1986). Kept within `OWN_LIMITS`."""
    weight = 1 / doubt**2
    surplus = np.sum(weight * (quotient - np.average(quotient, weights=weight)) ** 2) - (len(quotient) - 1)
    spread = max(0.0, float(surplus)) / max(np.sum(weight) - np.sum(weight**2) / np.sum(weight), 1e-12)
    spread = min(spread, OWN_SPREAD**2)
    share = spread / (spread + doubt**2)
    return np.clip(share * quotient + (1 - share), *OWN_LIMITS)


def _correlation(moments: Region, variance: Float[np.ndarray, "T K N"]) -> Float[np.ndarray, "K K"]:
    """`E[r_k r_l]` is the covariance of the errors where k ≠ l: the factor on what is stated that fits it best."""
    stated = with_variance(moments.covariance, variance)
    residual = np.nan_to_num(moments.raw - moments.mean)
    spread = np.where(np.isnan(moments.raw), np.inf, np.sqrt(variance + moments.noise_variance))
    weight = 1 / np.einsum("tkn,tln->tnkl", spread, spread) ** 2
    found = np.einsum("tkn,tln,tnkl,tnkl->kl", residual, residual, stated, weight)
    factor = found / np.maximum(np.einsum("tnkl,tnkl->kl", stated**2, weight), 1e-12)
    return np.where(np.eye(len(factor), dtype=bool), 1.0, np.clip(factor, 0.0, 1.0))


def with_variance(covariance: Float[np.ndarray, "T N K K"], variance: Float[np.ndarray, "T K N"]) -> np.ndarray:
    """The stated correlations of ROI and ring with other variances."""
    scale = np.sqrt(variance.transpose(0, 2, 1) / np.diagonal(covariance, axis1=2, axis2=3))
    return covariance * scale[..., :, None] * scale[..., None, :]


def measure_together(
    moments: Region,
    variance: Float[np.ndarray, "T K N"],
    near: Float[np.ndarray, "N N"],
    apart: Bool[np.ndarray, "K N N"],
) -> Together:
    """`E[r_i r_j]` is the covariance of the errors of two regions whose noise is independent (`apart`): least squares for what
    is shared everywhere and nearby, drawn towards what is usual. Of fused errors, which hold the regions' own noise too."""
    kinds = range(variance.shape[1])
    found = [_together(moments, variance[:, k], near, apart[k], k) for k in kinds]
    return Together(*(np.array(part) for part in zip(*found, strict=True)))


def _together(
    moments: Region, variance: np.ndarray, near: np.ndarray, apart: np.ndarray, k: int
) -> tuple[float, float]:
    some = slice(None, None, max(len(near) // MOST_REGIONS, 1))
    noise = noise_of(moments, k)[:, some]
    unit = np.sqrt(noise + variance[:, some])
    residual, size = np.nan_to_num((moments.raw - moments.mean)[:, k, some]) / unit, np.sqrt(variance[:, some]) / unit
    pairs = np.triu(apart[some, some], 1)
    found, stated = (residual.T @ residual)[pairs], (size.T @ size)[pairs]
    design = np.stack([stated, stated * near[some, some][pairs]], axis=1)
    usual, spread = np.array([EVERYWHERE[0][k], NEARBY[0][k]]), np.array([EVERYWHERE[1][k], NEARBY[1][k]])
    T = len(unit)  # every product has variance 1, a sum of T of them T
    precision = design.T @ design / T + np.diag(spread**-2.0)
    shares = np.linalg.solve(precision, design.T @ found / T + usual / spread**2)
    shares = np.maximum(shares, 0) * np.mean(noise / unit**2)
    return tuple(float(s) for s in shares * min(1.0, MOST_TOGETHER / max(shares.sum(), 1e-12)))
