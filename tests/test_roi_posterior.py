"""Errors of blind ROI traces are found without ground truth, and the fusion with the frame is the dense posterior."""

import numpy as np
import pytest
from helpers import blind_filter
from scipy.ndimage import gaussian_filter1d

from udenoise.posterior import Region
from udenoise.roi_error import CAUSES, USUAL, calibrate_rois, causes, measure_together, usual_error
from udenoise.roi_posterior import Response, error_by_lags, fuse_regions, improve, left_after_fusion, weigh_noise


def one_trial(moments: Region) -> np.ndarray:
    """All frames belong together."""
    return np.zeros(len(moments.raw), int)


def calibrated(moments: Region):
    """The calibration of predictions that were not filtered in time."""
    return calibrate_rois(moments, moments, one_trial(moments), np.ones(moments.raw.shape[1]))


def blind_moments(misstated, T: int = 4000, seed: int = 0) -> tuple[Region, np.ndarray]:
    """Residuals of blind predictions (ROIs only) that state `misstated` (N) times their true error variance (T N)."""
    rng, N = np.random.default_rng(seed), len(misstated)
    stated = np.where(rng.random((T, N)) < 0.1, 8.0, 1.0) * rng.uniform(0.8, 1.2, (T, N))
    true, noise = stated / misstated, np.full((T, 1, N), 2.0)
    error, electronics = rng.standard_normal((2, T, N))
    mean = np.full((T, 1, N), 100.0)
    raw = mean + (np.sqrt(true) * error)[:, None] + np.sqrt(noise) * electronics[:, None]
    return Region(raw=raw, noise_variance=noise, mean=mean, covariance=stated[:, :, None, None]), true


@pytest.mark.parametrize("misstated", [0.3, 1.0, 3.0])
def test_calibration_recovers_a_known_misstatement(misstated):
    """Stated error variances are `misstated` times the true ones; rare large errors keep their place."""
    moments, true = blind_moments(np.full(30, misstated))
    calibration = calibrated(moments)
    found = calibration.variance[:, 0]
    assert found.mean() == pytest.approx(true.mean(), rel=0.1)
    large = moments.covariance[:, :, 0, 0] > 4
    assert found[large].mean() == pytest.approx(true[large].mean(), rel=0.15)
    assert found[~large].mean() == pytest.approx(true[~large].mean(), rel=0.3)
    measured = true.mean(0)
    miss = (calibration.measured[0] - measured) / calibration.measured_se[0]
    assert np.abs(miss).max() < 5 and np.sqrt((miss**2).mean()) < 1.6


def active_moments(seed: int = 0, T: int = 3000, N: int = 30) -> tuple[Region, np.ndarray]:
    """Predictions whose errors grow with their slope and their height, while the network states the same everywhere."""
    rng = np.random.default_rng(seed)
    events = (rng.random((T, N)) < 0.004) * rng.uniform(5, 15, (T, N))
    decay = np.exp(-np.arange(80) / 15.0) - np.exp(-np.arange(80) / 3.0)
    mean = 50 + np.stack([np.convolve(e, decay)[:T] for e in events.T], axis=1)
    true = 0.1 + 1.5 * np.gradient(mean, axis=0) ** 2 + 0.1 * (mean - 50)
    error, electronics = rng.standard_normal((2, T, N))
    raw = mean + np.sqrt(true) * error + electronics
    return Region(raw[:, None], np.ones((T, 1, N)), mean[:, None], np.full((T, N, 1, 1), true.mean())), true


def test_calibration_finds_errors_that_come_with_change_and_activity():
    """Where the network says nothing of it: frames are grouped by their true error variance."""
    moments, true = active_moments()
    found = calibrated(moments).variance[:, 0]
    edges = np.quantile(true, [0, 0.5, 0.8, 0.95, 0.99, 1])
    for low, high in zip(edges, edges[1:], strict=False):
        group = (low <= true) & (true <= high)
        assert found[group].mean() == pytest.approx(true[group].mean(), rel=0.25)


def test_one_half_of_the_recording_foretells_the_other():
    """Also in the frames with the largest errors; a network that states too little there is found out."""
    moments, _ = active_moments(seed=3)
    groups = calibrated(moments).groups
    miss = (groups.measured - groups.predicted) / groups.measured_se
    assert np.abs(miss).max() < 4
    assert groups.predicted[0, -1] > 5 * groups.predicted[0, 0]


