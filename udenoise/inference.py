"""Streaming: read a chunk and its margin, predict, fuse, hand the frames on. Memory is constant, compilation happens once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from udenoise import innovation, network, watch
from udenoise.config import DenoiseConfig
from udenoise.denoiser import Denoiser, predict
from udenoise.errors import InputError
from udenoise.innovation import Events, Matched, Residual, Spread
from udenoise.likelihood import noise_in_whitened_units
from udenoise.network import HALO, STRIDE, Prior
from udenoise.posterior import Evidence, FramePosterior, Recalibration, ScaleMoments, fuse, recalibrated, scale_moments
from udenoise.recording import (
    Recording,
    Scaling,
    hidden_maps,
    hidden_means,
    mean_error,
    read_frames,
    scaling,
    segments,
    usable_frames,
)
from udenoise.regions import Regions
from udenoise.scan import Ground
from udenoise.training import kernel_factors
from udenoise.watch import Blind, Sight

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
    residual: Callable[..., Residual]
    moments: Callable[..., ScaleMoments]
    average: Callable[[Array, Array], Array]
    see: Callable[..., tuple[Sight, Blind]] | None
    regions: Regions | None
    ground: Ground | None
    still: Float[np.ndarray, "Y X"]
    """`recording.mean_error` of the anatomy that the network is given."""


def prepare(
    recording: Recording,
    denoiser: Denoiser,
    config: DenoiseConfig,
    regions: Regions | None = None,
    others: tuple[Denoiser, ...] = (),
    ground: Ground | None = None,
) -> Inference:
    """Build the compiled functions; `others` are the further networks of an ensemble. With a `ground`, events also bring what flags
    are made of.

    Raises InputError when dropout is asked of a network that was trained without it, or an ensemble of a single network.
    """
    _check_uncertainty(denoiser, config, others)
    scale, factors = scaling(recording), kernel_factors(recording.noise.kernel)
    spacing = denoiser.config.lattice_spacing
    frame = partial(fuse, scale=scale, spacing=spacing, kernel_factors=factors, regions=regions)
    networks = jax.tree.map(lambda *params: jnp.stack(params), denoiser.params, *(other.params for other in others))

    def blind(averages: Array, weights: Array, mean: Array, ratio: Array, maps: Array, key: Array) -> Prior:
        def one(params: Any, key: Array | None = None) -> Prior:
            return predict(params, denoiser.config, scale, averages, weights, mean, ratio, maps, key)

        if config.uncertainty == "dropout":
            keys = jax.random.split(key, config.passes)
            return _mixture(jax.lax.map(partial(one, denoiser.params), keys))
        return _mixture(jax.lax.map(one, networks)) if config.uncertainty == "ensemble" else one(denoiser.params)

    def fused(prior: Prior, evidence: Evidence, by: Recalibration) -> FramePosterior:
        result = jax.lax.map(lambda both: frame(*both, usual=by.usual), (recalibrated(prior, by), evidence))
        size = jnp.sqrt(by.reported)
        return result._replace(sd=result.sd * size, prior_sd=result.prior_sd * size)

    return Inference(
        recording, denoiser, config,
        prior=jax.jit(blind),
        fuse=jax.jit(fused),
        residual=jax.jit(partial(blind_residual, scale=scale, skew=recording.noise.skew)),
        moments=jax.jit(partial(scale_moments, scale=scale, spacing=spacing, kernel_factors=factors)),
        average=jax.jit(lambda weights, frames: jnp.einsum(
            "bkw,wyx->bkyx", weights, frames.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)),
        see=None if ground is None else jax.jit(partial(
            watch.see, scale=scale, factors=denoiser.config.factors, still=watch.still_of(recording, ground))),
        regions=regions,
        ground=ground,
        still=mean_error(recording, denoiser.config.anatomy),
    )  # fmt: skip


def _check_uncertainty(denoiser: Denoiser, config: DenoiseConfig, others: tuple[Denoiser, ...]) -> None:
    if config.uncertainty == "dropout" and not denoiser.config.dropout_rate:
        raise InputError(
            "the network was trained without dropout: give --uncertainty lowrank, or train it with --dropout-rate 0.1"
        )
    if config.uncertainty == "ensemble" and not others:
        raise InputError(
            "an ensemble needs several networks and there is one: give --uncertainty lowrank, or train anew"
        )
    if any(other.config != denoiser.config for other in others):
        raise InputError("the networks of an ensemble have different settings; train them anew: --overwrite")


def _mixture(passes: Prior) -> Prior:
    """The mean of several priors (stacked first), and their deviations as further factor maps (draws share them too)."""
    centre = jax.tree.map(lambda x: x.mean(0), passes)
    count = passes.deviation.shape[0]
    spread = jnp.moveaxis(passes.deviation - centre.deviation, 0, -1) / np.sqrt(max(count - 1, 1))
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
        result = _with_mean_error(result, inference.still)
        kept = min(size, stop - first)
        yield first, jax.tree.map(lambda x, kept=kept: np.asarray(x)[:kept], result)


class Heard(NamedTuple):
    """Events that begin in a chunk (frames count from its first), what all events add to its regions (counts, counts²), and what
    flags are made of, where they are asked for."""

    events: Events
    added: Float[np.ndarray, "B K N"] | None
    variance: Float[np.ndarray, "B K N"] | None
    sight: Sight | None
    blind: Blind | None


class _Examined(NamedTuple):
    chunk: Chunk
    evidence: Evidence
    prior: Prior
    residual: Residual
    matched: Matched


def blind_residual(prior: Prior, evidence: Evidence, scale: Scaling, skew: float) -> Residual:
    """What a batch of frames has beyond its blind prediction, with the noise to expect."""
    sigma, gain = scale.sigma(evidence.mean, evidence.ratio), scale.gain * evidence.ratio
    noise = sigma**2 * noise_in_whitened_units(prior.deviation, sigma, gain)
    value = evidence.frame - evidence.mean - sigma * prior.deviation
    return Residual(value, jnp.where(evidence.good > 0, noise, jnp.inf), skew * gain)


def stream_with_events(
    inference: Inference,
    start: int,
    stop: int,
    by: Recalibration,
    widths: Spread | None,
    seed: int = 0,
) -> Iterator[tuple[int, FramePosterior, Heard]]:
    """As `stream`; events that only the frames themselves show are found first, left out of the fusion, and added again.

    Without `widths` none are sought.
    """
    size, held = inference.config.chunk, {}
    pad = -(-innovation.BEFORE // size) * size
    for first in range(start, stop, size):
        for near in range(first - pad, first + pad + 1, size):
            if near not in held and 0 <= near < len(inference.recording.movie):
                held[near] = _examine(inference, near, seed)
        held = {near: one for near, one in held.items() if near >= first - pad}
        around = _around(held, first, size)
        events = innovation.no_events() if widths is None else innovation.search(*around, widths)
        events = innovation.shifted(events, -innovation.BEFORE)
        yield first, *_fuse_apart(inference, held[first], by, events, min(size, stop - first))


def _examine(inference: Inference, first: int, seed: int) -> _Examined:
    chunk = read_chunk(inference, first, inference.config.chunk)
    prior = predict_chunk(inference, chunk, seed)
    residual = inference.residual(prior=prior, evidence=chunk.evidence)
    return _Examined(chunk, chunk.evidence, prior, *jax.tree.map(np.asarray, (residual, innovation.match(residual))))


def _around(held: dict[int, _Examined], first: int, size: int) -> tuple[Residual, Matched]:
    """The residuals of a chunk with its margins; frames that there are not are of infinite variance."""
    before = innovation.BEFORE
    shape = (before + size + innovation.AFTER, *held[first].residual.value.shape[1:])
    residual = Residual(*(np.full(shape, nothing, np.float32) for nothing in (0.0, np.inf, 1.0)))
    matched = Matched(*np.zeros((3, len(innovation.SIGMAS_PX), *shape), np.float32))
    for near, one in held.items():
        there = np.arange(near, near + size) - first + before
        inside = (there >= 0) & (there < shape[0])
        for whole, part in zip((*residual, *matched), (*one.residual, *one.matched), strict=True):
            whole[..., there[inside], :, :] = part[..., inside, :, :]
    return residual, matched


def _fuse_apart(
    inference: Inference, one: _Examined, by: Recalibration, events: Events, kept: int
) -> tuple[FramePosterior, Heard]:
    shape = one.evidence.frame.shape
    added = innovation.render(events, shape)
    result = inference.fuse(one.prior, one.evidence._replace(frame=one.evidence.frame - added), by)
    sd = np.sqrt(np.square(result.sd) + innovation.render_variance(events, shape))
    result = result._replace(mean=result.mean + added, sd=sd)
    regions = inference.regions
    heard = (None, None) if regions is None else innovation.in_regions(events, regions.index, regions.weight, shape)
    own = (events.frame >= 0) & (events.frame < kept)
    sight = (None, None) if inference.see is None else _sight(inference, one, by, result)
    result = _with_mean_error(result, inference.still)
    rest = jax.tree.map(lambda x: np.asarray(x)[:kept], (result, *heard, *sight))
    return rest[0], Heard(innovation.some(events, own), *rest[1:])


def _with_mean_error(result: FramePosterior, still: Float[np.ndarray, "Y X"]) -> FramePosterior:
    """With what the mean image may be off by: no residual shows it, for about that image their mean is zero."""
    sd, prior_sd = (np.sqrt(np.square(part) + still).astype(np.float32) for part in (result.sd, result.prior_sd))
    return result._replace(sd=sd, prior_sd=prior_sd)


def _sight(inference: Inference, one: _Examined, by: Recalibration, result: FramePosterior) -> tuple[Sight, Blind]:
    shown = result._replace(regions=None)
    return inference.see(one.chunk.averages, one.chunk.weights, one.evidence, one.prior, one.residual, shown, by)


def measure_spread(inference: Inference, frames: np.ndarray) -> Spread:
    """How far the scores of places without events scatter, from the chunks that start at the given frames."""
    sums = innovation.start_spread(inference.recording.movie.shape[1:])
    for first in frames:
        sums = innovation.add_spread(sums, _examine(inference, int(first), 0).residual)
    return innovation.spread(sums, inference.recording.noise.kernel)


def measure_scales(inference: Inference, frames: np.ndarray, report: Callable[[int], None]) -> ScaleMoments:
    """Blind residuals against stated variances, one row for each of the chunks that start at the given frames."""
    found = []
    for done, first in enumerate(frames):
        chunk = read_chunk(inference, int(first), inference.config.chunk)
        found.append(inference.moments(predict_chunk(inference, chunk), chunk.evidence))
        report(done + 1)
    return jax.tree.map(lambda *rows: np.stack(rows), *found)
