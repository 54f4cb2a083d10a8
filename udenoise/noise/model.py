"""The noise model of a movie: its numbers, the masks that follow from it, and its file."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from udenoise.arrays import Json, Rows
from udenoise.errors import InputError
from udenoise.files import whole_file

CELL = 16
"""Side of the cells of `NoiseModel.field`, pixels."""


class NoiseModel(NamedTuple):
    """`Var[y | F] = gain · F + intercept`, with `F` the noiseless counts; correlated between pixels by `kernel`.

    The intercept is extrapolated to `F = 0` counts, which is not zero light: with a detector offset `o` and read noise
    `r` it is `r² - gain · o`, and may be negative. The movie alone does not tell offset and read noise apart. How well
    the intercept is known depends on how dim the dimmest pixels are: the variance is known best within their range.
    """

    gain: float
    """Counts per photon times the detector's excess-noise factor."""
    intercept: float
    """Variance extrapolated to a mean of zero counts, counts²."""
    kernel: Float[np.ndarray, "K K"]
    """Correlation of the noise of two pixels `(dy, dx)` apart; 1 in the centre."""
    difference_lag1: float
    """Correlation of successive frame differences; -0.5 when the noise is independent between frames."""
    field: Float[np.ndarray, "cells_y cells_x"]
    """Noise variance relative to that line, in cells of 16 pixels, smooth: gain differs across many fields of view."""
    bin_mean: Float[np.ndarray, "B"]
    """Photon-transfer points: mean of groups of pixels, counts."""
    bin_variance: Float[np.ndarray, "B"]
    """Photon-transfer points: noise variance of these groups, counts²."""
    photons: float
    """Median effective photons per pixel per frame, `(gain · mean + intercept) / gain²`."""
    bad_rows: Int[np.ndarray, "bad_rows 2"]
    """Pairs (frame, row) of single rows that dropped out."""
    bad_frames: Int[np.ndarray, "bad_frames"]
    """Blank, flashed or repeated frames."""
    breaks: Int[np.ndarray, "breaks"]
    """First frames of new trials."""
    saturated_at: float | None
    """Ceiling at which values pile up, counts."""
    saturated_fraction: float
    clipped_at: float | None
    """Floor at which values pile up, counts."""
    clipped_fraction: float
    ramp: float
    """Steady relative change of the field's brightness over the movie; 0 where there is no steady one."""
    frame_mean: Float[np.ndarray, "T"]
    """Mean of each frame, counts."""
    warnings: tuple[str, ...]
    """What is unusual, its consequence and remedy: one sentence each."""
    pulse_spread: float = 1.2
    """`E[g³] E[g] / E[g²]²` of the counts g of a photon: 1.2 where they are Gamma distributed with an excess noise of 1.25."""

    @property
    def skew(self) -> float:
        """Third cumulant over variance of the noise, summed over neighbours, in units of the gain.

        A photon's counts are spread over pixels where noise is correlated, which hides how few photons there are: `√Σρ`.
        """
        return self.pulse_spread * self.mixing

    @property
    def mixing(self) -> float:
        """`√Σρ`, at least 1: the noise of a large sum of pixels over that of as many independent ones."""
        return float(np.sqrt(max(self.kernel.sum(), 1.0)))

    def variance(self, mean: Any) -> Any:
        """Noise variance (counts²) at a noiseless value (counts, any shape); at least 5 % of the least measured."""
        return np.maximum(self.gain * mean + self.intercept, 0.05 * self.bin_variance.min())

    def relative(self, shape: tuple[int, int]) -> Float[np.ndarray, "Y X"]:
        """`field` at every pixel of a frame (Y, X), by linear interpolation between the centres of its cells."""
        at = [
            np.clip((np.arange(n) + 0.5) / CELL - 0.5, 0, cells - 1)
            for n, cells in zip(shape, self.field.shape, strict=True)
        ]
        return ndimage.map_coordinates(self.field, np.meshgrid(*at, indexing="ij"), order=1).astype(np.float32)

    def pixel_variance(self, mean: Float[np.ndarray, "*frames Y X"]) -> Float[np.ndarray, "*frames Y X"]:
        """Noise variance (counts²) of each pixel at a noiseless value (counts)."""
        return self.variance(mean) * self.relative(mean.shape[-2:])


def good_rows(noise: NoiseModel, start: int, stop: int, Y: int) -> Rows:
    """Which rows of frames `start ≤ t < stop` may be believed: False for bad rows and for all rows of bad frames."""
    good = np.ones((stop - start, Y), bool)
    rows = noise.bad_rows[(noise.bad_rows[:, 0] >= start) & (noise.bad_rows[:, 0] < stop)]
    frames = noise.bad_frames[(noise.bad_frames >= start) & (noise.bad_frames < stop)]
    good[rows[:, 0] - start, rows[:, 1]] = False
    good[frames - start] = False
    return good


def noise_json(noise: NoiseModel) -> Json:
    """The model as plain data."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in noise._asdict().items()}


def save_noise(noise: NoiseModel, path: str | Path) -> None:
    """Write the model as JSON; the file appears whole or not at all."""
    with whole_file(Path(path)) as part:
        part.write_text(json.dumps(noise_json(noise), indent=1, allow_nan=False), encoding="utf-8")


_ARRAYS = {
    "kernel": (np.float64, (-1, -1)),
    "field": (np.float64, (-1, -1)),
    "bin_mean": (np.float64, (-1,)),
    "bin_variance": (np.float64, (-1,)),
    "bad_rows": (np.int64, (-1, 2)),
    "bad_frames": (np.int64, (-1,)),
    "breaks": (np.int64, (-1,)),
    "frame_mean": (np.float32, (-1,)),
}


def load_noise(path: str | Path) -> NoiseModel:
    """Read what `save_noise` wrote. InputError when the file is no noise model."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        arrays = {name: _array(data[name], *spec) for name, spec in _ARRAYS.items()}
        return NoiseModel(**{**data, **arrays, "warnings": tuple(data["warnings"])})
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; write it with: udenoise noise MOVIE -o FOLDER") from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no noise model ({error}); write it anew with: udenoise noise MOVIE") from None


def _array(values: list[Any], kind: type, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(values, kind)
    return array if shape.count(-1) == 2 else array.reshape(shape)
