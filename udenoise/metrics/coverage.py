"""How often a band holds the truth, and how wide it is against that of an oracle who knows the errors."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from udenoise.errors import InputError
from udenoise.metrics.errors import mean_where
from udenoise.metrics.states import Traces, Where, at_rest, event_mask, fast_changes

Groups = Int[np.ndarray, "N T"]


class StateCoverage(NamedTuple):
    """Coverage of one band, pooled over ROIs, by what the truth does; NaN where no frame does it."""

    overall: float
    event: float
    fast: float
    rest: float


class Grouped(NamedTuple):
    """The mean of something over the frames of each group."""

    group: Int[np.ndarray, "G"]
    count: Int[np.ndarray, "G"]
    """Frames (of all ROIs)."""
    value: Float[np.ndarray, "G"]

    def mean(self) -> float:
        """The mean over all frames."""
        return float(np.average(self.value, weights=self.count))


def coverage(truth: Traces, lower: Traces, upper: Traces, where: Where | None = None) -> float:
    """Fraction of frames of all ROIs at which lower ≤ truth ≤ upper."""
    inside = (lower <= truth) & (truth <= upper)
    return float(np.mean(inside if where is None else inside[where]))


def roi_coverage(truth: Traces, lower: Traces, upper: Traces, where: Where | None = None) -> Float[np.ndarray, "N"]:
    """Coverage of each ROI."""
    return mean_where(((lower <= truth) & (truth <= upper)).astype(np.float64), where)


def state_coverage(truth: Traces, lower: Traces, upper: Traces, told_by: Traces | None = None) -> StateCoverage:
    """Coverage over all frames, `event_mask(truth)`, `fast_changes(truth)` and `at_rest(truth)`.

    With `told_by=estimate`, the frames at which the estimate shows these. The two see different lies: a swallowed event is
    missing from the estimate, an invented one from the truth. And even the exact posterior holds its level only where its own
    mean tells the frames (in them it has already weighed what is rare): told by the truth it holds somewhat less in events.
    """
    told_by = truth if told_by is None else told_by
    chosen = (None, event_mask(told_by), fast_changes(told_by), at_rest(told_by))
    return StateCoverage(*(coverage(truth, lower, upper, w) if w is None or w.any() else float("nan") for w in chosen))


def simultaneous_coverage(truth: Traces, lower: Traces, upper: Traces, where: Where | None = None) -> float:
    """Fraction of ROIs whose whole trace is inside the band (at the frames of `where`).

    What a simultaneous (sup-t) band of the level claims (Montiel Olea & Plagborg-Møller 2019).
    """
    outside = (truth < lower) | (upper < truth)
    return float(np.mean(~(outside if where is None else outside & where).any(axis=1)))


def by_group(value: Traces, group: Groups) -> Grouped:
    """Mean of `value` over the frames of each group, e.g. `frame_states(truth)` or `quantile_groups(photons, 5)`.

    For one group per ROI, broadcast it: `np.broadcast_to(group[:, None], truth.shape)`.
    """
    groups, index, count = np.unique(group, return_inverse=True, return_counts=True)
    total = np.bincount(index.ravel(), weights=value.ravel().astype(np.float64))
    return Grouped(groups, count, total / count)


def coverage_by_group(truth: Traces, lower: Traces, upper: Traces, group: Groups) -> Grouped:
    """Coverage over the frames of each group."""
    return by_group(((lower <= truth) & (truth <= upper)).astype(np.float64), group)


def quantile_groups(value: Traces, count: int) -> Groups:
    """`count` groups of as many frames each by rising `value` (brightness, photons, predicted sd), numbered from 0.

    Equal values stay together, in the lower group.
    """
    edges = np.quantile(value, np.arange(1, count) / count)
    return np.searchsorted(edges, value, side="left")


def mean_width(lower: Traces, upper: Traces, where: Where | None = None) -> float:
    """Mean of upper − lower."""
    width = np.subtract(upper, lower, dtype=np.float64)
    return float(np.mean(width if where is None else width[where]))


def oracle_width(estimate: Traces, truth: Traces, level: float, group: Groups | None = None) -> Grouped:
    """2 × the `level` quantile of |estimate − truth| over each group; one group without `group`.

    The narrowest band estimate ± constant that holds the truth in that share of the group's frames, whatever the errors'
    distribution. Raises InputError for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise InputError(f"the level of a band is {level}; give a probability between 0 and 1, e.g. 0.95")
    error = np.abs(np.subtract(estimate, truth, dtype=np.float64))
    if group is None:
        return Grouped(np.zeros(1, int), np.array([error.size]), 2 * np.quantile(error, [level]))
    groups, count = np.unique(group, return_counts=True)
    return Grouped(groups, count, np.array([2 * np.quantile(error[group == g], level) for g in groups]))


def relative_width(
    lower: Traces, upper: Traces, estimate: Traces, truth: Traces, level: float, group: Groups | None = None
) -> float:
    """Mean width over the oracle's: of bands of one width, those below 1 hold less than their level.

    Without `group` the oracle has one width for all frames, and a band that adapts can be right and below 1.
    """
    return mean_width(lower, upper) / oracle_width(estimate, truth, level, group).mean()
