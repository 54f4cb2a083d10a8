"""The strongest flags close up: small pictures averaged over the event, and the trace of its region before and after."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from udenoise.arrays import Json
from udenoise.io import Movie
from udenoise.report.flagged import SHOWN, strongest
from udenoise.report.pictures import across, limits, outline, picture, shrink
from udenoise.report.sources import Sources

MOST = 24
"""Events shown."""
AROUND = 60
"""Frames of the trace on each side of an event."""
MOST_FRAMES = 240
"""Frames that are read for an event; evenly spaced ones where it lasts longer."""
SIDES = (24, 64)
"""Least and largest side of a picture, pixels."""
SIDE_SIGMAS = 10.0
"""Side of a picture in standard deviations of the event's template."""
BLOCK_VALUES = 4_000_000
"""Pixels in memory at a time, before they are averaged over area."""
Z95 = 1.96
NORMAL_MAD = 1.4826
"""Standard deviation of a normal variable over the median of its absolute value."""
Z_SHOWN = (4.0, 10.0)
"""The residual's colours reach at least and at most so many standard deviations."""


class View(NamedTuple):
    """An event and what surrounds it, in counts."""

    frames: Int[np.ndarray, "n"]
    during: Bool[np.ndarray, "n"]
    """Which of the frames belong to the event."""
    box: tuple[int, int, int, int]
    """First row, row after the last, first column, column after the last."""
    raw: Float[np.ndarray, "n y x"]
    denoised: Float[np.ndarray, "n y x"] | None
    sd: Float[np.ndarray, "n y x"] | None
    region: Bool[np.ndarray, "y x"]
    """The event where it is largest."""


def gallery(sources: Sources, movie: Movie) -> list[Json]:
    """At most MOST events, each with its position among those of the page; of each at most MOST_FRAMES frames are read."""
    if sources.flags is None:
        return []
    events = sources.flags.events
    rows = {i: row for row, i in enumerate(strongest(events, SHOWN))}
    views = ((i, read_view(events[i], sources, movie)) for i in strongest(events, MOST))
    return [{"row": rows[i], **_shown(events[i], view)} for i, view in views if view is not None]


def read_view(event: Json, sources: Sources, movie: Movie) -> View | None:
    """Frames of an event and around it; None if it lies outside the movie."""
    T, Y, X = movie.shape
    start, stop = max(event["frame_start"], 0), min(event["frame_stop"], T)
    if start >= stop:
        return None
    box = _box(event, Y, X)
    rows, columns = slice(*box[:2]), slice(*box[2:])
    frames = _frames(start, stop, T)
    during = (frames >= start) & (frames < stop)

    def take(array: Any, some: Int[np.ndarray, "n"] = frames) -> np.ndarray | None:
        if array is None or array.shape != movie.shape:
            return None
        return _read(lambda a, b: np.asarray(array[a:b, rows, columns]), some, (box[1] - box[0]) * (box[3] - box[2]))

    raw = _read(lambda a, b: movie.read(a, b)[:, rows, columns], frames, Y * X)
    region = _region(event, take(sources.flags.labels, frames[during]), box, raw.shape[1:])
    return View(frames, during, box, raw, take(sources.mean), take(sources.sd), region)


