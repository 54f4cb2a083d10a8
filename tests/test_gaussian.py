"""Low-rank-plus-diagonal Gaussians against the same algebra done densely, in double precision."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import dense_phi
from scipy.stats import multivariate_normal

from udenoise import gaussian

SHAPE, SPACING, R, REACH = (32, 48), 8, 2, 3


class Problem(NamedTuple):
    residual: np.ndarray
    diagonal: np.ndarray
    factors: np.ndarray
    noise: np.ndarray


def problem(masked: bool) -> Problem:
    rng = np.random.default_rng(3)
    noise = rng.uniform(0.3, 2.0, SHAPE)
    if masked:
        noise[5:8], noise[20, 11:40] = np.inf, np.inf
    factors = 0.4 + 0.5 * rng.standard_normal((*SHAPE, R))
    parts = rng.standard_normal(SHAPE), rng.uniform(0.1, 0.5, SHAPE), factors, noise
    return Problem(*(part.astype(np.float32) for part in parts))


class Dense(NamedTuple):
    mean: np.ndarray
    covariance: np.ndarray
    latents: np.ndarray
    """Covariance of the latents given the data."""


def dense(p: Problem) -> Dense:
    """Conditioning on the pixels that were measured, and on them alone."""
    phi, d, seen = dense_phi(p.factors, SPACING), p.diagonal.ravel().astype(float), np.isfinite(p.noise.ravel())
    prior = np.diag(d) + phi @ phi.T
    of_data = prior[np.ix_(seen, seen)] + np.diag(p.noise.ravel()[seen].astype(float))
    gain = np.linalg.solve(of_data, prior[seen]).T
    across = np.linalg.solve(of_data, phi[seen])
    return Dense(
        gain @ p.residual.ravel()[seen], prior - gain @ prior[seen], np.eye(phi.shape[1]) - phi[seen].T @ across
    )


@pytest.fixture(scope="module")
def condition():
    return jax.jit(partial(gaussian.condition, spacing=SPACING, reach=REACH))


@pytest.fixture(scope="module", params=[False, True], ids=["all measured", "masked"])
def case(request, condition):
    p = problem(request.param)
    return p, dense(p), condition(*map(jnp.asarray, p))


def test_windows_are_a_partition_of_variance():
    for spacing in (4, 8, 16):
        np.testing.assert_allclose((gaussian.window(spacing) ** 2).sum(0), 1, atol=1e-6)


def test_cells_and_back():
    image = jnp.arange(32.0 * 48).reshape(32, 48)
    cells = gaussian.to_cells(image, 8)
    assert cells.shape == (4, 6, 64)
    np.testing.assert_array_equal(cells[2, 3], image[16:24, 24:32].ravel())
    np.testing.assert_array_equal(gaussian.from_cells(cells, 8), image)
    both = gaussian.to_cells(jnp.stack([image, -image], -1), 8)
    np.testing.assert_array_equal(both[..., 1], -cells)


def test_padding_holds_the_frame_in_whole_cells():
    assert gaussian.pad_to_cells((33, 48), 16) == (48, 48)
    assert gaussian.pad_to_cells((1, 16), 16) == (16, 16)


def test_dense_factors_are_their_definition():
    factors = problem(False).factors
    dense = gaussian.dense_factors(jnp.asarray(factors), SPACING)
    np.testing.assert_allclose(dense, dense_phi(factors, SPACING), atol=1e-5)


def test_posterior_mean_is_the_dense_one(case):
    _, expected, given = case
    np.testing.assert_allclose(np.ravel(given.shift), expected.mean, atol=2e-4)


def test_posterior_variance_is_the_dense_one(case):
    p, expected, given = case
    kept = jnp.asarray(p.factors) * given.shrink[..., None]
    variance = given.diagonal + gaussian.shared_variance(kept, given.latents, SPACING)
    np.testing.assert_allclose(np.ravel(variance), np.diag(expected.covariance), rtol=1e-3)


def test_latent_covariance_band_is_the_dense_one(case):
    _, expected, given = case
    rows, columns = SHAPE[0] // SPACING + 1, SHAPE[1] // SPACING + 1
    whole = expected.latents.reshape(rows, columns, R, rows, columns, R)
    band = np.asarray(given.latents.band)
    assert band.shape[1] == REACH
    for j in range(REACH):
        for k in range(rows - j):
            np.testing.assert_allclose(band[k, j], whole[k, :, :, k + j], atol=1e-4, err_msg=f"{k}, {k + j}")


def test_covariance_around_a_cell_is_the_dense_one(case):
    _, expected, given = case
    columns = SHAPE[1] // SPACING + 1
    whole = expected.latents.reshape(-1, R, columns * (SHAPE[0] // SPACING + 1), R)
    around = [2 * columns + 4, 2 * columns + 5, 3 * columns + 4, 3 * columns + 5]
    block = whole[np.ix_(around, range(R), around, range(R))].reshape(4 * R, 4 * R)
    np.testing.assert_allclose(gaussian.cell_covariance(given.latents)[2, 4], block, atol=1e-4)


def test_draws_have_the_posterior_covariance_exactly(case):
    """A draw is linear in the standard normals: A Aᵀ is its covariance."""
    _, expected, given = case
    size, shape = expected.latents.shape[0], given.latents.mean.shape
    unit = jnp.eye(size).reshape(size, *shape)
    draws = jax.jit(jax.vmap(gaussian.draw_latents, (None, 0)))(given.latents, unit)
    A = np.asarray(draws - given.latents.mean).reshape(size, size).T
    np.testing.assert_allclose(A @ A.T, expected.latents, atol=2e-4)


def test_draws_of_pixels_within_monte_carlo_error(case):
    p, expected, given = case
    white = jax.random.normal(jax.random.key(0), (4000, *given.latents.mean.shape))
    factors = jnp.asarray(p.factors)
    w = np.zeros(SHAPE)
    w[3:19, 10:30] = 1 / 320

    def draw(z):
        shared = gaussian.apply_factors(factors, gaussian.draw_latents(given.latents, z) - given.latents.mean, SPACING)
        return jnp.sum(w * (given.shift + given.shrink * shared))

    draws = np.asarray(jax.lax.map(draw, white, batch_size=500), float)
    variance = w.ravel() @ expected.covariance @ w.ravel() - (w**2 * np.asarray(given.diagonal)).sum()
    assert draws.mean() == pytest.approx(w.ravel() @ expected.mean, abs=4 * np.sqrt(variance / 4000))
    assert draws.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / 4000))


def test_what_lies_in_a_masked_pixel_does_not_matter(condition):
    p = problem(masked=True)
    spoiled = np.where(np.isinf(p.noise), 1e4, p.residual).astype(np.float32)
    for one, other in zip(
        jax.tree.leaves(condition(*map(jnp.asarray, p))),
        jax.tree.leaves(condition(*map(jnp.asarray, p._replace(residual=spoiled)))),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=5e-4)
        assert np.isfinite(one).all()


def test_nothing_measured_leaves_the_prior(condition):
    p = problem(False)._replace(noise=np.full(SHAPE, np.inf, np.float32))
    given = condition(*map(jnp.asarray, p))
    np.testing.assert_array_equal(given.shift, 0)
    np.testing.assert_array_equal(given.shrink, 1)
    variance = given.diagonal + gaussian.shared_variance(jnp.asarray(p.factors), given.latents, SPACING)
    np.testing.assert_allclose(variance, p.diagonal + (p.factors**2).sum(-1), rtol=1e-4)


def test_perfect_data_are_believed(condition):
    p = problem(False)._replace(noise=np.full(SHAPE, 1e-6, np.float32))
    np.testing.assert_allclose(condition(*map(jnp.asarray, p)).shift, p.residual, atol=1e-4)


def test_log_likelihood_is_the_dense_one():
    p = problem(False)
    cells = [gaussian.to_cells(jnp.asarray(x), SPACING) for x in (p.residual, p.diagonal)]
    value = jax.jit(gaussian.log_likelihood)(*cells, gaussian.cell_design(jnp.asarray(p.factors), SPACING))
    phi = dense_phi(p.factors, SPACING)
    law = multivariate_normal(cov=np.diag(p.diagonal.ravel().astype(float)) + phi @ phi.T)
    expected = law.logpdf(p.residual.ravel()) + 0.5 * p.residual.size * np.log(2 * np.pi)
    assert float(value) == pytest.approx(expected, rel=1e-4)
