"""Training: what it may look at, that it can be interrupted, that it learns."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SMALL, correlated, movie_counts, recording_of, untrained, white

from udenoise import network, training
from udenoise.anatomy import Anatomy
from udenoise.config import TrainConfig
from udenoise.errors import InputError
from udenoise.io import Movie
from udenoise.recording import Recording
from udenoise.training import draw_batch, load_pool, train, validation_frames

SHORT = TrainConfig(steps=6, batch=2, crop=32, validate_every=2, patience=10)
C = SMALL.context


@pytest.fixture(scope="module")
def recording():
    return recording_of(movie_counts(60, 36, 44))


@pytest.fixture(scope="module", autouse=True)
def quick_start():
    """Untrained parameters are drawn once, by a generator that compiles fast."""
    for seed in (0, 3, 4):
        untrained(SMALL, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "init", lambda key, config: untrained(config, int(jax.random.key_data(key)[-1])))
        yield


@pytest.fixture(scope="module")
def uninterrupted(recording):
    return train(recording, SMALL, SHORT, seed=3, quiet=True)


def assert_same(one, other):
    """The same parameters bit by bit, and the same record but for the time it took."""
    jax.tree.map(np.testing.assert_array_equal, one[0].params, other[0].params)
    assert one[1]._replace(seconds=0.0) == other[1]._replace(seconds=0.0)


class PulledError(Exception):
    """The plug."""


def pull_the_plug(monkeypatch, name: str, after: int) -> None:
    """Let `training.<name>` raise once it was called `after` times."""
    calls, true = [], getattr(training, name)

    def limited(*args):
        calls.append(1)
        if len(calls) > after:
            raise PulledError
        return true(*args)

    monkeypatch.setattr(training, name, limited)


@pytest.mark.parametrize(("name", "after"), [("_visit", 1), ("write_json", 1)])
def test_resumed_training_is_bitwise_equal(recording, uninterrupted, tmp_path, monkeypatch, name, after):
    """Interrupted between checkpoints, and between a checkpoint and its record."""
    with monkeypatch.context() as patch, pytest.raises(PulledError):
        pull_the_plug(patch, name, after)
        train(recording, SMALL, SHORT, seed=3, folder=tmp_path, quiet=True)
    assert_same(train(recording, SMALL, SHORT, seed=3, folder=tmp_path, quiet=True), uninterrupted)


def test_a_finished_training_is_taken_as_it_is(recording, uninterrupted, tmp_path, monkeypatch):
    assert_same(train(recording, SMALL, SHORT, seed=3, folder=tmp_path, quiet=True), uninterrupted)
    pull_the_plug(monkeypatch, "_visit", 0)
    assert_same(train(recording, SMALL, SHORT, seed=3, folder=tmp_path, quiet=True), uninterrupted)
    with pytest.raises(InputError, match="other settings"):
        train(recording, SMALL, replace(SHORT, steps=8), seed=3, folder=tmp_path, quiet=True)
    with pytest.raises(InputError, match="other settings"):
        train(recording, SMALL, SHORT, seed=4, folder=tmp_path, quiet=True)


def test_another_seed_is_another_training(recording, uninterrupted):
    other, _ = train(recording, SMALL, SHORT, seed=4, quiet=True)
    assert not np.array_equal(other.params["projection"], uninterrupted[0].params["projection"])


def test_the_best_parameters_are_kept(recording, uninterrupted):
    denoiser, record = uninterrupted
    assert record.validation_steps == [0, 2, 4, 6] and record.steps == [2, 4, 6]
    assert record.best_step == record.validation_steps[int(np.argmin(record.validation_loss))]
    chosen = validation_frames(len(recording.movie), SHORT.validation_fraction)
    batches = training.validation_batches(recording, denoiser.config, SHORT, chosen, 32, 3)
    scale, factors = training.scaling(recording), training.kernel_factors(white())
    score = jax.jit(partial(training.batch_loss, key=None, config=denoiser.config, scale=scale, kernel_factors=factors))
    again = float(np.mean([score(denoiser.params, batch) for batch in batches]))
    assert again == pytest.approx(min(record.validation_loss), rel=1e-5)


def test_fine_tuning_starts_from_what_is_given_and_leaves_it_alone(recording, uninterrupted):
    given = replace(uninterrupted[0], params=jax.tree.map(jnp.array, uninterrupted[0].params))
    tuned, record = train(recording, replace(SMALL, context=9), SHORT, seed=3, init_from=given, quiet=True)
    assert tuned.config == given.config
    assert record.validation_loss[0] == pytest.approx(min(uninterrupted[1].validation_loss), rel=1e-5)
    jax.tree.map(np.testing.assert_array_equal, given.params, uninterrupted[0].params)


def test_no_steps_returns_the_untrained_network(recording):
    denoiser, record = train(recording, SMALL, replace(SHORT, steps=0), seed=3, quiet=True)
    assert record.best_step == 0 and record.steps == []
    assert not np.any(denoiser.params["deviation"]["kernel"])


def test_training_stops_when_it_no_longer_improves(recording, monkeypatch):
    idle = lambda state, *_: (state._replace(step=state.step + SHORT.validate_every), [0.0])  # noqa: E731
    monkeypatch.setattr(training, "_visit", idle)
    _, record = train(recording, SMALL, replace(SHORT, steps=100, patience=3), seed=3, quiet=True)
    assert record.validation_steps == [0, 2, 4, 6] and record.best_step == 0


def test_frames_too_small_for_the_largest_square():
    with pytest.raises(InputError, match="16×16"):
        train(recording_of(movie_counts(20, 15, 40)), SMALL, SHORT, quiet=True)


def test_a_second_step_compiles_nothing(recording):
    optimiser, step = training.make_train_step(SMALL, SHORT, training.scaling(recording), (1.0,) * 5)
    params = untrained()
    copy = jax.tree.map(jnp.array, params)
    state = training.TrainState(params, copy, optimiser.init(params), jnp.zeros((), int), jax.random.key(1))
    pool = load_pool(recording, C, 64, np.ones(60, bool), 0, 0)
    rng = np.random.default_rng(0)
    state, _ = step(state, draw_batch(pool, recording, SMALL, 32, 2, rng, augment=True))
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    try:
        state, loss = step(state, draw_batch(pool, recording, SMALL, 32, 2, rng, augment=True))
        loss.block_until_ready()
    finally:
        jax.monitoring.clear_event_listeners()
    assert not [event for event in compiled if "compile" in event]
    assert step._cache_size() == 1 and int(state.step) == 2


def test_validation_blocks_are_never_targets(recording):
    chosen = validation_frames(60, 0.1)
    assert 0.05 <= chosen.mean() <= 0.2
    assert set(load_pool(recording, C, 64, ~chosen, 0, 0).hidden) == set(np.flatnonzero(~chosen))


@pytest.mark.parametrize(("frames", "fraction"), [(10, 0.1), (200, 0.1), (5000, 0.1), (5000, 0.02), (30, 0.5)])
def test_validation_is_in_blocks_of_the_wanted_share(frames, fraction):
    chosen = validation_frames(frames, fraction)
    blocks = np.diff(np.flatnonzero(np.diff(np.pad(chosen.astype(int), 1))))[::2]
    assert blocks.min() >= 5 and not chosen.all()
    assert chosen.mean() == pytest.approx(fraction, abs=max(0.03, 5.1 / frames))


def numbered(T: int, side: int = 32, **known) -> Recording:
    """A long movie that exists nowhere: every pixel of frame t is t."""
    number = np.arange(T, dtype=np.uint16)[:, None, None]
    read = lambda start, stop: np.broadcast_to(number[start:stop], (stop - start, side, side))  # noqa: E731
    movie = Movie((T, side, side), np.dtype(np.uint16), 10.0, "numbered", read)
    small = recording_of(movie_counts(20, side, side), **known)
    noise = small.noise._replace(frame_mean=np.arange(T, dtype=np.float32))
    total = np.full((side, side), T * (T - 1) / 2)
    image = (total / T).astype(np.float32)
    return Recording(movie, noise, Anatomy(total, np.full(total.shape, T, np.int32), *(image,) * 5))


def test_a_long_movie_is_visited_in_blocks_with_full_context():
    T, starts = 2000, []
    recording = numbered(T, breaks=[700], bad_frames=[400, 1300])
    targets = ~validation_frames(T, 0.1)
    for visit in range(3):
        pool = load_pool(recording, C, 1, targets, visit, seed=0)  # 1 MiB holds 512 frames
        assert pool.frames.nbytes <= 1.1 * 2**20
        weights = network.window_weights(pool.hidden, pool.usable, pool.segment, C)
        seen = pool.frames[:, 0, 0].astype(int)
        assert len(pool.hidden) > 200
        for t, weight in zip(pool.hidden, weights, strict=True):
            own = seen[t + C]
            assert targets[own] and own not in (400, 1300)
            used = np.flatnonzero(weight.any(0))
            around = [j for j in range(own - C, own + C + 1)
                      if 0 <= j < T and j not in (own, 400, 1300) and (j < 700) == (own < 700)]  # fmt: skip
            assert seen[t + used].tolist() == around
        starts.append(seen[C])
    assert len(set(starts)) == 3  # other blocks at every visit
    again = load_pool(recording, C, 1, targets, 2, seed=0)
    np.testing.assert_array_equal(again.frames, pool.frames)


def test_batches_hold_the_hidden_frame_nowhere_but_in_the_target():
    recording = numbered(200)
    pool = load_pool(recording, C, 512, np.ones(200, bool), 0, 0)
    batch = draw_batch(pool, recording, SMALL, 16, 64, np.random.default_rng(0), augment=True)
    t = batch.hidden[:, 0, 0]
    assert not batch.frames[:, C].any() and not batch.weights[:, :, C].any()
    np.testing.assert_allclose(batch.mean[:, 0, 0], (199 * 100 - t) / 199, rtol=1e-5)
    inner = (t >= C) & (t < 200 - C)
    np.testing.assert_array_equal(batch.frames[inner, C + 1, 0, 0], t[inner] + 1)
    total = batch.weights.sum(-1)
    assert np.all(np.isclose(total, 1, atol=1e-5) | (total == 0))
    shortened = (total[inner] == 0).any(1).mean()
    assert 0 < shortened < 0.4  # some are shown as if the movie ended nearby


@pytest.mark.parametrize(("kernel", "turns"), [(white(), 8), (correlated(0.4), 4)], ids=["isotropic", "fast axis"])
def test_crops_are_turned_together_and_only_where_noise_allows(recording, kernel, turns):
    """A movie whose frames are all one picture: target, mean, windows and noise ratio stay aligned."""
    picture = movie_counts(10, 16, 16, seed=5)[0]
    still = recording_of(np.broadcast_to(picture, (20, 16, 16)).copy(), kernel=kernel)
    pool = load_pool(still, C, 64, np.ones(20, bool), 0, 0)
    batch = draw_batch(pool, still, SMALL, 16, 200, np.random.default_rng(1), augment=True)
    np.testing.assert_allclose(batch.mean, batch.hidden, rtol=1e-5)
    seen = np.unique(batch.hidden.reshape(200, -1), axis=0)
    assert len(seen) == turns
    for image, ratio in zip(batch.hidden, batch.ratio, strict=True):
        key = next(k for k in range(8) if np.array_equal(training._turn(picture, k, True), image))
        np.testing.assert_allclose(ratio, training._turn(still.ratio, key, True))


def test_masked_rows_are_no_targets():
    recording = recording_of(movie_counts(20, 16, 16), bad_rows=[(t, 5) for t in range(20)])
    pool = load_pool(recording, C, 64, np.ones(20, bool), 0, 0)
    batch = draw_batch(pool, recording, SMALL, 16, 4, np.random.default_rng(0), augment=False)
    assert not batch.good[:, 5].any() and batch.good.sum() == 4 * 15 * 16


@pytest.mark.slow
def test_the_loss_goes_down(recording):
    config = replace(SHORT, steps=40, validate_every=40, learning_rate=4e-3)
    _, record = train(recording, SMALL, config, seed=0, quiet=True)
    assert min(record.validation_loss) < record.validation_loss[0] - 0.5
    assert record.best_step == 40
