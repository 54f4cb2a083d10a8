"""Photon transfer: noise variance against mean, and the noise's correlation in space, from frame differences."""

from typing import NamedTuple

import numpy as np
import scipy.fft
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter

from udenoise.io import Movie
from udenoise.noise.model import CELL, NoiseModel

Halves = Float[np.ndarray, "2 Y X"]
Curve = Float[np.ndarray, "B"]
BLOCK, REACH = 16, 3
MOST_SPREAD = 2.0
"""Largest `NoiseModel.pulse_spread`: pulses that are exponentially distributed have 1.5."""
MOMENT_FRAMES, KERNEL_FRAMES = 4096, 320
"""Frames read at most, for frames of 512 by 512; fewer of larger frames."""


class Moments(NamedTuple):
    """Per pixel, in two halves of the movie (alternating blocks of frames, so that their noise is independent)."""

    mean: Halves
    """Counts; nan where no frame is good."""
    lag1: Halves
    """Mean of (y[t+1] - y[t])² / 2, counts²."""
    lag2: Halves
    """Mean of (y[t+2] - y[t])² / 2, counts²."""
    third: Halves
    """Third cumulant of three successive frames about their mean, counts³: of the noise, where the light is steady that long."""
    at_low: Halves
    """Fraction of frames at the movie's smallest value."""
    at_high: Halves
    """Fraction of frames at the movie's largest value."""
    near_low: float
    """Share of all values within 1 % of the movie's range above the smallest value, per count level."""
    near_high: float
    """The same below the largest value."""
    values: int
    """How many values were looked at."""


class Line(NamedTuple):
    """`variance = gain · mean + intercept` and the points it runs through."""

    gain: float
    intercept: float
    bin_mean: Curve
    bin_variance: Curve
    quiet: Bool[np.ndarray, "Y X"]
    """Pixels that both halves used: neither at a wall nor active."""


