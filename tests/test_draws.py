"""Draws have the stated covariance between ROI and ring, frames and regions; functions of traces get their corridor."""

import numpy as np
import pytest
from test_traces import gaussian, nowhere

from udenoise.draws import GAIN_SPREAD, MOST_AHEAD, TracePosterior, clock, correlation, draw_region, propagate
from udenoise.errors import InputError
from udenoise.regions import Places
from udenoise.roi_error import Together
from udenoise.sampling import SCALE_SPREAD, Memory

S, T = 5000, 12
LASTING = Memory(0.7, 4.0)


def posterior(N: int = 1, memory: Memory = LASTING, together=None, places=None) -> TracePosterior:
    """Random covariances of ROI and ring."""
    rng = np.random.default_rng(4)
    root = rng.standard_normal((T, N, 2, 2))
    covariance = root @ root.swapaxes(-1, -2) + 0.1 * np.eye(2)
    together = together or Together(np.zeros(2), np.zeros(2))
    return TracePosterior(np.full((T, 2, N), 10.0), covariance, memory, together, places or nowhere(N), np.zeros((2, N)))


@pytest.mark.parametrize("shared", [0.0, 0.3])
def test_draws_have_the_stated_mean_covariance_and_memory(shared):
    """Whatever part of the error other regions share."""
    known = posterior(together=Together(np.full(2, shared), np.full(2, shared)))
    draws = draw_region(known, 0, range(S), 0, {})
    assert draws.shape == (S, 2, T)
    covariance, centred = known.covariance[:, 0], draws - known.mean[:, :, 0].T
    sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    np.testing.assert_array_less(np.abs(centred.mean(0).T) / sd, 5 / np.sqrt(S))
    measured = np.einsum("skt,slt->tkl", centred, centred) / S
    np.testing.assert_array_less(np.abs(measured - covariance) / (sd[:, :, None] * sd[:, None]), 8 * np.sqrt(2 / S))
    unit = centred[:, 0] / sd[:, 0]
    assert (unit[:, :-1] * unit[:, 1:]).mean() == pytest.approx(known.memory.at(np.array([1.0]))[0], abs=0.03)


def test_the_error_of_the_mean_image_is_one_in_all_frames():
    """Where the rest has no memory, the mean over a long trace has that variance alone."""
    frames, still = 400, np.array([[0.09], [0.25]])
    known = posterior(memory=Memory(0.0, 1.0))
    known = known._replace(mean=np.zeros((frames, 2, 1)), covariance=np.tile(np.eye(2), (frames, 1, 1, 1)), still=still)
    draws = draw_region(known, 0, range(S), 0, {})
    np.testing.assert_allclose(draws.var(axis=(0, 2)), 1, rtol=0.03)
    np.testing.assert_allclose(draws.mean(2).var(0), still[:, 0] + (1 - still[:, 0]) / frames, rtol=0.12)
    assert correlation(posterior(2)._replace(still=np.full((2, 2), 1e3)), 0)[0, 1] == 0


def test_regions_share_what_is_stated():
    """0.2 everywhere, 0.5 more at the same place, in between as near as they are."""
    weight = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 0, 1]], np.float32)
    places = Places(np.tile(np.arange(4), (4, 1)), weight)
    together = Together(np.array([0.2, 0.1]), np.array([0.5, 0.3]))
    known = posterior(4, Memory(0.0, 1.0), together, places)
    error = np.stack([draw_region(known, n, range(S), 0, {})[:, 0] for n in range(4)]) - known.mean[:, 0].T[:, None]
    found = np.corrcoef((error / np.sqrt(known.covariance[..., 0, 0].T)[:, None]).reshape(4, -1))
    np.testing.assert_allclose(found, correlation(known, 0), atol=0.03)
    apart = np.exp(-(SCALE_SPREAD**2))  # each region's error bar is off by itself
    assert found[0, 2] == pytest.approx(apart * (0.2 + 0.5 * 0.6), abs=0.03)


@pytest.mark.parametrize("step, kept", [(0.0, 1.0), (-10.0, 1.0), (10.0, 0.0)])
def test_errors_before_and_after_a_rise_are_strangers(step, kept):
    """A fall leaves them as they are. A step of ten error bars lies five above and below the median: a common factor, too."""
    mean = np.where(np.arange(T)[:, None, None] >= 6, step, 0.0) * np.ones((1, 2, 1))
    known = posterior()._replace(mean=mean, covariance=np.tile(np.eye(2), (T, 1, 1, 1)))
    error = draw_region(known, 0, range(S), 0, {})[:, 0] - mean[:, 0, 0]
    share = (GAIN_SPREAD * step / 2) ** 2
    expected = (1 - share) * kept * LASTING.at(np.array([1.0]))[0] - share
    assert np.corrcoef(error[:, 5], error[:, 6])[0, 1] == pytest.approx(expected, abs=0.06)
    assert error.std(0) == pytest.approx(1.0, rel=0.06)


