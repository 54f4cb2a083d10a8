"""From the posterior to corridors: baselines by hand, coverage on Gaussian data."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats

from udenoise.config import TraceConfig
from udenoise.draws import TracePosterior
from udenoise.errors import InputError
from udenoise.regions import Places
from udenoise.roi_error import Together
from udenoise.sampling import Memory, correlated_noise, log_scales, tail_quantile
from udenoise.traces import LARGEST_SPREAD, drawn_bands, f0, make_traces, simultaneous

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
RATE = 10.0
PLAIN = TraceConfig(f0="median", draws=200)


def wandering(S: int, T: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 100 + np.cumsum(rng.standard_normal((S, T)), axis=1) + 30 * (rng.random((S, T)) < 0.05)


def test_median_and_percentile_by_hand():
    trace = wandering(3, 200)
    median = f0(trace, replace(PLAIN, f0="median"), None)
    low = f0(trace, replace(PLAIN, f0="percentile", f0_percentile=8.0), None)
    for s in range(3):
        np.testing.assert_allclose(median[s], np.median(trace[s]))
        np.testing.assert_allclose(low[s], np.percentile(trace[s], 8))
    assert median.shape == low.shape == trace.shape


def test_rolling_percentile_by_hand():
    """At every twentieth of the window exactly; between them never far."""
    trace, config = wandering(2, 400), replace(PLAIN, f0="rolling-percentile", f0_percentile=20.0, f0_window_s=8.0)
    found, width = f0(trace, config, RATE), 80
    for t in (0, 4, 100, 200, 396, 399):
        around = trace[:, max(t - width // 2, 0) : t + width // 2 + 1]
        np.testing.assert_allclose(found[:, t], np.percentile(around, 20, axis=1))
    every = np.stack([np.percentile(trace[:, max(t - 40, 0) : t + 41], 20, axis=1) for t in range(400)], 1)
    assert np.abs(found - every).max() < 2


def test_maximin_by_hand():
    """Suite2p's: Gaussian smoothing, then the running minimum, then the running maximum of it."""
    trace = wandering(2, 300)
    config = replace(PLAIN, f0="maximin", f0_window_s=6.0, f0_sigma_frames=4.0)
    found, half = f0(trace, config, RATE), 30
    smooth = ndimage.gaussian_filter(trace, [0.0, 4.0])

    def running(x, extreme):
        padded = np.pad(x, ((0, 0), (half, half)), mode="symmetric")
        return np.stack([extreme(padded[:, t : t + 2 * half], axis=1) for t in range(300)], 1)

    np.testing.assert_allclose(found, running(running(smooth, np.min), np.max))
    assert (found <= smooth.max()).all()


@pytest.mark.parametrize("method", ["rolling-percentile", "maximin"])
def test_seconds_need_a_frame_rate_there_and_only_there(method):
    with pytest.raises(InputError, match="--frame-rate-hz"):
        f0(wandering(1, 50), replace(PLAIN, f0=method), None)
    with pytest.raises(InputError, match="frame rate"):
        make_traces(*gaussian(1, 20), replace(PLAIN, f0=method), None, 0)
    assert np.isnan(make_traces(*gaussian(1, 20), PLAIN, None, 0).nu).all()


def gaussian(N: int, T: int, sd: float = 4.0, ring: bool = True, seed: int = 0):
    """(raw, posterior) of slow traces; ROI and ring are correlated."""
    rng = np.random.default_rng(seed)
    K = 1 + ring
    mean = 100 + 30 * np.sin(np.arange(T)[:, None, None] / 7 + rng.random((K, N)))
    correlation = np.array([[1.0, 0.4], [0.4, 1.0]])[:K, :K]
    size = sd * rng.uniform(0.5, 1.5, (T, N, 1, 1))
    raw = mean + 8 * rng.standard_normal(mean.shape)
    return raw, TracePosterior(mean, size**2 * correlation, Memory(0.7, 4.0), apart(K), nowhere(N), np.zeros((K, N)))


