"""Spectra against the discrete Fourier transform, a known filter, and known noise."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from udenoise import metrics
from udenoise.errors import InputError

RATE = 30.0


def test_spectra_against_the_transform_of_each_segment():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(2, 32))
    estimate = truth + rng.normal(size=(2, 32))
    result = metrics.spectra(estimate, truth, RATE, segment=16)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(16) / 16)

    def transforms(traces):
        parts = np.stack([traces[:, first : first + 16] for first in (0, 8, 16)], axis=1)
        return np.fft.rfft(window * (parts - parts.mean(-1, keepdims=True)))

    def density(a, b):
        two_sided = np.mean(np.conj(a) * b, axis=(0, 1)) / (RATE * np.sum(window**2))
        return two_sided * np.where(np.isin(np.arange(9), [0, 8]), 1, 2)

    s, x = transforms(truth), transforms(estimate)
    np.testing.assert_allclose(result.frequency_hz, np.arange(9) * RATE / 16)
    np.testing.assert_allclose(result.truth, density(s, s).real)
    np.testing.assert_allclose(result.estimate, density(x, x).real)
    np.testing.assert_allclose(result.error, density(x - s, x - s).real)
    np.testing.assert_allclose(result.transfer, density(s, x) / density(s, s))
    np.testing.assert_allclose(result.coherence, np.abs(density(s, x)) ** 2 / (density(s, s) * density(x, x)).real)


def test_the_transfer_function_is_the_filter_and_coherence_the_share_of_signal():
    """White truth, Gaussian filter of σ = 1 frame: |H| = exp(−(2πf/rate)²/2); noise of a tenth of the power."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(10, 20_000))
    estimate = gaussian_filter1d(truth, 1.0, axis=1, mode="wrap") + np.sqrt(0.1) * rng.normal(size=truth.shape)
    result = metrics.spectra(estimate, truth, RATE)
    inner = slice(2, -2)
    response = np.exp(-0.5 * (2 * np.pi * result.frequency_hz / RATE) ** 2)[inner]
    segments = 10 * 20_000 / 256
    assert np.abs(result.transfer[inner] - response).max() < 5 * np.sqrt(0.1 / segments) + 0.01
    assert np.abs(result.coherence[inner] - response**2 / (response**2 + 0.1)).max() < 5 / np.sqrt(segments)
    np.testing.assert_allclose(result.truth[inner].mean(), 2 / RATE, rtol=0.02)
    expected = ((1 - response) ** 2 + 0.1) * 2 / RATE
    np.testing.assert_allclose(result.error[inner], expected, rtol=5 * np.sqrt(2 / segments))


def test_a_perfect_and_a_halved_estimate():
    truth = np.random.default_rng(2).normal(size=(3, 1024))
    perfect, half = metrics.spectra(truth, truth, RATE), metrics.spectra(0.5 * truth, truth, RATE)
    np.testing.assert_allclose(perfect.transfer, 1, atol=1e-12)
    np.testing.assert_allclose(half.transfer, 0.5, atol=1e-12)
    np.testing.assert_allclose(half.coherence, 1)
    assert np.abs(perfect.error).max() < 1e-20


def test_half_power_of_a_gaussian_filter_and_by_hand():
    """exp(−(2πfσ)²) = ½ at f = √ln 2/(2πσ): 1.99 Hz for 2 frames at 30 Hz."""
    truth = np.random.default_rng(3).normal(size=(10, 20_000))
    smooth = gaussian_filter1d(truth, 2.0, axis=1, mode="wrap")
    expected = np.sqrt(np.log(2)) / (2 * np.pi * 2) * RATE
    assert metrics.half_power_hz(metrics.spectra(smooth, truth, RATE)) == pytest.approx(expected, rel=0.03)
    assert np.isnan(metrics.half_power_hz(metrics.spectra(truth, truth, RATE)))
    line = metrics.spectra(truth, truth, RATE)._replace(
        frequency_hz=np.arange(4.0), transfer=np.sqrt([0.1, 1, 0.6, 0.2]) + 0j
    )
    assert metrics.half_power_hz(line) == pytest.approx(2.25)


def test_too_short_is_refused():
    with pytest.raises(InputError, match="segment=50"):
        metrics.spectra(np.ones((1, 100)), np.ones((1, 100)), RATE)
