"""Planted events: the filter against dense least squares, what known filters leave of them, and who can still find them."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d, median_filter
from scipy.stats import norm

from udenoise import metrics
from udenoise.errors import InputError

E, T, Y, X = 6, 400, 24, 40


def _spots(sigma=1.8):
    y, x = np.mgrid[:Y, :X]
    centres = [(6, 6), (6, 18), (6, 32), (17, 6), (17, 19), (17, 33)]
    spots = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * sigma**2)) for a, b in centres])
    return np.where(spots > 0.05, spots, 0.0)


@pytest.fixture(scope="module")
def planted():
    course = np.array([[0.6, 1.0, 0.7, 0.4, 0.2], [1.0, 0.5, 0.0, 0.0, 0.0]])[np.arange(E) % 2]
    return metrics.Planted(_spots(), np.array([40, 90, 150, 210, 270, 330]), course, np.full(E, 4.0))


def _movie(planted):
    """(background, background and events)."""
    rng = np.random.default_rng(0)
    background = 20 + gaussian_filter(rng.normal(size=(T, Y, X)), (25, 4, 4)) * 40
    events = np.zeros((T, Y, X))
    for spot, at, course, size in zip(*planted, strict=True):
        events[at : at + len(course)] += size * course[:, None, None] * spot
    return background, background + events


def test_the_filter_is_the_dense_least_squares(planted):
    """Unknowns: the event's amplitude, and a constant and a slope of every pixel."""
    rng = np.random.default_rng(1)
    frames, margin, event = rng.normal(size=(11, 3, 4)), 3, 1
    spot, course = rng.random((3, 4)), planted.course[event]
    k = np.pad(course, margin)
    unit = np.eye(12)
    design = np.stack(
        [np.outer(k, spot.ravel()).ravel()]
        + [np.outer(b, pixel).ravel() for b in (np.ones(11), np.arange(11)) for pixel in unit],
        axis=1,
    )
    dense = np.linalg.lstsq(design, frames.ravel(), rcond=None)[0][0]
    traces = metrics.footprint_traces(frames, spot[None])
    output = metrics.matched_filter(traces, course[None], margin)
    assert output[0, margin] == pytest.approx(dense)
    assert np.isnan(output[0, [0, 1, 2, 4, 10]]).all()


def test_footprint_traces_by_hand_and_in_chunks(planted):
    frames = np.random.default_rng(2).normal(size=(9, Y, X))
    whole = metrics.footprint_traces(frames, planted.footprint)
    parts = [metrics.footprint_traces(part, planted.footprint) for part in np.split(frames, [2, 7])]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole)
    assert metrics.footprint_traces(3 * planted.footprint[:2], planted.footprint[:2]).diagonal() == pytest.approx(
        [3, 3]
    )
    two = metrics.footprint_traces(np.array([[[1.0, 4.0]]]), np.array([[[1.0, 2.0]]]))
    assert two == pytest.approx(np.array([[9 / 5]]))
    with pytest.raises(InputError, match="footprint 1"):
        metrics.footprint_traces(frames, np.stack([planted.footprint[0], np.zeros((Y, X))]))


def test_kept_halved_and_swallowed(planted):
    background, truth = _movie(planted)
    traces = {f: metrics.footprint_traces(m, planted.footprint) for f, m in (("t", truth), ("b", background))}
    recovered = metrics.recovered_amplitudes
    assert recovered(planted, traces["t"], traces["t"]) == pytest.approx(1)
    assert recovered(planted, traces["b"], traces["t"]) == pytest.approx(0, abs=1e-9)
    assert recovered(planted, (traces["t"] + traces["b"]) / 2, traces["t"]) == pytest.approx(0.5)
    assert recovered(planted, traces["t"]) == pytest.approx(1, abs=0.1)  # the background's curvature counts
    assert recovered(planted, traces["t"] - traces["b"]) == pytest.approx(1)
    drift = traces["t"] + 0.3 * np.arange(T) - 50
    assert recovered(planted, drift, traces["t"]) == pytest.approx(1)


def test_what_a_temporal_gaussian_leaves(planted):
    """Only the course changes, k → G k: Σ k⊥·Gk / Σ k⊥·k by hand."""
    background, truth = _movie(planted)
    smooth = background + gaussian_filter1d(truth - background, 3.0, axis=0)
    recovered = metrics.recovered_amplitudes(
        planted, *(metrics.footprint_traces(m, planted.footprint) for m in (smooth, truth)), margin=6
    )
    for value, course in zip(recovered, planted.course, strict=True):
        long = np.zeros(200)
        long[100:105] = course
        k, x = long[94:111], gaussian_filter1d(long, 3.0)[94:111]
        t = np.arange(17)
        k_rest = k - np.polyval(np.polyfit(t, k, 1), t)
        assert value == pytest.approx(k_rest @ x / (k_rest @ k))
        assert value < 0.4