def test_causes_do_not_betray_the_hidden_frame():
    """What y_t adds to the predictions of t ± k alike changes no slope at t."""
    rng = np.random.default_rng(1)
    mean, stated, noise = rng.normal(size=(60, 2)), np.ones((60, 2)), np.ones((60, 2))
    told = mean.copy()
    told[[25, 35]] += 0.4
    told[[29, 31]] += 0.7
    before, after = (causes(m, stated, noise, np.zeros(60, int)) for m in (mean, told))
    for name in ("change", "rise"):
        j = CAUSES.index(name)
        np.testing.assert_allclose(after[j, 30], before[j, 30], atol=1e-12)
        assert not np.allclose(after[j, 28], before[j, 28])


def test_no_slope_across_trials():
    mean, segment = np.repeat([0.0, 100.0, 7.0], [20, 20, 1])[:, None], np.repeat([0, 1, 2], [20, 20, 1])
    found = causes(mean, np.ones((41, 1)), np.ones((41, 1)), segment)
    np.testing.assert_allclose(found[[CAUSES.index("change"), CAUSES.index("rise")]], 0, atol=1e-12)


def test_each_roi_has_its_own_factor_where_the_data_say_so():
    """Two kinds of ROI that state the same and err by a factor of four: their factors part, given enough frames."""
    factor = calibrated(blind_moments(np.where(np.arange(30) < 15, 0.5, 2.0), T=6000)[0]).factor[0]
    assert factor[:15].mean() > 2.5 * factor[15:].mean()


def test_factors_of_rois_that_are_alike_are_shrunk():
    """What scatters by chance alone is drawn towards 1."""
    scatter, kept = [], []
    for seed in range(8):
        found = calibrated(blind_moments(np.ones(30), T=60, seed=seed)[0])
        scatter.append(found.measured[0].std() / found.measured[0].mean())
        kept.append(found.factor[0].std())
    assert np.mean(kept) < 0.5 * np.mean(scatter)


def test_a_handful_of_frames_leaves_the_networks_statement():
    """Ten frames of one ROI, by chance quieter than their noise, do not make the error vanish."""
    moments, _ = blind_moments(np.ones(1), T=10)
    quiet = moments._replace(raw=moments.mean + 0.1)
    stated = moments.covariance[:, :, 0, 0].mean()
    assert 0.5 * stated < calibrated(quiet).variance.mean() < 1.5 * stated


def test_lost_frames_do_not_calibrate():
    moments, _ = blind_moments(np.ones(10))
    raw = moments.raw.copy()
    raw[::7] = np.nan
    found = calibrated(moments._replace(raw=raw))
    for part in found:
        assert np.isfinite(part).all()
    np.testing.assert_allclose(found.measured, calibrated(moments).measured, atol=6 * found.measured_se.max())


@pytest.mark.parametrize("lost", [slice(0, 1), slice(None)])
def test_regions_that_were_never_measured_keep_what_the_network_states(lost):
    moments, _ = blind_moments(np.ones(4), T=50)
    raw = moments.raw.copy()
    raw[..., lost] = np.nan
    found = calibrated(moments._replace(raw=raw))
    assert np.isfinite(found.variance).all() and np.isnan(found.measured[0, lost]).all()
    if lost == slice(None):
        np.testing.assert_allclose(found.variance[:, 0], moments.covariance[:, :, 0, 0])


