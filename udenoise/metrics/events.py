"""Events that were missed, invented, flattened or moved.

Detection rule, the same for truth and estimate: an event of a trace is a local maximum whose topographic prominence (its height
above the higher of the lowest points that part it from a higher peak, or from an end, on its left and on its right) is at least
a stated threshold, in the trace's unit. No noise level enters: a smooth trace is not allowed smaller events than a rough one.
Its onset is where the rise crosses half the prominence (straight lines between frames).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import maximum_position
from scipy.optimize import linear_sum_assignment
from scipy.signal import find_peaks, peak_widths

from udenoise.errors import InputError
from udenoise.metrics.states import Traces, event_mask

Threshold = Float[np.ndarray, "N"]
LENIENCY = 0.5
"""An event's partner may be smaller than the threshold, down to this part of it: a wrong amplitude is no missed event."""


class Events(NamedTuple):
    """Events of all ROIs, E in number."""

    roi: Int[np.ndarray, "E"]
    onset: Float[np.ndarray, "E"]
    """Half of the rise, frames."""
    start: Int[np.ndarray, "E"]
    """The last frame before a tenth of the rise."""
    peak: Int[np.ndarray, "E"]
    """Frame."""
    amplitude: Float[np.ndarray, "E"]
    """Prominence."""


class EventScore(NamedTuple):
    """Counts, and the fractions made of them (NaN where nothing is to be divided)."""

    true: int
    found: int
    missed: int
    """True events of full size without a bump of half that size near by."""
    invented: int
    """Found events of full size without a true bump of half that size near by."""
    recall: float
    precision: float
    f1: float
    """2·recall·precision/(recall + precision)."""
    chance: float
    """Recall with the found events moved by half the recording: what a busy trace gets for nothing."""


def event_threshold(truth: Traces, height: float = 0.25) -> Threshold:
    """`height` of each ROI's range (maximum − median of the truth), of the median range where that is larger.

    So a silent ROI gets a threshold of the others' size. In a movie without any activity, choose your own.
    """
    rise = truth.max(axis=1) - np.median(truth, axis=1)
    return height * np.maximum(rise, np.median(rise)).astype(np.float64)


def detect_events(traces: Traces, threshold: Threshold) -> Events:
    """Events by the rule of this module, ordered by ROI and time. Raises InputError for a threshold that is not positive."""
    if not np.all(threshold > 0):
        raise InputError("the threshold of an event is not positive; give one in the unit of the traces")
    found = [_detect(trace.astype(np.float64), height) for trace, height in zip(traces, threshold, strict=True)]
    roi = np.repeat(np.arange(len(found)), [len(events.peak) for events in found])
    return Events(roi, *(np.concatenate(part) for part in list(zip(*found, strict=True))[1:]))


def match_events(true: Events, found: Events, tolerance: float | int) -> Int[np.ndarray, "M 2"]:
    """Pairs (true, found) of one ROI with onsets at most `tolerance` frames apart, each event in one pair at most.

    As many pairs as possible, and of those the least sum of distances (an assignment problem, Kuhn 1955).
    """
    pairs = [_match(true, found, tolerance, n) for n in sorted({*true.roi.tolist()} & {*found.roi.tolist()})]
    return np.concatenate([np.empty((0, 2), int), *pairs])


def unmatched(events: Events, others: Events, tolerance: float | int) -> Bool[np.ndarray, "E"]:
    """Which events have no partner among the others."""
    alone = np.ones(len(events.roi), bool)
    alone[match_events(events, others, tolerance)[:, 0]] = False
    return alone


def missed_events(
    estimate: Traces, true: Events, threshold: Threshold, tolerance: float | int
) -> Bool[np.ndarray, "E"]:
    """Which true events (detected, or planted) have no bump of at least `LENIENCY` times the threshold in the estimate."""
    return unmatched(true, detect_events(estimate, LENIENCY * threshold), tolerance)


def score_events(estimate: Traces, truth: Traces, threshold: Threshold, tolerance: float | int) -> EventScore:
    """Missed and invented events, matched one to one with onsets at most `tolerance` frames apart."""
    true, found = detect_events(truth, threshold), detect_events(estimate, threshold)
    faint = detect_events(estimate, LENIENCY * threshold)
    T = truth.shape[1]
    moved = faint._replace(onset=(faint.onset + T / 2) % T)
    return event_score(
        len(true.roi),
        len(found.roi),
        missed=_count(true, faint, tolerance),
        invented=_count(found, detect_events(truth, LENIENCY * threshold), tolerance),
        by_chance=_count(true, moved, tolerance),
    )


