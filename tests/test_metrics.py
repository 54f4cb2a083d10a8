"""Metrics against brute force, closed form, and a liar."""

import numpy as np
import pytest
from scipy.stats import norm

from udenoise import metrics
from udenoise.errors import InputError

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


def test_states_by_hand():
    """Median 0, maximum 10, two fastest of 200 frames: at the step. Above 5 is an event, above 1 not at rest."""
    truth = np.zeros((1, 200))
    truth[0, 100:110] = 10.0
    truth[0, 50:53] = [0.5, 2.0, 0.5]
    rest = metrics.at_rest(truth)
    fast = metrics.fast_changes(truth, 0.03)
    assert fast.sum() == 6 and {99, 100, 109, 110} <= set(np.flatnonzero(fast[0]))
    assert not rest[0, 100:110].any() and not rest[0, 51] and rest[0, 53:99].all()
    assert metrics.frame_states(truth)[0, [10, 105, 99]].tolist() == [0, 2, 3]
    errors = metrics.state_errors(truth + np.where(rest, 2.0, 0.0), truth)
    assert errors.rest == pytest.approx([4.0]) and errors.fast == pytest.approx([0.0])
    assert errors.overall == pytest.approx([4.0 * rest.mean()])


def test_coverage_by_state_and_by_group():
    truth = np.zeros((2, 100))
    truth[:, 50:60] = 1.0
    lower, upper = truth - 1, truth + 1
    upper[0, 50:60] = 0.5
    held = metrics.state_coverage(truth, lower, upper)
    assert held.overall == 0.95 and held.event == 0.5 and held.rest == 1.0
    assert np.isnan(metrics.state_coverage(np.zeros((1, 9)), np.zeros((1, 9)), np.zeros((1, 9))).event)
    group = np.broadcast_to(np.array([7, 3])[:, None], truth.shape)
    parts = metrics.coverage_by_group(truth, lower, upper, group)
    assert parts.group.tolist() == [3, 7] and parts.count.tolist() == [100, 100]
    assert parts.value.tolist() == [1.0, 0.9]
    assert parts.mean() == pytest.approx(0.95)


def test_quantile_groups_are_equal_and_ordered():
    value = RNG.normal(size=(3, 400))
    group = metrics.quantile_groups(value, 5)
    assert np.bincount(group.ravel()).tolist() == [240] * 5
    assert all(value[group == k].max() < value[group == k + 1].min() for k in range(4))


def test_oracle_width_by_hand():
    """Errors 0 … 4: their median is 2. Of the first two 0.5, of the other three 3."""
    truth = np.zeros((1, 5))
    estimate = np.array([[0.0, -1.0, 2.0, -3.0, 4.0]])
    group = np.array([[5, 5, 7, 7, 7]])
    assert metrics.oracle_width(estimate, truth, 0.5).value == pytest.approx([4.0])
    local = metrics.oracle_width(estimate, truth, 0.5, group)
    assert local.value == pytest.approx([1.0, 6.0]) and local.count.tolist() == [2, 3]
    lower, upper = estimate - 1, estimate + 3
    assert metrics.relative_width(lower, upper, estimate, truth, 0.5) == pytest.approx(1.0)
    assert metrics.relative_width(lower, upper, estimate, truth, 0.5, group) == pytest.approx(1.0)  # (2·1 + 3·6)/5
    with pytest.raises(InputError, match="0.95"):
        metrics.oracle_width(estimate, truth, 95.0)


@pytest.mark.parametrize("level", LEVELS)
def test_the_oracle_holds_its_level_whatever_the_errors_are(level):
    estimate = RNG.standard_t(2, size=(4, 5000))
    truth = np.zeros_like(estimate)
    half = metrics.oracle_width(estimate, truth, level).value[0] / 2
    assert metrics.coverage(truth, estimate - half, estimate + half) == pytest.approx(level, abs=1e-4)
    assert metrics.coverage(truth, estimate - 0.9 * half, estimate + 0.9 * half) < level


