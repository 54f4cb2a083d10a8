"""Fusion with the hidden frame, in counts, against dense algebra in double precision."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import correlated, dense_kernel, dense_phi, white
from test_regions import discs

from udenoise import posterior
from udenoise.io.rois import rois_dense
from udenoise.likelihood import SCALES
from udenoise.network import Prior
from udenoise.posterior import (
    SQUARE_ERROR,
    Evidence,
    Recalibration,
    ScaleMoments,
    fit_recalibration,
    fuse,
    pixel_error,
    recalibrated,
)
from udenoise.recording import Scaling
from udenoise.regions import lay_out, neuropil_rings
from udenoise.training import kernel_factors

Y, X, R, SPACING = 26, 38, 2, 16  # no multiples of 16
SCALE = Scaling(3.0, -40.0, 5.0, np.array([100.0, 20.0, 14.0], np.float32))
CAUTION = getattr(posterior, "CAUTION", 1.0)


class Case(NamedTuple):
    prior: Prior
    evidence: Evidence
    covariance: np.ndarray
    """Σ in counts²."""
    noise: np.ndarray
    """Variance of N in counts²."""


def case(masked: bool, uniform: bool = False) -> Case:
    """A frame with a random prior; `uniform` makes the noise variance the same everywhere."""
    rng = np.random.default_rng(7)
    mean = np.full((Y, X), 100.0) if uniform else rng.uniform(60, 150, (Y, X))
    deviation = np.zeros((Y, X)) if uniform else 0.5 * rng.standard_normal((Y, X))
    ratio = np.ones((Y, X)) if uniform else rng.uniform(0.8, 1.3, (Y, X))
    factors = 0.3 + 0.4 * rng.standard_normal((Y, X, R))
    prior = Prior(*(jnp.asarray(p, jnp.float32) for p in (deviation, rng.uniform(0.02, 0.3, (Y, X)), factors)))
    good = np.ones((Y, X))
    if masked:
        good[4], good[15:17] = 0, 0
    frame = mean + 25 * rng.standard_normal((Y, X))
    evidence = Evidence(*(jnp.asarray(p, jnp.float32) for p in (frame, good, mean, ratio)))
    sigma = np.sqrt((SCALE.gain * mean + SCALE.intercept) * ratio)
    phi = dense_phi(np.asarray(prior.factors), SPACING)
    whitened = np.diag(np.ravel(prior.diagonal).astype(float)) + phi @ phi.T
    signal = mean + sigma * np.asarray(prior.deviation)
    noise = (SCALE.gain * signal + SCALE.intercept) * ratio  # Var[y | F] at the predicted F
    return Case(prior, evidence, sigma.ravel()[:, None] * whitened * sigma.ravel(), noise)


def dense(c: Case) -> tuple[np.ndarray, np.ndarray]:
    """`μ + Σ(Σ + N)⁻¹(y − μ)` and `Σ − Σ(Σ + N)⁻¹Σ` over the pixels that were measured."""
    seen = np.ravel(c.evidence.good) > 0
    blind = blind_of(c).ravel()
    of_data = c.covariance[np.ix_(seen, seen)] + CAUTION * np.diag(c.noise.ravel()[seen])
    gain = np.linalg.solve(of_data, c.covariance[seen]).T
    y = np.ravel(c.evidence.frame).astype(float)
    return blind + gain @ (y - blind)[seen], c.covariance - gain @ c.covariance[seen]


def blind_of(c: Case) -> np.ndarray:
    mean, ratio = (np.asarray(x, float) for x in (c.evidence.mean, c.evidence.ratio))
    return mean + np.sqrt((SCALE.gain * mean + SCALE.intercept) * ratio) * np.asarray(c.prior.deviation)


@pytest.fixture(scope="module")
def rois():
    return discs((Y, X), [(8, 10), (14, 30), (25, 0)], 4)


@pytest.fixture(scope="module")
def fused(rois):
    """(masked, kernel) -> FramePosterior."""
    parts = rois, neuropil_rings(rois)

    def run(c: Case, kernel=None):
        kernel = white() if kernel is None else kernel
        regions = lay_out(parts, SPACING, kernel)
        whole = partial(fuse, scale=SCALE, spacing=SPACING, kernel_factors=kernel_factors(kernel), regions=regions)
        return jax.tree.map(np.asarray, jax.jit(whole)(c.prior, c.evidence))

    return run


@pytest.fixture(scope="module", params=[False, True], ids=["whole", "masked"])
def both(request, fused):
    c = case(request.param)
    return c, fused(c)


def test_pixels_are_the_dense_posterior(both):
    c, found = both
    mean, covariance = dense(c)
    np.testing.assert_allclose(found.mean.ravel(), mean, atol=0.02)
    np.testing.assert_allclose(found.sd.ravel(), np.sqrt(np.diag(covariance)), rtol=1e-3)


def test_pixels_before_the_frame_are_the_prior(both):
    c, found = both
    np.testing.assert_allclose(found.prior_mean, blind_of(c), rtol=1e-5)
    np.testing.assert_allclose(found.prior_sd.ravel(), np.sqrt(np.diag(c.covariance)), rtol=1e-4)
    assert (found.sd <= found.prior_sd * (1 + 1e-5)).all()


def test_moments_of_regions_are_the_dense_ones(both, rois):
    """`wᵀ μ`, `wᵀ Σ w` (ROI, ring, and between them), `wᵀ N w`, over the measured rows where the data speak."""
    c, found = both
    own, ring = (rois_dense(part).reshape(3, -1).astype(float) for part in (rois, neuropil_rings(rois)))
    good, y = np.ravel(c.evidence.good), np.ravel(c.evidence.frame).astype(float)
    for n, (w, v) in enumerate(zip(own, ring, strict=True)):
        pair = np.stack([w, v])
        np.testing.assert_allclose(found.regions.mean[:, n], pair @ blind_of(c).ravel(), rtol=1e-4)
        np.testing.assert_allclose(found.regions.covariance[n], pair @ c.covariance @ pair.T, rtol=1e-3)
        heard = pair * good / (pair * good).sum(1, keepdims=True)
        np.testing.assert_allclose(found.regions.raw[:, n], heard @ y, rtol=1e-5)
        np.testing.assert_allclose(found.regions.noise_variance[:, n], heard**2 @ c.noise.ravel(), rtol=1e-3)


def test_noise_of_regions_with_a_correlated_kernel(rois, fused):
    c, kernel = case(masked=False, uniform=True), correlated(0.4)
    found = fused(c, kernel).regions
    N = c.noise[0, 0] * dense_kernel(kernel, (Y, X))
    for k, part in enumerate((rois, neuropil_rings(rois))):
        w = rois_dense(part).reshape(3, -1).astype(float)
        np.testing.assert_allclose(found.noise_variance[k], np.einsum("ni,ij,nj->n", w, N, w), rtol=1e-3)
        np.testing.assert_allclose(np.diagonal(found.covariance, 0, 1, 2)[:, k],
                                   np.einsum("ni,ij,nj->n", w, c.covariance, w), rtol=1e-3)  # fmt: skip


def test_a_region_whose_rows_are_lost_has_no_raw_value(fused):
    c = case(masked=False)
    good = np.ones((Y, X), np.float32)
    good[:14] = 0
    found = fused(c._replace(evidence=c.evidence._replace(good=jnp.asarray(good)))).regions
    assert np.isnan(found.raw[0, 0]) and np.isfinite(found.raw[0, 2])
    assert np.isfinite(found.mean).all() and np.isfinite(found.covariance).all()


def test_what_lies_in_masked_rows_does_not_matter(both, fused):
    c, found = both
    spoiled = jnp.where(c.evidence.good > 0, c.evidence.frame, 65535.0)
    other = fused(c._replace(evidence=c.evidence._replace(frame=spoiled)))
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-2)


def test_without_regions_there_are_none():
    c = case(masked=False)
    run = partial(fuse, scale=SCALE, spacing=SPACING, kernel_factors=(1.0,) * len(SCALES), regions=None)
    assert jax.eval_shape(run, c.prior, c.evidence).regions is None


def test_recalibration_scales_the_variances():
    prior = case(masked=False).prior
    scaled = recalibrated(prior, Recalibration(shared=4.0, pixel=0.5))
    np.testing.assert_allclose(scaled.factors, 2 * prior.factors, rtol=1e-6)
    np.testing.assert_allclose(scaled.diagonal, 0.5 * prior.diagonal, rtol=1e-6)
    np.testing.assert_array_equal(scaled.deviation, prior.deviation)


@pytest.mark.parametrize(("shared", "pixel"), [(1.0, 1.0), (2.0, 0.6), (0.5, 1.5)])
def test_recalibration_finds_a_known_misstatement(shared, pixel):
    side, count = np.array(SCALES, float), np.array([1e9, 2.5e8, 6e7, 1.5e7, 4e6])
    own, together, noise = 0.2 / side**2, 0.05 / side**0.5, 1.0 / side**2
    squared = shared * together + pixel * own + noise
    sums = (jnp.asarray([x * count, x * count]) for x in (squared, own, together, noise))
    found = fit_recalibration(ScaleMoments(*sums, jnp.asarray([count, count])))
    assert found.shared == pytest.approx(shared, rel=0.05)
    assert found.pixel == pytest.approx(pixel, rel=0.1)


def test_recalibration_without_evidence_stays_at_one():
    count = jnp.full((1, 5), 10.0)
    found = fit_recalibration(ScaleMoments(1.5 * count, 1e-3 * count, 1e-3 * count, count, count))
    assert found.shared == pytest.approx(1, abs=0.05) and found.pixel == pytest.approx(1, abs=0.05)


def test_the_usual_error_is_that_of_the_median_chunk():
    """One chunk in which everything is wrong raises the mean, which all variances are multiplied to, not what is usual."""
    side, count = np.array(SCALES, float), np.array([1e9, 2.5e8, 6e7, 1.5e7, 4e6])
    noise, level = 1.0 / side**2, np.array([0.005, 0.005, 0.05])[:, None]
    stated = np.tile(0.002 * SQUARE_ERROR, (3, 1))
    rows = (jnp.asarray(x * count) for x in (level * SQUARE_ERROR + noise, stated / 2, stated / 2, noise * np.ones((3, 1))))
    found = fit_recalibration(ScaleMoments(*rows, jnp.asarray(np.tile(count, (3, 1)))))
    assert found.usual * found.reported == pytest.approx(0.005, rel=0.02)


def test_the_usual_error_stays_when_the_frame_is_heard():
    """Where the factors say that the frame tells nearly all; what is stated above the usual is taken out."""
    shape = (2 * SPACING, 2 * SPACING)
    prior = Prior(jnp.zeros(shape), jnp.full(shape, 1e-6), jnp.full((*shape, 1), 30.0))
    evidence = Evidence(*(jnp.full(shape, value) for value in (100.0, 1.0, 100.0, 1.0)))
    plain, kept = (fuse(prior, evidence, SCALE, SPACING, kernel_factors(white()), None, usual) for usual in (0.0, 0.5))
    unit = SCALE.sigma(evidence.mean, evidence.ratio)
    assert float((plain.sd / unit).max()) < 0.7 < 29 < float((plain.prior_sd / unit).min())
    np.testing.assert_allclose(kept.sd**2, plain.sd**2 + 0.5 * unit**2, rtol=0.01)
    np.testing.assert_allclose(kept.prior_sd**2, plain.prior_sd**2, rtol=1e-5)
    np.testing.assert_array_equal(kept.mean, plain.mean)


@pytest.mark.parametrize("doubtful", [False, True])
def test_the_error_of_pixels_comes_from_that_of_squares_where_their_own_is_lost(doubtful):
    """Squares fall as they usually do; a pixel's own residual is off by as much as its noise may be."""
    side = np.array(SCALES, float)
    noise, error = 1.0 / side**2, 0.005 * SQUARE_ERROR
    measured = error + np.where(side == 1, 0.006 * doubtful, 0.0)
    found = pixel_error(measured, noise, 1e-5 + 0.003 * noise)
    assert found == pytest.approx(0.005, rel=0.12 if doubtful else 1e-6)

