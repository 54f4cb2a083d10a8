"""Contradicted: pooled over space and time, the recording differs from the denoised movie by more than its error bar allows.

Events at any place (`scan`), and of whole ROIs: their raw traces less the denoised ones, over 1, 3, 9 and 27 frames, against their
noise and the stated errors, taken as wrong together, and their borders. Of each family the false discovery rate is controlled
(Benjamini & Hochberg 1995) at its share of the whole.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from udenoise.flags.field import Field, mask_of, region_of, sized, timed, touching
from udenoise.flags.table import Flag, Footprint
from udenoise.innovation import CLIP, CLIPPED_POWER, normal_score
from udenoise.scan import (
    DURATIONS,
    LEAST_SHARP_PX,
    MOST_SKEWED,
    SHIFTS,
    SIGMAS_PX,
    THRESHOLD,
    Chance,
    Independent,
    Peaks,
    event_sizes,
    join_peaks,
    p_values,
    q_values,
    some_peaks,
)
from udenoise.watch import MIX, SIDES, Borders

HALF_HEIGHT = float(np.sqrt(2 * np.log(2)))
"""Radius of a Gaussian spot at half its height, in standard deviations."""
CORE = 0.7
"""Peaks of an event that reach this share of the largest say where it is, and when."""
SHARES = (0.5, 0.25, 0.25)
"""Of the false discovery rate: for places, traces of ROIs, and their borders; all for places where there are no ROIs."""
LEARNT = 50.0
"""Independent windows of a ROI that say as much of its spread as all other ROIs do."""


class Found(NamedTuple):
    """A flag and where it is."""

    flag: Flag
    footprint: Footprint | None


class TracePeaks(NamedTuple):
    """Windows in which a ROI's raw and denoised trace differ: ROI, first frame, length, z, and by how much (counts); or in which
    its borders do (pixels), to one of `watch.SIDES`, which is −1 for the trace."""

    roi: Int[np.ndarray, "P"]
    frame: Int[np.ndarray, "P"]
    duration: Int[np.ndarray, "P"]
    z: Float[np.ndarray, "P"]
    height: Float[np.ndarray, "P"]
    way: Int[np.ndarray, "P"]


def contradicted_places(peaks: Peaks, chance: Chance, field: Field, fdr: float) -> list[Found]:
    """Events at any place, the largest first."""
    share = 1.0 if not len(field.names) else SHARES[0]
    places = field.frames * field.mean.size / share
    sizes = event_sizes(peaks.z, join_peaks(peaks))
    passed = sizes[q_values(sizes, chance, places) <= fdr]
    if not len(passed):
        return []
    strong = some_peaks(peaks, places * chance.above(np.abs(peaks.z)) <= fdr * len(passed))
    event = join_peaks(strong)
    sizes = event_sizes(strong.z, event)
    p, q = p_values(sizes, chance), np.minimum(q_values(sizes, chance, places), fdr)
    order = np.argsort(-sizes, kind="stable")
    return [_place(some_peaks(strong, event == e), float(p[e]), float(q[e]), field) for e in order]


def _place(peaks: Peaks, p: float, q: float, field: Field) -> Found:
    best = int(np.abs(peaks.z).argmax())
    footprint = footprint_of(peaks, field)
    mask = mask_of(footprint, field.mean.shape)
    shift, spot = int(peaks.spot[best]) in SHIFTS, int(peaks.spot[best])
    sign, z = int(np.sign(peaks.z[best])), float(peaks.z[best])
    flag = Flag(
        "contradicted", int(footprint.start.min()), int(footprint.stop.max()), float(peaks.y[best]), float(peaks.x[best]),
        float(mask.sum()), score=z, p=p, q=q, roi=touching(mask, field), sign=0 if shift else sign,
        sigma_px=SIGMAS_PX[spot], frames=float(DURATIONS[peaks.duration[best]]),
        reason=_displaced(spot - SHIFTS[0], float(peaks.height[best])) if shift else reason_of(sign, spot == 0),
    )  # fmt: skip
    return Found(timed(flag if shift else sized(flag, float(peaks.height[best]), field), field), footprint)


def reason_of(sign: int, pixel: bool = False) -> str:
    """What it means that the recording is above or below the denoised movie, of a single `pixel` or of more."""
    if pixel:
        side = "more" if sign > 0 else "less"
        return f"a pixel shows {side} light than noise allows: a spike of the detector, a hot pixel, or an event no larger than it"
    if sign > 0:
        return "the recording shows more light than the denoised movie: an event was swallowed"
    return "the recording shows less light than the denoised movie: structure was invented"


def _displaced(way: int, pixels: float) -> str:
    y, x = pixels * SIDES[way]
    return f"what is here lies off by {y:+.1f} px along Y and {x:+.1f} px along X: a border was drawn in the wrong place, or moved"


def footprint_of(peaks: Peaks, field: Field) -> Footprint:
    """Discs at half height of the peaks that say where an event is."""
    size = np.abs(peaks.z)
    core = some_peaks(peaks, size >= CORE * size.max())
    start = np.maximum(core.frame, 0)
    stop = np.minimum(core.frame + np.array(DURATIONS)[core.duration], field.frames)
    radius = np.maximum(HALF_HEIGHT * np.array(SIGMAS_PX)[core.spot], 0.5)
    return Footprint(start, stop, core.y.astype(int), core.x.astype(int), radius)


def scan_traces(
    left: Float[np.ndarray, "N T"],
    noise_variance: Float[np.ndarray, "N T"],
    sd: Float[np.ndarray, "N T"],
    skewness: Float[np.ndarray, "N"] | None = None,
) -> TracePeaks:
    """Windows of at least the threshold's |z| in raw minus denoised traces (`left`, counts; NaN: not measured).

    z is divided by what it has beyond chance in this ROI where little happens, at least 1, and made normal where the noise of a
    frame has some `skewness`.
    """
    seen = np.isfinite(left)
    value, noise, doubt = (np.where(seen, part, 0.0) for part in (left, noise_variance, sd))
    found = []
    for frames in DURATIONS:
        if frames > left.shape[1]:
            break
        total, power, wrong, count = (_windows(part, frames) for part in (value, noise, doubt, seen.astype(float)))
        z = np.where(count > 0, total / np.sqrt(np.maximum(power + wrong**2, 1e-30)), 0.0)
        z = z / _spread(z, frames)[:, None]
        if skewness is not None:
            z = normal_score(z, np.broadcast_to(skewness[:, None] / np.sqrt(frames), z.shape))
        n, w = np.nonzero(np.abs(z) >= THRESHOLD)
        step = _step(frames)
        found.append((n, w * step, np.full(len(n), frames), z[n, w], total[n, w] / np.maximum(count[n, w], 1)))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    return TracePeaks(*columns, np.full(len(columns[0]), -1))


def scan_borders(heard: Float[np.ndarray, "T M"], doubt: Float[np.ndarray, "T M"], borders: Borders) -> TracePeaks:
    """The same of displacements of ROIs (`watch.border_sums`) to each of eight sides, where noise leaves them sharp enough."""
    parts = [part.reshape(len(part), MIX.shape[1], -1).transpose(1, 2, 0).astype(float) for part in (heard, doubt)]
    return join_traces([_along(*parts, borders, way) for way in range(len(SIDES))])


def _along(value: np.ndarray, doubt: np.ndarray, borders: Borders, way: int) -> TracePeaks:
    along, wrong = (np.tensordot(MIX[way], part, 1) for part in (value, doubt))
    noise, unit = (np.einsum("i,nij,j->n", MIX[way], part, MIX[way]) for part in (borders.power, borders.unit))
    peaks = scan_traces(along, np.broadcast_to(noise[:, None], along.shape), np.abs(wrong))
    noise, unit, third = noise[peaks.roi], unit[peaks.roi], borders.third[peaks.roi, way]
    skewness = third / np.maximum(unit, 1e-30) ** 1.5 / np.sqrt(peaks.duration)
    z = normal_score(peaks.z, skewness)
    sharp = noise / np.maximum(unit, 1e-30) ** 2 / peaks.duration <= LEAST_SHARP_PX**2
    kept = sharp & (skewness <= MOST_SKEWED) & (z >= THRESHOLD)
    peaks = peaks._replace(z=z, height=peaks.height / np.maximum(unit, 1e-30), way=np.full(len(z), way))
    return TracePeaks(*(part[kept] for part in peaks))


def join_traces(parts: list[TracePeaks]) -> TracePeaks:
    """One table of several."""
    return TracePeaks(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _windows(values: np.ndarray, frames: int) -> Float[np.ndarray, "N W"]:
    """Sums over windows that begin every `_step` frames."""
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    step = _step(frames)
    return (sums[:, frames:] - sums[:, :-frames])[:, ::step]


def _step(frames: int) -> int:
    """Frames from one window of a ROI to the next: of traces, finer steps than `scan` has for places cost next to nothing."""
    return max(frames // 9, 1)


def _spread(z: np.ndarray, frames: int) -> Float[np.ndarray, "N"]:
    if not len(z):
        return np.ones(0)
    power = np.minimum(z**2, CLIP**2).mean(1) / CLIPPED_POWER
    alone = z.shape[1] * _step(frames) / frames
    return np.sqrt(np.maximum((alone * power + LEARNT * power.mean()) / (alone + LEARNT), 1.0))


def contradicted_traces(peaks: TracePeaks, field: Field, fdr: float) -> list[Found]:
    """Events of whole ROIs and of their borders, the largest first; chance is that of a normal z in every window."""
    shift = peaks.way >= 0
    families = (TracePeaks(*(part[which] for part in peaks)) for which in (~shift, shift))
    found = [
        one
        for family, ways in zip(families, (1.0, len(SIDES) / 2), strict=True)
        for one in _family(family, ways, field, fdr)
    ]
    return sorted(found, key=lambda one: -abs(one.flag.score))


def _family(peaks: TracePeaks, ways: float, field: Field, fdr: float) -> list[Found]:
    share = SHARES[2] if ways > 1 else SHARES[1]  # z to one side has half the chance of |z|
    count = ways / share * len(field.names) * field.frames * sum(1 / _step(frames) for frames in DURATIONS)
    chance, event = Independent(count), _join_in_time(peaks)
    sizes = event_sizes(peaks.z, event)
    q = q_values(sizes, chance, 1)
    chosen = np.flatnonzero(q <= fdr)
    return [_trace(TracePeaks(*(part[event == e] for part in peaks)), chance, float(q[e]), field) for e in chosen]


def _join_in_time(peaks: TracePeaks) -> Int[np.ndarray, "P"]:
    """Windows of one ROI and one sign that overlap are of one event; displacements also of different ways."""
    side = np.where(peaks.way < 0, np.sign(peaks.z), 0)
    order = np.lexsort((peaks.frame, side, peaks.roi))
    roi, sign, start = peaks.roi[order], side[order], peaks.frame[order]
    stop = start + peaks.duration[order]
    event, number, reached = np.zeros(len(order), int), -1, -1
    for i in range(len(order)):
        if i == 0 or roi[i] != roi[i - 1] or sign[i] != sign[i - 1] or start[i] > reached:
            number, reached = number + 1, -1
        event[order[i]], reached = number, max(reached, stop[i])
    return event


def _trace(peaks: TracePeaks, chance: Independent, q: float, field: Field) -> Found:
    best = int(np.abs(peaks.z).argmax())
    core = np.abs(peaks.z) >= CORE * np.abs(peaks.z[best])
    n, size = int(peaks.roi[best]), float(peaks.height[best])
    roi = region_of(n, field)
    sizes = np.abs(peaks.z[[best]])
    start, stop = int(peaks.frame[core].min()), int((peaks.frame + peaks.duration)[core].max())
    way = int(peaks.way[best])
    flag = Flag(
        "contradicted", start, min(stop, field.frames), roi.y, roi.x, roi.area, size, float(peaks.z[best]),
        float(p_values(sizes, chance)[0]), q, field.names[n], int(np.sign(size)), dff=size / roi.light if roi.light > 0 else np.nan,
        sigma_px=roi.sigma_px, frames=float(peaks.duration[best]), reason=_of_trace(size),
    )  # fmt: skip
    if way >= 0:
        flag = flag._replace(size=np.nan, dff=np.nan, sign=0, reason=_displaced(way, size))
    return Found(timed(flag, field), roi.footprint(start, stop))


def _of_trace(size: float) -> str:
    return f"the raw trace of the ROI is {'above' if size > 0 else 'below'} the denoised one by more than its corridor allows"


def merged(places: list[Found], traces: list[Found]) -> list[Found]:
    """Both families; an event of a ROI that is also one of its places is told once, as the place."""

    def known(one: Flag) -> bool:
        return any(
            one.roi in place.flag.roi.split(";") and (0 in (place.flag.sign, one.sign) or place.flag.sign == one.sign)
            and place.flag.frame_start < one.frame_stop and one.frame_start < place.flag.frame_stop
            for place in places
        )  # fmt: skip

    whole = places + [found for found in traces if not known(found.flag)]
    return sorted(whole, key=lambda found: -abs(found.flag.score))