def test_an_honest_band_is_as_wide_as_the_local_oracle(honest):
    truth, mean, sd = honest
    for q, low, high in zip(LEVELS, *_bands(mean, sd), strict=True):
        group = metrics.quantile_groups(sd, 20)
        assert metrics.relative_width(low, high, mean, truth, q, group) == pytest.approx(1, abs=0.02)
        if q > 0.9:
            assert metrics.relative_width(low, high, mean, truth, q) < 0.98


def test_simultaneous_coverage_counts_whole_traces():
    truth = np.zeros((4, 5))
    lower, upper = np.full((4, 5), -1.0), np.ones((4, 5))
    lower[1, 2] = 0.5
    upper[3, 4] = -0.5
    assert metrics.simultaneous_coverage(truth, lower, upper) == 0.5
    assert metrics.simultaneous_coverage(truth, lower, upper, np.arange(5) < np.full((4, 1), 4)) == 0.75


def test_crps_of_draws_by_hand_and_by_all_pairs():
    """Draws 0 and 4, truth 1: (1 + 3)/2 − 4/2."""
    assert metrics.crps_draws(np.array([[[0.0]], [[4.0]]]), np.array([[1.0]])) == pytest.approx(0.0)
    draws, truth = RNG.normal(size=(7, 2, 3)), RNG.normal(size=(2, 3))
    pairs = np.abs(draws[:, None] - draws[None]).sum((0, 1)) / (2 * 7 * 6)
    np.testing.assert_allclose(metrics.crps_draws(draws, truth), np.abs(draws - truth).mean(0) - pairs)
    with pytest.raises(InputError, match="two or more"):
        metrics.crps_draws(draws[:1], truth)


def test_crps_of_draws_tends_to_the_gaussians_and_is_unbiased():
    rng = np.random.default_rng(6)
    mean, sd, truth = np.array([[0.0, 2.0]]), np.array([[1.0, 0.5]]), np.array([[0.8, 0.0]])
    scores = np.stack([metrics.crps_draws(mean + sd * rng.normal(size=(5, 1, 2)), truth) for _ in range(4000)])
    expected = metrics.crps_gaussian(mean, sd, truth)
    assert (np.abs(scores.mean(0) - expected) < 4 * scores.std(0) / np.sqrt(4000)).all()


def test_pit_of_draws_is_the_rank():
    draws = np.array([0.0, 1.0, 2.0])[:, None, None] * np.ones((1, 1, 4))
    assert metrics.pit_draws(draws, np.array([[-1.0, 0.5, 1.0, 9.0]])) == pytest.approx(
        np.array([[0.5, 1.5, 2.0, 3.5]]) / 4
    )


def test_pit_histogram_by_hand():
    flat = metrics.pit_histogram(np.array([[0.125, 0.375, 0.625, 0.875]]), bins=2)
    assert flat.density.tolist() == [1.0, 1.0] and flat.distance == pytest.approx(0.125)
    assert flat.bias == 0.0 and flat.spread == pytest.approx(12 * 5 / 64)
    low = metrics.pit_histogram(np.full((1, 4), 0.25), bins=4)
    assert low.density.tolist() == [0.0, 4.0, 0.0, 0.0]
    assert (low.distance, low.bias, low.spread) == (0.75, -0.25, 0.0)


def test_pit_histogram_of_the_honest(honest):
    truth, mean, sd = honest
    true = metrics.pit_histogram(metrics.pit(mean, sd, truth))
    assert true.distance < 2.0 / np.sqrt(truth.size)  # p = 7e-4 for independent frames
    assert abs(true.bias) < 4 * np.sqrt(1 / 12 / truth.size)
    assert abs(true.spread - 1) < 4 * np.sqrt(0.8 / truth.size)  # Var of 12(u − ½)² is 4/5
    assert metrics.pit_histogram(metrics.pit(mean, sd / 2, truth)).spread > 1.5
    assert metrics.pit_histogram(metrics.pit(mean, 2 * sd, truth)).spread < 0.5
    draws = mean + sd * np.random.default_rng(7).normal(size=(19, *mean.shape))
    assert metrics.pit_histogram(metrics.pit_draws(draws, truth), 20).distance < 2.0 / np.sqrt(truth.size) + 0.025