def pairs(correlation: float, stated: float, T: int = 4000, N: int = 20, seed: int = 5) -> Region:
    """ROI and ring whose blind errors (variances 1, 2) correlate, beside what is stated; noise 1.5 and 1."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky([[1, correlation * np.sqrt(2)], [correlation * np.sqrt(2), 2]])
    error = np.einsum("kl,tln->tkn", root, rng.standard_normal((T, 2, N)))
    noise = np.broadcast_to(np.array([1.5, 1.0])[:, None], (T, 2, N))
    S = np.array([[1, stated * np.sqrt(2)], [stated * np.sqrt(2), 2]])
    raw = 10 + error + np.sqrt(noise) * rng.standard_normal((T, 2, N))
    return Region(raw, noise, np.full((T, 2, N), 10.0), np.broadcast_to(S, (T, N, 2, 2)))


@pytest.mark.parametrize(("correlation", "expected"), [(0.8, 1.0), (0.4, 0.5), (0.0, 0.0), (-0.5, 0.0)])
def test_the_correlation_of_roi_and_ring_is_measured(correlation, expected):
    assert calibrated(pairs(correlation, 0.8)).correlation[0, 1] == pytest.approx(expected, abs=0.05)


def test_fusion_of_regions_is_the_dense_posterior():
    """With a calibration that changes nothing: `S(S+n)⁻¹` for ROI and ring together."""
    rng = np.random.default_rng(6)
    T, N = 5, 3
    root = rng.standard_normal((T, N, 2, 2))
    S = root @ root.swapaxes(-1, -2) + 0.2 * np.eye(2)
    noise = rng.uniform(0.5, 2, (T, 2, N))
    mean = rng.uniform(50, 60, (T, 2, N))
    raw = mean + rng.standard_normal((T, 2, N))
    raw[1, 0, 2] = np.nan
    moments = Region(raw=raw, noise_variance=noise, mean=mean, covariance=S)
    unchanged = calibrated(pairs(0.0, 0.0, T=50, N=N))._replace(
        variance=np.diagonal(S, axis1=2, axis2=3).transpose(0, 2, 1), correlation=np.ones((2, 2))
    )
    fused = fuse_regions(moments, unchanged)
    for t in range(T):
        for n in range(N):
            seen = ~np.isnan(raw[t, :, n])
            gain = np.linalg.solve((S[t, n] + np.diag(noise[t, :, n]))[np.ix_(seen, seen)], S[t, n][seen]).T
            expected = mean[t, :, n] + gain @ (raw[t, :, n] - mean[t, :, n])[seen]
            np.testing.assert_allclose(fused.mean[t, :, n], expected, rtol=1e-6)
            np.testing.assert_allclose(fused.covariance[t, n], S[t, n] - gain @ S[t, n][seen], atol=1e-6)


def blind_pair(T: int = 1500, N: int = 20) -> tuple[Region, Response, np.ndarray]:
    """Moments and response of `blind_filter` for ROI and ring, and their truth (T K N)."""
    rng = np.random.default_rng(8)
    truth = 6 * gaussian_filter1d(rng.standard_normal((T, 2, N)), 20.0, axis=0)
    noise, fresh = rng.standard_normal((2, T, 2, N))
    raw = truth + noise
    mean = blind_filter(raw)
    left = blind_filter(raw + fresh) - mean
    moments = Region(raw, np.ones((T, 2, N)), mean, np.broadcast_to(0.5 * np.eye(2), (T, N, 2, 2)))
    return moments, Response(0, fresh, left), truth


def test_improved_predictions_err_less_and_stay_blind():
    """The error halves, and the residuals measure it: nothing of y_t has come into the prediction."""
    moments, response, truth = blind_pair()
    better, left = improve(moments, response, one_trial(moments))
    before, after = ((part.mean - truth) ** 2 for part in (moments, better))
    assert after.mean() < 0.5 * before.mean()
    stated = ((better.raw - better.mean) ** 2 - 1).mean()
    assert stated == pytest.approx(after.mean(), abs=4 * np.sqrt(2 / after.size))
    heard = (left.left * left.fresh).sum() / (left.fresh**2).sum()
    assert heard == pytest.approx(0, abs=4 / np.sqrt(after.size))


@pytest.mark.parametrize("misstated", [0.94, 1.0, 1.06])
def test_noise_is_told_from_error_by_being_white(misstated):
    """The noise model is off by a few per cent of the noise, which is more than the whole error."""
    moments, response, truth = blind_pair(T=4000, N=40)
    better, left = improve(moments, response, one_trial(moments))
    wrong = better._replace(noise_variance=better.noise_variance / misstated)
    found = weigh_noise(wrong, left, one_trial(moments))
    assert found == pytest.approx(misstated, abs=0.015)
    assert ((better.mean - truth) ** 2).mean() < 0.05


def test_events_that_nothing_foretold_are_not_noise():
    """White, as noise is; but a frame in a hundred and far out."""
    moments, response, _ = blind_pair(T=4000, N=40)
    better, left = improve(moments, response, one_trial(moments))
    usual = weigh_noise(better, left, one_trial(moments))
    rng = np.random.default_rng(9)
    flash = 8 * np.sqrt(better.noise_variance) * (rng.random(better.raw.shape) < 0.01)
    found = weigh_noise(better._replace(raw=better.raw + flash), left, one_trial(moments))
    assert found == pytest.approx(usual, abs=0.01)


def test_noise_of_few_frames_is_the_models():
    moments, response, _ = blind_pair(T=12, N=2)
    trials = np.arange(12)  # every frame a trial of its own: no lag is seen
    assert np.isfinite(weigh_noise(moments, response, trials)).all()
    nothing = moments._replace(raw=np.full_like(moments.raw, np.nan))
    np.testing.assert_array_equal(weigh_noise(nothing, response, trials), 1.0)


def test_what_fusion_leaves_of_fresh_noise_is_the_difference_of_two_fusions():
    moments, response, _ = blind_pair(T=120, N=3)
    calibration = calibrated(moments)
    noisy = moments._replace(raw=moments.raw + response.fresh, mean=moments.mean + response.left)
    expected = fuse_regions(noisy, calibration).mean - fuse_regions(moments, calibration).mean
    np.testing.assert_allclose(left_after_fusion(moments, calibration, response), expected, atol=1e-9)


@pytest.mark.parametrize(("everywhere", "nearby"), [(0.0, 0.0), (0.3, 0.0), (0.1, 0.5)])
def test_what_regions_err_together_is_measured(everywhere, nearby):
    """From residuals alone: errors of half the noise's variance, pairs of neighbours, shares as they were drawn."""
    rng, T, N = np.random.default_rng(8), 4000, 24
    near = np.kron(np.eye(N // 2), np.ones((2, 2)))
    root = np.linalg.cholesky(everywhere + nearby * near + (1 - everywhere - nearby) * np.eye(N))
    variance, noise = np.full((T, 1, N), 1.0), np.full((T, 1, N), 2.0)
    error = rng.standard_normal((T, N)) @ root.T
    raw = (10 + error + np.sqrt(2.0) * rng.standard_normal((T, N)))[:, None]
    moments = Region(raw, noise, np.full((T, 1, N), 10.0), np.ones((T, N, 1, 1)))
    found = measure_together(moments, variance, near, np.ones((1, N, N), bool))
    heard = 2 / 3  # of the blind error after fusion
    assert found.everywhere[0] == pytest.approx(heard * everywhere, abs=0.03)
    assert found.nearby[0] == pytest.approx(heard * nearby, abs=0.06)


def test_the_usual_error_is_what_noise_passes_times_what_is_usual():
    moments, response, _ = blind_pair()
    passed = (response.left**2).mean((0, 2)) / (response.fresh**2).mean((0, 2))
    np.testing.assert_allclose(usual_error(moments, response.fresh, response.left), USUAL * passed / 0.5, rtol=1e-6)


def test_few_residuals_are_judged_by_what_is_usual_and_many_by_themselves():
    """True errors are a fifth of the noise and twice what is usual: six hundred frames cannot tell, sixty thousand can."""
    found = []
    for T, N in ((300, 2), (3000, 20)):
        rng = np.random.default_rng(3)
        stated = 0.1 * rng.uniform(0.9, 1.1, (T, 1, N))
        raw = 10 + np.sqrt(0.2) * rng.standard_normal((T, 1, N)) + rng.standard_normal((T, 1, N))
        covariance = stated.transpose(0, 2, 1)[..., None]
        moments = Region(raw, np.ones((T, 1, N)), np.full((T, 1, N), 10.0), covariance)
        found.append(calibrate_rois(moments, moments, one_trial(moments), np.ones(1)).variance.mean())
    assert found[0] < 0.17 < found[1] < 0.23


def test_errors_some_frames_apart_are_measured():
    """Errors of the fused trace with a known memory: their correlation comes out, the leak of noise taken off."""
    moments, response, truth = blind_pair(T=4000, N=40)
    better, left = improve(moments, response, one_trial(moments))
    calibration = calibrate_rois(better, moments, one_trial(moments), np.ones(2))
    fused = fuse_regions(better, calibration)
    after = left_after_fusion(better, calibration, left)
    found = error_by_lags(better, fused, response._replace(left=after), one_trial(moments))
    error = fused.mean[:, 0] - truth[:, 0]
    for lag, measured, se in zip(*found, strict=True):
        true = (error[:-lag] * error[lag:]).mean() / fused.covariance[:, :, 0, 0].mean()
        assert measured == pytest.approx(true, abs=4 * se)
