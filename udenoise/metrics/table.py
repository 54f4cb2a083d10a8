"""One method, one row: flat dictionaries of numbers whose columns and their order depend on the levels alone.

A figure that a method cannot have (coverage without an error bar) is NaN, so that the rows of all methods fit one table.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from udenoise.errors import InputError
from udenoise.metrics.coverage import simultaneous_coverage
from udenoise.metrics.detection import score_detections
from udenoise.metrics.errors import roi_error
from udenoise.metrics.events import Threshold, event_threshold
from udenoise.metrics.pixels import PixelSums, pixel_score
from udenoise.metrics.states import Bands, Traces
from udenoise.metrics.summary import BandScore, band_score, trace_score
from udenoise.metrics.wobble import WobbleSums, wobble

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
BY_LEVEL = (
    "coverage", "event_coverage", "fast_coverage", "rest_coverage", "seen_coverage", "dim_coverage", "bright_coverage",
    "poorest_coverage", "whole_coverage", "simultaneous_coverage", "relative_width", "local_width",
)  # fmt: skip
"""Columns that come once per level, named like `event_coverage_95`; `simultaneous_coverage` is of bands that claim it."""
WITHOUT_LEVEL = ("crps", "pit_distance", "pit_bias", "pit_spread")


class Estimate(NamedTuple):
    """ROI traces of one method, with as much of an error bar as it has."""

    mean: Traces
    sd: Traces | None = None
    lower: Bands | None = None
    upper: Bands | None = None
    simultaneous: Float[np.ndarray, "L N"] | None = None
    """Half the width of simultaneous bands, in sd."""
    draws: Float[np.ndarray, "S N T"] | None = None


def trace_row(
    truth: Traces,
    estimate: Estimate,
    noise_variance: Float[np.ndarray, "N"],
    threshold: Threshold | None = None,
    levels: tuple[float, ...] = LEVELS,
    tolerance: int = 5,
    z: float | int = 5.0,
) -> dict[str, float]:
    """Errors, events and error bars of ROI traces, pooled over ROIs; see `trace_score`, `band_score`, `score_detections`.

    `relative_error` is the mean over ROIs of error/`noise_variance` (of one frame of the ROI's raw trace): raw has 1, and a bright
    ROI counts no more than a dim one. `z_…` are of events seen at `z` times the trace's own spread. `threshold` is
    `event_threshold(truth)` unless given, `tolerance` in frames. Missing bars are completed as in `completed`.
    """
    height = event_threshold(truth) if threshold is None else threshold
    score = trace_score(estimate.mean, truth, height, tolerance)
    seen = score_detections(estimate.mean, truth, height, tolerance, z)
    return {
        "roi_error": score.roi_error,
        "relative_error": float(np.mean(roi_error(estimate.mean, truth) / noise_variance)),
        "absolute_error": float(np.mean(np.abs(np.subtract(estimate.mean, truth, dtype=np.float64)))),
        "fast_error": score.fast_error,
        "rest_error": score.rest_error,
        "amplitude": score.amplitude,
        "delay": score.delay,
        **{name: float(value) for name, value in score.events._asdict().items()},
        **{f"z_{name}": float(value) for name, value in seen._asdict().items()},
        **_bars(truth, completed(estimate, levels), levels),
    }


def movie_row(ripple: WobbleSums, pixels: PixelSums) -> dict[str, float]:
    """Wobble and single-pixel figures, medians over ROIs; single-pixel SNR last."""
    score = pixel_score(pixels)
    down, across = score.neighbour_correlation
    return {
        "wobble": float(np.median(wobble(ripple))),
        "pixel_error": score.error,
        "correlation_down": down,
        "correlation_across": across,
        "independent_share": float(np.median(score.effective_pixels / score.pixels)),
        "roi_snr": float(np.median(score.roi_snr)),
        "corrected_pixel_snr": float(np.median(score.corrected_snr)),
        "pixel_snr": float(np.median(score.snr)),
        "untrue_pixel_snr": float(np.median(score.untrue_snr)),
    }


def bar_columns(levels: tuple[float, ...] = LEVELS) -> tuple[str, ...]:
    """The columns of `trace_row` that need an error bar, in their order."""
    return (*(f"{name}_{100 * level:g}" for name in BY_LEVEL for level in levels), *WITHOUT_LEVEL)


def completed(estimate: Estimate, levels: tuple[float, ...]) -> Estimate:
    """The estimate with all the error bars that follow from those it has: sd and quantiles of the draws, or Gaussian bands.

    Quantiles lie at (S + 1)·p of the ordered draws: truth and draws being exchangeable, their coverage is then exact for any S.
    Without draws and sd it comes back as it is. Raises InputError for bands without sd or draws, or of another number of levels.
    """
    given = estimate
    if given.sd is None and given.draws is not None:
        given = given._replace(sd=_by_roi(lambda draws: draws.std(axis=0, ddof=1), given.draws))
    if given.sd is None:
        if given.lower is not None or given.upper is not None:
            raise InputError("bands without sd or draws; give the standard deviation, too")
        return given
    if given.lower is None or given.upper is None:
        lower, upper = _bands(given, np.array(levels))
        given = given._replace(lower=lower, upper=upper)
    if len(given.lower) != len(levels):
        raise InputError(f"{len(given.lower)} bands for {len(levels)} levels; give one level for each band")
    return given


def _bands(given: Estimate, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if given.draws is None:
        reach = ndtri(0.5 + levels / 2)[:, None, None] * given.sd
        return given.mean - reach, given.mean + reach
    ends = np.concatenate([0.5 - levels / 2, 0.5 + levels / 2])
    return tuple(np.split(_by_roi(lambda draws: np.quantile(draws, ends, axis=0, method="weibull"), given.draws), 2))


def _by_roi(summarise: Callable[[np.ndarray], np.ndarray], draws: np.ndarray) -> np.ndarray:
    """One ROI at a time, since medians and squares copy the draws."""
    parts = [summarise(draws[:, n].astype(np.float64)) for n in range(draws.shape[1])]
    return np.stack(parts, axis=-2)


def _bars(truth: Traces, given: Estimate, levels: tuple[float, ...]) -> dict[str, float]:
    names = bar_columns(levels)
    if given.sd is None:
        return dict.fromkeys(names, float("nan"))
    score = band_score(truth, given.mean, given.sd, given.lower, given.upper, levels, given.draws)
    simultaneous = _simultaneous(truth, given, len(levels))
    by_level = [simultaneous if n == "simultaneous_coverage" else getattr(score, n) for n in BY_LEVEL]
    return dict(zip(names, [*(v for values in by_level for v in values), *_distribution(score)], strict=True))


def _simultaneous(truth: Traces, given: Estimate, count: int) -> tuple[float, ...]:
    if given.simultaneous is None:
        return (float("nan"),) * count
    reach = given.simultaneous[:, :, None] * given.sd  # L N T
    return tuple(simultaneous_coverage(truth, given.mean - r, given.mean + r) for r in reach)


def _distribution(score: BandScore) -> tuple[float, float, float, float]:
    return score.crps, score.pit.distance, score.pit.bias, score.pit.spread
