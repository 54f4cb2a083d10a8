"""Images for the page: averaged over area, 8-bit PNG with their range in counts; and ROI outlines as polygons."""

import base64
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from jaxtyping import Bool, Float

from udenoise.arrays import Json
from udenoise.io import Movie
from udenoise.report.sources import Outlined, Sources

FRAME_SIDE = 256
ANATOMY_SIDE = 400
MOMENTS = 60
FRAME_BYTES = 5_000_000
"""What all frames of the player may take in the page, base64."""
OUTLINE_SHARE = 0.1
"""A pixel belongs to an ROI's outline from this share of its largest weight on."""
_LEVELS = {"raw": 128, "denoised": 256, "sd": 256}


class Moments(NamedTuple):
    """A few frames of the movie, raw and denoised, averaged over area."""

    frames: np.ndarray
    """M frame numbers."""
    raw: np.ndarray
    """M y x counts."""
    denoised: np.ndarray | None
    """M y x counts."""
    sd: np.ndarray | None
    """M y x counts: the error of an original pixel, averaged over the area."""
    pixel_sd: float | None
    """Median over all original pixels of these frames, counts."""


def read_moments(movie: Movie, sources: Sources, most: int = MOMENTS) -> Moments:
    """At most `most` evenly spaced frames, each read alone."""
    T = len(movie)
    frames = np.unique(np.linspace(0, T - 1, min(most, T)).round().astype(int))
    medians: list[float] = []

    def take(array: Any, name: str) -> np.ndarray | None:
        if array is None or array.shape != movie.shape:
            return None
        images = []
        for t in frames:
            image = np.asarray(array[int(t)], np.float32)
            if name == "sd":
                medians.append(float(np.nanmedian(image)))
            images.append(shrink(image, FRAME_SIDE))
        return np.stack(images)

    raw = np.stack([shrink(movie.read(int(t), int(t) + 1)[0].astype(np.float32), FRAME_SIDE) for t in frames])
    denoised, sd = take(sources.mean, "mean"), take(sources.sd, "sd")
    return Moments(frames, raw, denoised, sd, float(np.median(medians)) if medians else None)


def player(moments: Moments, shape: tuple[int, int, int]) -> Json:
    """The player's data; moments are left out evenly until they fit in FRAME_BYTES."""
    stacks = {"raw": moments.raw, "denoised": moments.denoised, "sd": moments.sd}
    coded = {name: _code_stack(stack, _LEVELS[name]) for name, stack in stacks.items() if stack is not None}
    sizes = sum(np.array([len(png) for png in stack["png"]]) for stack in coded.values())
    count = len(moments.frames)
    keep = np.arange(count)
    while sizes[keep].sum() > FRAME_BYTES and len(keep) > 1:
        count -= 1
        keep = np.unique(np.linspace(0, len(moments.frames) - 1, count).round().astype(int))
    for stack in coded.values():
        stack["png"] = [stack["png"][i] for i in keep]
    reference = moments.raw if moments.denoised is None else moments.denoised
    return {
        "frames": moments.frames[keep].tolist(),
        "stacks": coded,
        "limits": list(limits(reference, 0.5, 99.8)),
        "pixels_per_pixel": round(shape[1] * shape[2] / (moments.raw.shape[1] * moments.raw.shape[2]), 2),
    }


def anatomy_images(anatomy: dict[str, np.ndarray]) -> Json:
    """Summary images by name, each with its range and the limits to show."""
    return {name: _code_image(shrink(image, ANATOMY_SIDE)) for name, image in anatomy.items()}


def shrink(image: Float[np.ndarray, "*n Y X"], side: int) -> Float[np.ndarray, "*n y x"]:
    """`image`, or several, averaged over area so that no side is longer than `side`; not finite counts as 0."""
    Y, X = image.shape[-2:]
    scale = max(Y, X, side) / side
    image = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
    if scale == 1:
        return image
    rows, columns = _overlap(Y, max(round(Y / scale), 1)), _overlap(X, max(round(X / scale), 1))
    return across(rows, image, columns).astype(image.dtype)


