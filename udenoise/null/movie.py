"""A movie in which nothing happens: the mean image of a recording in every frame, and fresh noise of its law."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import fft

from udenoise.io.tiff_writer import tiff_file
from udenoise.noise import NoiseModel
from udenoise.progress import progress_bar
from udenoise.sampling import spectrum_of
from udenoise.simulate import plan_null

PIXELS_AT_ONCE = 2**22
FARTHEST_SD = 10.0
"""No count is to be expected farther from its mean."""
LEAST_VARIANCE = 100 / 12
"""Counts² of noise from which rounding to whole counts (1/12) adds less than one part in 100."""
SEEDS_APART = 2**20
"""From the seeds of simulated movies, so that a null movie never shares the noise of its recording."""


class Scene(NamedTuple):
    """What a null movie is made of."""

    mean: Float[np.ndarray, "Y X"]
    """Counts."""
    noise: NoiseModel
    frames: int
    dtype: np.dtype
    """Of the counts."""
    frame_rate_hz: float | None
    seed: int


def counts_type(mean: Float[np.ndarray, "Y X"], noise: NoiseModel, recorded: np.dtype) -> np.dtype:
    """The recording's type, where whole counts of its range hold the noise unchanged; float32 otherwise.

    Noise of photons reaches no lower than zero of them: √photons standard deviations below the mean, times Σ|taps| of the filter
    that correlates it.
    """
    if recorded.kind not in "iu" or recorded.itemsize > 2:
        return np.dtype(np.float32)
    sd = np.sqrt(noise.pixel_variance(mean.astype(np.float64)))
    taps = np.abs(fft.irfft2(np.sqrt(spectrum_of(noise.kernel, mean.shape)), s=mean.shape)).sum()
    lowest = (mean - sd * np.minimum(taps * sd / noise.gain, FARTHEST_SD)).min()
    highest, held = (mean + FARTHEST_SD * sd).max(), np.iinfo(recorded)
    fits = held.min <= lowest and highest <= held.max and sd.min() ** 2 >= LEAST_VARIANCE
    return recorded.newbyteorder("=") if fits else np.dtype(np.float32)


def null_frames(scene: Scene, start: int, stop: int) -> np.ndarray:
    """Frames start ≤ t < stop (t Y X), which do not depend on how the movie is cut into pieces."""
    plan = plan_null(scene.mean, scene.noise, scene.frames, seed=SEEDS_APART + scene.seed)
    noisy = plan.render(start, stop)[1]
    if scene.dtype.kind == "f":
        return noisy.astype(scene.dtype)
    held = np.iinfo(scene.dtype)
    return np.clip(np.rint(noisy), held.min, held.max).astype(scene.dtype)


def write_null_movie(scene: Scene, path: Path, quiet: bool = False) -> None:
    """Stream the movie to a TIFF file, which is there whole or not at all; memory is a chunk."""
    shape = (scene.frames, *scene.mean.shape)
    step = max(PIXELS_AT_ONCE // scene.mean.size, 1)
    rate = scene.frame_rate_hz
    with tiff_file(path, shape, scene.dtype, rate) as write, progress_bar("null movie", scene.frames, quiet) as bar:
        for start in range(0, scene.frames, step):
            stop = min(start + step, scene.frames)
            write(start, null_frames(scene, start, stop))
            bar(stop)
