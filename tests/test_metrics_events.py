"""Detection, matching, missed and invented events: by hand, and matching against all pairings."""

from itertools import combinations, permutations

import numpy as np
import pytest

from udenoise import metrics
from udenoise.errors import InputError

ONE = np.array([1.0])


def _events(roi, onset):
    n = len(roi)
    whole = np.zeros(n, int)
    return metrics.Events(np.array(roi, int), np.array(onset, float), whole, whole, np.ones(n))


def _bumps(T, peaks):
    """Triangles of height h that rise and fall in 4 frames each."""
    t = np.arange(T)
    return sum(h * np.clip(1 - np.abs(t - at) / 4, 0, None) for at, h in peaks)[None]


def test_detection_by_hand():
    """Prominences: 3 at frame 2, 2 at frame 5 (the valley of height 1 parts it from the higher peak), 0.5 at frame 8."""
    trace = np.array([[0.0, 1.0, 3.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.5, 0.0], [0.0, 0, 0, 0, 0, 4, 0, 0, 0, 0]])
    trace[0, 2] = 3.5
    found = metrics.detect_events(trace, np.array([1.5, 1.5]))
    assert found.roi.tolist() == [0, 0, 1]
    assert found.peak.tolist() == [2, 5, 5]
    assert found.amplitude.tolist() == [3.5, 2.0, 4.0]
    assert found.onset == pytest.approx([1 + 0.75 / 2.5, 4.0, 4.5])
    assert found.start.tolist() == [0, 3, 4]
    assert len(metrics.detect_events(trace, np.array([0.4, 5.0])).roi) == 3
    assert len(metrics.detect_events(trace, np.array([2.1, 5.0])).roi) == 1
    with pytest.raises(InputError, match="threshold"):
        metrics.detect_events(trace, np.array([1.0, 0.0]))


def test_detection_does_not_mind_scale_offset_or_drift():
    rng = np.random.default_rng(0)
    trace = _bumps(400, [(int(at), 1 + rng.random()) for at in range(20, 380, 25)]) + 0.01 * rng.normal(size=(1, 400))
    plain, other = metrics.detect_events(trace, ONE), metrics.detect_events(7 * trace - 3, 7 * ONE)
    drift = metrics.detect_events(trace - 0.004 * np.arange(400), 0.9 * ONE)
    np.testing.assert_array_equal(plain.peak, other.peak)
    np.testing.assert_array_equal(plain.peak, drift.peak)
    assert len(plain.peak) > 10


def test_matching_by_hand():
    true, found = _events([0, 0, 0, 1], [10, 20, 40, 10]), _events([0, 0, 1, 2], [13, 22, 15.5, 10])
    assert metrics.match_events(true, found, 3).tolist() == [[0, 0], [1, 1]]
    assert metrics.match_events(true, found, 2).tolist() == [[1, 1]]
    assert metrics.match_events(true, found, 5.5).tolist() == [[0, 0], [1, 1], [3, 2]]
    assert metrics.unmatched(true, found, 3).tolist() == [False, False, True, True]
    assert metrics.match_events(true, _events([], []), 3).shape == (0, 2)


def test_a_chain_is_matched_as_fully_as_possible():
    """Nearest first would join 12 with 13 and leave 10 and 15 alone."""
    pairs = metrics.match_events(_events([0, 0], [10, 13]), _events([0, 0], [12, 15]), 2)
    assert pairs.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("seed", range(8))
def test_matching_against_all_pairings(seed):
    rng = np.random.default_rng(seed)
    a, b = np.sort(rng.uniform(0, 12, 4)), np.sort(rng.uniform(0, 12, 5))
    pairs = metrics.match_events(_events([0] * 4, a), _events([0] * 5, b), 1.5)
    distances = np.abs(a[:, None] - b)
    best = (0, 0.0)
    for size in range(1, 5):
        for rows in combinations(range(4), size):
            for columns in permutations(range(5), size):
                d = distances[list(rows), list(columns)]
                if (d <= 1.5).all():
                    best = max(best, (size, -d.sum()))
    assert len(pairs) == best[0] > 0
    assert distances[pairs[:, 0], pairs[:, 1]].sum() == pytest.approx(-best[1])
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)


