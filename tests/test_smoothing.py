"""Slow errors are found without ground truth: windows by brute force, weights against the truth, nothing from nothing."""

import numpy as np
import pytest
from helpers import blind_filter
from scipy.ndimage import gaussian_filter1d

from udenoise.smoothing import (
    EDGES,
    FOLDS,
    GATES,
    Answer,
    Blind,
    Smoother,
    answered,
    fit_smoother,
    gates,
    smooth,
    windowed,
    windows,
)

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


def blind_of(noisy, prediction, trial, expected=None) -> Blind:
    expected = np.full(noisy.shape, 0.1) if expected is None else expected
    return Blind(noisy - prediction, prediction - prediction.mean(0), expected, trial)


def test_the_weights_lower_the_true_error_and_the_residuals_measure_it(random, one_trial):
    """Blind to first order: the mean squared residual less the noise is the error, of the very frames it is measured on."""
    truth = gaussian_filter1d(random.normal(size=(T, N)), 25.0, axis=0) * 8
    noisy, fresh = truth + random.normal(size=(T, N)), 0.7 * random.normal(size=(T, N))
    prediction = blind_filter(noisy)
    answer = Answer(0, fresh, blind_filter(noisy + fresh) - prediction)
    blind = blind_of(noisy, prediction, one_trial)
    smoother = fit_smoother(blind, answer)
    better = prediction + smooth(smoother, blind)
    before, after = np.mean((prediction - truth) ** 2), np.mean((better - truth) ** 2)
    assert after < 0.5 * before
    assert np.mean((noisy - better) ** 2 - 1) == pytest.approx(after, abs=4 * np.sqrt(4 / (T * N)))
    left = answered(smoother, blind, answer)
    assert np.mean(left**2) < 0.5 * np.mean(answer.left**2)
    assert np.mean(left * fresh) == pytest.approx(0, abs=4 * 0.7 / np.sqrt(T * N) * np.std(left))


def test_rest_and_action_are_filtered_differently(random, one_trial):
    """Long windows where nothing happens, short ones where much does: better than one filter for both."""
    active = np.repeat(np.arange(T) // 90 % 5 == 0, N).reshape(T, N)
    truth = np.where(active, 6 * gaussian_filter1d(random.normal(size=(T, N)), 2.0, axis=0), 0.0)
    noisy, fresh = truth + random.normal(size=(T, N)), 0.7 * random.normal(size=(T, N))
    prediction, left = blind_filter(noisy), blind_filter(fresh)
    errors = []
    for expected in (np.full((T, N), 0.1), np.where(active, 2.0, 0.02)):
        blind = blind_of(noisy, prediction, one_trial, expected)
        better = prediction + smooth(fit_smoother(blind, Answer(0, fresh, left)), blind)
        errors.append(np.mean((better - truth) ** 2))
    assert errors[1] < 0.8 * errors[0]


def test_regions_that_differ_get_weights_of_their_own(random, one_trial):
    """Half of them are predicted twice as large as they are: the common weights cannot know which."""
    truth = 3 * gaussian_filter1d(random.normal(size=(T, N)), 8.0, axis=0)
    noisy, fresh = truth + random.normal(size=(T, N)), 0.7 * random.normal(size=(T, N))
    size = np.where(np.arange(N) < N // 2, 1.5, 0.5)
    prediction, left = size * blind_filter(noisy), size * blind_filter(fresh)
    blind = blind_of(noisy, prediction, one_trial)
    smoother = fit_smoother(blind, Answer(0, fresh, left))
    common = smoother._replace(weights=np.broadcast_to(smoother.weights.mean(1, keepdims=True), smoother.weights.shape))
    own, all_alike = (np.mean((prediction + smooth(s, blind) - truth) ** 2) for s in (smoother, common))
    assert own < 0.8 * all_alike


def test_an_unknown_frame_gets_what_its_neighbours_say(random, one_trial):
    blind = blind_of(random.normal(size=(T, N)), random.normal(size=(T, N)), one_trial)
    blind.residual[5, 0] = np.nan
    weights = np.broadcast_to(
        random.normal(size=(len(GATES) + 1, len(EDGES) * 2 - 3)), (FOLDS, N, len(GATES) + 1, len(EDGES) * 2 - 3)
    )
    leak = 0.02 * random.normal(size=weights.shape[-1])
    added = smooth(Smoother(weights, leak), blind)
    gate, seen = gates(blind.expected)[:, 5, 0], windows(blind.residual, blind.prediction, one_trial)
    told = gate @ weights[0, 0]
    assert added[5, 0] == pytest.approx(told @ seen[:, 5, 0])
    assert added[6, 0] == pytest.approx((told @ seen[:, 6, 0] - told @ leak * blind.residual[6, 0]) / (1 - told @ leak))


def test_what_leaks_in_through_the_neighbours_is_taken_out():
    """The prediction is the mean of the next neighbours, so their residuals hold −y_t/2 each; the nearest window is ±1, ±2."""
    noise = np.random.default_rng(4).normal(size=(5000, 20))
    prediction = (np.roll(noise, 1, 0) + np.roll(noise, -1, 0)) / 2
    windows_of_each = 2 * len(EDGES) - 3
    weights = np.zeros((FOLDS, 20, len(GATES) + 1, windows_of_each))
    weights[..., 0, 0] = 0.6
    leak = np.zeros(windows_of_each)
    blind = Blind(noise - prediction, prediction, np.full(noise.shape, 0.1), np.zeros(len(noise), int))
    for first, told in ((-0.25, 0.0), (0.0, -0.15)):
        leak[0] = first
        result = prediction + smooth(Smoother(weights, leak), blind)
        assert np.mean(result * noise) == pytest.approx(told, abs=0.02)


def test_nothing_is_added_where_nothing_is_to_be_gained(random, one_trial):
    """White residuals of a constant prediction."""
    noise, fresh = random.normal(size=(T, N)), random.normal(size=(T, N))
    blind = blind_of(noise, np.zeros((T, N)), one_trial)
    smoother = fit_smoother(blind, Answer(0, fresh, np.zeros((T, N))))
    assert np.mean(smooth(smoother, blind) ** 2) < 0.002


def test_a_few_frames_and_trials_of_one_frame_are_no_harm(random):
    for frames, trial in ((3, np.zeros(3, int)), (12, np.arange(12))):
        noisy = random.normal(size=(frames, 2))
        blind = blind_of(noisy, np.zeros((frames, 2)), trial)
        answer = Answer(0, random.normal(size=(frames, 2)), np.zeros((frames, 2)))
        assert np.isfinite(smooth(fit_smoother(blind, answer), blind)).all()
