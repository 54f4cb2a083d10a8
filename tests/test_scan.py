"""Chance makes as many events as the scan says, in noise of any law; of those it finds, few are chance; blocks do not matter."""

import numpy as np
import pytest
from helpers import correlated, white
from scipy import ndimage

from udenoise.regions import correlated_share
from udenoise.sampling import colour, spectrum_of
from udenoise.scan import (
    DURATIONS,
    SHIFTS,
    SIGMAS_PX,
    Chance,
    Ground,
    Independent,
    Peaks,
    Whitened,
    add_frames,
    count_chance,
    event_sizes,
    join_peaks,
    joined,
    measure_chance,
    p_values,
    q_values,
    start_scan,
    take,
)

F, Y, X = 135, 80, 88


def ground(kernel: np.ndarray, photons: float, shape: tuple[int, int] = (Y, X)) -> Ground:
    """A field with borders."""
    light = (
        np.exp(0.5 * ndimage.zoom(np.random.default_rng(0).standard_normal((16, 16)), np.array(shape) / 16)) * photons
    )
    gradient = np.stack(np.gradient(light)) / np.sqrt(light)
    return Ground(kernel, (1 / np.sqrt(light)).astype(np.float32), gradient.astype(np.float32))


def noise_of(where: Ground, frames: int, seed: int) -> np.ndarray:
    """Photons, whitened, correlated."""
    light = where.skewness.astype(float) ** -2
    unit = (np.random.default_rng(seed).poisson(light, (frames, *light.shape)) - light) / np.sqrt(light)
    unit = unit if np.count_nonzero(where.kernel) == 1 else colour(unit, spectrum_of(where.kernel, light.shape))
    return unit.astype(np.float32)


def found(where: Ground, value: np.ndarray, doubt: float = 0.0) -> Peaks:
    """The peaks of one scan."""
    frames = Whitened(value, np.full_like(value, doubt))
    return joined([take(add_frames(start_scan(where), frames), last=True)[0]])


@pytest.fixture(scope="module", params=[(0.0, 0.05), (0.0, 2.0), (0.3, 2.0)], ids=str)
def noisy(request):
    lag1, photons = request.param
    where = ground(correlated(lag1) if lag1 else white(), photons)
    return where, measure_chance(where, seed=3)


def test_chance_makes_as_many_events_as_it_says(noisy):
    where, chance = noisy
    peaks = [found(where, noise_of(where, F, seed)) for seed in range(4)]
    sizes = np.concatenate([event_sizes(part.z, join_peaks(part)) for part in peaks])
    for least in (4.0, 4.4, 4.8):
        expected = 4 * F * Y * X * chance.above(np.array([least]))[0]
        assert abs((sizes >= least).sum() - expected) < 4 * np.sqrt(expected) + 0.2 * expected, least
    p = p_values(sizes, chance)
    assert p.max() <= 1 and np.mean(p < 0.2) == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / len(p)) + 0.03)


