"""Slow errors are found without ground truth: windows by brute force, weights against the truth, nothing from nothing."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from udenoise.smoothing import EDGES, Smoother, fit_smoother, influence, smooth, windowed

T, N = 900, 24


@pytest.fixture(scope="module")
def random():
    return np.random.default_rng(3)


@pytest.fixture(scope="module")
def one_trial():
    return np.zeros(T, int)


def test_windows_by_brute_force(random):
    residual = random.normal(size=(50, 3))
    residual[7, 1] = np.nan
    segment = np.repeat([0, 1], [30, 20])
    found = windowed(residual, segment)
    for b, (first, stop) in enumerate(zip(EDGES, EDGES[1:], strict=False)):
        for t in (0, 8, 29, 30, 45):
            near = [s for s in range(50) if first <= abs(s - t) < stop and segment[s] == segment[t]]
            for n in range(3):
                values = [residual[s, n] for s in near if not np.isnan(residual[s, n])]
                np.testing.assert_allclose(found[b, t, n], np.mean(values) if values else 0.0, atol=1e-12)


def slow_estimate(noisy):
    """A filter that loses half of what is slow."""
    return gaussian_filter1d(noisy, 2.0, axis=0) - 0.5 * gaussian_filter1d(noisy, 20.0, axis=0)


def test_the_weights_lower_the_true_error_and_the_stated_error_is_true(random, one_trial):
    truth = gaussian_filter1d(random.normal(size=(T, N)), 25.0, axis=0) * 8
    noisy = truth + random.normal(size=(T, N))
    fresh = 0.7 * random.normal(size=(T, N))
    estimate = slow_estimate(noisy)
    left = slow_estimate(noisy + fresh) - estimate
    about = estimate - estimate.mean(0)
    smoother = fit_smoother(noisy - estimate, about, one_trial, fresh, left, one_trial)
    better = estimate + smooth(smoother, noisy - estimate, about, one_trial)
    before, after = np.mean((estimate - truth) ** 2), np.mean((better - truth) ** 2)
    assert after < 0.5 * before
    gain = np.full((T, N), (fresh * left).sum() / (fresh**2).sum())
    stated = np.mean((noisy - better) ** 2 - 1 + 2 * influence(smoother, gain))
    assert stated == pytest.approx(after, abs=4 * np.sqrt(2 / (T * N)))


def test_nothing_is_added_where_nothing_is_to_be_gained(random, one_trial):
    noise, fresh = random.normal(size=(T, N)), random.normal(size=(T, N))
    smoother = fit_smoother(noise, np.zeros((T, N)), one_trial, fresh, np.zeros((T, N)), one_trial)
    np.testing.assert_array_equal(smoother.weights, 0)


def test_influence_of_no_weights_is_the_gain():
    gain = np.linspace(0, 1, 6).reshape(3, 2)
    none = Smoother(np.zeros(2 * len(EDGES) - 2), np.ones(2 * len(EDGES) - 2))
    np.testing.assert_allclose(influence(none, gain), gain)
