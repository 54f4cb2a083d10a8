"""Each baseline at its best: every setting of a grid is tried against the truth, and the best is kept.

This favours the baselines on purpose: udenoise itself never sees the truth.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from udenoise import metrics
from udenoise.baselines.method import Counts, Denoised, Method, roi_traces
from udenoise.errors import InputError
from udenoise.progress import progress_bar

Grid = Mapping[str, Sequence[Any]]
Score = Callable[[Counts], float]
"""Of a denoised movie; smaller is better."""


class Trial(NamedTuple):
    """One setting and its score."""

    settings: Any
    score: float


class Tuned(NamedTuple):
    """A method at its best setting."""

    settings: Any
    score: float
    denoised: Denoised
    """The movie that was tuned on, denoised with these settings."""
    trials: tuple[Trial, ...]
    """All that was tried, in the order of the grid."""


def tune(method: Method, grid: Grid, movie: Counts, score: Score, seed: int = 0, quiet: bool = False) -> Tuned:
    """The settings of least score among all combinations of the grid's candidates (`method.grid` for the usual ones).

    Settings that the grid does not name stay the method's. The method runs once per combination; the best result is
    kept. Raises InputError for a setting the method does not have, and for a score that is not finite.
    """
    points, trials, best = settings_of(method, grid), [], None
    with progress_bar(method.name, len(points), quiet) as report:
        for settings in points:
            denoised = method.denoise(movie, settings, seed, quiet=True)
            trials.append(Trial(settings, _finite(score(denoised.movie), settings)))
            if best is None or trials[-1].score < best.score:
                best = Tuned(*trials[-1], denoised, ())
            report(len(trials), f"best {best.score:.4g}")
    return best._replace(trials=tuple(trials))


def settings_of(method: Method, grid: Grid) -> list[Any]:
    """The method's settings at every point of a grid. InputError for an unknown or empty setting."""
    known = [field.name for field in fields(method.settings)]
    for name, candidates in grid.items():
        if name not in known or not len(candidates):
            what = "has no candidates" if name in known else f"is not a setting of {method.name}"
            raise InputError(f"{name} {what}; the grid may name: {', '.join(known) or 'nothing'}")
    return [replace(method.settings, **dict(zip(grid, point, strict=True))) for point in product(*grid.values())]


def _finite(score: float, settings: Any) -> float:
    if not np.isfinite(score):
        raise InputError(f"the score of {settings} is {score}; a finite number is needed: score only frames that exist")
    return float(score)


def roi_score(weights: Float[np.ndarray, "N Y X"], truth: Float[np.ndarray, "N T"]) -> Score:
    """Score a movie by its mean squared ROI error (counts²) to true traces."""
    return lambda movie: float(metrics.roi_error(roi_traces(movie, weights), truth).mean())


def wiener_traces(
    movie: Counts, weights: Float[np.ndarray, "N Y X"], truth: Float[np.ndarray, "N T"]
) -> Float[np.ndarray, "N T"]:
    """The oracle: each ROI's raw trace through the Wiener filter of its own true spectrum and true noise variance.

    A bound for filters in time of one ROI, not a method: it has no movie and knows the truth (`metrics.oracle_wiener`).
    """
    raw = roi_traces(movie, weights)
    return metrics.oracle_wiener(raw, truth, metrics.roi_error(raw, truth))
