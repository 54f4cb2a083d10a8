"""Every lie moves the figure that is meant to see it, and leaves alone what it says nothing about."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from udenoise import metrics

LEVELS = (0.5, 0.95)
OFFSET = 20.0


class Scene(NamedTuple):
    """Sparse events on a slow baseline, an estimate whose error is Normal(0, sd²), and where the events are."""

    truth: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    threshold: np.ndarray
    true: metrics.Events


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    t = np.arange(3000)
    kernel = np.exp(-t[:80] / 12) - np.exp(-t[:80] / 2)
    spikes = np.zeros((20, 3000))
    for row in spikes:
        row[np.arange(60, 2900, 140) + rng.integers(0, 40, 21)] = 2 + rng.random(21)
    truth = 10 + np.sin(t / 900) + np.stack([np.convolve(row, kernel)[:3000] for row in spikes])
    sd = np.full(truth.shape, 0.05)
    threshold = np.full(20, 0.5)
    return Scene(truth, truth + sd * rng.normal(size=sd.shape), sd, threshold, metrics.detect_events(truth, threshold))


def _score(scene, mean, sd):
    z = norm.ppf(0.5 + np.array(LEVELS) / 2)[:, None, None]
    bands = metrics.band_score(scene.truth, mean, sd, mean - z * sd, mean + z * sd, LEVELS)
    traces = metrics.trace_score(mean, scene.truth, scene.threshold)
    return {
        "error": traces.roi_error,
        "fast": traces.fast_error,
        "rest": traces.rest_error,
        "amplitude": traces.amplitude,
        "delay": traces.delay,
        "missed": traces.events.missed,
        "invented": traces.events.invented,
        "coverage": bands.coverage[1],
        "event coverage": bands.event_coverage[1],
        "rest coverage": bands.rest_coverage[1],
        "poorest": bands.poorest_coverage[1],
        "width": bands.relative_width[1],
        "local width": bands.local_width[1],
        "crps": bands.crps,
        "bias": bands.pit.bias,
        "spread": bands.pit.spread,
    }


HONEST = {
    "error": (0.0025, 0.02), "fast": (0.0025, 0.1), "rest": (0.0025, 0.02), "amplitude": (1, 0.02), "delay": (0, 0.05),
    "missed": (0, 0), "invented": (0, 0), "coverage": (0.95, 0.005), "event coverage": (0.95, 0.02),
    "rest coverage": (0.95, 0.005), "poorest": (0.95, 0.012), "width": (1, 0.02), "local width": (1, 0.02),
    "crps": (0.05 / np.sqrt(np.pi), 0.01), "bias": (0, 0.005), "spread": (1, 0.02),
}  # fmt: skip
"""What each figure is of an honest estimate, and how far it may be off: relative, absolute where it is 0."""


def _moved(figures):
    return {
        name
        for name, value in figures.items()
        if abs(value - HONEST[name][0]) > HONEST[name][1] * (HONEST[name][0] or 1)
    }


def _place(scene, events, shape):
    """A movie of one shape (frames from an event's start on) at each of the events."""
    out = np.zeros_like(scene.truth)
    for n, first in zip(*events, strict=True):
        out[n, first : first + len(shape)] += shape
    return out


def test_the_honest_estimate_moves_nothing(scene):
    assert len(scene.true.roi) == 20 * 21
    assert _moved(_score(scene, scene.mean, scene.sd)) == set()


def test_halved_error_bars(scene):
    figures = _score(scene, scene.mean, scene.sd / 2)
    assert _moved(figures) == {
        "coverage", "event coverage", "rest coverage", "poorest", "width", "local width", "crps", "spread",
    }  # fmt: skip
    assert figures["coverage"] == pytest.approx(2 * norm.cdf(1.96 / 2) - 1, abs=0.01)
    assert figures["width"] == pytest.approx(0.5, rel=0.02)


def test_shifted_means(scene):
    figures = _score(scene, scene.mean + 0.1, scene.sd)
    assert figures["bias"] < -0.3
    assert figures["error"] == pytest.approx(0.0025 + 0.01, rel=0.02)
    assert figures["coverage"] < 0.6
    assert _moved(figures).isdisjoint({"amplitude", "delay", "missed", "invented"})


def test_swallowed_events(scene):
    """Every tenth event is replaced by the straight line from its start to 60 frames later."""
    mean = scene.mean.copy()
    gone = np.arange(0, len(scene.true.roi), 10)
    for n, first in zip(scene.true.roi[gone], scene.true.start[gone], strict=True):
        line = np.linspace(scene.truth[n, first], scene.truth[n, first + 60], 60)
        mean[n, first : first + 60] = line + scene.sd[n, :60] * np.random.default_rng(n).normal(size=60)
    figures = _score(scene, mean, scene.sd)
    assert figures["missed"] == len(gone)
    assert figures["event coverage"] < 0.88
    assert figures["fast"] > 10 * HONEST["fast"][0]
    assert figures["coverage"] > 0.91
    assert figures["rest"] < 0.05 * figures["fast"]  # the faint tails of events count as rest
    assert _moved(figures).isdisjoint({"invented", "amplitude", "delay"})


def test_invented_events(scene):
    """Forty events of full size where nothing is."""
    rng = np.random.default_rng(3)
    free = [np.flatnonzero(metrics.at_rest(row[None])[0]) for row in scene.truth]
    t = np.arange(12)
    shape = 1.5 * np.sin(np.pi * (t + 0.5) / 12)
    places = []
    for n, frames in enumerate(free):
        quiet = [f for f in frames if f < 2900 and np.isin(np.arange(f - 10, f + 30), frames).all()]
        places += [(n, quiet[0]), (n, quiet[len(quiet) // 2 + rng.integers(5)])]
    rolls = np.array(places).T
    figures = _score(scene, scene.mean + _place(scene, rolls, shape), scene.sd)
    assert figures["invented"] == 40
    assert figures["rest"] > 2 * HONEST["rest"][0]
    assert figures["rest coverage"] < 0.945
    assert _moved(figures).isdisjoint({"missed", "amplitude", "delay", "event coverage", "fast"})


def test_flattened_events(scene):
    figures = _score(scene, scene.truth.min() + 0.8 * (scene.mean - scene.truth.min()), scene.sd)
    assert figures["amplitude"] == pytest.approx(0.8, abs=0.01)
    assert _moved(figures).isdisjoint({"missed", "invented", "delay"})


def test_late_events(scene):
    figures = _score(scene, np.roll(scene.mean, 2, axis=1), scene.sd)
    assert figures["delay"] == pytest.approx(2.0, abs=0.05)
    assert figures["fast"] > 10 * HONEST["fast"][0]
    assert _moved(figures).isdisjoint({"missed", "invented"})


def test_bars_too_narrow_in_a_few_rois(scene):
    """True on average: the others are as much too wide."""
    sd = np.where(np.arange(20)[:, None] < 4, 0.6, 1.45) * scene.sd
    figures = _score(scene, scene.mean, sd)
    assert figures["coverage"] == pytest.approx(0.95, abs=0.01)
    assert figures["poorest"] < 0.8


@pytest.fixture(scope="module")
def movie():
    """(estimate, truth, masks): two touching cells whose brightness changes; white noise of 5 %."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:20, :32]
    cells = np.stack([np.hypot(y - 9.5, x - at) < 5 for at in (9.5, 20.5)])
    brightness = 1 + gaussian_filter(rng.random((120, 2)), (3, 0))
    truth = OFFSET + 10 * (0.5 + np.einsum("tn,nyx->tyx", brightness, gaussian_filter(cells * 1.0, (0, 1, 1))))
    return truth + 0.5 * rng.normal(size=truth.shape), truth, cells


def _figures(estimate, truth, masks):
    ripple = metrics.wobble(metrics.add_wobble(metrics.start_wobble(masks), estimate, truth, OFFSET))
    pixels = metrics.pixel_score(metrics.add_pixels(metrics.start_pixels(masks), estimate, truth, OFFSET))
    roi = metrics.roi_error(*(np.stack([m[:, mask].mean(1) for mask in masks]) for m in (estimate, truth)))
    return ripple, pixels, roi


def test_a_wobbling_border(movie):
    """The border of each cell moves to and fro by about a pixel; the cell's brightness is left alone."""
    estimate, truth, masks = movie
    lie = estimate.copy()
    rng = np.random.default_rng(5)
    for mask in masks:
        push = 2 * gaussian_filter(rng.normal(size=120), 1.5)[:, None]
        inside = np.stack([np.gradient(frame, axis=1)[mask] for frame in truth])
        lie[:, mask] += push * (inside - inside.mean(1, keepdims=True))
    (before, _, error), (after, _, error_of_lie) = _figures(estimate, truth, masks), _figures(lie, truth, masks)
    assert (after > 1.4 * before).all()
    np.testing.assert_allclose(error_of_lie, error, rtol=1e-9)


def test_brightness_lies_do_not_wobble(movie):
    """Swallowed and invented events of a cell are wrong brightness, not a moving border."""
    estimate, truth, masks = movie
    factor = 1 + 0.3 * np.sin(np.arange(120) / 5)[:, None, None]
    lie = OFFSET + factor * (estimate - OFFSET)
    (before, _, error), (after, _, error_of_lie) = _figures(estimate, truth, masks), _figures(lie, truth, masks)
    np.testing.assert_allclose(after, before, rtol=0.05)
    assert (error_of_lie > 100 * error).all()


def test_smoothing_the_noise_flatters_single_pixels_only(movie):
    """The same noise spread over neighbours: single pixels look several times better, the ROI gains next to nothing."""
    estimate, truth, masks = movie
    smooth = truth + gaussian_filter(estimate - truth, (0, 2, 2))
    (_, raw, error), (_, flattered, smooth_error) = _figures(estimate, truth, masks), _figures(smooth, truth, masks)
    assert (flattered.snr / raw.snr > 4).all()
    np.testing.assert_allclose(flattered.corrected_snr / raw.corrected_snr, np.sqrt(error / smooth_error), rtol=0.02)
    assert (flattered.corrected_snr / raw.corrected_snr < 1.6).all()
    assert (flattered.effective_pixels < 0.15 * flattered.pixels).all()
    assert min(flattered.neighbour_correlation) > 0.8 > 0.1 > max(raw.neighbour_correlation)
