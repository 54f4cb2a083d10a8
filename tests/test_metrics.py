"""Metrics against brute force, closed form, and a liar."""

import numpy as np
import pytest
from scipy.stats import norm

from udenoise import metrics

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
RNG = np.random.default_rng(0)


def _bands(mean, sd):
    z = norm.ppf(0.5 + np.array(LEVELS) / 2)[:, None, None]
    return mean - z * sd, mean + z * sd


@pytest.fixture(scope="module")
def honest():
    """(truth, mean, sd): the error of `mean` is Normal(0, sd²), sd differs between frames."""
    rng = np.random.default_rng(1)
    truth = np.cumsum(rng.normal(size=(20, 3000)), axis=1)
    sd = np.exp(0.3 * rng.normal(size=truth.shape))
    return truth, truth + sd * rng.normal(size=truth.shape), sd


def test_errors_by_hand():
    truth = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    estimate = truth + np.array([[1.0, 0.0, 0.0, 3.0], [2.0, 2.0, 2.0, 2.0]])
    where = np.array([[True, False, True, False], [True, False, False, False]])
    assert metrics.roi_error(estimate, truth) == pytest.approx([2.5, 4.0])
    assert metrics.roi_error(estimate, truth, where) == pytest.approx([0.5, 4.0])
    assert metrics.relative_roi_error(estimate, truth + 2.0, truth) == pytest.approx([0.625, 1.0])
    assert np.isnan(metrics.roi_error(estimate, truth, np.zeros_like(where))).all()


def test_coverage_and_width_count_what_they_say():
    truth = np.array([[0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]])
    lower, upper = np.zeros_like(truth), np.full_like(truth, 2.0)
    where = np.array([[True, False, False, True], [False, False, False, True]])
    assert metrics.coverage(truth, lower, upper) == 3 / 8
    assert metrics.coverage(truth, lower, upper, where) == pytest.approx(1 / 3)
    assert metrics.roi_coverage(truth, lower, upper) == pytest.approx([0.75, 0.0])
    assert metrics.roi_coverage(truth, lower, upper, where) == pytest.approx([0.5, 0.0])
    assert metrics.mean_width(lower, upper + where) == pytest.approx(2 + 3 / 8)
    assert metrics.mean_width(lower, upper + where, where) == 3.0


def test_crps_equals_the_integral():
    mean, sd, truth = np.array([[0.0, 1.0, -2.0]]), np.array([[1.0, 0.3, 2.0]]), np.array([[0.7, 0.1, 4.0]])
    x = np.linspace(-30, 30, 200_001)
    step = (x[:, None] >= truth[0]).astype(float)
    integral = np.sum((norm.cdf(x[:, None], mean[0], sd[0]) - step) ** 2, axis=0) * (x[1] - x[0])
    np.testing.assert_allclose(metrics.crps_gaussian(mean, sd, truth)[0], integral, atol=3e-4)


def test_crps_is_smallest_for_the_true_sd(honest):
    truth, mean, sd = honest
    scores = [metrics.crps_gaussian(mean, k * sd, truth).mean() for k in (0.5, 0.8, 1.0, 1.25, 2.0)]
    assert np.argmin(scores) == 2
    assert scores[2] == pytest.approx(np.mean(sd) / np.sqrt(np.pi), rel=0.02)  # E|Z − Z'|/2 of two equal normals


def test_pit_is_uniform(honest):
    truth, mean, sd = honest
    values = metrics.pit(mean, sd, truth)
    counts = np.histogram(values, bins=10, range=(0, 1))[0] / values.size
    assert np.abs(counts - 0.1).max() < 5 * np.sqrt(0.09 / values.size)


def test_fast_changes_are_the_fastest():
    truth = np.zeros((2, 200))
    truth[0, 100:] = 1.0
    truth[1, 50:] += 3.0
    fast = metrics.fast_changes(truth, fraction=0.01)
    assert fast.sum(1).tolist() == [2, 2]
    assert np.nonzero(fast[0])[0].tolist() == [99, 100]
    assert np.nonzero(fast[1])[0].tolist() == [49, 50]


def test_fast_changes_against_brute_force():
    truth = RNG.normal(size=(5, 400)).astype(np.float32)
    fast = metrics.fast_changes(truth)
    speed = np.abs(truth[:, 2:] - truth[:, :-2]) / 2
    assert (fast.sum(1) == 12).all()
    for row, chosen in zip(speed, fast[:, 1:-1], strict=True):
        assert row[chosen].min() >= row[~chosen].max()


