"""Self-supervised training on the movie itself: predict each frame from its neighbours, score it against the noisy frame.

Everything a restart needs is in `TrainState` and the step number: crops are drawn from `fold_in(seed, step)`, so a resumed
training is bitwise equal to an uninterrupted one.
"""

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jaxtyping import Array, Bool, Float, Int

from udenoise import network
from udenoise.config import NetworkConfig, TrainConfig, to_json
from udenoise.denoiser import Denoiser, predict, resolve
from udenoise.errors import InputError
from udenoise.gaussian import HIGHEST
from udenoise.io.store import read_json, write_json
from udenoise.likelihood import SCALES, box_noise_factor, composite_nll, noise_in_whitened_units
from udenoise.progress import progress_bar
from udenoise.recording import (
    Recording,
    Scaling,
    hidden_maps,
    hidden_means,
    read_frames,
    scaling,
    segments,
    usable_frames,
)

EDGE_SHARE = 0.15
"""Share of training crops that are shown as if the movie ended nearby, so that edge frames are familiar."""
AVERAGE = 0.998
"""Decay of the running average of the parameters, which is what is validated and kept."""
LARGEST_ISOTROPIC_DIFFERENCE = 0.1


class TrainState(NamedTuple):
    """All that a restart needs."""

    params: Any
    average: Any
    opt_state: Any
    step: Int[Array, ""]
    key: Array


class Batch(NamedTuple):
    """Crops around hidden frames: raw windows' frames, how to average them, the hidden frame and its mean image."""

    frames: Float[np.ndarray, "B W Y X"]
    weights: Float[np.ndarray, "B K W"]
    hidden: Float[np.ndarray, "B Y X"]
    mean: Float[np.ndarray, "B Y X"]
    ratio: Float[np.ndarray, "B Y X"]
    good: Float[np.ndarray, "B Y X"]
    maps: Float[np.ndarray, "B Y X E"]


class TrainingRecord(NamedTuple):
    """How training went: losses by step, validation losses, the step kept, seconds."""

    steps: list[int]
    loss: list[float]
    validation_steps: list[int]
    validation_loss: list[float]
    best_step: int
    seconds: float


