"""Rows of tables: the same columns for every method, completed error bars, and numbers that are those of the metrics."""

import numpy as np
import pytest
from scipy.stats import norm

from udenoise import metrics
from udenoise.errors import InputError
from udenoise.metrics import Estimate

LEVELS = (0.5, 0.95)
N, T, S = 6, 1500, 200


@pytest.fixture(scope="module")
def scene():
    """(truth, estimate with everything): the error is Normal(0, 0.1²), white."""
    rng = np.random.default_rng(0)
    t = np.arange(T)
    shape = np.exp(-t[:60] / 12) - np.exp(-t[:60] / 2)
    truth = 5 + np.stack([np.convolve(np.isin(t, np.arange(50 + 9 * n, T - 80, 150)), 3 * shape)[:T] for n in range(N)])
    mean = truth + 0.1 * rng.normal(size=truth.shape)
    return truth, mean, mean + 0.1 * rng.normal(size=(S, N, T))


def _row(truth, estimate, **settings):
    return metrics.trace_row(truth, estimate, np.full(N, 0.04), levels=LEVELS, **settings)


def test_columns_are_the_same_for_every_method(scene):
    truth, mean, draws = scene
    sd, factor = np.full_like(mean, 0.1), np.full((2, N), 3.0)
    rows = [
        _row(truth, estimate)
        for estimate in (
            Estimate(mean),
            Estimate(mean, sd),
            Estimate(mean, draws=draws),
            Estimate(mean, sd, None, None, factor),
        )
    ]
    assert all(list(row) == list(rows[0]) for row in rows)
    assert tuple(rows[0])[-28:] == metrics.bar_columns(LEVELS)
    assert all(isinstance(value, float) for row in rows for value in row.values())
    bare = [name for name in rows[0] if np.isnan(rows[0][name])]
    assert bare == list(metrics.bar_columns(LEVELS))
    claimed = [name for name in rows[1] if np.isnan(rows[1][name])]
    assert claimed == ["simultaneous_coverage_50", "simultaneous_coverage_95"]
    assert np.isfinite(list(rows[3].values())).all()


def test_numbers_are_those_of_the_metrics(scene):
    truth, mean, draws = scene
    row = _row(truth, Estimate(mean, draws=draws))
    assert row["roi_error"] == pytest.approx(np.mean((mean - truth) ** 2))
    assert row["relative_error"] == pytest.approx(row["roi_error"] / 0.04)
    assert row["absolute_error"] == pytest.approx(np.mean(np.abs(mean - truth)))
    lower, upper = np.quantile(draws, [0.025, 0.975], axis=0, method="weibull")
    assert row["coverage_95"] == pytest.approx(metrics.coverage(truth, lower, upper))
    assert row["event_coverage_95"] == metrics.coverage(truth, lower, upper, metrics.event_mask(truth))
    assert row["seen_coverage_95"] == metrics.coverage(truth, lower, upper, metrics.event_mask(mean))
    brightness = np.sort(truth.ravel())
    assert row["dim_coverage_95"] == metrics.coverage(truth, lower, upper, truth <= brightness[truth.size // 5])
    assert row["bright_coverage_95"] == pytest.approx(
        metrics.coverage(truth, lower, upper, truth > np.quantile(truth, 0.8))
    )
    assert row["crps"] == pytest.approx(metrics.crps_draws(draws, truth).mean())
    assert row["pit_spread"] == metrics.pit_histogram(metrics.pit_draws(draws, truth)).spread
    assert (row["true"], row["z_true"]) == (57, 57)  # 10 of the first three ROIs, 9 of the others
    assert (row["missed"], row["z_missed"]) == (0, 0)


def test_bars_are_completed(scene):
    truth, mean, draws = scene
    by_draws = metrics.completed(Estimate(mean, draws=draws), LEVELS)
    np.testing.assert_allclose(by_draws.sd, draws.std(0, ddof=1))
    for band, p in ((by_draws.lower, (50.25, 5.025)), (by_draws.upper, (150.75, 195.975))):  # (S + 1)·p, from 1
        ordered = np.sort(draws, axis=0)
        for values, rank in zip(band, p, strict=True):
            k, part = int(rank), rank % 1
            np.testing.assert_allclose(values, (1 - part) * ordered[k - 1] + part * ordered[k])
    by_sd = metrics.completed(Estimate(mean, np.full_like(mean, 2.0)), LEVELS)
    np.testing.assert_allclose(
        by_sd.upper - by_sd.mean, 2 * norm.ppf([0.75, 0.975])[:, None, None] * np.ones((1, N, T))
    )
    kept = Estimate(mean, np.ones_like(mean), by_sd.lower, by_sd.upper)
    assert metrics.completed(kept, LEVELS).lower is by_sd.lower
    assert metrics.completed(Estimate(mean), LEVELS) == Estimate(mean)
    with pytest.raises(InputError, match="standard deviation"):
        metrics.completed(Estimate(mean, None, by_sd.lower, by_sd.upper), LEVELS)
    with pytest.raises(InputError, match="2 bands for 1"):
        metrics.completed(kept, (0.5,))


def test_simultaneous_bands_by_hand(scene):
    truth, mean, _ = scene
    sd = np.full_like(mean, 0.1)
    largest = np.abs(mean - truth).max(axis=1) / 0.1
    factor = np.stack([largest + 0.01, np.where(np.arange(N) < 2, largest + 0.01, largest - 0.01)])
    row = _row(truth, Estimate(mean, sd, simultaneous=factor))
    assert row["simultaneous_coverage_50"] == 1.0
    assert row["simultaneous_coverage_95"] == pytest.approx(2 / 6)


def test_movie_row():
    rng = np.random.default_rng(1)
    truth = 10 + rng.random((1, 8, 9)) * np.ones((50, 1, 1))
    estimate = truth + rng.normal(size=truth.shape)
    masks = np.zeros((2, 8, 9), bool)
    masks[0, :4], masks[1, 5:] = True, True
    ripple = metrics.add_wobble(metrics.start_wobble(masks), estimate, truth)
    pixels = metrics.add_pixels(metrics.start_pixels(masks), estimate, truth)
    row, score = metrics.movie_row(ripple, pixels), metrics.pixel_score(pixels)
    assert row["wobble"] == pytest.approx(metrics.wobble(ripple).mean())
    assert row["pixel_error"] == pytest.approx(np.mean((estimate - truth) ** 2))
    assert row["pixel_snr"] == pytest.approx(score.snr.mean())
    assert row["corrected_pixel_snr"] == pytest.approx(score.corrected_snr.mean())
    assert list(row)[-2:] == ["pixel_snr", "untrue_pixel_snr"]
