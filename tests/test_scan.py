"""Chance makes as many events as the scan says, in white and in correlated noise; of those it finds, few are chance."""

import numpy as np
import pytest
from helpers import correlated, white

from udenoise.innovation import Residual, spot
from udenoise.regions import correlated_share
from udenoise.sampling import colour, spectrum_of
from udenoise.scan import (
    AFTER,
    DURATIONS,
    SIGMAS_PX,
    Chance,
    Peaks,
    begun_before,
    event_sizes,
    find_peaks,
    join_peaks,
    measure_chance,
    p_values,
    q_values,
)

F, Y, X = 120, 80, 88


def field(kernel: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((F + AFTER, Y, X), np.float32)
    return noise if np.count_nonzero(kernel) == 1 else colour(noise, spectrum_of(kernel, (Y, X))).astype(np.float32)


def residual(noise: np.ndarray) -> Residual:
    return Residual(noise, *np.ones((2, *noise.shape), np.float32))


def own_widths(kernel: np.ndarray) -> np.ndarray:
    return np.sqrt([correlated_share(spot(sigma), kernel) for sigma in SIGMAS_PX])


def everywhere(widths: np.ndarray) -> np.ndarray:
    return np.broadcast_to(widths.astype(np.float32)[:, None, None], (len(SIGMAS_PX), Y, X))


@pytest.fixture(scope="module", params=["white", "correlated"])
def noise_and_chance(request):
    kernel = white() if request.param == "white" else correlated(0.3)
    widths = own_widths(kernel)
    return kernel, widths, measure_chance(kernel, widths, seed=3)


def test_chance_makes_as_many_events_as_it_says(noise_and_chance):
    kernel, widths, chance = noise_and_chance
    found = [begun_before(find_peaks(residual(field(kernel, seed)), everywhere(widths)), F) for seed in range(4)]
    sizes = np.concatenate([event_sizes(peaks, join_peaks(peaks)) for peaks in found])
    for least in (4.0, 4.4, 4.8):
        expected = 4 * F * Y * X * chance.above(np.array([least]))[0]
        assert abs((sizes >= least).sum() - expected) < 4 * np.sqrt(expected) + 0.15 * expected, least
    p = p_values(sizes, chance)
    assert p.max() <= 1 and np.mean(p < 0.2) == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / len(p)) + 0.03)


def test_of_what_is_flagged_few_are_chance(noise_and_chance):
    """Planted events of all sizes, at 5 %: the share of flagged ones that touch none, and how many planted ones are found."""
    kernel, widths, chance = noise_and_chance
    rng, false, flagged, found, planted = np.random.default_rng(8), 0, 0, 0, 0
    for seed in range(4):
        noise, where = field(kernel, 50 + seed), []
        for n in range(24):
            y, x, t = 10 + 20 * (n % 4), 10 + 13 * (n // 4), int(rng.integers(5, F - 35))
            sigma, frames = SIGMAS_PX[n % 4], DURATIONS[(n // 4) % 4]
            shape = spot(sigma)[None] * np.ones((frames, 1, 1))
            amplitude = rng.choice([-1, 1]) * 7.5 * widths[n % 4] / np.sqrt((shape**2).sum())
            half = shape.shape[1] // 2
            ys, xs = np.arange(y - half, y + half + 1), np.arange(x - half, x + half + 1)
            inside = np.ix_(range(frames), (ys >= 0) & (ys < Y), (xs >= 0) & (xs < X))
            noise[np.ix_(range(t, t + frames), ys[(ys >= 0) & (ys < Y)], xs[(xs >= 0) & (xs < X)])] += (
                amplitude * shape[inside]
            )
            where.append((t, t + frames, y, x, max(2.5 * sigma, 3)))
        peaks = begun_before(find_peaks(residual(noise), everywhere(widths)), F)
        event = join_peaks(peaks)
        q = q_values(event_sizes(peaks, event), chance, F * Y * X)
        touched = np.array([[_touches(peaks, i, one) for one in where] for i in range(len(event))])
        for e in np.flatnonzero(q <= 0.05):
            flagged, false = flagged + 1, false + ~touched[event == e].any()
        found += (touched & (q[event] <= 0.05)[:, None]).any(0).sum()
        planted += len(where)
    assert flagged > 60 and false / flagged < 0.05 + 3 * np.sqrt(0.05 * 0.95 / flagged)
    assert found / planted > 0.95


def _touches(peaks: Peaks, i: int, one: tuple) -> bool:
    start, stop, y, x, reach = one
    last = peaks.frame[i] + DURATIONS[peaks.duration[i]]
    return bool(
        peaks.frame[i] < stop + 3 and last > start - 3 and np.hypot(peaks.y[i] - y, peaks.x[i] - x) <= 2 * reach
    )


def test_z_is_the_matched_filters():
    """One spot without noise, at the amplitude that makes z 9; unmeasured rows tell nothing."""
    frames = np.zeros((40, 40, 44), np.float32)
    shape = spot(1.3)
    half = shape.shape[0] // 2
    variance = np.random.default_rng(2).uniform(0.5, 2, frames.shape).astype(np.float32)
    at = np.s_[6:9, 20 - half : 21 + half, 18 - half : 19 + half]
    power = (shape**2 / variance[at]).sum()
    frames[at] = 9 / np.sqrt(power) * shape
    peaks = find_peaks(Residual(frames, variance, np.ones_like(frames)), np.ones((len(SIGMAS_PX), 40, 44), np.float32))
    best = np.abs(peaks.z).argmax()
    assert (peaks.frame[best], peaks.y[best], peaks.x[best]) == (6, 20, 18)
    assert (SIGMAS_PX[peaks.spot[best]], DURATIONS[peaks.duration[best]]) == (1.3, 3)
    assert peaks.z[best] == pytest.approx(9, rel=1e-4)
    variance[:] = np.inf
    nothing = find_peaks(
        Residual(frames, variance, np.ones_like(frames)), np.ones((len(SIGMAS_PX), 40, 44), np.float32)
    )
    assert len(nothing.z) == 0 and len(join_peaks(nothing)) == 0 and len(event_sizes(nothing, join_peaks(nothing))) == 0


def test_peaks_that_overlap_are_one_event_and_signs_stay_apart():
    frame, y, x = np.array([0, 2, 3, 3, 60]), np.array([10, 10, 10, 30, 10]), np.array([10, 12, 11, 30, 10])
    peaks = Peaks(
        frame, y, x, np.array([2, 1, 0, 1, 2]), np.array([1, 1, 0, 0, 1]), np.array([5.0, 6.0, -7.0, 4.5, 5.0])
    )
    event = join_peaks(peaks)
    assert event[0] == event[1] and len({event[0], event[2], event[3], event[4]}) == 4
    assert sorted(event_sizes(peaks, event)) == [4.5, 5.0, 6.0, 7.0]


def test_q_is_the_share_of_chance():
    chance, size = Chance(1e-2), np.array([4.0, 6.5, 5.0])
    q = q_values(size, chance, 1000)
    expected = 1000 * chance.above(np.sort(size)[::-1]) / [1, 2, 3]
    assert q[[1, 2, 0]] == pytest.approx(np.minimum(expected, 1))
    assert (np.diff(q[np.argsort(size)]) <= 0).all()