def test_the_clock_of_errors_never_runs_far_ahead():
    """Also where a trace rises by a thousand error bars in every other frame."""
    mean = np.where(np.arange(T) % 2, 1000.0, 0.0)[:, None, None] * np.ones((1, 2, 1))
    known = posterior(memory=Memory(1.0, 50.0))._replace(mean=mean, covariance=np.tile(np.eye(2), (T, 1, 1, 1)))
    time = clock(known, 0)
    assert time[0] == 0 and (np.diff(time) >= 1).all() and time[-1] < (1 + MOST_AHEAD) * T
    assert (np.diff(time)[1::2] == 1).all() and (np.diff(time)[::2] > 1).all()


def test_large_traces_are_off_by_a_common_factor():
    """At ten error bars above the median half of the error is of the whole trace's size, however far apart the frames."""
    mean = np.zeros((T, 2, 1))
    mean[[2, 9]] = 10.0
    known = posterior(memory=Memory(0.0, 1.0))._replace(mean=mean, covariance=np.tile(np.eye(2), (T, 1, 1, 1)))
    error = draw_region(known, 0, range(S), 0, {})[:, 0] - mean[:, 0, 0]
    assert np.corrcoef(error[:, 2], error[:, 9])[0, 1] == pytest.approx((10 * GAIN_SPREAD) ** 2, abs=0.05)
    assert abs(np.corrcoef(error[:, 2], error[:, 5])[0, 1]) < 0.05


def test_draws_are_the_same_one_by_one_and_with_what_neighbours_left():
    known = posterior(3, together=Together(np.full(2, 0.2), np.full(2, 0.3)))
    held = {}
    whole = [draw_region(known, n, range(5), 7, held) for n in range(3)]
    for n in (2, 0):
        np.testing.assert_allclose(whole[n][3:4], draw_region(known, n, [3], 7, {}), rtol=1e-6)
    assert not np.array_equal(whole[0], draw_region(known, 0, range(5), 8, {}))


def test_a_certain_region_is_its_mean():
    _, known = gaussian(1, 7, sd=1e-7)
    np.testing.assert_allclose(
        draw_region(known, 0, range(10), 0, {})[:, 0], known.mean[None, :, 0, 0].repeat(10, 0), atol=1e-4
    )


def test_a_linear_function_gets_its_closed_form():
    """The mean over a window of an ROI whose frames err together."""
    draws = np.random.default_rng(0).normal(5.0, 2.0, (4000, 3, 1)) + np.zeros(10)
    found = propagate(draws, lambda traces: traces[:, 2:6].mean(1), (0.8, 0.95))
    np.testing.assert_allclose(found.mean, 5, atol=5 * 2 / np.sqrt(4000))
    np.testing.assert_allclose(found.sd, 2, rtol=0.06)
    np.testing.assert_allclose(found.lower[1], 5 - 1.96 * 2, atol=0.25)
    np.testing.assert_allclose(found.upper[0], 5 + 1.2816 * 2, atol=0.2)
    assert found.levels == (0.8, 0.95) and found.lower.shape == (2, 3)


def test_a_peak_of_draws_lies_above_the_peak():
    """About the mean traces the corridor holds both: the peak that draws have, and that of a trace as smooth as their mean."""
    truth = np.zeros((1, 20))
    draws = truth + np.random.default_rng(1).normal(0, 1, (4000, 1, 20))
    alone, about = (propagate(draws, lambda traces: traces.max(1), (0.95,), mean) for mean in (None, truth))
    assert alone.lower[0, 0] > 0.5 and about.lower[0, 0] < 0 < about.upper[0, 0]
    assert about.upper[0, 0] == alone.upper[0, 0]


def test_what_cannot_be_a_corridor_is_said():
    with pytest.raises(InputError, match="at least 2"):
        propagate(np.zeros((1, 2, 5)), np.mean)
    with pytest.raises(InputError, match="between 0 and 1"):
        propagate(np.zeros((5, 2, 5)), np.mean, (95.0,))
