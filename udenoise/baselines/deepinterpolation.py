"""DeepInterpolation (Lecoq et al. 2021) at its published size, our own code: frame t from the frames around it.

Published: 30 frames before and 30 after as channels, a U-Net of 64-128-256-512-1024 channels, mean absolute error,
RMSprop, batches of 5, one mean and standard deviation for the whole movie; absolute output (no mean image is added).
About 551,000 multiply-adds per pixel. The publication trains on many movies and drops 30 frames at either end; here the
network learns from the movie it denoises, and frames that lie beyond an end are replaced by those at the same distance
on the other side of t, so that no frame is lost.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from udenoise.baselines import unet
from udenoise.baselines.fitting import about, crop_corners, crop_side, fit, movie_scale
from udenoise.baselines.method import Counts, Denoised
from udenoise.config import DeepInterpolationConfig
from udenoise.errors import InputError

Batch = tuple[Float[Array, "B W Y X"], Float[Array, "B Y X"]]


def deepinterpolation(movie: Counts, settings: DeepInterpolationConfig, seed: int = 0, quiet: bool = False) -> Denoised:
    """Train on random crops of the movie, then denoise it; `about` says how many samples (crops) and losses were seen.

    InputError for frames too small for the network, a context below 1, or a movie of one frame.
    """
    if settings.context < 1 or len(movie) < 2:
        raise InputError(f"context is {settings.context} in {len(movie)} frames; needed are 1 or more, in at least 2")
    scale, side = movie_scale(movie), crop_side(movie, settings)
    z = scale.standardise(movie)
    untrained = unet.init(seed, settings.widths, settings.convolutions, channels=2 * settings.context)
    loss = partial(hidden_loss, settings=settings)
    fitted = fit(untrained, loss, partial(_draw, z, side, settings), "rmsprop", settings, seed, quiet)
    run = jax.jit(partial(predict, settings=settings))
    whole = unet.pad(z, unet.stride(settings.widths))
    near = context_frames(np.arange(len(movie)), len(movie), settings.context)
    out = np.concatenate([np.asarray(run(fitted.params, whole[index][None])) for index in near])
    return Denoised(scale.restore(out, movie), about(fitted, settings, side))


def context_frames(hidden: Int[np.ndarray, "B"], frames: int, context: int) -> Int[np.ndarray, "B W"]:
    """The frames around each hidden one, never itself: beyond an end of the movie, those on its other side."""
    t, lag = hidden[:, None], np.delete(np.arange(-context, context + 1), context)
    there = (t + lag >= 0) & (t + lag < frames)
    index = np.clip(np.where(there, t + lag, t - lag), 0, frames - 1)
    return np.where(index == t, frames - 1 - t, index)  # clipped to an end that is t itself


def predict(params: Any, windows: Float[Array, "B W Y X"], settings: DeepInterpolationConfig) -> Float[Array, "B Y X"]:
    """Hidden frames from their neighbours, all in units of the movie's standard deviation."""
    return unet.apply(params, settings.widths, settings.convolutions, jnp.moveaxis(windows, 1, -1))


def hidden_loss(params: Any, batch: Batch, settings: DeepInterpolationConfig) -> Float[Array, ""]:
    """Mean absolute (or squared) error to the noisy hidden frame.

    The best absolute error is that of the median, which lies below the mean where photons are few.
    """
    windows, target = batch
    error = predict(params, windows, settings) - target
    return jnp.mean(jnp.abs(error) if settings.loss == "absolute" else error**2)


def _draw(
    z: np.ndarray, side: int, settings: DeepInterpolationConfig, random: np.random.Generator
) -> tuple[Float[np.ndarray, "B W Y X"], Float[np.ndarray, "B Y X"]]:
    T, context, batch = len(z), settings.context, settings.batch
    full = (context, T - context) if 2 * context < T else (0, T)  # frames with all their neighbours, as published
    times, corners = random.integers(*full, batch), crop_corners(z, side, batch, random)
    near = np.column_stack([context_frames(times, T, context), times])
    both = np.stack([z[index, y : y + side, x : x + side] for index, (y, x) in zip(near, corners, strict=True)])
    return both[:, :-1], both[:, -1]
