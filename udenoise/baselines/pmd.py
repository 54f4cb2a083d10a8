"""Low rank in overlapping blocks, the idea of penalized matrix decomposition (PMD; Buchanan et al. 2018), our own code.

Each block's deviation from its mean image is whitened by the noise model. The singular vectors of white noise point
anywhere with equal probability, so the roughness that noise has in time and in space is known, as is the largest
singular value that it makes: components smoother than noise, or stronger, are kept. In place of Buchanan's penalties on
rough components there is, where asked for, a Gaussian in time.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import linalg
from scipy.ndimage import gaussian_filter1d

from udenoise.baselines.method import Counts, Denoised
from udenoise.config import PmdConfig
from udenoise.errors import InputError
from udenoise.io import open_movie
from udenoise.noise import estimate_noise
from udenoise.progress import progress_bar

TRACY_WIDOM_99 = 2.02
"""Quantile of 0.99 of the Tracy–Widom law of order 1 (Johnstone 2001): one block of pure noise in 100 passes the edge."""
MOST_COMPONENTS = 50
"""Of a block; only the strongest are looked at."""
NULL_DRAWS = 2000
"""White vectors from which the roughness of noise is learnt."""
LEAST_EIGENVALUE = 0.05
"""Of the noise's correlation matrix, so that whitening does not amplify what the kernel is unsure of."""

Side = tuple[int, int]


class Limits(NamedTuple):
    """What noise rarely is."""

    time: float
    """Noise is rarely this smooth in time (`roughness_in_time`) ..."""
    space: float
    """... nor in space (`roughness_in_space`) ..."""
    strength: float
    """... nor this strong: singular value in units of the noise."""


def pmd(movie: Counts, settings: PmdConfig, seed: int = 0, quiet: bool = False) -> Denoised:
    """Local low-rank estimate; `about` holds the mean rank of the blocks and their number.

    InputError for blocks below 4 pixels, or when `estimate_noise` cannot use the movie.
    """
    if settings.block_px < 4:
        raise InputError(f"block_px is {settings.block_px}; blocks need at least 4 pixels: block_px=16")
    noise, mean = estimate_noise(open_movie(movie)), movie.mean(0)
    sd = np.sqrt(noise.pixel_variance(mean)).astype(np.float32)
    z, (corners, side) = (movie - mean) / sd, _corners(movie.shape[1:], settings.block_px)
    whiten, colour = _whitening(noise.kernel, side)
    limits = noise_limits(len(movie), side, settings.false_rate, seed)
    window, total, weight, ranks = _window(side), np.zeros_like(z), np.zeros_like(mean), []
    with progress_bar("PMD", len(corners), quiet) as report:
        for y, x in corners:
            rows, columns = slice(y, y + side[0]), slice(x, x + side[1])
            low, rank = _low_rank(z[:, rows, columns].reshape(len(z), -1) @ whiten, side, limits, settings)
            total[:, rows, columns] += window * (low @ colour).reshape(-1, *side)
            weight[rows, columns] += window
            ranks.append(rank)
            report(len(ranks))
    return Denoised(mean + sd * (total / weight), {"mean rank": float(np.mean(ranks)), "blocks": len(ranks)})


