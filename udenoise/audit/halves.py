"""Two halves of a movie with independent noise: one for any denoiser, one to judge by.

`y₁ = y + τ σ ε`, `y₂ = y − σ ε/τ` with fresh Gaussian ε (Leiner et al. 2023), of the noise's own correlation in space. Then
`Cov(y₁, y₂ | F) = v(F) − E[σ²]`: the halves are uncorrelated where σ² is right on average *in every frame*, bright ones
included, so it follows the frame itself. A pixel's own value is right on average but for the cut at zero, which dim pixels
meet; so the deviation from the mean image is smoothed over as few pixels as hold enough light together.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

from udenoise.arrays import Frames, Image, RawFrames, Rows
from udenoise.config import MovieConfig
from udenoise.errors import InputError
from udenoise.io import Movie, open_movie
from udenoise.io.formats import Source
from udenoise.io.store import write_json
from udenoise.io.tiff_writer import tiff_file
from udenoise.noise import NoiseModel, estimate_noise, good_rows, save_noise
from udenoise.progress import progress_bar
from udenoise.sampling import SPLIT, split_noise

PIECE = 2**21
"""Pixels times frames in memory at once, of each of a few arrays."""
PHOTONS = 6.0
"""Effective photons under the smoothing, at the dimmest tenth of the field."""
WIDEST_PX = 3.0
CLIPPED_SHARE = 1e-3
"""Share of values that may end at the limits of the type."""
REACH = 5.0
"""Standard deviations of the added noise that are to fit into the type."""
CHANCE = 3.0
"""Standard errors within which a correlation of the noise counts as none."""
KEPT = (np.uint8, np.uint16, np.int16)
"""Types that ImageJ and the field's programs read; others become float32."""


class Range(NamedTuple):
    """A pass over the movie: its mean image and the least and largest value that the input half should hold (counts)."""

    mean: Float[np.ndarray, "Y X"]
    low: float
    high: float


def split(
    movie: Source, output: str | Path, seed: int = 0, config: MovieConfig = MovieConfig(), quiet: bool = False
) -> Path:  # fmt: skip
    """Write OUTPUT/input.tif, to be denoised by any program, and OUTPUT/judge.tif, to judge the result by; returns OUTPUT.

    input.tif has the movie's type where that is an integer one of at most 16 bits, with `offset_added` counts added where
    noise would reach below the least value; judge.tif is float32. Both hold the movie's frames, all of them; dropped rows
    are as they were and are not judged. Beside them noise.json, mean.npy (mean of the input half without the added
    counts) and audit.json. Memory is a few frames; the movie is read three times.
    Raises InputError when the movie cannot be read or has no noise, when OUTPUT holds something else, and when more than
    0.1 % of the values would not fit the type.
    """
    source, folder = open_movie(movie, config), _folder(Path(output))
    with progress_bar("noise", len(source), quiet) as bar:
        noise = settled(estimate_noise(source, bar), source.shape)
    with progress_bar("range", len(source), quiet) as bar:
        seen = measure_range(source, noise, bar)
    dtype = source.dtype if source.dtype.type in KEPT else np.dtype(np.float32)
    offset = safe_offset(seen.low, seen.high, dtype)
    with progress_bar("split", len(source), quiet) as bar:
        mean, clipped = _write(source, noise, seen.mean, folder, (dtype, offset), seed, bar)
    save_noise(noise, folder / "noise.json")
    np.save(folder / "mean.npy", mean.astype(np.float32))
    about = {
        "source": source.source, "shape": source.shape, "dtype": str(dtype), "frame_rate_hz": source.frame_rate_hz,
        "tau": SPLIT, "seed": seed, "gain": noise.gain, "intercept": noise.intercept, "offset_added": offset,
        "clipped_share": clipped, "smoothing_px": smoothing(noise, seen.mean), "warnings": noise.warnings,
    }  # fmt: skip
    write_json(folder / "audit.json", about)  # last: its presence says that the halves are complete
    return folder


def _folder(folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()) and not (folder / "audit.json").is_file():
        raise InputError(f"{folder} is not empty and holds no halves; give another folder: -o OTHER")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").unlink(missing_ok=True)
    return folder