def apart(K: int = 2) -> Together:
    """Regions that share no error."""
    return Together(np.zeros(K), np.zeros(K))


def nowhere(N: int) -> Places:
    """Regions at one node of the lattice."""
    return Places(np.tile(np.arange(4), (N, 1)), np.tile(np.array([1.0, 0, 0, 0], np.float32), (N, 1)))


def some(posterior: TracePosterior, regions, kinds=slice(None)) -> TracePosterior:
    """The posterior of a part of the regions."""
    places = Places(*(part[regions] for part in posterior.places))
    mean, covariance = posterior.mean[:, kinds, regions], posterior.covariance[:, regions, kinds, kinds]
    return posterior._replace(mean=mean, covariance=covariance, places=places)


@pytest.fixture(scope="module")
def traces():
    return make_traces(*gaussian(3, 120), replace(PLAIN, draws=1500, save_draws=True), RATE, 0)


def test_fluorescence_is_the_posterior_with_its_tails(traces):
    _, fused = gaussian(3, 120)
    sd = np.sqrt(np.diagonal(fused.covariance, axis1=2, axis2=3)).transpose(2, 1, 0)
    for k, bands in enumerate((traces.roi, traces.neuropil)):
        np.testing.assert_allclose(bands.mean, fused.mean[:, k].T, rtol=1e-6)
        np.testing.assert_allclose(bands.sd, sd[k], rtol=1e-5)
        for level, lower, upper in zip(LEVELS, bands.lower, bands.upper, strict=True):
            z = tail_quantile(np.array([(1 + level) / 2]))
            np.testing.assert_allclose(lower, bands.mean - z * bands.sd, rtol=1e-5)
            np.testing.assert_allclose(upper, bands.mean + z * bands.sd, rtol=1e-5)


def test_corridors_are_nested_and_hold_the_mean(traces):
    for bands in (traces.roi, traces.neuropil, traces.dff):
        assert (np.diff(bands.lower, axis=0) <= 0).all() and (np.diff(bands.upper, axis=0) >= 0).all()
        assert ((bands.lower[1:] < bands.mean) & (bands.mean < bands.upper[1:])).all()
        assert (np.diff(bands.simultaneous, axis=0) > 0).all()
        assert (bands.simultaneous[-1] > stats.norm.ppf(0.995)).all()


