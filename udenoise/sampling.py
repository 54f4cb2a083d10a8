"""Draws of traces that are correlated in space and in time.

In space: ROI and ring share the covariance of each frame. In time: a draw is a whole trace whose error has the memory of
the estimate's response to fresh noise, `f(y + τ σ ε) − f(y)`: what noise leaves in the estimate lasts as long as the filter
that the network has become. The response is known without error; the judging half of a noise splitting,
`E[(y₂ − f(y₁))_t (y₂ − f(y₁))_{t+k}]`, would also see the bias, but its own noise is ten times what is to be measured.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import fft, optimize, stats

SCALE_SPREAD = 0.27
"""Standard deviation of the logarithm of the factor by which a region's error bar is off: it makes tails heavy, as those of
Student's t with 10 degrees of freedom. Measured on the simulated movies that settings are chosen on."""
SCALE_MEMORY_FRAMES = 100.0
"""How long it stays off."""
FORGOTTEN = 7.0
"""−log of the correlation that counts as none."""
SPLIT = 0.7
"""τ: the share of noise added to the half the denoiser sees."""


class Memory(NamedTuple):
    """Autocorrelation of the error: 1 at lag 0, `weight · exp(−(k/length)^power)` at lag k (frames)."""

    weight: float
    length: float
    power: float = 1.0

    def at(self, lags: Float[np.ndarray, "K"]) -> Float[np.ndarray, "K"]:
        """The correlation at the given lags (frames)."""
        return np.where(lags == 0, 1.0, self.weight * np.exp(-((np.abs(lags) / self.length) ** self.power)))


def split_noise(
    frames: np.ndarray,
    sigma: Float[np.ndarray, "frames Y X"],
    kernel: Float[np.ndarray, "ky kx"],
    first: int,
    seed: int,
) -> tuple[Float[np.ndarray, "frames Y X"], Float[np.ndarray, "frames Y X"]]:
    """`(y₁, y₂)` with independent noise, the movie's own in spatial correlation; frame by frame from (seed, frame)."""
    shape = frames.shape[1:]
    spectrum = None if np.count_nonzero(kernel) == 1 else spectrum_of(kernel, shape)
    generators = [np.random.default_rng([seed, first + t]) for t in range(len(frames))]
    white = [random.standard_normal(shape, np.float32) for random in generators]
    fresh = np.stack(white if spectrum is None else [colour(frame, spectrum) for frame in white])
    noise = sigma * fresh
    return (frames + SPLIT * noise).astype(np.float32), (frames - noise / SPLIT).astype(np.float32)


def colour(white: Float[np.ndarray, "*n Y X"], spectrum: Float[np.ndarray, "Y H"]) -> Float[np.ndarray, "*n Y X"]:
    """White noise given this spectrum (mean 1), on a field that wraps around."""
    return fft.irfft2(fft.rfft2(white) * np.sqrt(spectrum), s=white.shape[-2:])


def spectrum_of(kernel: Float[np.ndarray, "ky kx"], shape: tuple[int, int]) -> Float[np.ndarray, "Y H"]:
    """The power spectrum of noise with this autocorrelation on a field of this shape, its negative parts clipped."""
    placed = np.zeros(shape)
    rows, columns = (np.arange(n) - n // 2 for n in kernel.shape)
    np.add.at(placed, np.ix_(rows % shape[0], columns % shape[1]), kernel)
    return np.clip(fft.rfft2(placed).real, 0, None)


def autocorrelation(
    response: Float[np.ndarray, "N T"], longest: int
) -> tuple[Float[np.ndarray, "lags"], Float[np.ndarray, "lags"]]:
    """Correlation at lags 1 … longest, pooled over ROIs that count alike, and its spread between them (standard error)."""
    unit = response / np.sqrt(np.mean(response**2, axis=1, keepdims=True))
    each = np.stack([np.mean(unit[:, :-k] * unit[:, k:], axis=1) for k in range(1, longest + 1)], axis=1)
    return each.mean(0), np.maximum(each.std(0) / np.sqrt(len(each)), 0.02)


def fit_memory(value: Float[np.ndarray, "lags"], doubt: Float[np.ndarray, "lags"]) -> Memory:
    """`weight · exp(−(k/length)^power)` by weighted least squares; weight in [0, 1], length 0.3 to 100 frames, power 0.7 to 2.

    A power above 1 is for errors that are smooth in time, as those of a filter are.
    """
    lags = np.arange(1.0, len(value) + 1)

    def misfit(p: np.ndarray) -> np.ndarray:
        return (Memory(*p).at(lags) - value) / doubt

    starts = [(0.5, length, 1.2) for length in (1.0, 4.0, 15.0)]
    fits = [optimize.least_squares(misfit, s, bounds=([0.0, 0.3, 0.7], [1.0, 100.0, 2.0])) for s in starts]
    return Memory(*(float(p) for p in min(fits, key=lambda fit: fit.cost).x))


def correlated_noise(
    random: np.random.Generator, size: tuple[int, ...], frames: int, memory: Memory
) -> Float[np.ndarray, "*size T"]:
    """Standard normal series with the given memory."""
    return remember(random.standard_normal((*size, frames_needed(frames, memory)), np.float32), memory)[..., :frames]


def frames_needed(frames: int, memory: Memory) -> int:
    """Length of a circle on which the ends of so many frames know nothing of each other."""
    beyond = np.ceil(memory.length * FORGOTTEN ** (1 / memory.power)) if memory.weight > 0 else 0
    return fft.next_fast_len(frames + int(beyond), real=True)


def remember(white: Float[np.ndarray, "*size n"], memory: Memory) -> Float[np.ndarray, "*size n"]:
    """White series given this memory on a circle of `frames_needed`: their spectrum times the root of the memory's."""
    n = white.shape[-1]
    lags = np.arange(n, dtype=float)
    power = fft.rfft(memory.at(np.minimum(lags, n - lags))).real
    return fft.irfft(fft.rfft(white) * np.sqrt(np.clip(power, 0, None)).astype(np.float32), n)


def log_scales(normal: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Factors on the standard deviation of errors, from standard normal numbers; their mean square is 1."""
    return np.exp(SCALE_SPREAD * normal - SCALE_SPREAD**2)


@cache
def _distribution() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that an error, in standard deviations, is below each of many values."""
    value = np.linspace(-12, 12, 4801)
    node, weight = np.polynomial.hermite_e.hermegauss(64)
    below = stats.norm.cdf(value[:, None] / log_scales(node)) @ (weight / weight.sum())
    return below, value


def tail_quantile(probability: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Quantiles of an error, in standard deviations: those of a normal number times a lognormal one."""
    return np.interp(probability, *_distribution())
