"""Noise2Void (Krull, Buchholz & Jug 2019), our own code: a pixel of one frame is predicted from its surroundings.

In training some pixels of a crop are hidden: each takes the value of a random neighbour, and the loss is counted there
alone. Hidden pixels lie on a grid wider than the neighbourhood, so that no hidden value reaches the network at all.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from udenoise.baselines import unet
from udenoise.baselines.fitting import about, crop_corners, crop_side, fit, movie_scale
from udenoise.baselines.method import Counts, Denoised
from udenoise.config import Noise2VoidConfig

REACH = 2
"""A hidden pixel takes the value of a pixel at most this far away along Y and X (5×5, as published)."""
SPACING = 8
"""Distance between hidden pixels; more than `REACH`."""

Pixels = Int[np.ndarray | Array, "B H"]


class Hidden(NamedTuple):
    """Crops, and which of their pixels are replaced by which."""

    crops: Float[np.ndarray | Array, "B Y X"]
    rows: Pixels
    columns: Pixels
    from_rows: Pixels
    from_columns: Pixels


def noise2void(movie: Counts, settings: Noise2VoidConfig, seed: int = 0, quiet: bool = False) -> Denoised:
    """Train on random crops of the movie, then denoise frame by frame; `about` says how many samples were seen.

    As published, the trained network is given the whole frame, nothing hidden. InputError for frames too small.
    """
    scale, side = movie_scale(movie), crop_side(movie, settings, SPACING + 2 * REACH)
    z = scale.standardise(movie)
    untrained = unet.init(seed, settings.widths, settings.convolutions, channels=1)
    loss = partial(blind_loss, settings=settings)
    fitted = fit(untrained, loss, partial(_draw, z, side, settings.batch), "adam", settings, seed, quiet)
    run = jax.jit(partial(_predict, settings=settings))
    whole = unet.pad(z, unet.stride(settings.widths))
    out = np.concatenate([np.asarray(run(fitted.params, frame[None])) for frame in whole])
    return Denoised(scale.restore(out, movie), about(fitted, settings, side))


def _draw(z: np.ndarray, side: int, batch: int, random: np.random.Generator) -> Hidden:
    times, corners = random.integers(0, len(z), batch), crop_corners(z, side, batch, random)
    crops = [z[t, y : y + side, x : x + side] for t, (y, x) in zip(times, corners, strict=True)]
    return hide(np.stack(crops), random)


def hide(crops: Float[np.ndarray, "B Y X"], random: np.random.Generator) -> Hidden:
    """Choose a grid of hidden pixels in each crop, at a random offset, and a random neighbour for each pixel."""
    B, *sides = crops.shape
    grid = np.indices([(n - 2 * REACH) // SPACING for n in sides]).reshape(2, 1, -1) * SPACING
    rows, columns = grid + random.integers(REACH, REACH + SPACING, (2, B, 1))
    width = 2 * REACH + 1
    steps = random.integers(1, width**2, rows.shape)  # 0 would be the pixel itself
    dy, dx = ((part + REACH) % width - REACH for part in np.unravel_index(steps, (width, width)))
    return Hidden(crops, rows, columns, rows + dy, columns + dx)


def predict_hidden(
    params: Any, batch: Hidden, crops: Float[Array, "B Y X"], settings: Noise2VoidConfig
) -> Float[Array, "B H"]:
    """The network's values of hidden pixels; exactly independent of what `crops` hold there."""
    b = jnp.arange(len(crops))[:, None]
    seen = crops.at[b, batch.rows, batch.columns].set(crops[b, batch.from_rows, batch.from_columns])
    return _predict(params, seen, settings)[b, batch.rows, batch.columns]


def blind_loss(params: Any, batch: Hidden, settings: Noise2VoidConfig) -> Float[Array, ""]:
    """Mean squared error at the hidden pixels."""
    crops = jnp.asarray(batch.crops)
    target = crops[jnp.arange(len(crops))[:, None], batch.rows, batch.columns]
    return jnp.mean((predict_hidden(params, batch, crops, settings) - target) ** 2)


def _predict(params: Any, frames: Array, settings: Noise2VoidConfig) -> Array:
    return unet.apply(params, settings.widths, settings.convolutions, frames[..., None])
