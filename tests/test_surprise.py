"""Surprises are found where they are and nowhere else; the mixture's mean and covariance are those of its two cases."""

import numpy as np
import pytest
from test_roi_posterior import calibrated, pairs

from udenoise.posterior import Region
from udenoise.roi_posterior import fuse_regions
from udenoise.surprise import LEAST_SIZE, RATES, Surprises, find_surprises, fuse_surprised

S, NOISE = 0.1, 1.0


def movie(rate: float, size: float, T: int = 3000, N: int = 10):
    """ROIs alone; blind errors of variance S, in a share `rate` of the frames of S + size, and the truth."""
    rng = np.random.default_rng(11)
    struck = rng.random((T, 1, N)) < rate
    error = rng.standard_normal((T, 1, N)) * np.sqrt(S + size * struck)
    raw = 50 + error + rng.standard_normal((T, 1, N))
    moments = Region(raw, np.full((T, 1, N), NOISE), np.full((T, 1, N), 50.0), np.full((T, N, 1, 1), S))
    known = calibrated(pairs(0.0, 0.0, T=50, N=N))
    return (
        moments,
        known._replace(variance=np.full((T, 1, N), S), correlation=np.ones((1, 1))),
        50 + error[:, 0],
        struck[:, 0],
    )


def test_rate_and_size_of_what_was_planted():
    moments, calibration, _, struck = movie(0.01, 25.0)
    found = find_surprises(moments, calibration)
    assert found.rate == pytest.approx(0.01, rel=0.25)
    assert found.size == pytest.approx(25.0, rel=0.25)
    far = np.abs(moments.raw - moments.mean)[:, 0] > 5
    assert found.probability[struck & far].min() > 0.9 and found.probability[~struck].mean() < 0.005


def test_noise_is_no_surprise():
    moments, calibration, _, _ = movie(0.0, 0.0)
    found = find_surprises(moments, calibration)
    assert found.rate < 2e-4 and found.size >= LEAST_SIZE and RATES[0] <= found.rate
    plain = fuse_regions(moments, calibration)
    mixed = fuse_surprised(moments, calibration, found, plain)
    assert np.mean((plain.mean - mixed.mean) ** 2) < 0.01 * plain.covariance.mean()
    assert mixed.covariance.mean() == pytest.approx(plain.covariance.mean(), rel=0.02)


def test_the_mixture_is_worked_out_by_brute_force():
    """One frame: prior times likelihood on a grid."""
    moments, calibration, _, _ = movie(0.01, 25.0, T=1, N=1)
    rate, size, residual = 0.02, 20.0, 2.7
    moments = moments._replace(raw=moments.mean + residual)
    error = np.linspace(-30, 30, 200_001)
    normal = lambda x, v: np.exp(-(x**2) / (2 * v)) / np.sqrt(v)  # noqa: E731
    weight = ((1 - rate) * normal(error, S) + rate * normal(error, S + size * NOISE)) * normal(residual - error, NOISE)
    mean = (weight * error).sum() / weight.sum()
    variance = (weight * (error - mean) ** 2).sum() / weight.sum()
    likely = [(1 - rate) * normal(residual, S + NOISE), rate * normal(residual, S + size + NOISE)]
    p = np.full((1, 1), likely[1] / sum(likely))
    fused = fuse_surprised(moments, calibration, Surprises(rate, size, p), fuse_regions(moments, calibration))
    assert fused.mean[0, 0, 0] - 50 == pytest.approx(mean, rel=1e-4)
    assert fused.covariance[0, 0, 0, 0] == pytest.approx(variance, rel=1e-4)


def test_corridors_hold_where_the_prediction_was_surprised():
    moments, calibration, truth, struck = movie(0.01, 25.0)
    plain = fuse_regions(moments, calibration)
    fused = fuse_surprised(moments, calibration, find_surprises(moments, calibration), plain)
    held = np.abs(truth - fused.mean[:, 0]) < 1.96 * np.sqrt(fused.covariance[:, :, 0, 0])
    before = np.abs(truth - plain.mean[:, 0]) < 1.96 * np.sqrt(plain.covariance[:, :, 0, 0])
    assert held.mean() == pytest.approx(0.95, abs=0.01)
    assert before[struck].mean() < 0.25 and held[struck].mean() > 0.6  # those within the noise cannot be told


def test_where_no_row_is_real_nothing_surprises():
    moments, calibration, _, _ = movie(0.01, 25.0, T=50)
    raw = moments.raw.copy()
    raw[7] = np.nan
    found = find_surprises(moments._replace(raw=raw), calibration)
    assert (found.probability[7] == 0).all() and np.isfinite(found.probability).all()
    nothing = find_surprises(moments._replace(raw=np.full_like(raw, np.nan)), calibration)
    assert (nothing.probability == 0).all()
