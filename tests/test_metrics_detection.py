"""Detection by a trace's own spread, and ROC curves: by hand, against all pairs, against a closed form."""

import numpy as np
import pytest
from scipy.stats import norm

from udenoise import metrics
from udenoise.errors import InputError


def _scene(T=600, at=(100, 300, 500), height=2.0, noise=0.1, seed=0):
    """(truth, noise): triangles of 9 frames."""
    t = np.arange(T)
    truth = sum(height * np.clip(1 - np.abs(t - c) / 5, 0, None) for c in at)[None]
    return truth, noise * np.random.default_rng(seed).normal(size=truth.shape)


def test_own_spread_is_that_of_a_gaussian_and_ignores_events():
    noise = 3 * np.random.default_rng(0).normal(size=(4, 100_000))
    np.testing.assert_allclose(metrics.own_sd(noise), 3, rtol=0.02)  # 4 standard errors
    events = noise + 50 * (np.arange(100_000) % 1000 < 20)
    np.testing.assert_allclose(metrics.own_sd(events), metrics.own_sd(noise), rtol=0.05)
    assert events.std() > 2 * noise.std()
    scores = metrics.z_scores(7 * noise - 5)
    np.testing.assert_allclose(scores, metrics.z_scores(noise), atol=1e-9)


def test_own_spread_by_hand():
    """Five values 0 … 4: median 2, quantile 0.1587 at 4·0.1587."""
    sd = 2 - 4 * norm.cdf(-1)
    assert metrics.own_sd(np.arange(5.0)[None]) == pytest.approx([sd])
    assert metrics.z_scores(np.arange(5.0)[None])[0] == pytest.approx((np.arange(5) - 2) / sd)


def test_detections_by_hand():
    """Of three true events one is kept, one halved (z = 10 as good as 20), one gone; one more is invented."""
    truth, noise = _scene()
    estimate = _scene(at=(100,))[0] + 0.5 * _scene(at=(300,))[0] + _scene(at=(400,))[0] + noise
    score = metrics.score_detections(estimate, truth, np.array([1.0]), tolerance=4, z=5)
    assert (score.true, score.found, score.missed, score.invented) == (3, 3, 1, 1)
    assert (score.recall, score.precision) == pytest.approx((2 / 3, 2 / 3))
    assert score.chance == pytest.approx(1 / 3)  # 400 comes to lie on 100
    assert metrics.score_detections(estimate, truth, np.array([1.0]), tolerance=4, z=14).missed == 2
    with pytest.raises(InputError, match="z-score"):
        metrics.score_detections(estimate, truth, np.array([1.0]), 4, z=0)


def test_a_run_is_one_event_and_a_burst_is_no_invention():
    truth = _scene(at=(100, 106, 112, 300))[0]
    score = metrics.score_detections(truth + _scene()[1], truth, np.array([0.5]), tolerance=3)
    assert (score.true, score.found, score.missed, score.invented) == (4, 2, 0, 0)


def test_a_small_true_event_is_no_invention():
    """0.7 of the threshold: not to be found, but not invented if it is; 0.4 of it was too small to excuse 2."""
    truth, noise = _scene(at=(100,))
    small, smaller = _scene(at=(300,), height=0.7)[0], _scene(at=(450,), height=0.4)[0]
    seen = truth + small + _scene(at=(450,))[0] + noise
    score = metrics.score_detections(seen, truth + small + smaller, np.array([1.0]), tolerance=3)
    assert (score.true, score.found, score.missed, score.invented) == (1, 3, 0, 1)


def test_a_run_ends_at_half_the_score():
    """Two peaks of z = 10 and a dip between them to z = 3 are one event at z = 5, to z = 2 they are two."""
    base = np.tile([0.5, 0.0, -0.5], 200)[None]  # median 0, quantile 0.159 at −0.5
    for dip, found in ((3.0, 1), (2.0, 2)):
        trace = base.copy()
        trace[0, 300:303] = 0.5 * np.array([10, dip, 10])
        assert metrics.own_sd(trace) == pytest.approx([0.5])
        assert metrics.score_detections(trace, np.zeros_like(trace), np.array([1.0]), 3).found == found


