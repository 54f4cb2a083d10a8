"""Training of the baselines' networks: a loss, a way to draw batches, an optimiser, and what came of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Float32

from udenoise.baselines.method import Counts
from udenoise.baselines.unet import stride
from udenoise.config import DeepInterpolationConfig, Noise2VoidConfig
from udenoise.errors import InputError
from udenoise.progress import progress_bar

OPTIMISERS = {"adam": optax.adam, "rmsprop": partial(optax.rmsprop, decay=0.9, eps=1e-7)}

Settings = DeepInterpolationConfig | Noise2VoidConfig


class Scale(NamedTuple):
    """What counts are shifted and divided by before a network sees them: one pair for the whole movie."""

    mean: float
    sd: float

    def standardise(self, movie: Counts) -> Float32[np.ndarray, "T Y X"]:
        """Counts as the network sees them."""
        return (movie - np.float32(self.mean)) / np.float32(self.sd)

    def restore(self, out: Float32[np.ndarray, "T y x"], movie: Counts) -> Float32[np.ndarray, "T Y X"]:
        """The network's frames as counts, without their padding."""
        return out[:, : movie.shape[1], : movie.shape[2]] * np.float32(self.sd) + np.float32(self.mean)


class Fit(NamedTuple):
    """A trained network."""

    params: Any
    losses: tuple[float, ...]
    """Of every step."""


def movie_scale(movie: Counts) -> Scale:
    """Mean and standard deviation of all counts."""
    return Scale(float(movie.mean(dtype=np.float64)), max(float(movie.std(dtype=np.float64)), 1e-6))


def crop_side(movie: Counts, settings: Settings, least: int = 1) -> int:
    """The largest side up to `settings.crop` that the frame holds and the network can halve. InputError if none is."""
    (Y, X), whole = movie.shape[1:], stride(settings.widths)
    side, needed = min(settings.crop, Y, X) // whole * whole, max(least, whole)
    if side < needed:
        raise InputError(
            f"crop {settings.crop} of frames {Y} x {X}; this network needs at least {needed} pixels a side"
        )
    return side


def crop_corners(movie: Counts, side: int, batch: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Upper left corners (y, x) of random crops."""
    y, x = (random.integers(0, n - side + 1, batch).tolist() for n in movie.shape[1:])
    return list(zip(y, x, strict=True))


def fit(
    params: Any,
    loss: Callable[[Any, Any], Any],
    draw: Callable[[np.random.Generator], Any],
    optimiser: str,
    settings: Settings,
    seed: int,
    quiet: bool,
) -> Fit:
    """`settings.steps` steps on batches that depend on the seed and the step's number alone.

    InputError for less than one step, or a decay outside 0 to 1.
    """
    if settings.steps < 1:
        raise InputError(f"steps is {settings.steps}; training needs at least one: steps=2000")
    rule = OPTIMISERS[optimiser](learning_rates(settings))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any, Any]:
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = rule.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = rule.init(params), []
    with progress_bar("train", settings.steps, quiet) as report:
        for number in range(settings.steps):
            params, state, value = step(params, state, draw(np.random.default_rng([seed, number])))
            losses.append(float(value))
            report(number + 1, f"loss {losses[-1]:.4f}")
    return Fit(params, tuple(losses))


def learning_rates(settings: Settings) -> optax.Schedule:
    """Constant, then along a cosine to zero over the last `settings.decay` of the steps. InputError outside 0 to 1."""
    if not 0 <= settings.decay <= 1:
        raise InputError(f"decay is {settings.decay:g}; it is a share of the steps, 0 to 1: decay=0.5")
    falling = round(settings.decay * settings.steps)
    parts = [optax.constant_schedule(settings.learning_rate)]
    if falling:
        parts.append(optax.cosine_decay_schedule(settings.learning_rate, falling))
    return optax.join_schedules(parts, [settings.steps - falling] * (len(parts) - 1))


def about(fitted: Fit, settings: Settings, side: int) -> dict[str, Any]:
    """What training saw: samples (crops), their side in pixels, and the loss of its first and last tenth of steps."""
    tenth = max(len(fitted.losses) // 10, 1)
    first, last = (float(np.mean(part)) for part in (fitted.losses[:tenth], fitted.losses[-tenth:]))
    size = sum(leaf.size for leaf in jax.tree.leaves(fitted.params))
    seen = {"samples": settings.steps * settings.batch, "crop_px": side, "parameters": size}
    return seen | {"first_loss": first, "last_loss": last}