def test_dff_is_computed_draw_by_draw(traces):
    """Baseline and its doubt included: against the formula on draws made here."""
    raw, fused = gaussian(3, 120)
    rng = np.random.default_rng(5)
    S = 1500
    root = np.linalg.cholesky(fused.covariance[:, 0])
    white = correlated_noise(rng, (S, 2), 120, fused.memory)
    white *= log_scales(correlated_noise(rng, (S, 1), 120, Memory(1.0, 100.0)))
    own, ring = (fused.mean[:, :, 0].T + np.einsum("tkl,slt->skt", root, white)).swapaxes(0, 1)
    F = own - 0.7 * ring
    baseline, centre = np.median(F, axis=1, keepdims=True), fused.mean[:, 0, 0] - 0.7 * fused.mean[:, 1, 0]
    dff = F / (baseline + np.median(centre) - np.median(baseline)) - 1  # it scatters about that of the mean trace
    sd = dff.std(0)
    np.testing.assert_array_less(np.abs(traces.dff.mean[0] - dff.mean(0)) / sd, 8 / np.sqrt(S))
    np.testing.assert_allclose(traces.dff.sd[0], sd, rtol=0.15)
    np.testing.assert_allclose(traces.f0[0], np.median(centre), rtol=1e-5)
    middle = traces.f0[0].astype(float)
    expected = (raw[:, 0, 0] - 0.7 * raw[:, 1, 0] - middle) / middle
    np.testing.assert_allclose(traces.dff.raw[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["median", "percentile", "rolling-percentile", "maximin"])
def test_without_doubt_dff_is_the_plain_formula(method):
    raw, fused = gaussian(2, 100, sd=1e-5)
    config = replace(PLAIN, f0=method, draws=20, f0_window_s=3.0, offset_counts=5.0)
    found = make_traces(raw, fused, config, RATE, 0)
    F = (fused.mean[:, 0] - 5 - 0.7 * (fused.mean[:, 1] - 5)).T
    baseline = f0(F, config, RATE)
    np.testing.assert_allclose(found.f0, baseline, rtol=1e-4)
    np.testing.assert_allclose(found.dff.mean, F / baseline - 1, atol=1e-4)
    np.testing.assert_allclose(found.dff.upper - found.dff.lower, 0, atol=1e-4)


def test_coefficient_zero_turns_the_neuropil_off():
    raw, fused = gaussian(2, 80)
    off = make_traces(raw, fused, replace(PLAIN, neuropil_coefficient=0.0), RATE, 0)
    elsewhere = make_traces(raw * [[1], [3]], fused._replace(mean=fused.mean * [[1], [3]]),
                            replace(PLAIN, neuropil_coefficient=0.0), RATE, 0)  # fmt: skip
    np.testing.assert_array_equal(off.dff.mean, elsewhere.dff.mean)
    np.testing.assert_array_equal(off.dff.raw, elsewhere.dff.raw)
    on = make_traces(raw, fused, PLAIN, RATE, 0)
    assert not np.allclose(on.dff.mean, off.dff.mean)
    alone = make_traces(raw[:, :1], some(fused, slice(None), slice(1)), PLAIN, RATE, 0)
    assert alone.neuropil is None
    np.testing.assert_allclose(alone.dff.raw, off.dff.raw, atol=0.02)


def test_each_roi_is_drawn_by_itself():
    """The same seed gives the same traces; an ROI does not depend on the others' order or number."""
    raw, fused = gaussian(3, 60)
    whole = make_traces(raw, fused, PLAIN, RATE, 1)
    again = make_traces(raw, fused, PLAIN, RATE, 1)
    first = make_traces(raw[..., :1], some(fused, slice(1)), PLAIN, RATE, 1)
    np.testing.assert_array_equal(whole.dff.lower, again.dff.lower)
    np.testing.assert_array_equal(whole.dff.lower[:, :1], first.dff.lower)
    assert not np.array_equal(whole.dff.lower, make_traces(raw, fused, PLAIN, RATE, 2).dff.lower)


def test_draws_are_kept_only_on_request(traces):
    assert traces.draws.shape == (1500, 3, 120)
    np.testing.assert_allclose(traces.draws.mean(0), traces.roi.mean, atol=6 * traces.roi.sd.max() / np.sqrt(1500))
    assert make_traces(*gaussian(1, 20), PLAIN, RATE, 0).draws is None


def test_nu_is_the_median_change_of_the_raw_dff():
    raw, fused = gaussian(2, 150)
    raw[40:43, 0, 0] = np.nan  # lost rows are bridged
    found = make_traces(raw, fused, replace(PLAIN, offset_counts=10.0), RATE, 0).nu
    for n in range(2):
        known = np.flatnonzero(~np.isnan(raw[:, 0, n]))
        F = np.interp(np.arange(150), known, raw[known, 0, n]) - 10  # without neuropil subtraction
        percent = 100 * (F / np.median(F) - 1)
        assert found[n] == pytest.approx(np.median(np.abs(np.diff(percent))) / np.sqrt(RATE), rel=1e-5)


def test_a_baseline_that_is_not_positive_gives_no_dff():
    raw, fused = gaussian(1, 30)
    found = make_traces(raw, fused, replace(PLAIN, offset_counts=1000.0), RATE, 0)
    assert np.isnan(found.dff.mean).all() and np.isfinite(found.roi.mean).all()


def test_pointwise_corridors_hold_what_they_say():
    """Truth drawn from the posterior itself: coverage of F and ΔF/F within binomial error at every level."""
    N, T = 40, 60
    raw, fused = gaussian(N, T)
    fused = fused._replace(memory=Memory(0.0, 1.0))  # independent frames: the binomial error is known
    found = make_traces(raw, fused, replace(PLAIN, draws=400), RATE, 0)
    rng = np.random.default_rng(11)
    root = np.linalg.cholesky(fused.covariance)  # T N K K
    normal = rng.standard_normal((T, N, 2)) * log_scales(rng.standard_normal((T, N, 1)))
    truth = fused.mean + np.einsum("tnkl,tnl->tkn", root, normal)
    F = (truth[:, 0] - 0.7 * truth[:, 1]).T
    dff = F / np.median(F, 1, keepdims=True) - 1
    for value, bands in ((truth[:, 0].T, found.roi), (dff, found.dff)):
        for level, lower, upper in zip(LEVELS, bands.lower, bands.upper, strict=True):
            held = ((lower <= value) & (value <= upper)).mean()
            assert held == pytest.approx(level, abs=5 * np.sqrt(level * (1 - level) / (N * T))), level


def test_simultaneous_band_holds_the_whole_trace():
    rng = np.random.default_rng(12)
    T, S, memory = 50, 2000, Memory(0.8, 6.0)
    mean, sd = np.zeros(T), rng.uniform(0.5, 2, T)
    draws = sd * correlated_noise(rng, (S,), T, memory)
    truth = sd * correlated_noise(rng, (2000,), T, memory)
    for centre in (mean, draws.mean(0)):
        for level, width in zip(LEVELS, simultaneous(draws, centre, sd, LEVELS, 0.0), strict=True):
            held = (np.abs(truth - centre) <= width * sd).all(1).mean()
            assert held == pytest.approx(level, abs=6 * np.sqrt(level * (1 - level) / 2000)), level


def test_simultaneous_band_doubts_its_largest_error():
    """Errors whose size is off by a lognormal factor, one for each trace, are held as often as said; without doubt less often."""
    rng = np.random.default_rng(13)
    T, zero, one, factor = 200, np.zeros(200), np.ones(200), np.exp(LARGEST_SPREAD * rng.standard_normal((2000, 1)))
    draws, truth = rng.standard_normal((1000, T)), factor * rng.standard_normal((2000, T))
    largest = np.abs(truth).max(1)
    for level, doubted, plain in zip(
        LEVELS, simultaneous(draws, zero, one, LEVELS), simultaneous(draws, zero, one, LEVELS, 0.0), strict=True
    ):
        assert (largest <= doubted).mean() == pytest.approx(level, abs=6 * np.sqrt(level * (1 - level) / 2000))
        assert level == 0.5 or (largest <= plain).mean() < level - 0.05


def test_draws_that_are_undefined_count_in_both_tails():
    rng = np.random.default_rng(14)
    draws = rng.standard_normal((1000, 3))
    draws[:10, 1], draws[:300, 2] = np.nan, np.nan
    bands = drawn_bands(np.zeros(3), draws, (0.5, 0.95, 0.99))
    assert np.isfinite(bands.mean[:2]).all() and np.isnan(bands.mean[2])
    assert np.isnan(bands.lower[:, 2]).all() and np.isnan(bands.sd[2])
    known = np.sort(draws[10:, 1])
    assert bands.lower[1, 1] == pytest.approx(known[15], abs=0.1) and bands.lower[1, 1] < np.quantile(known, 0.025)
    assert bands.upper[1, 1] > np.quantile(known, 0.975)
    assert np.isnan(bands.upper[2, 1])  # one in a hundred is undefined: nothing is known at 99 %
    assert np.isfinite(bands.simultaneous).all()
