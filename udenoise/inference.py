"""Streaming: read a chunk and its margin, predict, fuse, hand the frames on. Memory is constant, compilation happens once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from udenoise import network
from udenoise.config import DenoiseConfig
from udenoise.denoiser import Denoiser, predict
from udenoise.errors import InputError
from udenoise.network import HALO, STRIDE, Prior
from udenoise.posterior import Evidence, FramePosterior, Recalibration, ScaleMoments, fuse, recalibrated, scale_moments
from udenoise.recording import Recording, hidden_maps, hidden_means, read_frames, scaling, segments, usable_frames
from udenoise.regions import Regions
from udenoise.training import kernel_factors

Change = Callable[[int, np.ndarray], np.ndarray]
"""(first frame, frames F Y X) -> frames as the network and the fusion shall see them; used by noise splitting."""


class Chunk(NamedTuple):
    """Hidden frames [start, start + B) as measured, with the windows around them."""

    start: int
    averages: np.ndarray
    weights: np.ndarray
    evidence: Evidence
    maps: np.ndarray


@dataclass(frozen=True)
class Inference:
    """A denoiser made ready for one recording: the compiled functions and what they hold constant."""

    recording: Recording
    denoiser: Denoiser
    config: DenoiseConfig
    prior: Callable[..., Prior]
    fuse: Callable[..., FramePosterior]
    moments: Callable[..., ScaleMoments]
    average: Callable[[Array, Array], Array]


def prepare(
    recording: Recording, denoiser: Denoiser, config: DenoiseConfig, regions: Regions | None = None
) -> Inference:
    """Build the compiled functions.

    Raises InputError when dropout draws are asked of a network that was trained without dropout.
    """
    if config.dropout_draws and not denoiser.config.dropout_rate:
        raise InputError(
            "the network was trained without dropout: give --dropout-draws 0, or train it with --dropout-rate 0.1"
        )
    scale, factors = scaling(recording), kernel_factors(recording.noise.kernel)
    spacing = denoiser.config.lattice_spacing
    frame = partial(fuse, scale=scale, spacing=spacing, kernel_factors=factors, regions=regions)

    def blind(averages: Array, weights: Array, mean: Array, ratio: Array, maps: Array, key: Array) -> Prior:
        one = partial(predict, denoiser.params, denoiser.config, scale, averages, weights, mean, ratio, maps)
        return _with_dropout(one, key, config.dropout_draws)

    def fused(prior: Prior, evidence: Evidence, by: Recalibration) -> FramePosterior:
        return jax.lax.map(lambda both: frame(*both), (recalibrated(prior, by), evidence))

    return Inference(
        recording, denoiser, config,
        prior=jax.jit(blind),
        fuse=jax.jit(fused),
        moments=jax.jit(partial(scale_moments, scale=scale, spacing=spacing, kernel_factors=factors)),
        average=jax.jit(lambda weights, frames: jnp.einsum(
            "bkw,wyx->bkyx", weights, frames.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)),
    )  # fmt: skip


def _with_dropout(one: Callable[..., Prior], key: Array, draws: int) -> Prior:
    """The prior; with dropout draws, their mean, and their deviations as further factor maps (draws share them too)."""
    if draws == 0:
        return one()
    passes = jax.lax.map(one, jax.random.split(key, draws))
    centre = jax.tree.map(lambda x: x.mean(0), passes)
    spread = jnp.moveaxis(passes.deviation - centre.deviation, 0, -1) / np.sqrt(max(draws - 1, 1))
    return Prior(centre.deviation, centre.diagonal, jnp.concatenate([passes.factors[0], spread], axis=-1))


def read_chunk(inference: Inference, start: int, size: int, change: Change | None = None) -> Chunk:
    """Frames around [start, start + size), averaged into windows; frames past the end are empty."""
    recording, context = inference.recording, inference.denoiser.config.context
    first = start - context
    frames, good = read_frames(recording, first, start + size + context)
    own = slice(context, context + size)
    mean = hidden_means(recording, frames[own], good[own], inference.denoiser.config.anatomy)
    frames = frames if change is None else change(first, frames)
    T = len(recording.movie)
    hidden = np.minimum(np.arange(start, start + size), T - 1)
    narrow = network.window_weights(hidden, usable_frames(recording), segments(recording), context)
    wide = np.zeros((size, narrow.shape[1], size + 2 * context), np.float32)
    for b in range(size):
        wide[b, :, b : b + 2 * context + 1] = narrow[b]
    wide[np.arange(start, start + size) >= T] = 0
    real = np.broadcast_to(good[own][:, :, None], mean.shape).astype(np.float32)
    ratio = np.broadcast_to(recording.ratio, mean.shape)
    evidence = Evidence(frames[own].astype(np.float32), real, mean, ratio)
    maps = hidden_maps(recording, hidden, inference.denoiser.config.anatomy)
    return Chunk(start, inference.average(wide, frames), wide, evidence, maps)


def predict_chunk(inference: Inference, chunk: Chunk, seed: int = 0) -> Prior:
    """The prior of a chunk, computed in tiles where the frame is larger than the tile; tiles leave no seam."""
    Y, X = chunk.evidence.mean.shape[1:]
    key = jax.random.key(seed)  # the same dropped channels in every chunk and tile: a draw is one network
    pad = [(0, -side % STRIDE) for side in (Y, X)]
    averages = jnp.pad(chunk.averages, ((0, 0), (0, 0), *pad), mode="edge")
    mean, ratio = (jnp.pad(image, ((0, 0), *pad), mode="edge") for image in (chunk.evidence.mean, chunk.evidence.ratio))
    maps = jnp.pad(chunk.maps, ((0, 0), *pad, (0, 0)), mode="edge")
    run = partial(inference.prior, weights=chunk.weights, key=key)
    tiles = list(_tiles(mean.shape[1:], inference.config.tile))
    if len(tiles) == 1:
        return jax.tree.map(lambda x: x[:, :Y, :X], run(averages, mean=mean, ratio=ratio, maps=maps))
    whole = None
    for (y0, x0), (y1, x1), side in tiles:
        at = slice(y0, y0 + side[0]), slice(x0, x0 + side[1])
        part = run(averages[..., *at], mean=mean[:, *at], ratio=ratio[:, *at], maps=maps[:, *at])
        whole = whole or jax.tree.map(lambda p: np.zeros((p.shape[0], *mean.shape[1:], *p.shape[3:]), np.float32), part)
        for target, source in zip(whole, part, strict=True):
            target[:, y1[0] : y1[1], x1[0] : x1[1]] = source[:, y1[0] - y0 : y1[1] - y0, x1[0] - x0 : x1[1] - x0]
    return jax.tree.map(lambda x: jnp.asarray(x[:, :Y, :X]), Prior(*whole))


def _tiles(shape: tuple[int, int], tile: int) -> Iterator[tuple]:
    """(corner read), (rows kept), (columns kept), size read: every tile is read with a halo, and has one size."""
    kept = max((tile - 2 * HALO) // STRIDE, 2) * STRIDE
    sizes = tuple(side if side <= max(tile, kept + 2 * HALO) else kept + 2 * HALO for side in shape)
    spans = [[(0, side)] if side == size else [(a, min(a + kept, side)) for a in range(0, side, kept)]
             for side, size in zip(shape, sizes, strict=True)]  # fmt: skip
    for rows in spans[0]:
        for columns in spans[1]:
            corner = tuple(int(np.clip(span[0] - HALO, 0, side - size))
                           for span, side, size in zip((rows, columns), shape, sizes, strict=True))  # fmt: skip
            yield corner, (rows, columns), sizes


def stream(
    inference: Inference, start: int, stop: int, by: Recalibration, change: Change | None = None, seed: int = 0
) -> Iterator[tuple[int, FramePosterior]]:
    """Posterior of frames [start, stop), chunk by chunk, as numpy arrays with a leading frame axis."""
    size = inference.config.chunk
    for first in range(start, stop, size):
        chunk = read_chunk(inference, first, size, change)
        result = inference.fuse(predict_chunk(inference, chunk, seed), chunk.evidence, by)
        kept = min(size, stop - first)
        yield first, jax.tree.map(lambda x, kept=kept: np.asarray(x)[:kept], result)


def measure_scales(inference: Inference, frames: np.ndarray, report: Callable[[int], None]) -> ScaleMoments:
    """Blind residuals against stated variances, summed over the chunks that start at the given frames."""
    total = None
    for done, first in enumerate(frames):
        chunk = read_chunk(inference, int(first), inference.config.chunk)
        moments = jax.tree.map(np.asarray, inference.moments(predict_chunk(inference, chunk), chunk.evidence))
        total = moments if total is None else jax.tree.map(np.add, total, moments)
        report(done + 1)
    return total
