"""Noise splitting and correlated draws: the stated moments, within Monte-Carlo error."""

import numpy as np
import pytest
from helpers import correlated, white

from udenoise.sampling import (
    SCALE_SPREAD,
    SPLIT,
    Memory,
    autocorrelation,
    correlated_noise,
    fit_memory,
    log_scales,
    split_noise,
    tail_quantile,
)

LAGS = np.arange(1.0, 31.0)
MEMORIES = [Memory(0.8, 6.0), Memory(0.9, 5.0, 1.6), Memory(1.0, 20.0), Memory(0.0, 5.0), Memory(1.0, 8.0, 0.8)]


@pytest.mark.parametrize("kernel", [white(), correlated(0.35)], ids=["white", "correlated"])
def test_split_halves_are_independent_with_the_stated_noise(kernel):
    """y₁ has variance (1 + τ²) σ², y₂ (1 + 1/τ²) σ², their covariance is zero at every pixel distance."""
    rng = np.random.default_rng(0)
    frames, side = 60, 96
    spectrum = np.abs(np.fft.fft2(np.roll(np.pad(kernel, (0, side - 7)), (-3, -3), (0, 1))))
    sigma = rng.uniform(1, 3, (side, side)).astype(np.float32)
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((frames, side, side))) * np.sqrt(spectrum)).real
    stated = np.broadcast_to(sigma, noise.shape)
    one, two = split_noise((100 + sigma * noise).astype(np.float32), stated, kernel, 5, seed=1)
    n = frames * side**2
    one, two = (one - 100) / sigma, (two - 100) / sigma
    assert one.var() == pytest.approx(1 + SPLIT**2, rel=6 * np.sqrt(2 / n) * 2)
    assert two.var() == pytest.approx(1 + SPLIT**-2, rel=6 * np.sqrt(2 / n) * 2)
    scatter = np.sqrt((1 + SPLIT**2) * (1 + SPLIT**-2) / n)
    for shift in range(4):
        assert abs((one * np.roll(two, shift, 2)).mean()) < 6 * scatter
        assert (one * np.roll(one, shift, 2)).mean() == pytest.approx((1 + SPLIT**2) * kernel[3, 3 + shift], abs=0.02)


def test_split_noise_belongs_to_the_frame_not_to_the_chunk():
    frames, sigma = np.zeros((6, 8, 12), np.float32), np.ones((6, 8, 12), np.float32)
    kernel = correlated(0.3)
    whole = split_noise(frames, sigma, kernel, 10, seed=3)
    parts = [split_noise(frames[part], sigma[part], kernel, 10 + part.start, 3) for part in (slice(0, 2), slice(2, 6))]
    for half in (0, 1):
        np.testing.assert_array_equal(whole[half], np.concatenate([part[half] for part in parts]))
    assert not np.array_equal(whole[0], split_noise(frames, sigma, kernel, 10, seed=4)[0])
    assert not np.array_equal(whole[0][0], whole[0][1])


@pytest.mark.parametrize("memory", MEMORIES, ids=str)
def test_correlated_noise_has_the_stated_autocorrelation(memory):
    size, T = 4000, 60
    noise = correlated_noise(np.random.default_rng(1), (size,), T, memory)
    assert noise.shape == (size, T)
    for t in (0, 1, 29, 59):  # stationary from the first frame on
        assert noise[:, t].var() == pytest.approx(1, abs=5 * np.sqrt(2 / size))
    for lag in (1, 2, 5, 20):
        products = (noise[:, :-lag] * noise[:, lag:]).mean(1)
        expected = memory.at(np.array([float(lag)]))[0]
        assert products.mean() == pytest.approx(expected, abs=5 * products.std() / np.sqrt(size))


def test_memory_is_one_at_lag_zero():
    np.testing.assert_allclose(Memory(0.5, 2.0).at(np.array([0.0, 2.0, -2.0])), [1, 0.5 / np.e, 0.5 / np.e])


@pytest.mark.parametrize("memory", MEMORIES[:3], ids=str)
def test_fit_recovers_the_memory(memory):
    rng = np.random.default_rng(2)
    doubt = np.full(len(LAGS), 0.01)
    fitted = fit_memory(memory.at(LAGS) + doubt * rng.standard_normal(len(LAGS)), doubt)
    np.testing.assert_allclose(fitted.at(LAGS), memory.at(LAGS), atol=0.03)
    exact = fit_memory(memory.at(LAGS), doubt)
    assert exact.weight == pytest.approx(memory.weight, abs=0.01)
    assert exact.length == pytest.approx(memory.length, rel=0.02)


def test_fit_stays_within_its_bounds():
    for value in (np.full(len(LAGS), -0.5), np.full(len(LAGS), 2.0)):
        weight, length, power = fit_memory(value, np.full(len(LAGS), 0.1))
        assert 0 <= weight <= 1 and 0.3 <= length <= 100 and 0.7 <= power <= 2


@pytest.mark.parametrize("memory", MEMORIES[:2], ids=str)
def test_autocorrelation_of_series_with_a_known_memory(memory):
    """Pooled over ROIs of very different size, which count alike."""
    rng = np.random.default_rng(3)
    N, T = 200, 2000
    response = rng.lognormal(0, 2, (N, 1)) * correlated_noise(rng, (N,), T, memory)
    value, doubt = autocorrelation(response, 20)
    assert value.shape == doubt.shape == (20,) and (doubt > 0).all()
    np.testing.assert_allclose(value, memory.at(LAGS[:20]), atol=0.02)
    twice, _ = autocorrelation(response * rng.uniform(0.1, 10, (N, 1)), 20)
    np.testing.assert_allclose(value, twice, rtol=1e-5, atol=1e-6)


def test_errors_have_heavy_tails_and_variance_one():
    """A normal number times a lognormal one: variance 1, kurtosis 3 exp(4 s²), quantiles as tabulated."""
    rng, n = np.random.default_rng(4), 2_000_000
    error = rng.standard_normal(n) * log_scales(rng.standard_normal(n))
    assert error.var() == pytest.approx(1, abs=0.006)
    assert (error**4).mean() == pytest.approx(3 * np.exp(4 * SCALE_SPREAD**2), rel=0.03)
    for level in (0.5, 0.8, 0.95, 0.99, 0.999):
        held = (np.abs(error) < tail_quantile(np.array([(1 + level) / 2]))).mean()
        assert held == pytest.approx(level, abs=5 * np.sqrt(level * (1 - level) / n))
