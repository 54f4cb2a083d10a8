"""The interpolation network: its windows, its blindness, its reach."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SMALL, random_denoiser, untrained

from udenoise import network
from udenoise.denoiser import predict
from udenoise.network import Prior
from udenoise.recording import Scaling

T, Y, X, CONTEXT = 9, 16, 24, SMALL.context
NO_MAPS = jnp.zeros((1, Y, X, 0))
SCALE = Scaling(2.0, 10.0, 1.0, np.array([100.0, 20.0, 14.0], np.float32))


def nothing_special(T: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(T, bool), np.zeros(T, int)


@pytest.mark.parametrize("context", [1, 2, 5, 13, 60])
def test_windows_tile_the_context(context):
    covered = [d for first, stop in network.context_windows(context) for d in range(first, stop)]
    assert covered == list(range(1, context + 1))


@pytest.mark.parametrize("context", [1, 3, 17, 60])
def test_window_weights_average_and_never_see_the_hidden_frame(context):
    hidden = np.arange(150)
    weights = network.window_weights(hidden, *nothing_special(150), context)
    assert weights.shape == (150, 2 * len(network.context_windows(context)), 2 * context + 1)
    assert not weights[:, :, context].any()
    total = weights.sum(-1)
    assert np.all(np.isclose(total, 1, atol=1e-6) | (total == 0))
    inside = hidden[(hidden >= context) & (hidden < 150 - context)]
    np.testing.assert_allclose(total[inside], 1, atol=1e-6)
    assert (weights[inside] > 0).any(1).sum(-1).tolist() == [2 * context] * len(inside)  # each other frame once
    for k in range(weights.shape[1]):  # plain averages
        values = [row[row > 0] for row in weights[:, k]]
        assert all(np.allclose(v, 1 / len(v)) for v in values if len(v))


def test_window_weights_stop_at_the_ends_of_the_movie():
    weights = network.window_weights(np.array([0, 2, 19]), *nothing_special(20), 4)
    first, third, last = (weights > 0).any(1)
    assert first.tolist() == [False] * 5 + [True] * 4
    assert third.tolist() == [False, False, True, True, False] + [True] * 4
    assert last.tolist() == [True] * 4 + [False] * 5


def test_window_weights_never_use_a_dropped_frame_or_another_trial():
    rng = np.random.default_rng(0)
    usable, segment = rng.random(60) > 0.2, np.cumsum(rng.random(60) < 0.1)
    hidden, context = np.arange(60), 13
    weights = network.window_weights(hidden, usable, segment, context)
    for b, t in enumerate(hidden):
        used = t + np.flatnonzero((weights[b] > 0).any(0)) - context
        allowed = [j for j in range(t - context, t + context + 1)
                   if 0 <= j < 60 and j != t and usable[j] and segment[j] == segment[t]]  # fmt: skip
        assert used.tolist() == allowed


def test_context_follows_rate_and_indicator():
    assert network.default_context(10.0, 1.0) == 30
    assert network.default_context(1.0, 0.5) == 4
    assert network.default_context(100.0, 1.0) == network.LONGEST_CONTEXT
    assert network.default_context(None, 1.0) == 30


def test_whitening_is_the_noise_at_the_mean_image():
    mean, ratio = jnp.array([50.0, 4.0, 0.0]), jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(network.whitening(mean, ratio, 2.0, -10.0, 1.0) ** 2, [90.0, 2.0, 3.0], rtol=1e-6)


def test_windows_have_unit_noise():
    """White noise of the stated variance: every whitened window has variance 1, whatever its length."""
    rng = np.random.default_rng(1)
    context, side = 13, 128
    weights = network.window_weights(np.array([context]), *nothing_special(2 * context + 1), context)
    frames = (100 + 3 * rng.standard_normal((2 * context + 1, side, side))).astype(np.float32)
    averages = np.einsum("bkw,wyx->bkyx", weights, frames)
    image = jnp.full((1, side, side), 100.0)
    z = network.whiten_windows(jnp.asarray(averages), jnp.asarray(weights), image, 3.0 + 0 * image)
    np.testing.assert_allclose(np.var(z[0], (0, 1)), 1, atol=5 * np.sqrt(2) / side)
    empty = network.whiten_windows(jnp.asarray(averages), jnp.zeros(weights.shape), image, 3.0 + 0 * image)
    np.testing.assert_array_equal(empty, 0)


def test_folding_and_unfolding():
    x = jnp.arange(2.0 * 8 * 12 * 4).reshape(2, 8, 12, 4)
    np.testing.assert_array_equal(network.depth_to_space(network.space_to_depth(x)), x)
    np.testing.assert_array_equal(network.space_to_depth(x)[0, 1, 2, :4], x[0, 2, 4])


def test_doubling_keeps_constants_and_straight_lines():
    line = jnp.broadcast_to(jnp.arange(6.0)[:, None, None], (1, 6, 4, 1))
    doubled = network.double_smoothly(line)
    assert doubled.shape == (1, 12, 8, 1)
    np.testing.assert_allclose(doubled[0, 1:-1, 3, 0], np.arange(1, 11) / 2 - 0.25, atol=1e-6)
    np.testing.assert_array_equal(network.double_smoothly(0 * line + 3), 3)


class Setting(NamedTuple):
    movie: jnp.ndarray
    prior: object
    """(movie, hidden frame) -> Prior, all inside jax."""


@pytest.fixture(scope="module")
def setting() -> Setting:
    rng = np.random.default_rng(2)
    denoiser = random_denoiser()
    weights = jnp.asarray(network.window_weights(np.arange(T), *nothing_special(T), CONTEXT))
    ratio = jnp.asarray(rng.uniform(0.8, 1.2, (1, Y, X)), jnp.float32)

    @jax.jit
    def prior(movie, t):
        mean = (movie.sum(0) - movie[t])[None] / (T - 1)  # without frame t
        around = jax.lax.dynamic_slice_in_dim(jnp.pad(movie, ((CONTEXT, CONTEXT), (0, 0), (0, 0))), t, 2 * CONTEXT + 1)
        averages = jnp.einsum("kw,wyx->kyx", weights[t], around)[None]
        return predict(denoiser.params, denoiser.config, SCALE, averages, weights[t][None], mean, ratio, NO_MAPS)

    return Setting(jnp.asarray(rng.poisson(100, (T, Y, X)), jnp.float32), prior)


@pytest.mark.parametrize("part", Prior._fields)
@pytest.mark.parametrize("t", [0, 4, T - 1])
def test_the_gradient_with_respect_to_the_hidden_frame_is_exactly_zero(setting, part, t):
    def projected(movie):
        value = getattr(setting.prior(movie, t), part)
        return jnp.sum(value * jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))

    gradient = np.asarray(jax.grad(projected)(setting.movie))
    np.testing.assert_array_equal(gradient[t], 0)
    others = np.abs(np.delete(gradient, t, 0)).max((1, 2))
    assert (others > 0).all()  # neighbours by the windows, all of them by the mean image
    near = [s for s in range(T) if 0 < abs(s - t) <= CONTEXT]
    assert np.abs(gradient[near]).max() > 2 * np.abs(gradient[[s for s in range(T) if abs(s - t) > CONTEXT]]).max()


K = 2 * len(network.context_windows(CONTEXT))


@pytest.fixture(scope="module")
def seen():
    """Windows, missing windows (none) and anatomy."""
    rng = np.random.default_rng(3)
    windows, anatomy = (jnp.asarray(rng.standard_normal((1, 16, 16, n)), jnp.float32) for n in (K, 2))
    return windows, jnp.zeros((1, K)), anatomy


@pytest.fixture(scope="module")
def forward():
    return jax.jit(lambda params, *seen: network.apply(params, SMALL, *seen))


def test_an_untrained_network_returns_the_anatomy(forward, seen):
    prior = forward(untrained(), *seen)
    np.testing.assert_array_equal(prior.deviation, 0)
    assert (prior.diagonal > 0).all() and np.isfinite(prior.factors).all() and np.abs(prior.factors).max() > 0
    assert prior.factors.shape == (1, 16, 16, SMALL.factors)


def test_missing_windows_change_the_errors(forward, seen):
    windows, none, anatomy = seen
    one, other = (forward(random_denoiser().params, 0 * windows, missing, anatomy) for missing in (none, 1 + none))
    assert not np.allclose(one.diagonal, other.diagonal)


def test_dropout_only_with_a_key(forward, seen):
    params = random_denoiser().params
    run = jax.jit(lambda key: network.apply(params, SMALL, *seen, key))
    draws = [run(jax.random.key(seed)).deviation for seed in range(6)]
    assert np.ptp(np.stack(draws), axis=0).max() > 0
    np.testing.assert_array_equal(run(jax.random.key(0)).deviation, draws[0])
    np.testing.assert_array_equal(forward(params, *seen).deviation, forward(params, *seen).deviation)


def test_dropout_of_all_levels_reaches_single_pixels(seen):
    """A single-pixel feature that is dropped changes a pixel unlike its neighbours; coarse levels cannot."""
    params, key = random_denoiser().params, jax.random.key(1)
    coarse, fine = (replace(SMALL, dropout_rate=0.5, dropout_levels=levels) for levels in ("coarse", "all"))
    change = [np.asarray(network.apply(params, c, *seen, key).deviation - network.apply(params, c, *seen).deviation)
              for c in (coarse, fine)]  # fmt: skip
    assert np.abs(change[1] - change[0]).max() > 1e-3


def test_nothing_reaches_further_than_the_halo():
    """Blocks of STRIDE pixels see at most HALO pixels beyond their own edge: this is what tiles are cut by."""
    denoiser = random_denoiser(size=1.5)
    width = 3 * network.HALO
    rng = np.random.default_rng(5)
    windows, anatomy = (rng.standard_normal((1, 16, width, n)).astype(np.float32) for n in (K, 2))
    run = jax.jit(lambda w, a: network.apply(denoiser.params, SMALL, w, jnp.zeros((1, K)), a))
    before = jax.block_until_ready(run(windows, anatomy))  # its inputs are changed in place below
    edge = 2 * network.HALO  # everything from here on is changed
    windows[:, :, edge:], anatomy[:, :, edge:] = 50.0, -3.0
    after = run(windows, anatomy)
    for name, one, other in zip(Prior._fields, before, after, strict=True):
        change = np.abs(np.asarray(one) - np.asarray(other)).reshape(16, width, -1).max((0, 2))
        np.testing.assert_allclose(change[: edge - network.HALO], 0, atol=1e-5, err_msg=name)
        assert change[edge - 24 : edge].max() > 1e-3, name
