"""Mean squared errors of ROI traces."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from udenoise.metrics.states import Traces, Where, at_rest, fast_changes


class StateErrors(NamedTuple):
    """Mean squared error of each ROI, by what the truth does."""

    overall: Float[np.ndarray, "N"]
    fast: Float[np.ndarray, "N"]
    """Over the fastest 3 % of frames."""
    rest: Float[np.ndarray, "N"]
    """Where nothing happens."""


def roi_error(estimate: Traces, truth: Traces, where: Where | None = None) -> Float[np.ndarray, "N"]:
    """Mean over frames of (estimate − truth)², per ROI; its mean is the pooled error. NaN where `where` is empty."""
    squared = np.square(np.subtract(estimate, truth, dtype=np.float64))
    return mean_where(squared, where)


def relative_roi_error(
    estimate: Traces, reference: Traces, truth: Traces, where: Where | None = None
) -> Float[np.ndarray, "N"]:
    """Error of the estimate over the error of a reference (raw, a filter), per ROI: below 1 is better than it."""
    return roi_error(estimate, truth, where) / roi_error(reference, truth, where)


def state_errors(estimate: Traces, truth: Traces) -> StateErrors:
    """`roi_error` over all frames, over `fast_changes(truth)`, and `at_rest(truth)`."""
    return StateErrors(*(roi_error(estimate, truth, where) for where in (None, fast_changes(truth), at_rest(truth))))


def mean_where(value: Traces, where: Where | None) -> Float[np.ndarray, "N"]:
    """Mean of each row over the chosen frames; NaN where there is none."""
    if where is None:
        return value.mean(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(where, value, 0.0).sum(axis=1) / where.sum(axis=1)