def validation_frames(frames: int, fraction: float) -> Bool[np.ndarray, "T"]:
    """Blocks of time that are never a training target: evenly spread, each about a fiftieth of the movie, 5 frames at least."""
    length = int(np.clip(frames // 50, 5, 200))
    blocks = max(1, round(frames * fraction / length))
    chosen = np.zeros(frames, bool)
    for centre in (np.arange(blocks) + 0.5) * frames / blocks:
        chosen[int(centre - length / 2) : int(centre - length / 2) + length] = True
    return chosen


def batch_loss(
    params: Any,
    batch: Batch,
    key: Array | None,
    config: NetworkConfig,
    scale: Scaling,
    kernel_factors: tuple[float, ...],
    likelihood: str = "composite",
) -> Float[Array, ""]:
    """Likelihood of the hidden frames of a batch."""
    averages = jnp.einsum("bkw,bwyx->bkyx", batch.weights, batch.frames, precision=HIGHEST)
    prior = predict(params, config, scale, averages, batch.weights, batch.mean, batch.ratio, batch.maps, key)
    sigma = scale.sigma(batch.mean, batch.ratio)
    residual = (batch.hidden - batch.mean) / sigma - prior.deviation
    noise = noise_in_whitened_units(prior.deviation, sigma, scale.gain * batch.ratio)
    return composite_nll(residual, batch.good, prior, noise, kernel_factors, config.lattice_spacing, likelihood)


def make_train_step(
    config: NetworkConfig, train: TrainConfig, scale: Scaling, kernel_factors: tuple[float, ...]
) -> tuple[optax.GradientTransformation, Callable[[TrainState, Batch], tuple[TrainState, Array]]]:
    """The optimiser and the one compiled `(state, batch) -> (state, loss)`."""
    warm = min(100, train.steps // 5 + 1)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, train.learning_rate, warm, max(train.steps, warm + 1), 0.02 * train.learning_rate
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    score = partial(batch_loss, config=config, scale=scale, kernel_factors=kernel_factors, likelihood=train.likelihood)

    @partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        dropout = jax.random.fold_in(state.key, state.step)
        value, gradient = jax.value_and_grad(score)(state.params, batch, dropout)
        updates, opt_state = optimiser.update(gradient, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(AVERAGE, (1.0 + state.step) / (10.0 + state.step))
        average = optax.incremental_update(params, state.average, 1.0 - decay)
        return TrainState(params, average, opt_state, state.step + 1, state.key), value

    return optimiser, step


class Pool(NamedTuple):
    """Frames held in memory, with `context` frames of padding before and after; blocks count as separate trials."""

    frames: np.ndarray
    good: Bool[np.ndarray, "P Y"]
    usable: Bool[np.ndarray, "P"]
    segment: Int[np.ndarray, "P"]
    movie_frame: Int[np.ndarray, "P"]
    hidden: Int[np.ndarray, "H"]


def load_pool(
    recording: Recording, context: int, memory_mb: int, targets: Bool[np.ndarray, "T"], visit: int, seed: int
) -> Pool:
    """The whole movie where it fits, else blocks of it that differ from visit to visit."""
    T, Y, X = recording.movie.shape
    fits = max(int(memory_mb * 2**20 / (Y * X * recording.movie.dtype.itemsize)), 4 * context + 8)
    if fits >= T:
        return _pool(recording, context, [(0, T)], targets)
    length = min(max(4 * context, 64), fits)
    random = np.random.default_rng([seed, visit])
    blocks = max(fits // length, 1)
    starts = ((np.arange(blocks) + random.random(blocks)) * (T - length) / blocks).astype(int)
    return _pool(recording, context, [(s, s + length) for s in starts.tolist()], targets)


def _pool(recording: Recording, context: int, blocks: list[tuple[int, int]], targets: np.ndarray) -> Pool:
    T, Y, X = recording.movie.shape
    size = sum(stop - start for start, stop in blocks)
    frames = np.zeros((size + 2 * context, Y, X), recording.movie.dtype)
    good = np.zeros((size, Y), bool)
    at, movie_frame, segment, hidden = 0, np.zeros(size, int), np.zeros(size, int), []
    for number, (start, stop) in enumerate(blocks):
        span = slice(at, at + stop - start)
        for first in range(start, stop, 64):
            last = min(first + 64, stop)
            part = slice(at + first - start, at + last - start)
            frames[part.start + context : part.stop + context], good[part] = read_frames(recording, first, last)
        movie_frame[span] = np.arange(start, stop)
        segment[span] = segments(recording)[start:stop] + number * T
        first = start if start == 0 else start + context
        last = stop if stop == T else stop - context
        hidden.append(at + np.flatnonzero(targets[first:last]) + first - start)
        at = span.stop
    usable = usable_frames(recording)[movie_frame]
    chosen = np.concatenate(hidden)
    return Pool(frames, good, usable, segment, movie_frame, chosen[usable[chosen]])


def draw_batch(
    pool: Pool,
    recording: Recording,
    config: NetworkConfig,
    crop: int,
    size: int,
    random: np.random.Generator,
    augment: bool,
) -> Batch:
    """Random crops around random hidden frames, turned and mirrored; a few are shown as if the movie ended nearby."""
    context, given = config.context, config.anatomy
    Y, X = pool.frames.shape[1:]
    hidden = random.choice(pool.hidden, size)
    top, left = random.integers(0, Y - crop + 1, size), random.integers(0, X - crop + 1, size)
    weights = network.window_weights(hidden, pool.usable, pool.segment, context)
    if augment:
        weights = _shorten(weights, context, random)
    turns = random.integers(0, 8, size) if augment else np.zeros(size, int)
    square = abs(_neighbour(recording, 0, 1) - _neighbour(recording, 1, 0)) < LARGEST_ISOTROPIC_DIFFERENCE
    frames = np.empty((size, 2 * context + 1, crop, crop), np.float32)
    target, mean, ratio, good = (np.empty((size, crop, crop), np.float32) for _ in range(4))
    field, seen = recording.ratio, np.moveaxis(hidden_maps(recording, pool.movie_frame[hidden], given), -1, 1)
    maps = np.empty((size, seen.shape[1], crop, crop), np.float32)
    for b, (t, y, x) in enumerate(zip(hidden.tolist(), top.tolist(), left.tolist(), strict=True)):
        window = pool.frames[t : t + 2 * context + 1, y : y + crop, x : x + crop]
        real = pool.good[t : t + 1, y : y + crop]
        part = recording._replace(anatomy=_crop_anatomy(recording, y, x, crop))
        own = hidden_means(part, window[context][None], real, given)[0]
        masked = np.broadcast_to(real[0][:, None], own.shape)
        turn = partial(_turn, number=int(turns[b]), square=square)
        frames[b], target[b], mean[b], good[b] = turn(window), turn(window[context]), turn(own), turn(masked)
        ratio[b] = turn(field[y : y + crop, x : x + crop])
        maps[b] = turn(seen[b, :, y : y + crop, x : x + crop])
    frames[:, context] = 0  # the hidden frame is not even handed over
    return Batch(frames, weights, target, mean, ratio, good, np.moveaxis(maps, 1, -1))


def _crop_anatomy(recording: Recording, y: int, x: int, crop: int):
    a = recording.anatomy
    return a._replace(total=a.total[y : y + crop, x : x + crop], count=a.count[y : y + crop, x : x + crop])


def _neighbour(recording: Recording, dy: int, dx: int) -> float:
    kernel = recording.noise.kernel
    return float(kernel[kernel.shape[0] // 2 + dy, kernel.shape[1] // 2 + dx])


def _turn(image: np.ndarray, number: int, square: bool) -> np.ndarray:
    """One of eight turns and mirrorings; one of four where noise differs along Y and X."""
    image = image[..., ::-1] if number & 1 else image
    image = image[..., ::-1, :] if number & 2 else image
    return np.swapaxes(image, -1, -2) if number & 4 and square else image


def _shorten(weights: np.ndarray, context: int, random: np.random.Generator) -> np.ndarray:
    distance = np.arange(-context, context + 1) * random.choice([-1, 1], (len(weights), 1))
    nearest = np.where(random.random(len(weights)) < EDGE_SHARE, random.integers(0, context, len(weights)), context)
    kept = weights * (distance <= nearest[:, None])[:, None]
    return (kept / np.maximum(kept.sum(-1, keepdims=True), 1e-12)).astype(np.float32)


def validation_batches(
    recording: Recording, config: NetworkConfig, train: TrainConfig, chosen: Bool[np.ndarray, "T"], crop: int, seed: int
) -> list[Batch]:
    """Eight fixed batches from the validation blocks."""
    random = np.random.default_rng([seed, 2**20])
    frames = np.flatnonzero(chosen & usable_frames(recording))
    c, T = config.context, len(recording.movie)
    times = np.sort(random.choice(frames, 8, replace=len(frames) < 8))
    batches = []
    for t in times.tolist():
        block = (max(t - c, 0), min(t + c + 1, T))
        pool = _pool(recording, c, [block], chosen)._replace(hidden=np.array([t - block[0]]))
        batches.append(draw_batch(pool, recording, config, crop, train.batch, random, augment=False))
    return batches


def train(
    recording: Recording,
    network_config: NetworkConfig,
    config: TrainConfig,
    seed: int = 0,
    folder: Path | None = None,
    init_from: Denoiser | None = None,
    quiet: bool = False,
) -> tuple[Denoiser, TrainingRecord]:
    """Train a denoiser on a recording.

    With a `folder`, checkpoints go there and a training that stood still is taken up again, bitwise. `init_from` starts
    from another denoiser's parameters (fine-tuning); its settings are used. Raises InputError for frames too small.
    """
    net = (
        init_from.config if init_from else resolve(network_config, recording.movie.frame_rate_hz, len(recording.movie))
    )
    crop = _crop_side(recording, config)
    scale, factors = scaling(recording), kernel_factors(recording.noise.kernel)
    optimiser, step = make_train_step(net, config, scale, factors)
    score = partial(batch_loss, key=None, config=net, scale=scale, kernel_factors=factors, likelihood=config.likelihood)
    evaluate = jax.jit(score)
    chosen = validation_frames(len(recording.movie), config.validation_fraction)
    held_out = validation_batches(recording, net, config, chosen, crop, seed)

    def validate(params: Any) -> float:
        return float(np.mean([evaluate(params, batch) for batch in held_out]))

    params = init_from.params if init_from else network.init(jax.random.key(seed), net)
    copy = jax.tree.map(jnp.array, params)
    state = TrainState(params, copy, optimiser.init(params), jnp.zeros((), int), jax.random.key(seed + 1))
    best, record = jax.tree.map(np.asarray, params), TrainingRecord([], [], [0], [validate(params)], 0, 0.0)
    settings = {"network": to_json(net), "train": to_json(config), "seed": seed, "source": recording.movie.source}
    checkpoints = _Checkpoints(folder, settings)
    state, best, record = checkpoints.restore(state, best, record)
    pool, began = None, time.monotonic() - record.seconds
    with progress_bar("train", config.steps, quiet) as report:
        while int(state.step) < config.steps and not _stalled(record, config.patience):
            visit = int(state.step) // config.validate_every
            if pool is None or len(pool.frames) < len(recording.movie):
                pool = load_pool(recording, net.context, config.train_memory_mb, ~chosen, visit, seed)
            state, losses = _visit(state, step, pool, recording, net, config, crop, seed, report, record)
            loss = validate(state.average)
            if loss < min(record.validation_loss):
                best, record = jax.tree.map(np.asarray, state.average), record._replace(best_step=int(state.step))
            record = record._replace(
                steps=[*record.steps, int(state.step)],
                loss=[*record.loss, float(np.mean(losses))],
                validation_steps=[*record.validation_steps, int(state.step)],
                validation_loss=[*record.validation_loss, loss],
                seconds=time.monotonic() - began,
            )
            checkpoints.save(state, best, record)
    return Denoiser(net, best, recording.movie.frame_rate_hz, float(recording.noise.photons)), record


def _visit(state, step, pool, recording, net, config, crop, seed, report, record):
    losses = []
    stop = min((int(state.step) // config.validate_every + 1) * config.validate_every, config.steps)
    for number in range(int(state.step), stop):
        random = np.random.default_rng([seed, 1, number])
        batch = draw_batch(pool, recording, net, crop, config.batch, random, augment=True)
        state, loss = step(state, batch)
        losses.append(loss)
        if number % 10 == 0:
            report(number, f"loss {float(loss):.4f}, validation {record.validation_loss[-1]:.4f}")
    report(stop)
    return state, [float(loss) for loss in losses]


def _stalled(record: TrainingRecord, patience: int) -> bool:
    since = [s for s in record.validation_steps if s > record.best_step]
    return len(since) >= patience


def _crop_side(recording: Recording, config: TrainConfig) -> int:
    _, Y, X = recording.movie.shape
    if min(Y, X) < SCALES[-1]:
        raise InputError(f"frames are {Y}×{X} pixels; training needs at least 16×16: give a larger field of view")
    return min(config.crop, min(Y, X)) // 16 * 16


def kernel_factors(kernel: Float[np.ndarray, "ky kx"]) -> tuple[float, ...]:
    """`κ_s` of the noise kernel at every scale of the composite likelihood."""
    return tuple(max(box_noise_factor(kernel, side), 0.05) for side in SCALES)


class _Checkpoints:
    """Orbax checkpoints of a training, so that it can be interrupted; without a folder it does nothing."""

    def __init__(self, folder: Path | None, settings: dict):
        self.folder, self.settings = folder, settings

    def restore(self, state: TrainState, best: Any, record: TrainingRecord) -> tuple[TrainState, Any, TrainingRecord]:
        """The last checkpoint of a training with the same settings, or what was given."""
        if self.folder is None or not (self.folder / "record.json").exists():
            return state, best, record
        about = read_json(self.folder / "record.json")
        if about["settings"] != _plain(self.settings):
            raise InputError(f"{self.folder} holds a training with other settings; pass --overwrite or another -o")
        record = TrainingRecord(**about["record"])
        tree = {"state": state._asdict() | {"key": jax.random.key_data(state.key)}, "best": best}
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), tree)
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.restore((self.folder / str(record.steps[-1])).absolute(), like)
        tree = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), tree)  # placed as when fresh: the same program
        fields = dict(tree["state"])
        key = jax.random.wrap_key_data(jnp.asarray(fields.pop("key")))
        opt_state = jax.tree.unflatten(jax.tree.structure(state.opt_state), jax.tree.leaves(fields.pop("opt_state")))
        return TrainState(opt_state=opt_state, key=key, **fields), tree["best"], record

    def save(self, state: TrainState, best: Any, record: TrainingRecord) -> None:
        """Write the checkpoint first and its record last: a half-written checkpoint is never trusted."""
        if self.folder is None:
            return
        name = str(record.steps[-1])
        tree = {"state": state._asdict() | {"key": jax.random.key_data(state.key)}, "best": best}
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save((self.folder / name).absolute(), tree, force=True)
        write_json(self.folder / "record.json", {"settings": _plain(self.settings), "record": record._asdict()})
        for old in self.folder.iterdir():
            if old.is_dir() and old.name != name:
                shutil.rmtree(old)


def _plain(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _plain(value) for key, value in settings.items()}
    return list(settings) if isinstance(settings, tuple) else settings