def test_event_amplitude_of_flattened_events():
    t = np.arange(600.0)
    truth = np.stack([5 + sum(np.exp(-0.5 * ((t - c) / 6) ** 2) for c in centres) for centres in ([100, 300], [450])])
    assert metrics.event_mask(truth).any(1).all()
    assert metrics.event_amplitude_ratio(truth, truth) == 1.0
    assert metrics.event_amplitude_ratio(2 + 0.4 * truth, truth) == pytest.approx(0.4)
    noisy = truth + 0.05 * RNG.normal(size=truth.shape)
    assert metrics.event_amplitude_ratio(noisy, truth) == pytest.approx(1.0, abs=0.15)  # not the maximum of noise
    assert np.isnan(metrics.event_amplitude_ratio(np.ones((2, 9)), np.ones((2, 9))))


def test_noise_level_of_white_noise():
    """median |N(0, 2σ²)| = 0.6745·√2·σ; σ = 5 % at 30 Hz."""
    dff = 0.05 * np.random.default_rng(3).normal(size=(4, 100_000))
    expected = norm.ppf(0.75) * np.sqrt(2) * 5 / np.sqrt(30)
    np.testing.assert_allclose(metrics.noise_level_nu(dff, 30.0), expected, rtol=0.02)


def test_best_gaussian_is_the_best_of_those_offered():
    truth = np.sin(np.arange(2000) / 20)[None] * np.ones((3, 1))
    raw = truth + 0.5 * np.random.default_rng(4).normal(size=truth.shape)
    sigmas = np.array([0.5, 2.0, 5.0, 20.0])
    fit = metrics.best_temporal_gaussian(raw, truth, sigmas)
    assert fit.sigma == 5.0
    assert fit.error == pytest.approx(metrics.roi_error(fit.estimate, truth).mean())
    assert fit.error < 0.1 * metrics.roi_error(raw, truth).mean()


def test_oracle_wiener_reaches_its_closed_form_error():
    rng = np.random.default_rng(5)
    truth = np.cumsum(rng.normal(size=(1, 500)), axis=1)
    noise = np.array([25.0])
    raws = truth + 5 * rng.normal(size=(400, 500))
    errors = [metrics.roi_error(metrics.oracle_wiener(raw[None], truth, noise), truth)[0] for raw in raws]
    power = np.linalg.norm(_cosines(500) @ truth[0][:, None], axis=1) ** 2
    assert np.mean(errors) == pytest.approx(np.mean(power * 25 / (power + 25)), rel=0.05)
    gaussian = metrics.best_temporal_gaussian(raws[:1], truth, np.arange(0.5, 10, 0.5))
    assert np.mean(errors) < gaussian.error
    smooth = metrics.roi_error(metrics.oracle_wiener(raws[:1], truth, noise, smooth_bins=10), truth)[0]
    assert np.mean(errors) < smooth < 25


def _cosines(n):
    """Orthonormal cosine basis (DCT-II), by its definition."""
    k, t = np.mgrid[:n, :n]
    basis = np.sqrt(2 / n) * np.cos(np.pi * (t + 0.5) * k / n)
    basis[0] /= np.sqrt(2)
    return basis


def test_summary_of_an_honest_estimate(honest):
    truth, mean, sd = honest
    table = metrics.summary(truth, mean, sd, *_bands(mean, sd), LEVELS)
    frames = truth.size
    for held, fast, level in zip(table.coverage, table.fast_coverage, LEVELS, strict=True):
        assert abs(held - level) < 4 * np.sqrt(level * (1 - level) / frames)
        assert abs(fast - level) < 4 * np.sqrt(level * (1 - level) / (0.03 * frames))
    assert table.roi_error == pytest.approx(np.mean(sd**2), rel=0.03)
    assert table.width_ratio == pytest.approx(np.mean(sd) / np.sqrt(np.mean(sd**2)), rel=0.02)
    assert table.event_amplitude == pytest.approx(1.0, abs=0.05)


def test_a_liar_is_caught(honest):
    truth, mean, sd = honest
    table = metrics.summary(truth, mean, sd, *_bands(mean, sd), LEVELS)
    narrow = metrics.summary(truth, mean, sd / 2, *_bands(mean, sd / 2), LEVELS)
    shifted = metrics.summary(truth, mean + 1.0, sd, *_bands(mean + 1.0, sd), LEVELS)
    assert narrow.coverage[3] == pytest.approx(2 * norm.cdf(1.96 / 2) - 1, abs=0.01)  # 0.67 for a claimed 0.95
    assert narrow.width_ratio == pytest.approx(table.width_ratio / 2)
    assert narrow.crps > table.crps
    assert shifted.roi_error == pytest.approx(table.roi_error + 1.0, rel=0.03)
    assert shifted.coverage[3] < table.coverage[3] - 0.05


def test_a_band_that_fails_only_during_events_is_caught(honest):
    """True on average, wrong during events: the failure this project exists to remove."""
    truth, mean, sd = honest
    fast = metrics.fast_changes(truth)
    wrong = np.where(fast, mean + 3 * sd, mean)
    table = metrics.summary(truth, wrong, sd, *_bands(wrong, sd), LEVELS)
    assert table.coverage[3] > 0.9
    assert table.fast_coverage[3] < 0.3
    assert table.fast_error > 5 * table.roi_error