def event_score(true: int, found: int, missed: int, invented: int, by_chance: int) -> EventScore:
    """The fractions made of counts; `by_chance` is how many are missed when the found events are moved."""
    recall, precision, chance = _part(missed, true), _part(invented, found), _part(by_chance, true)
    f1 = 2 * recall * precision / (recall + precision) if recall + precision > 0 else 0.0 * (recall + precision)
    return EventScore(true, found, missed, invented, recall, precision, f1, chance)


def event_amplitude_ratios(estimate: Traces, truth: Traces, events: Events) -> Float[np.ndarray, "E"]:
    """Estimated over true rise from each true event's start to its peak; below 1, it is flattened.

    At the true frames, since the maximum of a noisy trace is too high.
    """
    rises = [
        np.subtract(trace[events.roi, events.peak], trace[events.roi, events.start], dtype=np.float64)
        for trace in (estimate, truth)
    ]
    return rises[0] / rises[1]


def event_delays(estimate: Traces, truth: Traces, events: Events, longest: int) -> Float[np.ndarray, "E"]:
    """Frames by which the estimate is late (early: negative) at each event: least squares over delay, scale and offset.

    Fitted to the estimate from `longest` frames before the event's start to `longest` after its peak is the truth, moved by at
    most `longest`; the best delay is that of the largest correlation, between frames by a parabola (off by a few hundredths of
    a frame). The onsets of a noisy trace would be early. NaN near the ends and where the estimate is flat.
    """
    spans = zip(events.roi, events.start - longest, events.peak + longest + 1, strict=True)
    return np.array([_delay(estimate[n], truth[n], int(first), int(stop), longest) for n, first, stop in spans], float)


def event_amplitude_ratio(estimate: Traces, truth: Traces, height: float = 0.5) -> float:
    """Median over events of estimated over true amplitude; below 1, events are flattened. NaN without any event.

    An event is a run of `event_mask`. Its amplitude is the value at the true peak minus the trace's own median
    (at the true peak, since the maximum of a noisy trace is too high).
    """
    during = event_mask(truth, height)
    starts = np.diff(during, axis=1, prepend=False) & during
    if not starts.any():
        return float("nan")
    runs = np.where(during, np.cumsum(starts).reshape(truth.shape), 0)  # numbered from 1
    peaks = tuple(np.array(maximum_position(truth, runs, np.arange(1, runs.max() + 1))).T)
    rises = [(trace - np.median(trace, axis=1, keepdims=True))[peaks] for trace in (estimate, truth)]
    return float(np.median(rises[0] / rises[1]))


def _detect(trace: np.ndarray, threshold: float) -> Events:
    peak, about = find_peaks(trace, prominence=threshold)
    prominences = tuple(about[name] for name in ("prominences", "left_bases", "right_bases"))
    half, tenth = (peak_widths(trace, peak, depth, prominences)[2] for depth in (0.5, 0.9))
    return Events(np.zeros(len(peak), int), half, np.floor(tenth).astype(int), peak, about["prominences"])


def _match(true: Events, found: Events, tolerance: float | int, roi: int) -> Int[np.ndarray, "M 2"]:
    i, j = np.flatnonzero(true.roi == roi), np.flatnonzero(found.roi == roi)
    distance = np.abs(true.onset[i][:, None] - found.onset[j])
    near = distance <= tolerance
    far = (tolerance + 1) * (min(len(i), len(j)) + 1)  # one pair more is worth any distance
    rows, columns = linear_sum_assignment(np.where(near, distance, far))
    return np.stack([i[rows], j[columns]], axis=1)[near[rows, columns]]


def _count(events: Events, others: Events, tolerance: float | int) -> int:
    return int(unmatched(events, others, tolerance).sum())


def _part(lost: int, total: int) -> float:
    return 1 - lost / total if total else float("nan")


def _delay(estimate: np.ndarray, truth: np.ndarray, first: int, stop: int, longest: int) -> float:
    if first < longest or stop + longest > len(truth):
        return float("nan")
    around = truth[first - longest : stop + longest].astype(np.float64)
    shifted = np.lib.stride_tricks.sliding_window_view(around, stop - first)[::-1]  # delay, frame
    shifted = shifted - shifted.mean(axis=1, keepdims=True)
    seen = estimate[first:stop] - estimate[first:stop].mean(dtype=np.float64)
    if not seen.any():
        return float("nan")
    return _summit(shifted @ seen / np.linalg.norm(shifted, axis=1)) - longest


def _summit(values: np.ndarray) -> float:
    """Where a parabola through the largest value and its neighbours is highest."""
    k = int(np.argmax(values))
    if not 0 < k < len(values) - 1:
        return float(k)
    left, top, right = values[k - 1 : k + 2]
    return k + 0.5 * (left - right) / (left - 2 * top + right)
