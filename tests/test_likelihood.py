"""The composite likelihood: moments of squares and joint densities against dense algebra."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import correlated, dense_kernel, dense_phi, white
from scipy.stats import multivariate_normal

from udenoise.likelihood import (
    SCALES,
    box_designs,
    box_mean,
    box_moments,
    box_noise_factor,
    composite_nll,
    joint_nll,
    noise_in_whitened_units,
)
from udenoise.network import Prior

Y, X, R, SPACING = 32, 48, 2, 16


@pytest.fixture(scope="module")
def prior() -> Prior:
    rng = np.random.default_rng(0)
    parts = 0.3 * rng.standard_normal((1, Y, X)), rng.uniform(0.05, 0.2, (1, Y, X)), rng.standard_normal((1, Y, X, R))
    return Prior(*(jnp.asarray(part, jnp.float32) for part in parts))


def squares(side: int) -> np.ndarray:
    """The averages over squares as a matrix (squares × pixels)."""
    y, x = (axis.ravel() for axis in np.mgrid[:Y, :X])
    number = y // side * (X // side) + x // side
    return (np.arange((Y // side) * (X // side))[:, None] == number) / side**2


@pytest.mark.parametrize("kernel", [white(), correlated(0.4)], ids=["white", "correlated"])
@pytest.mark.parametrize("side", SCALES)
def test_noise_of_a_square_by_brute_force(kernel, side):
    expected = dense_kernel(kernel, (side, side)).mean() * side**2  # wᵀ ρ w with w = 1/s², times s²
    assert box_noise_factor(kernel, side) == pytest.approx(expected)


@pytest.mark.parametrize("side", SCALES)
def test_square_means(side):
    image = np.random.default_rng(1).standard_normal((1, Y, X)).astype(np.float32)
    expected = squares(side) @ image.ravel()
    np.testing.assert_allclose(np.ravel(box_mean(jnp.asarray(image), side)), expected, atol=1e-5)


def test_designs_of_squares_by_brute_force(prior):
    phi = dense_phi(np.asarray(prior.factors[0]), SPACING).reshape(Y * X, Y // SPACING + 1, X // SPACING + 1, R)
    for side, design in zip(SCALES, box_designs(prior.factors, SPACING), strict=True):
        means = np.tensordot(squares(side), phi, 1)
        for b in range(0, len(means), 7):
            row, column = b // (X // side) * side // SPACING, b % (X // side) * side // SPACING
            around = means[b, row : row + 2, column : column + 2].reshape(4, R)
            np.testing.assert_allclose(design[0].reshape(-1, 4, R)[b], around, atol=1e-5, err_msg=f"{side}, {b}")


@pytest.mark.parametrize("kernel", [white(), correlated(0.4)], ids=["white", "correlated"])
def test_variances_of_squares_by_brute_force(prior, kernel):
    level = 0.7
    factors = tuple(box_noise_factor(kernel, side) for side in SCALES)
    flat = jnp.zeros((1, Y, X))
    moments = jax.jit(box_moments, static_argnums=(3, 4))(flat, prior, flat + level, factors, SPACING)
    phi = dense_phi(np.asarray(prior.factors[0]), SPACING)
    for side, part in zip(SCALES, moments, strict=True):
        _, own, design, noise = map(np.asarray, part)
        A = squares(side)
        np.testing.assert_allclose(np.ravel(own), (A**2) @ np.ravel(prior.diagonal), rtol=1e-4)
        np.testing.assert_allclose(np.ravel(np.sum(design**2, (3, 4))), ((A @ phi) ** 2).sum(1), rtol=1e-3, atol=1e-7)
        if side <= 8:
            expected = level * ((A @ dense_kernel(kernel, (Y, X))) * A).sum(1)
            np.testing.assert_allclose(np.ravel(noise), expected, rtol=1e-4)


def test_joint_likelihood_of_squares_is_the_dense_one(prior):
    side = 4
    rng = np.random.default_rng(2)
    r = rng.standard_normal((2, Y // side, X // side)).astype(np.float32)
    D = rng.uniform(0.1, 1, r.shape).astype(np.float32)
    design = jnp.concatenate([box_designs(prior.factors * size, SPACING)[SCALES.index(side)] for size in (1, 2)])
    value = jax.jit(partial(joint_nll, spacing=SPACING // side))(jnp.asarray(r), jnp.asarray(D), design)
    expected = 0.0
    for b, size in enumerate((1, 2)):
        root = squares(side) @ dense_phi(size * np.asarray(prior.factors[0]), SPACING)
        law = multivariate_normal(cov=np.diag(D[b].ravel().astype(float)) + root @ root.T)
        expected -= law.logpdf(r[b].ravel()) + 0.5 * r[b].size * np.log(2 * np.pi)
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_noise_follows_the_predicted_signal():
    sigma, deviation = jnp.array([2.0, 4.0]), jnp.array([1.0, -0.5])
    mean = jnp.array([10.0, 12.0])
    gain = jnp.array([0.5, 0.8])
    intercept = sigma**2 - gain * mean  # σ₀² = a m + c
    expected = (gain * (mean + sigma * deviation) + intercept) / sigma**2
    np.testing.assert_allclose(noise_in_whitened_units(deviation, sigma, gain), expected, rtol=1e-6)
    assert noise_in_whitened_units(jnp.array([-100.0]), jnp.array([1.0]), jnp.array([1.0])) > 0


@pytest.fixture(scope="module")
def score():
    ones = tuple(box_noise_factor(white(), side) for side in SCALES)
    return jax.jit(partial(composite_nll, kernel_factors=ones, spacing=SPACING))


def test_the_true_variances_score_best(score):
    """Proper scoring: residuals drawn from the model itself."""
    rng = np.random.default_rng(4)
    B, n = 64, Y * X
    y, x = np.mgrid[:Y, :X]
    factors = np.stack([0.4 + 0.2 * np.cos(y / 5), 0.3 * np.sin(x / 7)], -1).astype(np.float32)
    phi = dense_phi(factors, SPACING)
    signal = rng.standard_normal((B, phi.shape[1])) @ phi.T + np.sqrt(0.2) * rng.standard_normal((B, n))
    residual = jnp.asarray((signal + rng.standard_normal((B, n))).reshape(B, Y, X), jnp.float32)
    image = jnp.ones((B, Y, X))

    def loss(own, shared):
        maps = jnp.asarray(np.sqrt(shared) * np.broadcast_to(factors, (B, Y, X, R)), jnp.float32)
        stated = Prior(0 * image, own * 0.2 * image, maps)
        return float(score(residual, image, stated, image))

    best = loss(1.0, 1.0)
    assert best < min(loss(1.0, 0.6), loss(1.0, 1.7), loss(0.3, 1.0), loss(3.0, 1.0), loss(1.0, 0.0))


def test_masked_pixels_do_not_count(score, prior):
    residual = np.random.default_rng(5).standard_normal((1, Y, X)).astype(np.float32)
    good = np.ones((1, Y, X), np.float32)
    good[0, 9], good[0, 20, 30:] = 0, 0
    spoiled = np.where(good > 0, residual, 1e3)
    noise = jnp.ones((1, Y, X))
    one, other = (float(score(jnp.asarray(r), jnp.asarray(good), prior, noise)) for r in (residual, spoiled))
    assert np.isfinite(one) and one == other
    assert float(score(jnp.asarray(spoiled), noise, prior, noise)) > one + 1


def test_a_crop_without_a_good_pixel_costs_nothing_and_is_finite(score, prior):
    nothing = jnp.zeros((1, Y, X))
    value, gradient = jax.value_and_grad(lambda p: score(nothing, nothing, p, jnp.ones((1, Y, X))))(prior)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(("likelihood", "hears_covariance"), [("composite", True), ("pixels", False), ("joint", True)])
def test_only_pixels_are_deaf_to_which_errors_go_together(likelihood, hears_covariance):
    """Same variance everywhere, errors shared in truth: who prefers the shared statement?"""
    rng = np.random.default_rng(6)
    B, image = 32, jnp.ones((32, Y, X))
    maps = np.full((Y, X, R), 0.5, np.float32)
    phi = dense_phi(maps, SPACING)
    signal = (rng.standard_normal((B, phi.shape[1])) @ phi.T).reshape(B, Y, X)
    residual = jnp.asarray(signal + rng.standard_normal((B, Y, X)), jnp.float32)
    variance = jnp.asarray((phi**2).sum(1).reshape(Y, X), jnp.float32)
    ones = tuple(box_noise_factor(white(), side) for side in SCALES)
    loss = jax.jit(partial(composite_nll, kernel_factors=ones, spacing=SPACING, likelihood=likelihood))
    shared = Prior(0 * image, 1e-6 * image, jnp.broadcast_to(maps, (B, Y, X, R)))
    own = Prior(0 * image, variance * image, 0 * shared.factors)
    gain = float(loss(residual, image, own, image) - loss(residual, image, shared, image))
    assert (gain > 0.01) == hears_covariance and gain > -1e-3
