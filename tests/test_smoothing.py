"""Slow errors are found without ground truth: windows by brute force, weights against the truth, nothing from nothing."""

import numpy as np
import pytest
from helpers import blind_filter
from scipy.ndimage import gaussian_filter1d

from udenoise.smoothing import EDGES, Smoother, fit_smoother, smooth, windowed

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


def filtered(noisy, prediction, fresh, left, trial):
    about = prediction - prediction.mean(0)
    smoother = fit_smoother(noisy - prediction, about, trial, fresh, left, trial)
    return prediction + smooth(smoother, noisy - prediction, about, trial)


def test_the_weights_lower_the_true_error_and_the_residuals_measure_it(random, one_trial):
    truth = gaussian_filter1d(random.normal(size=(T, N)), 25.0, axis=0) * 8
    noise, fresh = random.normal(size=(T, N)), 0.7 * random.normal(size=(T, N))
    noisy = truth + noise
    prediction = blind_filter(noisy)
    left = blind_filter(noisy + fresh) - prediction
    better = filtered(noisy, prediction, fresh, left, one_trial)
    before, after = np.mean((prediction - truth) ** 2), np.mean((better - truth) ** 2)
    assert after < 0.5 * before
    assert np.mean((noisy - better) ** 2 - 1) == pytest.approx(after, abs=4 * np.sqrt(4 / (T * N)))


def test_an_unknown_frame_gets_what_its_neighbours_say(random, one_trial):
    residual, prediction = random.normal(size=(T, N)), random.normal(size=(T, N))
    residual[5, 0] = np.nan
    smoother = Smoother(random.normal(size=2 * len(EDGES) - 3), 0.1)
    added = smooth(smoother, residual, prediction, one_trial)
    V = np.concatenate([windowed(residual, one_trial)[1:], windowed(prediction, one_trial)])
    assert added[5, 0] == pytest.approx(smoother.weights @ V[:, 5, 0])
    assert added[6, 0] == pytest.approx((smoother.weights @ V[:, 6, 0] - 0.1 * residual[6, 0]) / 0.9)


def test_what_leaks_in_through_the_neighbours_is_taken_out():
    """The prediction is the mean of the next neighbours, so their residuals hold −y_t/2 each; the nearest window is ±1, ±2."""
    noise = np.random.default_rng(4).normal(size=(5000, 20))
    prediction = (np.roll(noise, 1, 0) + np.roll(noise, -1, 0)) / 2
    weights = np.zeros(2 * len(EDGES) - 3)
    weights[0] = 0.6
    trial = np.zeros(len(noise), int)
    for leak, told in ((-0.15, 0.0), (0.0, -0.15)):
        result = prediction + smooth(Smoother(weights, leak), noise - prediction, prediction, trial)
        assert np.mean(result * noise) == pytest.approx(told, abs=0.02)


def test_nothing_is_added_where_nothing_is_to_be_gained(random, one_trial):
    noise, fresh = random.normal(size=(T, N)), random.normal(size=(T, N))
    smoother = fit_smoother(noise, np.zeros((T, N)), one_trial, fresh, np.zeros((T, N)), one_trial)
    np.testing.assert_array_equal(smoother.weights, 0)
    assert smoother.leak == 0
