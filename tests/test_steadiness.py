"""How much of a shown pattern change is real: laws, the dense formula, and what the standard errors promise."""

import numpy as np
import pytest
from helpers import correlated, white
from scipy import ndimage

from udenoise.errors import InputError
from udenoise.metrics import add_steadiness, pooled_steadiness, start_steadiness, steadiness
from udenoise.sampling import colour, spectrum_of

T, SIDE, OFFSET, SIGMA = 120, 24, 10.0, 6.0
rng = np.random.default_rng(5)
y, x = np.mgrid[:SIDE, :SIDE]
MASKS = np.stack([(y - a) ** 2 + (x - b) ** 2 <= 20 for a, b in ((6, 6), (16, 15))])
PATTERN = 20 + 60 * np.exp(-((y - 6) ** 2 + (x - 6) ** 2) / 20) + 40 * np.exp(-((y - 16) ** 2 + (x - 15) ** 2) / 16)
BRIGHT = 1 + 0.5 * np.abs(np.sin(np.arange(T) / 9))[:, None, None]
REAL = ndimage.gaussian_filter(rng.normal(0, 80, (T, SIDE, SIDE)), (2, 1.5, 1.5))
INVENTED = ndimage.gaussian_filter(rng.normal(0, 80, (T, SIDE, SIDE)), (2, 1.5, 1.5))
TRUTH = OFFSET + BRIGHT * PATTERN + REAL
NONE = np.zeros_like(TRUTH)


def sums_of(measured, estimate, variance=NONE, kernel=None, **more):
    sums = start_steadiness(MASKS, OFFSET + PATTERN, OFFSET, kernel)
    return add_steadiness(sums, measured, estimate, variance, **more)


def noise(seed, kernel):
    return SIGMA * colour(np.random.default_rng(seed).normal(size=TRUTH.shape), spectrum_of(kernel, (SIDE, SIDE)))


def changes(frames, n):
    """P applied by a dense matrix, and the constant part taken off by regression on the estimate's brightness."""
    π = PATTERN[MASKS[n]] / PATTERN[MASKS[n]].mean()
    values = frames[:, MASKS[n]] - OFFSET
    b = values @ π / (π @ π)
    return b, values @ (np.eye(len(π)) - np.outer(π, π) / (π @ π))


def test_the_dense_formula():
    estimate = TRUTH + INVENTED
    got = steadiness(sums_of(TRUTH, estimate))
    for n in range(2):
        (b, x), (_, f) = changes(estimate, n), changes(TRUTH, n)
        x, f = (part - np.outer(b, b @ part) / (b @ b) for part in (x, f))
        scale = (b @ b) * MASKS[n].sum()
        assert got.shown[n] == pytest.approx(np.sqrt((x * x).sum() / scale))
        assert got.real_share[n] == pytest.approx((f * x).sum() / (x * x).sum())
        assert got.error[n] == pytest.approx(((f - x) ** 2).sum() / scale)
        assert got.real_share_se[n] == 0 and np.isnan(got.stated[n])


def test_truth_is_all_real_and_what_is_drawn_by_chance_is_invented():
    assert steadiness(sums_of(TRUTH, TRUTH)).real_share == pytest.approx(1)
    still = OFFSET + BRIGHT * PATTERN
    assert np.abs(steadiness(sums_of(still, still + INVENTED)).real_share).max() < 0.02
    half = pooled_steadiness(sums_of(TRUTH, TRUTH + INVENTED))
    assert 0.35 < half.real_share < 0.65 and half.shown > pooled_steadiness(sums_of(TRUTH, TRUTH)).shown


def test_what_is_always_wrong_alike_and_wrong_brightness_count_nothing():
    still = OFFSET + BRIGHT * PATTERN
    blurred = OFFSET + 0.7 * BRIGHT**2 * ndimage.gaussian_filter(PATTERN, 2)
    got = steadiness(sums_of(still, blurred))
    assert got.shown.max() < 1e-6 and np.abs(got.error).max() < 1e-6


def test_nothing_depends_on_the_chunks():
    measured, estimate = TRUTH + noise(1, white()), TRUTH + INVENTED
    variance, good = np.full_like(TRUTH, SIGMA**2), rng.random((T, SIDE)) > 0.01
    whole = steadiness(sums_of(measured, estimate, variance, correlated(), good=good, stated_variance=variance))
    sums = start_steadiness(MASKS, OFFSET + PATTERN, OFFSET, correlated())
    for t in range(0, T, 7):
        part = slice(t, t + 7)
        sums = add_steadiness(sums, measured[part], estimate[part], variance[part], good[part], variance[part])
    for one, other in zip(whole, steadiness(sums), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("kernel", [white(), correlated()], ids=["white", "correlated"])
def test_standard_errors_are_those_of_the_noise(kernel):
    estimate, variance = TRUTH + INVENTED, np.full_like(TRUTH, SIGMA**2)
    true = steadiness(sums_of(TRUTH, estimate))
    shares, errors = [], []
    for seed in range(60):
        got = steadiness(sums_of(TRUTH + noise([seed, 9], kernel), estimate, variance, kernel))
        shares.append((got.real_share - true.real_share) / got.real_share_se)
        errors.append((got.error - true.error) / got.error_se)
    assert abs(np.mean(shares)) < 0.3 and 0.85 < np.std(shares) < 1.15  # 120 numbers: 1 ± 0.065
    assert abs(np.mean(errors)) < 0.3 and 0.7 < np.std(errors) < 1.2  # the smooth error is taken as the smoothest


def test_rows_that_are_not_good_leave_their_cell_out():
    good = np.ones((T, SIDE), bool)
    good[30:, 5] = False
    broken = TRUTH.copy()
    broken[30:, 5] = 1e4
    both = steadiness(sums_of(broken, TRUTH + INVENTED, good=good)), steadiness(sums_of(TRUTH, TRUTH + INVENTED))
    first = start_steadiness(MASKS, OFFSET + PATTERN, OFFSET)
    part = steadiness(add_steadiness(first, TRUTH[:30], (TRUTH + INVENTED)[:30], NONE[:30]))
    assert both[0].real_share[0] == pytest.approx(part.real_share[0])
    assert both[0].real_share[1] == pytest.approx(both[1].real_share[1])


def test_a_true_statement_of_independent_errors_is_found_true():
    fine = rng.normal(0, 2.0, TRUTH.shape)
    got = pooled_steadiness(sums_of(TRUTH, TRUTH + fine, stated_variance=np.full_like(TRUTH, 4.0)))
    assert got.error == pytest.approx(got.stated, rel=0.05)


def test_what_cannot_be_judged():
    with pytest.raises(InputError, match="ROI 1 has no pixel"):
        start_steadiness(MASKS * np.array([1, 0])[:, None, None].astype(bool), PATTERN)
    with pytest.raises(InputError, match="not brighter than the offset"):
        start_steadiness(MASKS, PATTERN, offset=1e3)
    assert np.isnan(pooled_steadiness(start_steadiness(MASKS, PATTERN)).shown)