def _corners(shape: Side, block: int) -> tuple[list[Side], Side]:
    """Upper left corners of blocks that share half their side, and their side along Y and X."""
    side = (min(block, shape[0]), min(block, shape[1]))
    starts = [[*range(0, n - s, max(s // 2, 1)), n - s] for n, s in zip(shape, side, strict=True)]
    return [(y, x) for y in starts[0] for x in starts[1]], side


def _whitening(kernel: np.ndarray, side: Side) -> tuple[Float[np.ndarray, "P P"], Float[np.ndarray, "P P"]]:
    """`C^{-1/2}` and `C^{1/2}` of the noise correlation C between the pixels of a block."""
    y, x = (axis.ravel() for axis in np.indices(side))
    reach = len(kernel) // 2
    dy, dx = y[:, None] - y, x[:, None] - x
    near = np.maximum(abs(dy), abs(dx)) <= reach
    correlation = np.where(near, kernel[np.clip(dy + reach, 0, 2 * reach), np.clip(dx + reach, 0, 2 * reach)], 0)
    value, vector = np.linalg.eigh((correlation + correlation.T) / 2)
    root = np.sqrt(np.maximum(value, LEAST_EIGENVALUE))
    return tuple((vector * power @ vector.T).astype(np.float32) for power in (1 / root, root))


def _window(side: Side) -> Float[np.ndarray, "y x"]:
    """Weight of a block's pixels where blocks overlap: large in its middle, never zero."""
    return np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in side)).astype(np.float32)


def _low_rank(
    block: Float[np.ndarray, "T P"], side: Side, limits: Limits, settings: PmdConfig
) -> tuple[Float[np.ndarray, "T P"], int]:
    """The block made of the components that are kept, and their number."""
    P = block.shape[1]
    value, spatial = linalg.eigh(block.T @ block, subset_by_index=(max(P - MOST_COMPONENTS, 0), P - 1))
    spatial = spatial[:, value > 1e-6 * value.max()]
    traces = block @ spatial  # T R
    singular = np.linalg.norm(traces, axis=0)
    kept = _kept(traces, spatial, singular, side, limits, settings.keep)
    traces, spatial = traces[:, kept], spatial[:, kept]
    if settings.smooth_frames:
        traces = gaussian_filter1d(traces, settings.smooth_frames, axis=0)
    return traces @ spatial.T, int(kept.sum())


def _kept(
    traces: np.ndarray, spatial: np.ndarray, singular: np.ndarray, side: Side, limits: Limits, keep: str
) -> np.ndarray:
    smooth = (roughness_in_time(traces.T) < limits.time) & (
        roughness_in_space(spatial.T.reshape(-1, *side)) < limits.space
    )
    strong = singular > limits.strength
    return {"smooth": smooth, "strong": strong, "either": smooth | strong}[keep]


def roughness_in_time(traces: Float[np.ndarray, "R T"]) -> Float[np.ndarray, "R"]:
    """Mean |v(t+1) − v(t)| over mean |v| (total variation; Buchanan et al. 2018): √2 for white noise."""
    return np.abs(np.diff(traces, axis=1)).mean(1) / np.abs(traces).mean(1)


def roughness_in_space(images: Float[np.ndarray, "R y x"]) -> Float[np.ndarray, "R"]:
    """Mean |difference of neighbours| along Y and X over mean |u|: √2 for white noise."""
    steps = [np.abs(np.diff(images, axis=axis)).mean((1, 2)) for axis in (1, 2)]
    return (steps[0] + steps[1]) / 2 / np.abs(images).mean((1, 2))


def noise_limits(frames: int, side: Side, false_rate: float, seed: int = 0) -> Limits:
    """Limits that white noise passes at the given rate: in time and in space for each component, in strength with 0.01.

    Its singular vectors are uniform on the sphere, that is, as rough as white vectors.
    """
    random = np.random.default_rng([seed, frames])
    drawn = min(frames, 2000)
    traces = random.standard_normal((NULL_DRAWS, drawn), np.float32)
    images = random.standard_normal((NULL_DRAWS, *side), np.float32)
    time, space = (np.quantile(rough, false_rate) for rough in (roughness_in_time(traces), roughness_in_space(images)))
    time = np.sqrt(2) + (time - np.sqrt(2)) * np.sqrt(drawn / frames)  # its spread falls as 1/√T
    return Limits(float(time), float(space), noise_edge(frames, side[0] * side[1]))


def noise_edge(frames: int, pixels: int) -> float:
    """The largest singular value that white unit noise has with probability 0.01 or less (T frames, P pixels).

    `s² = μ + 2.02 σ`, μ = (√(T−1) + √P)², σ = (√(T−1) + √P)(1/√(T−1) + 1/√P)^{1/3} (Johnstone 2001).
    """
    t, p = np.sqrt(frames - 1), np.sqrt(pixels)
    return float(np.sqrt((t + p) ** 2 + TRACY_WIDOM_99 * (t + p) * (1 / t + 1 / p) ** (1 / 3)))
