"""Which frames: during events, during fast changes, at rest. Always told from the truth, so that all methods share them."""

import numpy as np
from jaxtyping import Bool, Float, Int

Traces = Float[np.ndarray, "N T"]
Where = Bool[np.ndarray, "N T"]
Bands = Float[np.ndarray, "L N T"]


def fast_changes(truth: Traces, fraction: float = 0.03) -> Where:
    """The `fraction` of frames of each ROI (at least one) with the largest |truth[t+1] − truth[t−1]|/2."""
    speed = np.abs(np.gradient(truth.astype(np.float64), axis=1))
    count = max(1, round(fraction * truth.shape[1]))
    fastest = np.argsort(-speed, axis=1, kind="stable")[:, :count]
    chosen = np.zeros(truth.shape, bool)
    np.put_along_axis(chosen, fastest, True, axis=1)
    return chosen


def event_mask(truth: Traces, height: float = 0.5) -> Where:
    """Frames during events: more than `height` of the way from the ROI's median to its maximum."""
    median = np.median(truth, axis=1, keepdims=True)
    return truth - median > height * (truth.max(axis=1, keepdims=True) - median)


def at_rest(truth: Traces, height: float = 0.1) -> Where:
    """Frames at which nothing happens: at most `height` above the median (as in `event_mask`) and no fast change."""
    return ~event_mask(truth, height) & ~fast_changes(truth)


def frame_states(truth: Traces) -> Int[np.ndarray, "N T"]:
    """0 at rest, 1 in between, 2 during events, 3 during fast changes (which go first): groups for `by_group`."""
    between = np.where(at_rest(truth), 0, np.where(event_mask(truth), 2, 1))
    return np.where(fast_changes(truth), 3, between)