def test_each_scale_keeps_its_rate():
    """A normal z at every place: of peaks, as many above 4 as a single test would give at most, at every spot and duration."""
    where = ground(white(), 20.0)
    peaks = found(where, np.random.default_rng(2).standard_normal((4 * F, Y, X), np.float32))
    for spot, sigma in enumerate(SIGMAS_PX):
        for duration, frames in enumerate(DURATIONS):
            chosen = (peaks.spot == spot) & (peaks.duration == duration)
            step = (1, 1, 2, 4, 4, 4, 4, 4)[spot]
            tests = 4 * F / max(frames // 3, 1) * Y * X / step**2
            expected = 6.334e-5 * tests
            assert chosen.sum() <= expected + 4 * np.sqrt(expected) + 2, (sigma, frames)


def test_of_what_is_flagged_few_are_chance():
    """Planted events of all sizes, at 5 %: the share of flagged ones that touch none, and how many planted ones are found."""
    where = ground(correlated(0.3), 5.0)
    chance, rng, false, flagged, hit, planted = measure_chance(where), np.random.default_rng(8), 0, 0, 0, 0
    for seed in range(4):
        value, places = noise_of(where, F, 50 + seed), []
        for n in range(24):
            y, x, t = 10 + 20 * (n % 4), 10 + 13 * (n // 4), int(rng.integers(5, F - 35))
            sigma, frames, sign = SIGMAS_PX[n % 4], DURATIONS[(n // 4) % 4], rng.choice([-1, 1])
            ys, xs = np.mgrid[:Y, :X]
            shape = np.exp(-((ys - y) ** 2 + (xs - x) ** 2) / (2 * sigma**2))
            width = np.sqrt(max(correlated_share(shape, where.kernel), 1.0))
            value[t : t + frames] += sign * 9 * width / np.sqrt(frames * (shape**2).sum()) * shape.astype(np.float32)
            places.append((t, t + frames, y, x, max(2.5 * sigma, 3)))
        peaks = found(where, value)
        event = join_peaks(peaks)
        q = q_values(event_sizes(peaks.z, event), chance, F * Y * X)
        touched = np.array([[_touches(peaks, i, one) for one in places] for i in range(len(event))])
        for e in np.flatnonzero(q <= 0.05):
            flagged, false = flagged + 1, false + ~touched[event == e].any()
        hit += (touched & (q[event] <= 0.05)[:, None]).any(0).sum()
        planted += len(places)
    assert flagged > 60 and false / flagged < 0.05 + 3 * np.sqrt(0.05 * 0.95 / flagged)
    assert hit / planted > 0.95


def _touches(peaks: Peaks, i: int, one: tuple) -> bool:
    start, stop, y, x, reach = one
    last = peaks.frame[i] + DURATIONS[peaks.duration[i]]
    near = np.hypot(peaks.y[i] - y, peaks.x[i] - x) <= 2 * reach
    return bool(near and peaks.frame[i] < stop + 9 and last > start - 9)


def test_z_is_the_matched_filters():
    """One spot without noise for three frames: z from noise and stated error, and the height of it."""
    where = ground(white(), 1e8, (48, 52))
    ys, xs = np.mgrid[:48, :52]
    shape = np.exp(-((ys - 20) ** 2 + (xs - 24) ** 2) / (2 * 2.4**2))
    value = np.zeros((54, 48, 52), np.float32)
    value[30:33] = 2.0 * shape
    inside = (abs(ys - 20) <= 7) & (abs(xs - 24) <= 7)  # three standard deviations
    power, total = 3 * (shape**2)[inside].sum(), 3 * shape[inside].sum()
    for doubt in (0.0, 0.1):
        peaks = found(where, value, doubt)
        own = np.flatnonzero((np.array(SIGMAS_PX)[peaks.spot] == 2.4) & (np.array(DURATIONS)[peaks.duration] == 3))
        best = own[np.abs(peaks.z[own]).argmax()]
        assert (peaks.frame[best], peaks.y[best], peaks.x[best]) == (30, 20, 24)
        assert doubt or best == np.abs(peaks.z).argmax()
        assert peaks.z[best] == pytest.approx(2 * power / np.sqrt(power + (doubt * total) ** 2), rel=5e-3)
        assert peaks.height[best] == pytest.approx(2.0, rel=1e-3)


def test_a_displaced_border_is_found_and_measured():
    where = ground(white(), 30.0)
    moved = 0.8 * np.tensordot([0.6, 0.8], where.gradient, 1)
    value = np.random.default_rng(4).standard_normal((81, Y, X), np.float32)
    value[27:54] += moved
    peaks = found(where, value)
    best = np.abs(peaks.z).argmax()
    assert (
        peaks.spot[best] in SHIFTS
        and peaks.frame[best] == 27
        and abs(peaks.height[best]) == pytest.approx(0.8, abs=0.25)
    )


def test_blocks_do_not_matter():
    """Given at once, in parts, or begun anew in the middle: the same peaks."""
    where = ground(white(), 3.0)
    value = noise_of(where, 150, 7)
    frames = Whitened(value, np.zeros_like(value))

    def part(first: int, stop: int) -> Whitened:
        return Whitened(*(whole[first:stop] for whole in frames))

    whole = take(add_frames(start_scan(where), frames), last=True)[0]
    scan, seen = start_scan(where), []
    for first, stop in ((0, 10), (10, 64), (64, 70)):
        one, scan = take(add_frames(scan, part(first, stop)))
        seen.append(one)
    again = start_scan(where, 70)
    again = take(add_frames(again, part(again.start, 70)))[1]
    seen.append(take(add_frames(again, part(70, 150)), last=True)[0])
    for one, other in zip(joined([whole]), joined(seen), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_large_everywhere_is_usual():
    """Noise a fifth louder than stated: no more events than there should be."""
    where = ground(white(), 20.0)
    chance, value = measure_chance(where), np.random.default_rng(5).standard_normal((F, Y, X), np.float32)
    sizes = [event_sizes(peaks.z, join_peaks(peaks)) for peaks in (found(where, value), found(where, 1.2 * value))]
    expected = F * Y * X * chance.above(np.array([4.0]))[0]
    assert len(sizes[1]) < expected + 5 * np.sqrt(expected) and len(sizes[0]) > expected / 2


def test_peaks_that_overlap_are_one_event_and_signs_stay_apart():
    frame, y, x = np.array([0, 2, 3, 3, 60]), np.array([10, 10, 10, 30, 10]), np.array([10, 12, 11, 30, 10])
    z = np.array([5.0, 6.0, -7.0, 4.5, 5.0])
    spots, durations = np.array([2, 1, 0, 1, 2]), np.array([1, 1, 0, 0, 1])
    event = join_peaks(Peaks(frame, y, x, spots, durations, z, z))
    assert event[0] == event[1] and len({event[0], event[2], event[3], event[4]}) == 4
    assert sorted(event_sizes(z, event)) == [4.5, 5.0, 6.0, 7.0]
    event = join_peaks(Peaks(frame, y, x, np.array([2, SHIFTS[0], 0, 1, 2]), durations, z, z))
    assert event[0] == event[1] == event[2]  # a displacement has both sides


def test_p_and_q():
    chance, size = Chance(1e-2), np.array([4.0, 6.5, 5.0])
    q = q_values(size, chance, 1000)
    assert q[[1, 2, 0]] == pytest.approx(np.minimum(1000 * chance.above(np.sort(size)[::-1]) / [1, 2, 3], 1))
    assert (np.diff(q[np.argsort(size)]) <= 0).all()
    assert chance.above(np.array([4.0]))[0] == 1e-2 and p_values(np.array([3.0]), chance)[0] == 1
    assert Independent(100.0).above(np.array([1.959964]))[0] == pytest.approx(5.0, rel=1e-5)
    normal = np.abs(np.random.default_rng(1).standard_normal(40_000_000))
    assert count_chance(normal[normal >= 4.0], len(normal)).steepness == pytest.approx(1.0, abs=0.05)
    assert count_chance(np.zeros(0), 100) == Chance(0.01)
