"""Baselines without a model: raw, Gaussian in time and space, running median.

Beyond its ends the movie is mirrored (d c b a | a b c d | d c b a), scipy's default.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from udenoise.baselines.method import Counts, Denoised
from udenoise.config import GaussianConfig, MedianConfig, RawConfig
from udenoise.errors import InputError

BLOCK_NUMBERS = 2**24
"""Windows of the median are held for about this many numbers at once."""


def raw(movie: Counts, settings: RawConfig, seed: int = 0, quiet: bool = False) -> Denoised:
    """The movie itself."""
    return Denoised(movie, {})


def gaussian(movie: Counts, settings: GaussianConfig, seed: int = 0, quiet: bool = False) -> Denoised:
    """Gaussian in time (σ in frames) and in space (σ in pixels), cut at 4 σ. InputError for a negative σ."""
    sigmas = (settings.sigma_frames, settings.sigma_px, settings.sigma_px)
    if min(sigmas) < 0:
        raise InputError(f"sigma is {min(sigmas):g}; it must be 0 or more: sigma_frames=3, sigma_px=1")
    return Denoised(gaussian_filter(movie, sigmas), {})


def median(movie: Counts, settings: MedianConfig, seed: int = 0, quiet: bool = False) -> Denoised:
    """Median of `window_frames` frames around each.

    InputError unless the window is odd, positive, and at most twice the movie.
    """
    window, T = settings.window_frames, len(movie)
    if window % 2 == 0 or not 1 <= window <= 2 * T:
        raise InputError(f"window_frames is {window}; it must be odd, from 1 to {2 * T - 1}: window_frames=5")
    padded = np.pad(movie, ((window // 2, window // 2), (0, 0), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0)  # T Y X window
    size = max(BLOCK_NUMBERS // windows[0].size, 1)
    parts = [np.median(windows[start : start + size], axis=-1) for start in range(0, T, size)]
    return Denoised(np.concatenate(parts).astype(np.float32), {})