def across(
    rows: Float[np.ndarray, "y Y"], image: Float[np.ndarray, "*n Y X"], columns: Float[np.ndarray, "x X"]
) -> Float[np.ndarray, "*n y x"]:
    """rows @ image @ columns.T, of many images in two products."""
    return np.moveaxis(np.tensordot(rows, np.tensordot(image, columns, (-1, 1)), (1, -2)), 0, -2)


def _overlap(n: int, m: int) -> np.ndarray:
    """Share of each of n pixels in each of m wider ones, m × n; rows sum to 1."""
    edges = np.linspace(0, n, m + 1)
    left, right = np.arange(n), np.arange(1, n + 1)
    shared = np.minimum(right, edges[1:, None]) - np.maximum(left, edges[:-1, None])
    return np.clip(shared, 0, None) * m / n


def limits(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Percentiles `low` and `high`, a little apart where they coincide."""
    bottom, top = (float(p) for p in np.percentile(values, (low, high)))
    return bottom, top if top > bottom else bottom + max(abs(bottom) * 1e-3, 1e-6)


def picture(image: Float[np.ndarray, "y x"], low: float, high: float) -> Json:
    """One small image in 256 steps from `low` to `high`."""
    return {"low": low, "high": high, "limits": [low, high], "png": [_png(np.nan_to_num(image), low, high, 256)]}


def _code_stack(stack: np.ndarray, levels: int) -> Json:
    low, high = limits(stack, 0.05, 99.95)
    return {
        "low": low,
        "high": high,
        "limits": list(limits(stack, 0.5, 99.5)),
        "png": [_png(image, low, high, levels) for image in stack],
    }


def _code_image(image: np.ndarray) -> Json:
    low, high = limits(image, 0.1, 99.9)
    return {"low": low, "high": high, "limits": list(limits(image, 1.0, 99.5)), "png": [_png(image, low, high, 256)]}


def _png(image: np.ndarray, low: float, high: float, levels: int) -> str:
    step = 255 / (levels - 1)
    codes = np.round((image - low) / (high - low) * (levels - 1)).clip(0, levels - 1) * step
    return base64.b64encode(imagecodecs.png_encode(codes.astype(np.uint8), level=6)).decode("ascii")


def outlines(rois: Outlined) -> list[str]:
    """One SVG path per ROI in pixel coordinates (x y), along the edges of its pixels."""
    Y, X = rois.shape
    paths = []
    for index, weight in zip(rois.pixels, rois.weight, strict=True):
        inside = index[weight > OUTLINE_SHARE * weight.max(initial=0)]
        mask = np.zeros(Y * X, bool)
        mask[inside[(inside >= 0) & (inside < Y * X)]] = True
        paths.append(outline(mask.reshape(Y, X)))
    return paths


def outline(mask: Bool[np.ndarray, "Y X"]) -> str:
    """The edges of what is inside `mask`, as one SVG path."""
    padded = np.pad(mask, 1)
    follow: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # directed pixel edges with the inside on the right: start corner (x, y) and step
    for neighbour, start, step in (
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (0, 1)),
        ((1, 0), (1, 1), (-1, 0)),
        ((0, -1), (0, 1), (0, -1)),
    ):
        outside = ~np.roll(padded, (-neighbour[0], -neighbour[1]), (0, 1))
        for y, x in np.argwhere(padded & outside) - 1:
            follow.setdefault((int(x) + start[0], int(y) + start[1]), []).append(step)
    return "".join(_loop(follow) for _ in iter(lambda: bool(follow), False))


def _loop(follow: dict[tuple[int, int], list[tuple[int, int]]]) -> str:
    """Take one closed loop out of `follow`; corners only where it turns."""
    first = here = next(iter(follow))
    path, last = f"M{here[0]} {here[1]}", (0, 0)
    while True:
        steps = follow[here]
        step = last if last in steps else steps[0]
        steps.remove(step)
        if not steps:
            del follow[here]
        if step != last and last != (0, 0):
            path += f"L{here[0]} {here[1]}"
        here, last = (here[0] + step[0], here[1] + step[1]), step
        if here == first and here not in follow:
            return path + "Z"
        if here not in follow:
            return path + "Z"
