"""The recording that flags are about, as far as they need it, and what they have in common: places, names, units."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from udenoise.flags.table import NAN, Flag, Footprint
from udenoise.io import Rois, rois_dense
from udenoise.noise import NoiseModel
from udenoise.recording import Recording

TOUCHED = 0.2
"""Share of a ROI's weight inside an event, or of the event inside the ROI, from which the event is said to touch it."""


class Field(NamedTuple):
    """Images in counts (Y X)."""

    frames: int
    frame_rate_hz: float | None
    mean: Float[np.ndarray, "Y X"]
    light: Float[np.ndarray, "Y X"]
    """The mean image above the counts at zero light."""
    sd: Float[np.ndarray, "Y X"]
    """Of a pixel's noise."""
    noise: NoiseModel
    names: tuple[str, ...]
    weights: Float[np.ndarray, "N Y X"]
    """Of the ROIs; N is 0 where there are none."""


def field_of(recording: Recording, rois: Rois | None, offset_counts: float) -> Field:
    """What flags need to know of a recording."""
    mean, noise, movie = recording.anatomy.mean, recording.noise, recording.movie
    weights = np.zeros((0, *mean.shape), np.float32) if rois is None else rois_dense(rois)
    names = () if rois is None else rois.names
    sd = np.sqrt(noise.pixel_variance(mean))
    return Field(len(movie), movie.frame_rate_hz, mean, mean - offset_counts, sd, noise, names, weights)


def timed(flag: Flag, field: Field) -> Flag:
    """With seconds, where the frame rate is known."""
    rate = field.frame_rate_hz
    return flag if not rate else flag._replace(start_s=flag.frame_start / rate, stop_s=flag.frame_stop / rate)


def sized(flag: Flag, height: float, field: Field) -> Flag:
    """With its size in counts and as ΔF/F, from its height in units of the noise at its centre."""
    at = int(flag.y), int(flag.x)
    size = height * float(field.sd[at])
    return flag._replace(size=size, dff=size / float(field.light[at]) if field.light[at] > 0 else NAN)


class Region(NamedTuple):
    """A ROI: its centre and area (pixels), and its brightness above zero light (counts)."""

    y: float
    x: float
    area: float
    light: float

    @property
    def sigma_px(self) -> float:
        """Of a Gaussian spot that is as large."""
        return float(np.sqrt(self.area / (4 * np.pi)))

    def footprint(self, start: int, stop: int) -> Footprint:
        """A disc of its area."""
        whole = (np.array([part]) for part in (start, stop, round(self.y), round(self.x)))
        return Footprint(*whole, np.array([np.sqrt(self.area / np.pi)]))


def region_of(n: int, field: Field) -> Region:
    """The ROI of this number."""
    weights = field.weights[n]
    mean = weights / weights.sum()
    y, x = (float((grid * mean).sum()) for grid in np.mgrid[: weights.shape[0], : weights.shape[1]])
    return Region(y, x, float((weights > 0).sum()), float((field.light * mean).sum()))


def mask_of(footprint: Footprint, shape: tuple[int, int]) -> Bool[np.ndarray, "Y X"]:
    """The pixels of all discs."""
    mask = np.zeros(shape, bool)
    for y, x, radius in zip(footprint.y, footprint.x, footprint.radius, strict=True):
        paint(mask, int(y), int(x), float(radius), True)
    return mask


def paint(image: np.ndarray, y: int, x: int, radius: float, value: int | bool) -> None:
    """Write a value into a disc of an image, in place, where the image is 0."""
    reach = int(radius)
    rows, columns = (slice(max(c - reach, 0), c + reach + 1) for c in (y, x))
    part = image[rows, columns]
    ys, xs = np.ogrid[rows.start : rows.start + part.shape[0], columns.start : columns.start + part.shape[1]]
    part[((ys - y) ** 2 + (xs - x) ** 2 <= radius**2) & (part == 0)] = value


def touching(mask: Bool[np.ndarray, "Y X"], field: Field) -> str:
    """Names of the ROIs that an event touches."""
    if not len(field.names):
        return ""
    inside = (field.weights * mask).sum((1, 2)) / np.maximum(field.weights.sum((1, 2)), 1e-12)
    covered = ((field.weights > 0) & mask).sum((1, 2)) / max(mask.sum(), 1)
    chosen = np.flatnonzero((inside >= TOUCHED) | (covered >= 2 * TOUCHED))
    return ";".join(field.names[n] for n in chosen)