def test_score_by_hand():
    """Four true events: kept, moved by 3, shrunk to 0.7, gone. One invented of full size, one below it."""
    truth = _bumps(200, [(20, 2), (60, 2), (100, 2), (140, 2)])
    estimate = _bumps(200, [(20, 2), (63, 2), (100, 1.4), (165, 2), (185, 1.4)])
    score = metrics.score_events(estimate, truth, 1.5 * ONE, tolerance=4)
    assert (score.true, score.found, score.missed, score.invented) == (4, 3, 1, 1)
    assert score.recall == 0.75
    assert score.precision == pytest.approx(2 / 3)
    assert score.f1 == pytest.approx(2 / (1 / 0.75 + 1.5))
    assert metrics.score_events(estimate, truth, 1.5 * ONE, tolerance=2).missed == 2
    true = metrics.detect_events(truth, 1.5 * ONE)
    assert metrics.missed_events(estimate, true, 1.5 * ONE, 4).tolist() == [False, False, False, True]
    assert metrics.missed_events(estimate, true, 3 * ONE, 4).tolist() == [False, False, True, True]  # 1.4 is below 1.5


def test_a_busy_trace_finds_events_by_chance():
    truth = _bumps(400, [(at, 2) for at in range(20, 400, 40)])
    busy = _bumps(400, [(at, 2) for at in range(6, 400, 10)])
    score = metrics.score_events(busy, truth, ONE, tolerance=5)
    assert score.recall == score.chance == 1.0
    assert score.precision == pytest.approx(10 / 40)
    assert metrics.score_events(truth, truth, ONE, tolerance=5).chance == 1.0  # periodic, too
    sparse = _bumps(400, [(20, 2), (150, 2)])
    assert metrics.score_events(sparse, sparse, ONE, tolerance=5).chance == 0.0


def test_no_events_is_no_number():
    flat = np.zeros((2, 50))
    score = metrics.score_events(flat, flat, np.ones(2), tolerance=3)
    assert score[:4] == (0, 0, 0, 0)
    assert np.isnan(score[4:]).all()
    assert metrics.score_events(flat, np.tile(_bumps(50, [(20, 2)]), (2, 1)), np.ones(2), 3).recall == 0.0


def test_threshold_of_a_silent_roi_is_that_of_the_others():
    truth = np.concatenate([_bumps(100, [(20, 4)]), _bumps(100, [(20, 8)]), np.zeros((1, 100))])
    assert metrics.event_threshold(truth).tolist() == [1.0, 2.0, 1.0]


def test_amplitudes_by_hand():
    truth = 5 + _bumps(100, [(20, 2), (60, 4)])
    true = metrics.detect_events(truth, ONE)
    estimate = truth.copy()
    estimate[0, 60] -= 1
    assert metrics.event_amplitude_ratios(estimate, truth, true).tolist() == [1.0, 0.75]
    assert metrics.event_amplitude_ratios(3 + 0.5 * truth, truth, true) == pytest.approx([0.5, 0.5])


def test_delay_is_what_was_put_in():
    truth = np.concatenate([_bumps(200, [(at, 2), (at + 50, 3)]) for at in (40, 70)])
    true = metrics.detect_events(truth, np.ones(2))
    for shift in (-4, 0, 3):
        delays = metrics.event_delays(1 + 0.3 * np.roll(truth, shift, axis=1), truth, true, longest=6)
        assert delays == pytest.approx([shift] * 4, abs=0.1)
    assert np.isnan(metrics.event_delays(np.ones_like(truth), truth, true, 6)).all()
    at_ends = metrics.event_delays(truth, truth, true, 40)
    assert np.isfinite(at_ends).tolist() == [False, True, False, False] and abs(at_ends[1]) < 0.1


def test_delay_between_frames():
    t = np.arange(300)
    truth, late = (np.exp(-0.5 * ((t - c) / 8) ** 2)[None] for c in (150, 150.4))
    true = metrics.detect_events(truth, np.array([0.5]))
    assert metrics.event_delays(late, truth, true, 5) == pytest.approx([0.4], abs=0.05)


def test_delay_and_amplitude_of_noisy_traces_are_unbiased():
    rng = np.random.default_rng(1)
    t = np.arange(6000)
    kernel = np.exp(-t[:60] / 15) - np.exp(-t[:60] / 2)
    spikes = np.zeros((4, 6000))
    spikes[:, 50:-100:120] = 1 + rng.random((4, 49))[:, : len(range(50, 5900, 120))]
    truth = np.stack([np.convolve(row, kernel)[:6000] for row in spikes])
    true = metrics.detect_events(truth, np.full(4, 0.2))
    noisy = truth + 0.15 * rng.normal(size=truth.shape)
    delays = metrics.event_delays(noisy, truth, true, longest=6)
    assert len(delays) == 4 * 49
    assert 0.2 < delays.std() < 2.5
    assert abs(delays.mean()) < 4 * delays.std() / np.sqrt(len(delays))
    ratios = metrics.event_amplitude_ratios(noisy, truth, true)
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / np.sqrt(len(ratios))
