"""An honest denoiser: the exact posterior of a Gaussian process seen in white noise.

Its errors are smooth in time and its bars are true.
"""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import norm

from udenoise import metrics
from udenoise.metrics import Estimate

N, T, S, NOISE = 200, 200, 99, 1.0
LEVELS = (0.5, 0.8, 0.95)


class Posterior(NamedTuple):
    """The truth's prior has unit variance and a correlation of exp(−|lag|/10)."""

    truth: np.ndarray
    raw: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    draws: np.ndarray


@pytest.fixture(scope="module")
def honest():
    rng = np.random.default_rng(0)
    t = np.arange(T)
    prior = np.exp(-np.abs(t[:, None] - t) / 10)
    truth = rng.normal(size=(N, T)) @ np.linalg.cholesky(prior).T
    raw = truth + NOISE * rng.normal(size=truth.shape)
    gain = prior @ np.linalg.inv(prior + NOISE**2 * np.eye(T))
    covariance = prior - gain @ prior
    mean = raw @ gain.T
    draws = mean + rng.normal(size=(S, N, T)) @ np.linalg.cholesky(covariance).T
    return Posterior(truth, raw, mean, np.sqrt(np.diag(covariance)) * np.ones((N, 1)), draws)


@pytest.fixture(scope="module")
def row(honest):
    return _row(honest, honest.mean, honest.sd)


def _row(honest, mean, sd, draws=None):
    estimate = Estimate(mean, sd if draws is None else None, draws=draws)
    return metrics.trace_row(honest.truth, estimate, np.full(N, NOISE**2), levels=LEVELS)


def _error(level, frames):
    """Four standard errors of a coverage; about 15 neighbouring frames are worth one."""
    return 4 * np.sqrt(level * (1 - level) * 15 / frames)


def test_its_bars_are_true(honest, row):
    for level in LEVELS:
        assert row[f"coverage_{100 * level:g}"] == pytest.approx(level, abs=_error(level, N * T))
        assert row[f"relative_width_{100 * level:g}"] == pytest.approx(1, abs=0.02)
    assert row["roi_error"] == pytest.approx(np.mean(honest.sd**2), rel=0.03)
    assert row["crps"] == pytest.approx(np.mean(honest.sd) / np.sqrt(np.pi), rel=0.02)
    assert abs(row["pit_bias"]) < 0.01 and row["pit_spread"] == pytest.approx(1, abs=0.03)
    assert row["relative_error"] < 0.3


def test_its_draws_say_the_same(honest, row):
    drawn = _row(honest, honest.mean, None, honest.draws)
    for name in ("coverage_80", "coverage_95", "crps", "pit_bias"):
        assert drawn[name] == pytest.approx(row[name], abs=0.01), name
    assert drawn["pit_spread"] == pytest.approx(row["pit_spread"], abs=0.02)
    assert 1 < drawn["relative_width_95"] / row["relative_width_95"] < 1.06  # the price of 99 draws


def test_draws_that_are_too_alike(honest, row):
    """Halved deviations; the score is that of Normal(0, 1/4) where Normal(0, 1) is true."""
    alike = _row(honest, honest.mean, None, honest.mean + 0.5 * (honest.draws - honest.mean))
    assert alike["coverage_95"] == pytest.approx(2 * norm.cdf(1.96 / 2) - 1, abs=0.02)
    assert alike["pit_spread"] > 1.5
    expected = (np.sqrt(2 * 1.25) - 0.5) / np.sqrt(np.pi) * np.mean(honest.sd)
    assert alike["crps"] == pytest.approx(expected, rel=0.02) and expected > 1.05 * row["crps"]


def test_told_by_the_truth_even_it_holds_less_during_events(honest, row):
    """It shrinks what is rare; where its own mean is high it holds its level. Raw data with their noise: the other way round."""
    band = honest.mean - 1.96 * honest.sd, honest.mean + 1.96 * honest.sd
    frames = metrics.event_mask(honest.mean).sum()
    assert row["seen_coverage_95"] == pytest.approx(0.95, abs=_error(0.95, frames))
    assert 0.85 < row["event_coverage_95"] < 0.93
    told = metrics.state_coverage(honest.truth, *band, told_by=honest.mean)
    assert told.fast == pytest.approx(0.95, abs=_error(0.95, 0.03 * N * T))
    raw = _row(honest, honest.raw, np.full_like(honest.raw, NOISE))
    assert raw["event_coverage_95"] == pytest.approx(0.95, abs=_error(0.95, metrics.event_mask(honest.truth).sum()))
    assert raw["seen_coverage_95"] < 0.85


def test_a_simultaneous_band_of_its_draws_holds_whole_traces(honest):
    """Half the width is the level's quantile over draws of the largest deviation in sd; a pointwise band holds nearly none."""
    level = 0.9
    deviation = np.abs(honest.draws - honest.mean) / honest.sd
    factor = np.quantile(deviation.max(axis=2), level, axis=0)[:, None] * honest.sd
    held = metrics.simultaneous_coverage(honest.truth, honest.mean - factor, honest.mean + factor)
    assert held == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / N))
    halved = metrics.simultaneous_coverage(honest.truth, honest.mean - factor / 2, honest.mean + factor / 2)
    pointwise = metrics.simultaneous_coverage(
        honest.truth, honest.mean - 1.645 * honest.sd, honest.mean + 1.645 * honest.sd
    )
    assert pointwise < 0.05 and halved < 0.05


def test_an_invented_event_is_where_the_estimate_shows_it(honest, row):
    """One in every tenth ROI, of three times the largest truth: told by the truth, the bars during events are as before."""
    lie = honest.mean.copy()
    lie[::10, 90:110] = 3 * honest.truth.max()
    figures = _row(honest, lie, honest.sd)
    assert figures["seen_coverage_95"] < row["seen_coverage_95"] - 0.05
    assert figures["event_coverage_95"] == pytest.approx(row["event_coverage_95"], abs=0.02)
