"""A movie with what is known of it before any training: its noise and its anatomy."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from udenoise.anatomy import Anatomy, half_of, leave_one_out, load_anatomy
from udenoise.io import Movie
from udenoise.network import MAPS, whitening
from udenoise.noise import NoiseModel, good_rows, load_noise


class Scaling(NamedTuple):
    """The numbers that whiten a movie: `σ₀² = max(gain · m + intercept, floor)`; centre and spread of m, σ₀ at the centre."""

    gain: float
    intercept: float
    floor: float
    level: Float[np.ndarray, "3"]

    def sigma(self, mean: Array, ratio: Array) -> Array:
        """`σ₀` of a mean image (counts) where the noise is `ratio` times that of the photon-transfer line."""
        return whitening(mean, ratio, self.gain, self.intercept, self.floor)


class Recording(NamedTuple):
    """Movie, noise and anatomy: everything later stages need of the input."""

    movie: Movie
    noise: NoiseModel
    anatomy: Anatomy
    maps: Float[np.ndarray, "2 Y X 2"] | None = None
    """Further images of the field for networks that want them (`anatomy.anatomy_maps`)."""

    @property
    def ratio(self) -> Float[np.ndarray, "Y X"]:
        """Noise variance relative to the photon-transfer line, at every pixel."""
        return self.noise.relative(self.movie.shape[1:])


def load_recording(movie: Movie, folder: Path) -> Recording:
    """A movie with the noise and the anatomy that a run found. InputError where they are missing."""
    return Recording(movie, load_noise(folder / "noise.json"), load_anatomy(folder / "anatomy.zarr"))


def scaling(recording: Recording) -> Scaling:
    """Whitening of this movie; the floor is a twentieth of the median noise variance (counts²).

    Like the noise model and the network's parameters these few numbers are fitted to the whole movie: blindness to a frame
    is meant with them held fixed.
    """
    mean, noise = recording.anatomy.mean, recording.noise
    typical = float(np.median(noise.gain * mean + noise.intercept))
    spread = np.subtract(*np.percentile(mean, [90, 10]))
    floor = max(typical, noise.gain**2 * 1e-3) / 20
    level = np.array([centre(recording), max(spread, 1e-6), np.sqrt(max(typical, floor))], np.float32)
    return Scaling(noise.gain, noise.intercept, floor, level)


def centre(recording: Recording) -> float:
    """Median of the mean image (counts)."""
    return float(np.median(recording.anatomy.mean))


def usable_frames(recording: Recording) -> Bool[np.ndarray, "T"]:
    """False for dropped frames."""
    usable = np.ones(len(recording.movie), bool)
    usable[recording.noise.bad_frames] = False
    return usable


def segments(recording: Recording) -> Int[np.ndarray, "T"]:
    """Number of the trial each frame belongs to."""
    number = np.zeros(len(recording.movie), int)
    number[recording.noise.breaks] = 1
    return np.cumsum(number)


def read_frames(
    recording: Recording, start: int, stop: int
) -> tuple[Shaped[np.ndarray, "frames Y X"], Bool[np.ndarray, "frames Y"]]:
    """Frames [start, stop) in the movie's dtype, dropped rows filled from their neighbours, and which rows are real.

    Frames before the first and after the last are zero and not real. A filled row uses its own frame only, so that
    what a frame holds never depends on another frame.
    """
    T, Y, X = recording.movie.shape
    first, last = max(start, 0), min(stop, T)
    frames = np.zeros((stop - start, Y, X), recording.movie.dtype)
    good = np.zeros((stop - start, Y), bool)
    if first < last:
        inside = slice(first - start, last - start)
        good[inside] = good_rows(recording.noise, first, last, Y)
        frames[inside] = fill_rows(recording.movie.read(first, last), good[inside])
    return frames, good


def fill_rows(
    frames: Shaped[np.ndarray, "frames Y X"], good: Bool[np.ndarray, "frames Y"]
) -> Shaped[np.ndarray, "frames Y X"]:
    """Replace bad rows by linear interpolation between the nearest good rows of the same frame."""
    filled = frames.copy()
    for t in np.flatnonzero(~good.all(1) & good.any(1)):
        known, bad = np.flatnonzero(good[t]), np.flatnonzero(~good[t])
        after = np.clip(np.searchsorted(known, bad), 1, len(known) - 1) if len(known) > 1 else np.zeros(len(bad), int)
        lower, upper = known[np.maximum(after - 1, 0)], known[after]
        share = np.clip((bad - lower) / np.maximum(upper - lower, 1), 0, 1)[:, None]
        filled[t, bad] = (1 - share) * frames[t, lower] + share * frames[t, upper]
    return filled


def hidden_means(
    recording: Recording,
    frames: Shaped[np.ndarray, "frames Y X"],
    good: Bool[np.ndarray, "frames Y"],
    given: str = "mean",
) -> Float[np.ndarray, "frames Y X"]:
    """Mean image without the frame itself, for each frame (float32, counts); where no anatomy is given, a flat one."""
    means = leave_one_out(recording.anatomy, frames, good).astype(np.float32)
    return means if given != "none" else np.full_like(means, centre(recording))


def mean_error(recording: Recording, given: str = "mean") -> Float[np.ndarray, "Y X"]:
    """Variance of the mean image about the scene's (counts²): one error in all frames that are told as deviations from it."""
    if given == "none":
        return np.zeros(recording.anatomy.mean.shape)
    return recording.noise.pixel_variance(recording.anatomy.mean) / np.maximum(recording.anatomy.count, 1)


def hidden_maps(
    recording: Recording, hidden: Int[np.ndarray, "frames"], given: str = "mean"
) -> Float[np.ndarray, "frames Y X E"]:
    """Further images of the field, each from the half of the movie that the frame is not in."""
    if MAPS[given] == 0:
        return np.zeros((len(hidden), *recording.anatomy.mean.shape, 0), np.float32)
    return recording.maps[1 - half_of(hidden, len(recording.movie)), ..., : MAPS[given]]
