"""Do the cells' borders shift from frame to frame? The brain does not, a denoiser may.

After the zebrafish example of "Self-supervised denoising of calcium imaging data" (Rupprecht, blog gcamp6f.com, 2022): the
denoised cells "wobble around". The measure is of this package.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from udenoise.arrays import Frames
from udenoise.errors import InputError

Masks = Bool[np.ndarray, "N Y X"]


class Cells(NamedTuple):
    """The pixels of all ROIs in one list."""

    pixel: Int[np.ndarray, "P"]
    """Place in the flattened frame; those of one ROI after those of another."""
    first: Int[np.ndarray, "N"]
    """Where each ROI begins in the list."""
    size: Int[np.ndarray, "N"]
    """Pixels of each ROI."""

    def gather(self, frames: Frames) -> Float[np.ndarray, "frames P"]:
        """The pixels of all ROIs, in double precision."""
        return frames.reshape(len(frames), -1)[:, self.pixel].astype(np.float64)

    def mean(self, values: Float[np.ndarray, "... P"]) -> Float[np.ndarray, "... N"]:
        """Mean over the pixels of each ROI."""
        return np.add.reduceat(values, self.first, axis=-1) / self.size

    def spread(self, values: Float[np.ndarray, "... N"]) -> Float[np.ndarray, "... P"]:
        """Each ROI's value at all its pixels."""
        return np.repeat(values, self.size, axis=-1)


class WobbleSums(NamedTuple):
    """Sums over frames; b̂ is the cell's brightness in the estimate, R the residual of its pixels."""

    cells: Cells
    brightness: Float[np.ndarray, "N"]
    """Σ b̂²."""
    cross: Float[np.ndarray, "P"]
    """Σ b̂ R."""
    residual: Float[np.ndarray, "P"]
    """Σ R²."""


def cells_of(masks: Masks) -> Cells:
    """The pixel list of boolean masks. Raises InputError for a mask without a pixel."""
    size = masks.sum(axis=(1, 2))
    if not np.all(size):
        raise InputError(f"ROI {int(np.argmin(size))} has no pixel; leave it out")
    return Cells(np.nonzero(masks.reshape(len(masks), -1))[1], np.cumsum(size) - size, size)


def start_wobble(masks: Masks) -> WobbleSums:
    """Sums over no frame."""
    cells = cells_of(masks)
    P = len(cells.pixel)
    return WobbleSums(cells, np.zeros(len(masks)), np.zeros(P), np.zeros(P))


def add_wobble(sums: WobbleSums, estimate: Frames, truth: Frames, offset: float | int = 0.0) -> WobbleSums:
    """The sums with some more frames; `offset` is the counts at zero light, of both movies.

    R = ŝ − b̂·s/b: what is left when the estimate's own brightness b̂ has been laid on the true pattern s/b.
    Raises InputError where a cell's true brightness b is not positive.
    """
    cells = sums.cells
    values, true = cells.gather(estimate) - offset, cells.gather(truth) - offset
    own, known = cells.mean(values), cells.mean(true)
    if not np.all(known > 0):
        raise InputError(
            "a ROI of the true movie is not brighter than the offset; pass the counts at zero light: offset=…"
        )
    residual = values - true * cells.spread(own / known)
    return sums._replace(
        brightness=sums.brightness + np.square(own).sum(axis=0),
        cross=sums.cross + (cells.spread(own) * residual).sum(axis=0),
        residual=sums.residual + np.square(residual).sum(axis=0),
    )


def wobble(sums: WobbleSums) -> Float[np.ndarray, "N"]:
    """Temporal standard deviation of the error D = ŝ/b̂ − s/b of each cell's pattern, root mean square over its pixels.

    Frames weigh b̂² (a dim cell's pattern is the less certain): √(mean over pixels of ΣR²/Σb̂² − (Σb̂R/Σb̂²)²), R = b̂·D.
    0.1 is a tenth of the cell's brightness. Wrong brightness counts nothing, nor does a pattern that is always wrong alike
    (a blur); white pixel noise counts as it is. NaN before any frame.
    """
    with np.errstate(invalid="ignore"):
        power = sums.cells.spread(sums.brightness)
        variance = sums.residual / power - np.square(sums.cross / power)
    return np.sqrt(sums.cells.mean(np.maximum(variance, 0.0)))