def _box(event: Json, Y: int, X: int) -> tuple[int, int, int, int]:
    """A square about the event that stays in the field of view, or all of that."""
    if _everywhere(event):
        return 0, Y, 0, X
    wanted = max(SIDE_SIGMAS * (event["sigma_px"] or 0.0), 2 * math.sqrt(event["area"] or 0.0))
    side = round(min(max(wanted, SIDES[0]), SIDES[1]))
    spans = ((min(max(round(c) - side // 2, 0), max(n - side, 0)), n) for c, n in ((event["y"], Y), (event["x"], X)))
    (y, last_y), (x, last_x) = spans
    return y, min(y + side, last_y), x, min(x + side, last_x)


def _everywhere(event: Json) -> bool:
    return event["y"] is None or event["x"] is None


def _frames(start: int, stop: int, T: int) -> Int[np.ndarray, "n"]:
    first, last = max(start - AROUND, 0), min(stop + AROUND, T)
    if last - first <= MOST_FRAMES:
        return np.arange(first, last)
    return np.linspace(first, last - 1, MOST_FRAMES).round().astype(int)


def _read(
    read: Callable[[int, int], np.ndarray], frames: Int[np.ndarray, "n"], pixels: int
) -> Float[np.ndarray, "n y x"]:
    """Frames by runs of neighbours, averaged over area where they are larger than a picture may be."""
    runs, most = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1), max(BLOCK_VALUES // pixels, 1)
    blocks = [run[i : i + most] for run in runs for i in range(0, len(run), most)]
    parts = (read(int(block[0]), int(block[-1]) + 1).astype(np.float32) for block in blocks)
    return np.concatenate([shrink(part, SIDES[1]) for part in parts])


def _region(
    event: Json, labels: Float[np.ndarray, "n y x"] | None, box: tuple[int, int, int, int], shape: tuple[int, ...]
) -> Bool[np.ndarray, "y x"]:
    """The event's label where it is largest, or else a disc; all where the event has no place."""
    if _everywhere(event):
        return np.ones(shape, bool)
    if event["label"] and labels is not None:
        inside = labels == event["label"]
        largest = inside[inside.sum((1, 2)).argmax()]
        if largest.any():
            return largest
    radius = event["sigma_px"] or max(math.sqrt((event["area"] or 0.0) / math.pi), 1.0)
    y, x = np.ogrid[box[0] : box[1], box[2] : box[3]]
    distance = np.hypot(y - event["y"], x - event["x"])
    return distance <= max(radius, distance.min())


def _shown(event: Json, view: View) -> Json:
    scale = (view.box[1] - view.box[0]) / view.raw.shape[1]
    sigma = min(event["sigma_px"] or 1.5, min(view.raw.shape[1:]) / 6) if scale == 1 else 0.5
    return {
        "box": view.box,
        "averaged": int(view.during.sum()),
        "images": _pictures(view, max(sigma, 0.5)),
        "outline": None if view.region.all() else outline(view.region),
        "pixels": int(view.region.sum() * scale**2),
        "trace": _trace(view),
    }


def _pictures(view: View, sigma: float) -> Json:
    """The mean over the event; raw and denoised share their limits, those of the denoised and of the smoothed raw."""
    smooth = smoother(view.raw.shape[1:], sigma)
    raw = view.raw[view.during].mean(0)
    calm = [smooth(raw) / smooth(np.ones_like(raw))]
    if view.denoised is not None:
        calm.append(view.denoised[view.during].mean(0))
    low, high = limits(np.stack(calm), 0.5, 99.8)
    images = {"raw": picture(raw, low, high)}
    if view.denoised is not None:
        images["denoised"] = picture(calm[1], low, high)
    if view.sd is not None:
        sd = view.sd[view.during].mean(0)
        images["sd"] = picture(sd, *limits(sd, 0.5, 99.5))
    if view.denoised is not None:
        left = standard_residual(view.raw - view.denoised, view.during, smooth)
        reach = float(np.clip(np.abs(left).max(), *Z_SHOWN))
        images["residual"] = picture(left, -reach, reach)
    return images


def smoother(shape: tuple[int, ...], sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    """Sum over a Gaussian neighbourhood in the last two axes; nothing lies outside."""
    y, x = (np.exp(-0.5 * np.square((np.arange(n)[:, None] - np.arange(n)) / sigma)) for n in shape)
    return lambda image: across(y, image, x)


def standard_residual(
    residual: Float[np.ndarray, "n y x"],
    during: Bool[np.ndarray, "n"],
    smooth: Callable[[np.ndarray], np.ndarray],
) -> Float[np.ndarray, "y x"]:
    """Mean of the smoothed residual over the event, in standard deviations as its other frames show them."""
    left = smooth(residual)
    others = left if during.all() else left[~during]
    spread = NORMAL_MAD * np.median(np.abs(others), axis=0) / math.sqrt(during.sum())
    mean = left[during].mean(0)
    return np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0)


def _trace(view: View) -> Json:
    """Means over the region; of the error too, as if all its pixels erred alike."""
    parts = {"raw": view.raw, "denoised": view.denoised, "sd": view.sd}
    means = {name: part[:, view.region].mean(1) for name, part in parts.items() if part is not None}
    return {"frames": view.frames.tolist(), "z": Z95, **{name: _short(values) for name, values in means.items()}}


def _short(values: Float[np.ndarray, "n"]) -> list[float]:
    """To a thousandth of their range."""
    reach = float(np.abs(np.ptp(values))) or float(np.abs(values).max()) or 1.0
    return np.round(values.astype(float), 3 - math.floor(math.log10(reach))).tolist()
