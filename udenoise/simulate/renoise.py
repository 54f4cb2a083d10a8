"""A dim movie from a bright real one, and an independent second half to judge it by.

Thinning keeps a fraction p of every count: kept + rest = original above the dark level, and the two are independent
given the light. Binomial for photon counts (exact); Gaussian otherwise, with added noise of variance p (1 − p) Var[y]
(data thinning, Neufeld et al. 2024; noise splitting with τ² = (1 − p)/p): uncorrelated, whatever the noise consists of.
The kept movie obeys the law of the original: p (a F + c) = a F' + c at F' = dark + p (F − dark), dark = −c/a.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from udenoise.errors import InputError
from udenoise.io import Movie
from udenoise.io.store import write_json
from udenoise.io.tiff_writer import tiff_file
from udenoise.noise import NoiseModel
from udenoise.sampling import colour, spectrum_of
from udenoise.simulate.measured import dark_level

Method = Literal["gaussian", "binomial"]


class Halves(NamedTuple):
    """Two movies with independent noise and the same noiseless counts."""

    kept: Float[np.ndarray, "t Y X"]
    """A fraction p of the light, counts: noiseless `dark + p (F − dark)`."""
    rest: Float[np.ndarray, "t Y X"]
    """The rest of the light, scaled to the same noiseless counts."""


def thin(
    frames: Shaped[np.ndarray, "t Y X"],
    noise: NoiseModel,
    fraction: float,
    method: Method = "gaussian",
    seed: int = 0,
    start: int = 0,
) -> Halves:
    """Thin frames start, start + 1, … of a movie; each frame has its own seed.

    The variance of a pixel is taken at its own noisy value, so it is right on average. `binomial` takes counts as whole
    photons of the model's gain above the dark level. Raises InputError unless 0 < fraction < 1.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction is {fraction}; the share of light to keep lies between 0 and 1, e.g. 0.2")
    draw = _binomial if method == "binomial" else _gaussian
    dark = dark_level(noise)
    kept = np.stack([
        draw(frame.astype(np.float64), noise, fraction, np.random.default_rng([seed, 6, start + i]))
        for i, frame in enumerate(frames)
    ])  # fmt: skip
    rest = (frames - dark - kept) * (fraction / (1 - fraction))
    return Halves((dark + kept).astype(np.float32), (dark + rest).astype(np.float32))


def _gaussian(frame: np.ndarray, noise: NoiseModel, fraction: float, rng: np.random.Generator) -> np.ndarray:
    variance = (
        fraction * (1 - fraction) * np.maximum(noise.gain * frame + noise.intercept, 0) * noise.relative(frame.shape)
    )
    added = colour(rng.normal(size=frame.shape), spectrum_of(noise.kernel, frame.shape))
    return fraction * (frame - dark_level(noise)) + np.sqrt(variance) * added


def _binomial(frame: np.ndarray, noise: NoiseModel, fraction: float, rng: np.random.Generator) -> np.ndarray:
    photons = np.rint((frame - dark_level(noise)) / noise.gain)
    if photons.min() < 0:
        raise InputError("counts below the dark level are no photons; thin this movie by the gaussian method")
    return noise.gain * rng.binomial(photons.astype(np.int64), fraction)


def write_renoised(
    movie: Movie,
    noise: NoiseModel,
    fraction: float,
    folder: str | Path,
    method: Method = "gaussian",
    seed: int = 0,
    chunk: int = 64,
) -> Path:
    """Stream a thinned movie (movie.tif) and its independent rest (rest.tif), float32 counts, with renoise.json.

    Memory is a chunk of frames. Raises InputError as `thin`, and when the folder holds something else.
    """
    target = Path(folder)
    if target.exists() and any(target.iterdir()) and not (target / "renoise.json").is_file():
        raise InputError(f"{target} is not empty; give another folder")
    target.mkdir(parents=True, exist_ok=True)
    rate = movie.frame_rate_hz
    with (
        tiff_file(target / "movie.tif", movie.shape, np.float32, rate) as kept,
        tiff_file(target / "rest.tif", movie.shape, np.float32, rate) as rest,
    ):
        for start, frames in movie.chunks(chunk):
            halves = thin(frames, noise, fraction, method, seed, start)
            kept(start, halves.kept)
            rest(start, halves.rest)
    about = {"source": movie.source, "fraction": fraction, "method": method, "seed": seed}
    write_json(target / "renoise.json", about | {"gain": noise.gain, "intercept": noise.intercept})
    return target
