"""Wobble and single pixels: by hand, by whole-movie formulas, in chunks."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from udenoise import metrics
from udenoise.errors import InputError

OFFSET = 10.0


def _masks(Y=12, X=16):
    masks = np.zeros((3, Y, X), bool)
    masks[0, 1:6, 1:7] = masks[1, 5:11, 6:13] = True  # they overlap
    masks[2, 8:11, 1:4] = True
    return masks


@pytest.fixture(scope="module")
def movies():
    """(estimate, truth), 60 frames with a pattern that changes, errors of all kinds."""
    rng = np.random.default_rng(0)
    truth = OFFSET + 5 + gaussian_filter(rng.gamma(2, 2, (60, 12, 16)), (2, 1, 1))
    return truth * (1 + 0.1 * rng.normal(size=(60, 1, 1))) + gaussian_filter(rng.normal(size=truth.shape), 1), truth


def _wobble(estimate, truth, masks, offset=0.0, cuts=()):
    sums = metrics.start_wobble(masks)
    for e, s in zip(np.split(estimate, cuts), np.split(truth, cuts), strict=True):
        sums = metrics.add_wobble(sums, e, s, offset)
    return metrics.wobble(sums)


def _pixels(estimate, truth, masks, offset=0.0, cuts=()):
    sums = metrics.start_pixels(masks)
    for e, s in zip(np.split(estimate, cuts), np.split(truth, cuts), strict=True):
        sums = metrics.add_pixels(sums, e, s, offset)
    return metrics.pixel_score(sums)


def test_wobble_by_hand():
    """Two pixels of brightness 1; the estimate moves 0.2 from one to the other and back: ±0.2 about 0."""
    truth = np.ones((4, 1, 2))
    estimate = truth + 0.2 * np.array([1, -1, 1, -1])[:, None, None] * np.array([1, -1])
    masks = np.ones((1, 1, 2), bool)
    assert _wobble(estimate, truth, masks) == pytest.approx([0.2])
    assert _wobble(3 * estimate, truth, masks) == pytest.approx([0.2])
    assert _wobble(estimate + OFFSET, truth + OFFSET, masks, OFFSET) == pytest.approx([0.2])
    assert _wobble(estimate[[0, 0, 0, 1]], truth, masks) == pytest.approx([0.2 * np.sqrt(0.75)])  # ¾ at +, ¼ at −


def test_wobble_against_its_definition(movies):
    estimate, truth = movies
    masks = _masks()
    for n, value in enumerate(_wobble(estimate, truth, masks, OFFSET)):
        e, s = estimate[:, masks[n]] - OFFSET, truth[:, masks[n]] - OFFSET
        b = e.mean(1)
        difference = e / b[:, None] - s / s.mean(1)[:, None]
        mean = np.average(difference, axis=0, weights=b**2)
        variance = np.average((difference - mean) ** 2, axis=0, weights=b**2)
        assert value == pytest.approx(np.sqrt(variance.mean()))


def test_brightness_and_blur_are_no_wobble(movies):
    """Any brightness in time, any fixed change of a fixed pattern."""
    truth = movies[1]
    rng = np.random.default_rng(1)
    masks, flicker = _masks(), 1 + 0.5 * rng.random((60, 1, 1))
    assert _wobble(OFFSET + flicker * (truth - OFFSET), truth, masks, OFFSET) == pytest.approx(0, abs=1e-7)
    still = OFFSET + flicker * (truth[:1] - OFFSET)
    blurred = gaussian_filter(still, (0, 1.5, 1.5))
    assert _wobble(blurred, still, masks, OFFSET) == pytest.approx(0, abs=1e-7)
    assert _wobble(truth, still, masks, OFFSET).min() > 0.01


def test_sums_do_not_depend_on_the_chunks(movies):
    estimate, truth = movies
    for cuts in ([7], [1, 2, 59], [20, 40]):
        whole, parts = (_wobble(estimate, truth, _masks(), OFFSET, c) for c in ((), cuts))
        np.testing.assert_allclose(parts, whole, rtol=1e-9)
        whole, parts = (_pixels(estimate, truth, _masks(), OFFSET, c) for c in ((), cuts))
        for one, other in zip(parts, whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9)


def test_pixels_against_whole_movies(movies):
    estimate, truth = movies
    masks, e = _masks(), movies[0] - movies[1]
    score = _pixels(estimate, truth, masks, OFFSET)
    assert score.error == pytest.approx(np.mean(e**2))
    centred = e - e.mean(0)
    across = np.mean(centred[:, :, 1:] * centred[:, :, :-1]) / np.mean([e[:, :, 1:].var(0), e[:, :, :-1].var(0)])
    down = np.mean(centred[:, 1:] * centred[:, :-1]) / np.mean([e[:, 1:].var(0), e[:, :-1].var(0)])
    assert score.neighbour_correlation == pytest.approx((down, across))
    for n, mask in enumerate(masks):
        inside, size = e[:, mask], mask.sum()
        brightness = (truth[:, mask] - OFFSET).mean()
        covariance = np.cov(inside.T, ddof=0)
        effective = size * np.trace(covariance) / covariance.sum()
        assert score.pixels[n] == size
        assert score.effective_pixels[n] == pytest.approx(effective)
        assert score.snr[n] == pytest.approx(brightness / np.sqrt(np.trace(covariance) / size))
        assert score.roi_snr[n] == pytest.approx(brightness / inside.mean(1).std())
        assert score.roi_snr[n] == pytest.approx(score.snr[n] * np.sqrt(effective))
        assert score.corrected_snr[n] == pytest.approx(score.roi_snr[n] / np.sqrt(size))
        values = estimate[:, mask] - OFFSET
        assert score.untrue_snr[n] == pytest.approx(np.mean(values.mean(0) / values.std(0)))


def test_effective_pixels_of_independent_and_of_common_noise():
    rng = np.random.default_rng(2)
    truth, masks = np.full((4000, 6, 8), 5.0), np.zeros((1, 6, 8), bool)
    masks[0, 1:5, 2:7] = True
    spread = 0.5 + rng.random((6, 8))  # unequal variances, too
    alone = _pixels(truth + spread * rng.normal(size=truth.shape), truth, masks)
    together = _pixels(truth + rng.normal(size=(4000, 1, 1)), truth, masks)
    assert alone.effective_pixels == pytest.approx([20], rel=4 * np.sqrt(2 / 4000))
    assert alone.corrected_snr == pytest.approx(alone.snr, rel=2 * np.sqrt(2 / 4000))
    assert np.abs(alone.neighbour_correlation).max() < 4 / np.sqrt(4000 * 40)
    assert together.effective_pixels == pytest.approx([1.0])
    assert together.neighbour_correlation == pytest.approx((1.0, 1.0))
    assert together.corrected_snr == pytest.approx(together.snr / np.sqrt(20))


def test_refusals():
    masks, ones = _masks(), np.ones((3, 12, 16))
    with pytest.raises(InputError, match="no pixel"):
        metrics.start_wobble(np.zeros((2, 4, 4), bool))
    with pytest.raises(InputError, match="offset"):
        metrics.add_wobble(metrics.start_wobble(masks), ones, ones, offset=1.0)
    with pytest.raises(InputError, match="two or more"):
        metrics.pixel_score(metrics.start_pixels(masks))