def test_noise_hides_events_from_the_eye_and_a_flat_estimate_shows_none():
    truth, noise = _scene()
    heights = [metrics.event_z(truth + k * noise, metrics.detect_events(truth, np.array([1.0])), 2) for k in (1, 5, 20)]
    assert heights[0].min() > 15 and 2 < heights[1].min() < 7 and heights[2].min() < 5
    flat = metrics.score_detections(np.ones_like(truth), truth, np.array([1.0]), 4)
    assert (flat.found, flat.missed, flat.recall) == (0, 3, 0.0)
    still = metrics.score_detections(truth, truth, np.array([1.0]), 4)  # infinite z
    assert (still.found, still.missed, still.invented) == (3, 0, 0)


def test_quiet_places_touch_no_event():
    """Frames 95 (its start) … 103 (above half the threshold) belong to the event, and 4 on each side."""
    truth = _scene(T=180, at=(100,))[0]
    estimate = np.arange(180.0)[None]
    quiet = metrics.quiet_z(estimate, truth, np.array([1.0]), tolerance=4)
    ends = [block[-1] for block in np.arange(180).reshape(20, 9) if block[-1] < 95 - 4 or block[0] > 103 + 4]
    np.testing.assert_allclose(quiet, metrics.z_scores(estimate)[0, ends])
    sunken = truth - 3 * (np.abs(np.arange(180) - 100) < 30)  # the event stays below the median
    sunken_quiet = metrics.quiet_z(estimate, sunken, np.array([1.0]), tolerance=4)
    assert not np.isin(metrics.z_scores(estimate)[0, 107], sunken_quiet)
    assert np.isin(metrics.z_scores(estimate)[0, 125], sunken_quiet)


def test_roc_by_hand():
    """Events 3, 1; quiet 2, 1, 0: pairs won 3 + 1 of 6, one tie."""
    curve = metrics.roc(np.array([3.0, 1.0]), np.array([2.0, 1.0, 0.0]))
    assert curve.threshold.tolist() == [3, 2, 1, 0]
    assert curve.recall.tolist() == [0.5, 0.5, 1, 1]
    assert curve.false_alarm == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert curve.area == pytest.approx(4.5 / 6)
    assert [curve.recall_at(rate) for rate in (0, 0.5, 0.7, 1)] == [0.5, 0.5, 1, 1]
    assert metrics.roc(np.array([0.0]), np.array([1.0])).recall_at(0.0) == 0.0
    unseen = metrics.roc(np.array([np.nan, 1.0]), np.array([0.0, 0.0]))
    assert (unseen.area, unseen.recall_at(0.0)) == (0.5, 0.5)
    with pytest.raises(InputError, match="0 events"):
        metrics.roc(np.zeros(0), np.ones(3))


def test_roc_of_two_gaussians_has_its_closed_form():
    """Area Φ(d/√2), recall at rate p: Φ(d − Φ⁻¹(1 − p))."""
    rng = np.random.default_rng(1)
    curve = metrics.roc(1.5 + rng.normal(size=20_000), rng.normal(size=20_000))
    assert curve.area == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.01)
    assert curve.recall_at(0.05) == pytest.approx(norm.cdf(1.5 - norm.ppf(0.95)), abs=0.03)
    assert np.all(np.diff(curve.recall) >= 0) and np.all(np.diff(curve.false_alarm) >= 0)
    steps = np.concatenate([[0.0], curve.false_alarm]), np.concatenate([[0.0], curve.recall])
    assert curve.area == pytest.approx(np.sum(np.diff(steps[0]) * (steps[1][1:] + steps[1][:-1]) / 2))