def pieces(movie: Movie) -> Iterator[tuple[int, RawFrames]]:
    """The movie in pieces that take little memory."""
    yield from movie.chunks(max(PIECE // (movie.shape[1] * movie.shape[2]), 1))


def settled(noise: NoiseModel, shape: tuple[int, int, int]) -> NoiseModel:
    """The model without the correlations that are within chance of none; T Y X of the movie say what chance makes of them.

    They are `2 C₁ − C₂` of at most 320 frames of half the field (`noise`), with a variance of 7 over the number of values.
    """
    doubt = np.sqrt(7 / (min(shape[0], 320) * shape[1] * shape[2] / 2))
    return noise._replace(kernel=np.where(np.abs(noise.kernel) > CHANCE * doubt, noise.kernel, 0.0))


def measure_range(movie: Movie, noise: NoiseModel, progress=None) -> Range:
    """Mean image over good rows, and the range of what noise makes of the movie, up to `REACH` standard deviations."""
    T, Y, X = movie.shape
    total, count, low, high = np.zeros((Y, X)), np.zeros((Y, 1)), np.inf, -np.inf
    for start, frames in pieces(movie):
        good = good_rows(noise, start, start + len(frames), Y)
        values = frames.astype(np.float32)
        total += np.where(good[..., None], values, 0).sum(0, dtype=np.float64)
        count += good.sum(0)[:, None]
        reach = REACH * SPLIT * np.sqrt(own_variance(values, noise, floor=0.0))
        low, high = min(low, float((values - reach).min())), max(high, float((values + reach).max()))
        if progress:
            progress(start + len(frames))
    return Range(total / np.maximum(count, 1), low, high)


def own_variance(
    frames: Float[np.ndarray, "*frames Y X"], noise: NoiseModel, floor: float | None = None
) -> Float[np.ndarray, "*frames Y X"]:
    """Noise variance (counts²) at each pixel's own counts: right on average, and without `floor` sometimes negative."""
    line = (noise.gain * frames + noise.intercept).astype(np.float32)
    return (line if floor is None else np.maximum(line, floor)) * noise.relative(frames.shape[-2:])


def smoothing(noise: NoiseModel, mean: Image) -> float:
    """Standard deviation (pixels) of the smoothing that holds `PHOTONS` effective photons; 0 where a pixel has them itself."""
    if noise.gain <= 0:
        return 0.0
    photons = float(np.quantile(noise.gain * mean + noise.intercept, 0.1)) / noise.gain**2
    wide = np.sqrt(PHOTONS / (4 * np.pi * max(photons, 1e-3)))  # a Gaussian spot holds as much as 4πσ² pixels
    return 0.0 if photons >= PHOTONS else float(min(wide, WIDEST_PX))


def level_variance(frames: RawFrames, mean: Image, noise: NoiseModel) -> Frames:
    """σ² of each pixel and frame (counts²): right on average in every frame, and nearly never cut at zero."""
    return own_variance(smooth_level(frames, mean, smoothing(noise, mean)), noise, floor=0.0)


def smooth_level(frames: RawFrames, mean: Image, wide_px: float) -> Frames:
    """The mean image with each frame's deviation from it, smoothed by a Gaussian (standard deviation in pixels)."""
    above = frames - mean.astype(np.float32)
    if wide_px > 0:
        above = ndimage.gaussian_filter(above, (0, wide_px, wide_px), mode="reflect", truncate=3.0)
    return mean.astype(np.float32) + above


def halve(
    frames: RawFrames, good: Rows, mean: Image, noise: NoiseModel, first: int, seed: int
) -> tuple[Frames, Frames]:
    """`(y₁, y₂)` of frames first, first + 1, …: float32 counts; rows that are not good stay as they are."""
    sigma = np.where(good[..., None], np.sqrt(level_variance(frames, mean, noise)), 0)
    return split_noise(frames, sigma, noise.kernel, first, seed)


def safe_offset(low: float, high: float, dtype: np.dtype) -> int:
    """Counts to add so that values from low to high fit an integer type, as far as it has room; 0 where they do."""
    if dtype.kind == "f":
        return 0
    limits = np.iinfo(dtype)
    below, above = limits.min - low, limits.max - high
    if below > 0:
        return int(np.ceil(min(below, max(above, 0))))
    return int(np.floor(max(above, below))) if above < 0 else 0


def to_type(
    frames: Frames, dtype: np.dtype, offset: int, first: int, seed: int
) -> tuple[Shaped[np.ndarray, "frames Y X"], int]:
    """Frames in this type, and how many values had to be clipped. Rounded up as often as the fraction says: no bias."""
    if dtype.kind == "f":
        return frames.astype(dtype), 0
    limits = np.iinfo(dtype)
    dither = np.stack([
        np.random.default_rng([seed, 1, first + t]).random(frames.shape[1:], np.float32) for t in range(len(frames))
    ])  # fmt: skip
    whole = np.floor(frames.astype(np.float64) + offset + dither)
    clipped = int(np.count_nonzero((whole < limits.min) | (whole > limits.max)))
    return np.clip(whole, limits.min, limits.max).astype(dtype), clipped


def _write(
    movie: Movie, noise: NoiseModel, mean: Image, folder: Path, form: tuple[np.dtype, int], seed: int, progress
) -> tuple[Float[np.ndarray, "Y X"], float]:
    """Stream both halves; the mean of the input half over good rows, and the share of its values that were clipped."""
    total, count, clipped = np.zeros(movie.shape[1:]), np.zeros((movie.shape[1], 1)), 0
    rate, (dtype, offset) = movie.frame_rate_hz, form
    with (
        tiff_file(folder / "input.tif", movie.shape, dtype, rate) as write_input,
        tiff_file(folder / "judge.tif", movie.shape, np.float32, rate) as write_judge,
    ):
        for start, frames in pieces(movie):
            good = good_rows(noise, start, start + len(frames), movie.shape[1])
            shown, judge = halve(frames, good, mean, noise, start, seed)
            stored, lost = to_type(shown, dtype, offset, start, seed)
            write_input(start, stored)
            write_judge(start, judge)
            total += np.where(good[..., None], stored - float(offset), 0).sum(0)
            count, clipped = count + good.sum(0)[:, None], clipped + lost
            progress(start + len(frames))
        share = clipped / float(np.prod(movie.shape))
        if share > CLIPPED_SHARE:
            raise InputError(
                f"{100 * share:.2g} % of the values with noise added do not fit {dtype}; convert the movie to uint16 "
                "(uint8) or float32 first, and split that"
            )
    return total / np.maximum(count, 1), share
