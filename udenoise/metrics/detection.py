"""Would one notice? Detection against the spread of the trace itself, as a user does it who has no truth.

Unlike `score_events`, whose threshold is in the unit of the traces, a trace is measured by its own noise here: a raw trace hides
small events in it, and a smooth one must not make up for what it has lost by being smooth. Slow drift belongs to the spread:
take it out first.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation, label, maximum_position
from scipy.special import ndtr

from udenoise.errors import InputError
from udenoise.metrics.events import LENIENCY, Events, EventScore, Threshold, detect_events, event_score
from udenoise.metrics.states import Traces

ALONG_TIME = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]])
"""Neighbours of a frame in an array N T."""


class Roc(NamedTuple):
    """What every threshold would give, from the strictest to the most lenient."""

    threshold: Float[np.ndarray, "K"]
    false_alarm: Float[np.ndarray, "K"]
    """Share of quiet places whose score reaches the threshold."""
    recall: Float[np.ndarray, "K"]
    """Share of events whose score reaches it."""
    area: float
    """Chance that an event outscores a quiet place, ties half (Hanley & McNeil 1982): 0.5 is guessing."""

    def recall_at(self, false_alarm: float | int) -> float:
        """Recall of the most lenient threshold with at most this share of false alarms."""
        allowed = self.recall[self.false_alarm <= false_alarm]
        return float(allowed[-1]) if len(allowed) else 0.0


def own_sd(traces: Traces) -> Float[np.ndarray, "N"]:
    """Median minus the quantile Φ(−1) = 0.159: the standard deviation of a Gaussian, which rises above it do not enlarge."""
    median, low = np.quantile(traces.astype(np.float64), [0.5, ndtr(-1.0)], axis=1)
    return median - low


def z_scores(traces: Traces) -> Traces:
    """(trace − its median)/`own_sd`; where that is 0 (a trace that is mostly constant), 0 at the median and infinite elsewhere."""
    above = traces - np.median(traces.astype(np.float64), axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.divide(above, own_sd(traces)[:, None], out=np.zeros_like(above), where=above != 0)


def event_z(estimate: Traces, events: Events, tolerance: int) -> Float[np.ndarray, "E"]:
    """Largest z-score of the estimate from each event's start to `tolerance` frames after its peak."""
    return _largest(z_scores(estimate), events, tolerance)


def quiet_z(estimate: Traces, truth: Traces, threshold: Threshold, tolerance: int) -> Float[np.ndarray, "Q"]:
    """The same of places without an event: largest z-scores of blocks of 2·tolerance + 1 frames that touch none.

    With `event_z` for `roc`; blocks are as long as the places of fast events.
    """
    block = 2 * tolerance + 1
    N, T = truth.shape
    whole = T // block * block
    z, busy = (
        part[:, :whole].reshape(N, -1, block) for part in (z_scores(estimate), _busy(truth, threshold, tolerance))
    )
    return z.max(axis=2)[~busy.any(axis=2)]


def score_detections(
    estimate: Traces, truth: Traces, threshold: Threshold, tolerance: int, z: float | int = 5.0
) -> EventScore:
    """Events seen by z-score: `threshold` (N, the truth's unit) says what is an event, `z` what is seen in the estimate.

    A true event is missed if `event_z` is below z: one on the tail of another counts as seen. A run of frames above z/2
    that reaches z is a found event, invented if its peak is more than `tolerance` frames from every frame at which the truth
    is half the threshold above its median or rises to an event of that size. Raises InputError unless z is positive.
    """
    if not z > 0:
        raise InputError(f"the z-score of a detection is {z}; give a positive one, e.g. 5")
    scores, true = z_scores(estimate), detect_events(truth, threshold)
    peaks = peaks_of_runs(scores, z)
    invented = int((~_busy(truth, threshold, tolerance)[peaks]).sum())
    missed, by_chance = (
        int((_largest(moved, true, tolerance) < z).sum())
        for moved in (scores, np.roll(scores, truth.shape[1] // 2, axis=1))
    )
    return event_score(len(true.roi), len(peaks[0]), missed, invented, by_chance)


def roc(event: Float[np.ndarray, "E"], quiet: Float[np.ndarray, "Q"]) -> Roc:
    """Receiver operating characteristic of any scores of events and of quiet places; NaN is lower than any number.

    Raises InputError if either is empty.
    """
    if not (len(event) and len(quiet)):
        raise InputError(f"{len(event)} events and {len(quiet)} quiet places; an ROC curve needs one of each or more")
    event, quiet = (np.where(np.isnan(score), -np.inf, score) for score in (event, quiet))
    threshold = np.unique(np.concatenate([event, quiet]))[::-1]
    recall, false_alarm = (1 - np.searchsorted(np.sort(score), threshold) / len(score) for score in (event, quiet))
    outscored = [np.searchsorted(np.sort(quiet), event, side).mean() / len(quiet) for side in ("left", "right")]
    return Roc(threshold, false_alarm, recall, float(np.mean(outscored)))


def _largest(scores: np.ndarray, events: Events, tolerance: int) -> Float[np.ndarray, "E"]:
    spans = zip(events.roi, events.start, events.peak + tolerance + 1, strict=True)
    return np.array([scores[n, first:stop].max() for n, first, stop in spans], float)


def _busy(truth: Traces, threshold: Threshold, tolerance: int) -> Bool[np.ndarray, "N T"]:
    small = LENIENCY * threshold
    busy = truth - np.median(truth, axis=1, keepdims=True) > small[:, None]
    events = detect_events(truth, small)
    for n, first, peak in zip(events.roi, events.start, events.peak, strict=True):
        busy[n, first : peak + 1] = True
    return binary_dilation(busy, ALONG_TIME, iterations=tolerance) if tolerance else busy


def peaks_of_runs(scores: Traces, z: float | int) -> tuple[np.ndarray, np.ndarray]:
    """ROI and frame of found events: the peak of each run above z/2 that reaches z."""
    runs, count = label(scores > z / 2, ALONG_TIME)
    places = np.array(maximum_position(scores, runs, np.arange(1, count + 1)), int).reshape(-1, 2).T
    high = scores[places[0], places[1]] >= z
    return places[0][high], places[1][high]
