"""What happens in a simulated movie, as a list: bursts of cells, planted rare events, waves."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from udenoise.simulate.activity import Kinetics


class Events(NamedTuple):
    """One entry per event; frames count from 0, `stop` is the first frame after it."""

    kind: Shaped[np.ndarray, "E"]
    """spike, burst (ordinary); lone, decoupled (planted, cells); flash, dendritic (planted, elsewhere); wave."""
    roi: Int[np.ndarray, "E"]
    """Which of the masks, −1 where the event belongs to no soma."""
    place: Int[np.ndarray, "E"]
    """Which of the places, −1 where it belongs to a soma."""
    start: Int[np.ndarray, "E"]
    peak: Int[np.ndarray, "E"]
    stop: Int[np.ndarray, "E"]
    """Where the rise has fallen to 1/e, or the next event begins."""
    amplitude: Float[np.ndarray, "E"]
    """Rise of ΔF/F above the frame before: of the cell's own fluorescence, or at the brightest pixel of the place.

    It may be 0 or less where a spike hides in the decay of what came before."""
    snr: Float[np.ndarray, "E"]
    """Matched-filter signal-to-noise ratio in the raw movie: whole footprint and time course known, rest brightness,
    noise independent between pixels."""


class Event(NamedTuple):
    """One of `Events`, before its signal-to-noise ratio is known."""

    kind: str
    roi: int
    place: int
    start: int
    peak: int
    stop: int
    amplitude: float


def table(events: list[Event], snr: list[float]) -> Events:
    """The list as arrays, in order of time."""
    order = sorted(range(len(events)), key=lambda i: (events[i].start, events[i].roi, events[i].place))
    columns = zip(*[events[i] for i in order], strict=True) if events else [()] * 7
    kind, *numbers, amplitude = (np.array(column) for column in columns)
    ratio = np.array([snr[i] for i in order], float)
    return Events(kind.astype(str), *(n.astype(np.int64) for n in numbers), amplitude.astype(float), ratio)


def cell_events(
    spikes: Int[np.ndarray, "N T"],
    dff: Float[np.ndarray, "N T"],
    known: Kinetics,
    frame_rate_hz: float,
    planted: Mapping[tuple[int, int], str],
) -> list[Event]:
    """Events of every cell: spikes closer than half a decay are one. `planted`: kind by (cell, frame of first spike)."""
    gap = max(1.0, 0.5 * known.decay_s * frame_rate_hz)
    rise = int(np.ceil(3 * known.rise_s * frame_rate_hz)) + 2
    events = []
    for roi, train in enumerate(spikes):
        at = np.flatnonzero(train)
        groups = [group for group in np.split(at, np.flatnonzero(np.diff(at) > gap) + 1) if group.size]
        ends = [*(int(group[0]) for group in groups), len(train)][1:]
        for group, end in zip(groups, ends, strict=True):
            usual = "burst" if train[group].sum() > 1 else "spike"
            kind = next((k for f in group if (k := planted.get((roi, int(f))))), usual)
            events.append(_event(kind, roi, dff[roi], group, end, rise))
    return events


def _event(kind: str, roi: int, dff: np.ndarray, spikes: np.ndarray, end: int, rise: int) -> Event:
    start = int(spikes[0])
    before = float(dff[start - 1]) if start else 0.0
    peak = start + int(np.argmax(dff[start : min(end, int(spikes[-1]) + rise)]))
    amplitude = float(dff[peak]) - before
    fallen = np.flatnonzero(dff[peak + 1 : end] < before + amplitude / np.e)
    return Event(kind, roi, -1, start, peak, peak + 1 + int(fallen[0]) if fallen.size else end, amplitude)


def matched_filter_snr(
    footprint: Float[np.ndarray, "p"], variance: Float[np.ndarray, "p"], course: Float[np.ndarray, "t"]
) -> float:
    """√(Σ_x Σ_t signal² / variance) of a signal footprint(x) · course(t) (North 1943)."""
    return float(np.sqrt(np.sum(footprint**2 / variance) * np.sum(course**2)))