def blocks(shape: tuple[int, int, int], breaks: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Runs of up to 16 frames that do not cross a break, evenly spread, together about `most` frames."""
    T, Y, X = shape
    size = min(BLOCK, max(3, T // 4), max(4, 2**25 // (Y * X)))
    ends = [0, *breaks.tolist(), T]
    runs = [(s, min(s + size, b)) for a, b in zip(ends, ends[1:], strict=False) for s in range(a, b, size)]
    runs = [run for run in runs if run[1] - run[0] >= 3]
    few = max(4, int(most * min(1.0, 2**18 / (Y * X))) // size)
    return runs if len(runs) <= few else [runs[i] for i in np.linspace(0, len(runs) - 1, few).round().astype(int)]


def measure_moments(
    movie: Movie, good: Bool[np.ndarray, "T Y"], breaks: np.ndarray, low: float, high: float
) -> Moments:
    """Sums over at most 4096 frames in runs of 16; a difference counts where both of its rows are good."""
    _, Y, X = movie.shape
    sums, counts = np.zeros((6, 2, Y, X)), np.zeros((4, 2, Y, 1))
    near = np.zeros(2)
    width = max(1.0, 0.01 * (high - low))
    for i, (start, stop) in enumerate(blocks(movie.shape, breaks, MOMENT_FRAMES)):
        use = good[start:stop]
        y = movie.read(start, stop).astype(np.float32)
        pairs = [use, use[1:] & use[:-1], use[2:] & use[:-2], use[2:] & use[1:-1] & use[:-2]]
        terms = [y, (y[1:] - y[:-1]) ** 2 / 2, (y[2:] - y[:-2]) ** 2 / 2, _third(y)]
        for k, (term, pair) in enumerate(zip(terms, pairs, strict=True)):
            sums[k, i % 2] += _masked_sum(term, pair)
            counts[k, i % 2] += pair.sum(0)[:, None]
        for k, wall in enumerate((low, high)):
            sums[4 + k, i % 2] += _masked_sum((y == wall).astype(np.float32), use)
            beside = (y != wall) & (np.abs(y - wall) <= width)
            near[k] += (beside.sum(2) * use).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts[[0, 1, 2, 3, 0, 0]]
        values = int(counts[0].sum()) * X
        near = near / values / width
    return Moments(*means, *near.tolist(), values)


def _third(y: Float[np.ndarray, "n Y X"]) -> Float[np.ndarray, "m Y X"]:
    """Unbiased third cumulant of three values, 9/2 of their mean cubed deviation (Fisher's k-statistic)."""
    successive = y[:-2], y[1:-1], y[2:]
    mean = sum(successive) / 3
    return 1.5 * sum((one - mean) ** 3 for one in successive)


def _masked_sum(values: np.ndarray, good: Bool[np.ndarray, "n Y"]) -> Float[np.ndarray, "Y X"]:
    return np.einsum("tyx,ty->yx", values, good.astype(np.float32)).astype(np.float64)


def noise_variance(moments: Moments) -> Halves:
    """`2 D₁ - D₂`: activity and drift add to D in proportion to the lag (to first order), so this is D at lag zero."""
    return 2 * moments.lag1 - moments.lag2


def fit_line(moments: Moments) -> Line:
    """Weighted robust line through (mean, variance) of groups of pixels of similar brightness.

    A pixel's own mean is noisy, and grouping by it would flatten the line. So one half of the movie says to which group
    a pixel belongs (its smoothed mean) and whether it is usable, and the other half is averaged in the groups; then
    the halves swap. Selection and measurement have independent noise, so the averages lie on the line without bias.
    """
    guides = [_smooth(moments.mean[half], 1.0) for half in (0, 1)]
    groups = [_quiet(moments, usable, guides[half], half) for half, usable in enumerate(usable_pixels(moments))]
    curves = [_bins(moments, groups[1 - half], half) for half in (0, 1)]
    gain, intercept = _robust_line(*np.concatenate(curves, axis=1))
    mean, variance, _ = np.mean(curves, axis=0)
    quiet = [np.isin(np.arange(guides[0].size), np.concatenate(chosen)) for chosen in groups]
    return Line(gain, intercept, mean, variance, (quiet[0] & quiet[1]).reshape(guides[0].shape))


def usable_pixels(moments: Moments) -> Bool[np.ndarray, "2 Y X"]:
    """By the data of each half: pixels that change and hardly touch floor or ceiling."""
    alive = np.isfinite(moments.lag1) & np.isfinite(moments.lag2) & (moments.lag1 > 0)
    alive &= alive[::-1]
    walls = np.where(alive, np.maximum(moments.at_low, moments.at_high), 1.0)
    off_wall = alive & (walls <= 0.03)
    if off_wall.mean() < 0.1 * alive.mean():
        off_wall = alive & (walls <= np.quantile(walls[alive], 0.25))
    return off_wall


def _smooth(image: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(np.where(np.isfinite(image), image, np.nanmedian(image)), sigma)


def _quiet(moments: Moments, usable: Bool[np.ndarray, "Y X"], guide: np.ndarray, half: int) -> list[np.ndarray]:
    """Groups (flat pixel numbers) of similar brightness, each without its active pixels.

    Activity shows as `D₂ > D₁`. Pixels where it does by over 3 % are left out, at most three in four of a group.
    """
    activity = (_smooth(moments.lag2[half], 2.0) / _smooth(moments.lag1[half], 2.0) - 1).ravel()
    pixels = np.flatnonzero(usable)
    order = pixels[np.argsort(guide.ravel()[pixels], kind="stable")]
    groups = np.array_split(order, int(np.clip(usable.size // 200, 4, 40)))
    return [g[activity[g] <= max(0.03, np.quantile(activity[g], 0.25))] for g in groups]


def _bins(moments: Moments, groups: list[np.ndarray], half: int) -> Float[np.ndarray, "3 B"]:
    """Mean, variance and number of pixels of each group, by this half."""
    mean, variance = moments.mean[half].ravel(), noise_variance(moments)[half].ravel()
    return np.array([[mean[g].mean(), variance[g].mean(), len(g)] for g in groups]).T


def _robust_line(mean: np.ndarray, variance: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """Least squares, outlying groups held down (Huber).

    Weights are count / variance: between equal absolute and equal relative errors (count / variance², the statistical
    optimum), because on real movies gain or offset differ a little across the field and bright pixels count too.
    """
    level, trust = np.maximum(variance, 0.05 * np.median(variance)), np.ones_like(mean)
    for _ in range(20):
        weight = np.sqrt(count * trust / level)
        design = np.stack([mean, np.ones_like(mean)], 1)
        (gain, intercept), *_ = np.linalg.lstsq(design * weight[:, None], variance * weight, rcond=None)
        fitted = gain * mean + intercept
        level = np.maximum(fitted, 0.05 * np.median(variance))
        z = (variance - fitted) * np.sqrt(count / level)
        z /= 1.4826 * np.median(np.abs(z)) + 1e-12
        trust = np.minimum(1, 1.5 / np.maximum(np.abs(z), 1e-12))
    return float(gain), float(intercept)


def measure_field(
    moments: Moments, usable: Bool[np.ndarray, "Y X"], line: Line
) -> Float[np.ndarray, "cells_y cells_x"]:
    """Measured over fitted noise variance in cells of 16 pixels, smoothed over about 50 pixels; 1 where nothing is usable."""
    fitted = np.maximum(line.gain * moments.mean.mean(0) + line.intercept, 0.05 * line.bin_variance.min())
    use = usable & np.isfinite(fitted)
    cells = [_cell_sums(np.where(use, values, 0.0)) for values in (noise_variance(moments).mean(0), fitted)]
    measured, expected = (gaussian_filter(c, 1.5, mode="nearest") for c in cells)
    doubt = 0.02 * expected.max()
    return np.clip((measured + doubt) / (expected + doubt), 0.2, 5.0)


def _cell_sums(image: Float[np.ndarray, "Y X"]) -> Float[np.ndarray, "cells_y cells_x"]:
    padded = np.pad(image, [(0, -n % CELL) for n in image.shape])
    return padded.reshape(padded.shape[0] // CELL, CELL, padded.shape[1] // CELL, CELL).sum((1, 3))


def whiteness(moments: Moments, usable: Bool[np.ndarray, "2 Y X"], line: Line) -> float:
    """Lag-1 correlation of frame differences, `D₂ / 2 D₁ - 1`, pooled over pixels in units of the noise."""
    use = usable.all(0)
    scale = np.maximum(line.gain * moments.mean + line.intercept, 0.05 * line.bin_variance.min())
    lag1, lag2 = ((lag / scale).mean(0)[use].mean() for lag in (moments.lag1, moments.lag2))
    return float(lag2 / (2 * lag1) - 1)


def measure_kernel(
    movie: Movie,
    good: Bool[np.ndarray, "T Y"],
    breaks: np.ndarray,
    sd: Float[np.ndarray, "Y X"],
    use: Bool[np.ndarray, "Y X"],
) -> Float[np.ndarray, "7 7"]:
    """Noise correlation at distances up to 3 pixels, positive semidefinite.

    Autocovariance of frame differences in units of `sd`, pooled over the pixels of `use` and over at most 320 frames,
    `2 C₁ - C₂` as for the variance; by FFT (Wiener-Khinchin).
    """
    shape = tuple(scipy.fft.next_fast_len(n + REACH, real=True) for n in movie.shape[1:])
    power, area = np.zeros((2, shape[0], shape[1] // 2 + 1)), np.zeros((2, shape[0], shape[1] // 2 + 1))
    for start, stop in blocks(movie.shape, breaks, KERNEL_FRAMES):
        z = (movie.read(start, stop) / sd).astype(np.float32)
        for lag in (1, 2):
            both = (good[start : stop - lag] & good[start + lag : stop])[:, :, None] & use
            power[lag - 1] += _power((z[lag:] - z[:-lag]) * both, shape)
            area[lag - 1] += _power(both.astype(np.float32), shape)
    covariance = _near(power, shape) / np.maximum(_near(area, shape), 0.5)
    kernel = 2 * covariance[0] - covariance[1]
    return semidefinite(kernel / kernel[REACH, REACH])


def _power(frames: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return sum((np.abs(scipy.fft.rfft2(frame, shape)) ** 2 for frame in frames), np.float64(0))


def _near(power: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    around = np.arange(-REACH, REACH + 1)
    return scipy.fft.irfft2(power, shape)[:, around[:, None], around]


def measure_pulse_spread(moments: Moments, quiet: Bool[np.ndarray, "Y X"], noise: NoiseModel) -> float:
    """`NoiseModel.pulse_spread`, from the third cumulant of quiet pixels; between 1, of equal pulses, and `MOST_SPREAD`.

    That of a single pixel is smaller where the noise of neighbours was mixed: by Σ h³ of the filter h that mixes (of zero phase).
    """
    mean, third = moments.mean.mean(0), moments.third.mean(0)
    use = quiet & np.isfinite(mean) & np.isfinite(third)
    equal = noise.gain * noise.pixel_variance(mean) * noise.relative(mean.shape)  # of equal pulses
    seen = float(third[use].sum() / max(equal[use].sum(), 1e-30))  # bright pixels count most
    return float(np.clip(seen / (_cubed(noise.kernel) * noise.mixing), 1.0, MOST_SPREAD))


def _cubed(kernel: Float[np.ndarray, "K K"]) -> float:
    """Σ h³ of the filter with this autocorrelation."""
    wide = np.zeros((64, 64))
    reach = np.arange(len(kernel)) - len(kernel) // 2
    wide[np.ix_(reach % 64, reach % 64)] = kernel
    return float((np.fft.ifft2(np.sqrt(np.maximum(np.fft.fft2(wide).real, 0))).real ** 3).sum())


def semidefinite(kernel: Float[np.ndarray, "K K"]) -> Float[np.ndarray, "K K"]:
    """A near kernel whose spectrum is nowhere negative: alternating projections, then some white noise for the rest."""
    reach, size, result = len(kernel) // 2, 64, kernel
    around = np.arange(-reach, reach + 1)
    grid = np.ix_(around % size, around % size)

    def spectrum(k: np.ndarray) -> np.ndarray:
        wide = np.zeros((size, size))
        wide[grid] = k
        return np.fft.fft2(wide).real

    for _ in range(50):
        seen = spectrum(result)
        if seen.min() >= -1e-9:
            break
        result = np.fft.ifft2(np.maximum(seen, 0)).real[grid]
        result = result / result[reach, reach]
    lowest = min(0.0, float(spectrum(result).min()))
    result = result / (1 - lowest)
    result[reach, reach] = 1.0
    return (result + result[::-1, ::-1]) / 2
