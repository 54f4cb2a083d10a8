"""The sampler of `experiments/true_error_bars/posterior.py` against sums over all spike trains, and against Wiener's filter."""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))  # the experiments are no part of the installed package
from experiments.true_error_bars import posterior  # noqa: E402
from udenoise.simulate.activity import saturate  # noqa: E402

T, HALF = 5, 10.0


def told(spikes, heard, precision, other, amplitude=1.0) -> "posterior.Told":
    """One cell whose transients last three frames, and one Gaussian component that it does not overlap with."""
    cells = posterior.Cells(
        np.atleast_2d(spikes).astype(float), np.array([[1.0, 0.6, 0.2]]), np.zeros((1, len(other))), np.array([amplitude]), HALF,
        np.ones(len(other)),
    )  # fmt: skip
    light = np.stack([np.zeros(len(other)), other])
    return posterior.Told(cells, np.stack(heard), np.diag(precision).astype(float), light, np.eye(2))


def test_spikes_have_the_posterior_that_a_sum_over_all_trains_has():
    spikes, precision = np.array([0, 2, 0, 1, 0]), 4.0
    measured = np.array([0.1, 1.9, 1.4, 1.1, 0.9])
    known = told(spikes, (precision * measured, np.zeros(T)), (precision, 1e-6), np.zeros(T))
    drawn = posterior.draw(known, 4000, 200)[:, 0]
    law, kernel = posterior.burst_law(known.cells.spikes), known.cells.kernel[0]
    weight, light = [], []
    for train in product(range(5), repeat=T):
        calcium = np.convolve(train, kernel)[:T]
        light.append(saturate(calcium, HALF))
        weight.append(log_prior(np.array(train), law) - precision / 2 * np.sum((measured - light[-1]) ** 2))
    weight = np.exp(np.array(weight) - max(weight))
    weight, light = weight / weight.sum(), np.array(light)
    mean = weight @ light
    sd = np.sqrt(weight @ (light - mean) ** 2)
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(drawn.std(0), sd, atol=0.06)


def log_prior(train: np.ndarray, law: "posterior.Bursts") -> float:
    """As the module's docstring says it."""
    lately = [
        sum(np.exp(-d / posterior.FADE) * (train[t - d] > 0) for d in range(1, min(t, posterior.REACH) + 1))
        for t in range(T)
    ]
    odds = law.alpha[0] + law.beta * np.array(lately)
    more = np.where(train > 0, (train - 1) * np.log(law.more) + np.log1p(-law.more), 0.0)
    return float(np.sum(np.where(train > 0, -np.logaddexp(0, -odds), -np.logaddexp(0, odds)) + more))


def test_without_spikes_it_is_wieners_filter():
    rng, n = np.random.default_rng(5), 64
    other = np.convolve(rng.standard_normal(n + 20), np.ones(20) / 4, "valid")[:n] + 7.0
    precision = 0.5
    y = other + rng.standard_normal(n) / np.sqrt(precision)
    known = told(np.zeros(n), (np.zeros(n), precision * y), (1e-6, precision), other, amplitude=1e-6)
    drawn = posterior.draw(known, 1500, 50)[:, 1]
    power = posterior.smooth_spectra(other[None])[0]
    gain = power / (power + 1 / precision)
    expected = np.fft.irfft(gain * np.fft.rfft(y - other.mean()), n) + other.mean()
    variance = np.fft.irfft(gain / precision, n)[0]
    np.testing.assert_allclose(drawn.mean(0), expected, atol=6 * np.sqrt(variance / 1450))
    assert drawn.var(0).mean() == pytest.approx(variance, rel=0.05)


def test_who_is_told_less_hears_the_rest_without_its_mean():
    """`heard` of the known components is what it would be had the others shone as they do on average."""
    rng = np.random.default_rng(9)
    footprints, light = rng.standard_normal((30, 4)), rng.uniform(1, 2, (4, 6))
    light[1:] = light[1:].mean(1, keepdims=True)  # what is no cell does not change
    precision = footprints.T @ footprints
    cells = told(np.zeros((1, 6)), (np.zeros(6), np.zeros(6)), (1.0, 1.0), np.zeros(6)).cells
    whole = posterior.Told(cells, precision @ light, precision, light, rng.standard_normal((1, 4)))
    part, beside = posterior.untold(whole, 0.5, seed=0)
    known = np.flatnonzero((whole.light[:, None] == part.light).all(2).any(1))
    assert 0 in known and 1 < len(known) < 4
    np.testing.assert_allclose(part.heard, part.precision @ part.light)
    np.testing.assert_allclose(part.weights @ part.light + beside[:, None], whole.weights @ whole.light)
    wrong = posterior.mistaken(whole, 0.0, 0.0)
    np.testing.assert_allclose(wrong.cells.kernel, cells.kernel)
    np.testing.assert_allclose(wrong.cells.amplitude, cells.amplitude)
