"""What is left of small local events that were planted in a movie: their amplitude, and whether one could still find them.

A planted event adds amplitude · footprint(y, x) · course(t). A matched filter (North 1943) with that footprint and course measures
it; the baseline is local: a straight line through the event and `margin` frames on either side, fitted along with it. Movies pass
in chunks: `footprint_traces` of each chunk, joined along time, is all that the other functions need.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from udenoise.arrays import Frames, Image
from udenoise.errors import InputError
from udenoise.metrics.detection import z_scores
from udenoise.metrics.states import Traces

MARGIN = 5
"""Frames of baseline on either side of an event."""


class Planted(NamedTuple):
    """Planted events, E in number."""

    footprint: Float[np.ndarray, "E Y X"]
    start: Int[np.ndarray, "E"]
    """The frame of the first value of the course."""
    course: Float[np.ndarray, "E K"]
    """Time course; shorter ones end in zeros."""
    amplitude: Float[np.ndarray, "E"]


class Findable(NamedTuple):
    """z-scores of the matched filter for `roc`."""

    event: Float[np.ndarray, "E"]
    quiet: Float[np.ndarray, "Q"]


def footprint_traces(frames: Frames, footprint: Float[np.ndarray, "E Y X"]) -> Float[np.ndarray, "E frames"]:
    """Least-squares amplitude of each footprint f alone in each frame y: Σ f·y / Σ f². Raises InputError for an empty one."""
    flat = footprint.reshape(len(footprint), -1).astype(np.float64)
    power = np.square(flat).sum(axis=1)
    if not np.all(power > 0):
        raise InputError(f"footprint {int(np.argmin(power))} is zero everywhere; leave it out")
    return (flat / power[:, None]) @ frames.reshape(len(frames), -1).T.astype(np.float64)


def matched_filter(traces: Traces, course: Float[np.ndarray, "N K"], margin: int = MARGIN) -> Traces:
    """Amplitude of each trace's course if it began at frame t, at every t; NaN where the course or its margins do not fit.

    Ordinary least squares of course, constant and line over margin + K + margin frames: Σ k⊥·x / Σ k⊥·k with k⊥ the course less its
    regression on constant and line (Frisch & Waugh 1933). Constant and line in a trace count nothing.
    """
    width = course.shape[1] + 2 * margin
    if width > traces.shape[1]:
        raise InputError(
            f"{traces.shape[1]} frames are too few for a course of {course.shape[1]} and margins of {margin}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(traces.astype(np.float64), width, axis=1)  # N start frame
    out = np.full(traces.shape, np.nan)
    out[:, margin : margin + windows.shape[1]] = np.einsum("nsw,nw->ns", windows, _weights(course, margin))
    return out


def at_start(planted: Planted, traces: Traces, margin: int = MARGIN) -> Float[np.ndarray, "E"]:
    """What the matched filter finds in each footprint's trace (E T) where its own event begins."""
    return matched_filter(traces, planted.course, margin)[np.arange(len(traces)), planted.start]


def recovered_amplitudes(
    planted: Planted, estimate: Traces, truth: Traces | None = None, margin: int = MARGIN
) -> Float[np.ndarray, "E"]:
    """Share of each planted amplitude that the estimate holds: 1 kept, 0 swallowed. Both traces by `footprint_traces` (E T).

    With the true traces (planted events included) it is 1 + (amplitude in estimate − truth)/(planted amplitude), so that the
    activity of the cells around does not count; without them everything that looks like the event does.
    """
    if truth is None:
        return at_start(planted, estimate, margin) / planted.amplitude
    error = np.subtract(estimate, truth, dtype=np.float64)
    return 1 + at_start(planted, error, margin) / planted.amplitude


def planted_snr(planted: Planted, noise_variance: Image, margin: int = MARGIN) -> Float[np.ndarray, "E"]:
    """Planted amplitude over the standard deviation of what the filter measures in the raw movie, whose noise is white.

    √(Σ f²v)/Σ f² · √Σ w², with noise variance v of each pixel and the filter's weights w in time.
    """
    square = np.square(planted.footprint.astype(np.float64)).reshape(len(planted.start), -1)
    in_space = np.sqrt(square @ noise_variance.ravel()) / square.sum(axis=1)
    return planted.amplitude / (in_space * np.linalg.norm(_weights(planted.course, margin), axis=1))


def findable(planted: Planted, traces: Traces, reach: int = 2, margin: int = MARGIN) -> Findable:
    """Scores for `roc`: z of each event, and of quiet places of the same footprints; both the largest of 2·reach + 1 starts.

    z is the filter's output less its median over its own spread (`own_sd`), over the frames of one footprint. A place is quiet if
    no planted event with a common pixel touches its window. Other activity stays in: give the traces of estimate − truth without
    planted events where that is not to count as a false alarm.
    """
    output = matched_filter(traces, planted.course, margin)
    inside = np.isfinite(output[0])
    z = np.full(output.shape, -np.inf)
    z[:, inside] = z_scores(output[:, inside])
    spans = [slice(max(at - reach, 0), at + reach + 1) for at in planted.start.tolist()]
    event = np.array([row[span].max() for row, span in zip(z, spans, strict=True)])
    block, (E, T) = 2 * reach + 1, z.shape
    free = inside & ~_touched(planted, T, planted.course.shape[1] + margin + reach)
    places, free = (part[:, : T // block * block].reshape(E, -1, block) for part in (z, free))
    return Findable(event, places.max(axis=2)[free.all(axis=2)])


def _weights(course: np.ndarray, margin: int) -> Float[np.ndarray, "N W"]:
    k = np.pad(course.astype(np.float64), ((0, 0), (margin, margin)))
    basis = np.linalg.qr(np.vander(np.linspace(-1, 1, k.shape[1]), 2))[0]  # frame, (line, constant)
    rest = k - k @ basis @ basis.T
    power = (rest * k).sum(axis=1)
    if not np.all(power > 1e-9 * np.square(k).sum(axis=1)):
        raise InputError("a course is a straight line over its window; give it a margin of frames without the event")
    return rest / power[:, None]


def _touched(planted: Planted, T: int, reach: int) -> Bool[np.ndarray, "E T"]:
    """Starts whose window meets an event that shares a pixel with the footprint."""
    flat = (planted.footprint > 0).reshape(len(planted.start), -1).astype(np.float64)
    near = np.abs(np.arange(T) - planted.start[:, None]) <= reach
    return (flat @ flat.T > 0).astype(np.float64) @ near > 0