def test_a_temporal_median_swallows(planted):
    truth = _movie(planted)[1]
    lie = median_filter(truth, (15, 1, 1))
    kept = metrics.recovered_amplitudes(
        planted, *(metrics.footprint_traces(m, planted.footprint) for m in (lie, truth))
    )
    assert kept.max() < 0.15


def test_noise_spreads_the_amplitude_by_the_stated_snr(planted):
    rng = np.random.default_rng(3)
    sd = np.linspace(1, 4, X) * np.ones((Y, 1))
    truth = _movie(planted)[1]
    traces = [
        metrics.footprint_traces(m, planted.footprint) for m in (truth, truth + sd * rng.normal(size=truth.shape))
    ]
    output = metrics.matched_filter(traces[1] - traces[0], planted.course)[:, 10:-20]
    snr = metrics.planted_snr(planted, sd**2)
    for row, expected in zip(output, planted.amplitude / snr, strict=True):
        assert abs(row.mean()) < 5 * expected / np.sqrt(len(row) / 10)  # the filter's output is correlated
        assert row.std() == pytest.approx(expected, rel=4 * np.sqrt(10 / 2 / len(row)))
    assert snr[0] > 2 * snr[2] > 3


def test_findable_by_hand():
    """Two events that share pixels, one far away; quiet blocks of 3 starts, none within 2 + 2 + 1 of events that share pixels."""
    footprint = np.zeros((3, 1, 4))
    footprint[0, 0, :2] = footprint[1, 0, 1:3] = footprint[2, 0, 3] = 1
    planted = metrics.Planted(footprint, np.array([10, 20, 30]), np.tile([1.0, 1.0], (3, 1)), np.ones(3))
    traces = np.random.default_rng(4).normal(size=(3, 60))
    traces[0, 10:12] += 100
    found = metrics.findable(planted, traces, reach=1, margin=2)
    output = metrics.matched_filter(traces, planted.course, 2)
    z = np.full((3, 60), -np.inf)
    z[:, 2:57] = metrics.z_scores(output[:, 2:57])
    assert found.event == pytest.approx([z[0, 9:12].max(), z[1, 19:22].max(), z[2, 29:32].max()])
    assert found.event[0] > 30
    near = ([10, 20], [10, 20], [30])
    expected = [
        z[n, at : at + 3].max()
        for n in range(3)
        for at in range(0, 60, 3)
        if at >= 2 and at + 3 <= 57 and all(abs(t - s) > 5 for t in range(at, at + 3) for s in near[n])
    ]
    assert found.quiet == pytest.approx(expected)


def test_finding_falls_with_the_noise_and_with_swallowing(planted):
    rng = np.random.default_rng(5)
    background, truth = _movie(planted)
    noise = rng.normal(size=truth.shape)

    def area(movie):
        return metrics.roc(*metrics.findable(planted, metrics.footprint_traces(movie, planted.footprint))).area

    assert area(truth - background + noise) > 0.999
    assert 0.55 < area(truth - background + 12 * noise) < 0.99
    assert area(noise) < 0.8
    smooth = gaussian_filter1d(truth - background + 6 * noise, 6.0, axis=0)
    assert area(smooth) < area(truth - background + 6 * noise)


def test_the_quiet_scores_are_those_of_the_largest_of_five():
    """White traces, an impulse as course: the output is nearly white, so P(quiet < z) = Φ(z)⁵."""
    n = 40
    planted = metrics.Planted(np.eye(n)[:, None], np.full(n, 500), np.ones((n, 1)), np.ones(n))
    quiet = metrics.findable(planted, np.random.default_rng(6).normal(size=(n, 3000)), reach=2, margin=40).quiet
    for z in (1.0, 2.0, 3.0):
        p = norm.cdf(z) ** 5
        assert np.mean(quiet < z) == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / len(quiet)) + 0.005)


def test_refusals(planted):
    with pytest.raises(InputError, match="too few"):
        metrics.matched_filter(np.ones((1, 8)), np.ones((1, 3)), margin=3)
    with pytest.raises(InputError, match="straight line"):
        metrics.matched_filter(np.ones((1, 8)), np.arange(4.0)[None], margin=0)
