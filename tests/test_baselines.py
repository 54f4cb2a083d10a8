"""Baselines: one contract for all, filters by brute force, low rank by its law, networks blind, tuning and foreign files."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from helpers import correlated, dense_kernel
from scipy import ndimage, signal

from udenoise import metrics
from udenoise.baselines import METHODS, load_foreign, roi_score, roi_traces, tune, unet, wiener_traces
from udenoise.baselines.deepinterpolation import context_frames, hidden_loss, predict
from udenoise.baselines.fitting import learning_rates
from udenoise.baselines.noise2void import blind_loss, hide, predict_hidden
from udenoise.baselines.pmd import (
    _low_rank,
    _whitening,
    noise_edge,
    noise_limits,
    roughness_in_space,
    roughness_in_time,
)  # fmt: skip
from udenoise.config import DeepInterpolationConfig, GaussianConfig, MedianConfig, Noise2VoidConfig, PmdConfig
from udenoise.errors import InputError

DEEP = DeepInterpolationConfig(context=3, widths=(4, 8), steps=3, batch=2, crop=16)
VOID = Noise2VoidConfig(widths=(4, 4), convolutions=1, steps=3, batch=2, crop=16)
TINY = {
    "temporal-gaussian": GaussianConfig(2.0),
    "gaussian": GaussianConfig(2.0, 1.0),
    "temporal-median": MedianConfig(5),
    "pmd": PmdConfig(block_px=12, smooth_frames=1.0),
    "noise2void": VOID,
    "deepinterpolation": DEEP,
    "deepinterpolation-small": DEEP,
}
"""Settings that take a moment."""


def noisy(T: int, Y: int, X: int, seed: int = 0, signal: np.ndarray | float = 0.0) -> np.ndarray:
    """Counts around 200 with standard deviation 10, brighter to the right (T Y X float32)."""
    rng = np.random.default_rng(seed)
    return (200 + 2 * np.arange(X) + signal + 10 * rng.standard_normal((T, Y, X))).astype(np.float32)


def denoise(name: str, movie: np.ndarray, settings=None, seed: int = 0):
    method = METHODS[name]
    return method.denoise(movie, settings or TINY.get(name, method.settings), seed, quiet=True)


@pytest.fixture(scope="module")
def known():
    """(noisy movie, clean movie, ROI weights, true traces): three cells with transients, Poisson photons."""
    rng = np.random.default_rng(41)
    y, x = np.mgrid[:40, :48]
    blobs = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2) / 18) for a, b in ((10, 12), (28, 20), (18, 37))])
    decay = np.exp(-np.arange(60) / 12)
    activity = np.stack([np.convolve(rng.random(300) < 0.02, decay)[:300] for _ in blobs])
    clean = 4.0 * (1 + np.einsum("nt,nyx->tyx", 0.5 + activity, blobs))
    weights = (blobs > 0.5) / (blobs > 0.5).sum((1, 2), keepdims=True)
    movie = rng.poisson(clean).astype(np.float32)
    return movie, clean.astype(np.float32), weights, np.einsum("nyx,tyx->nt", weights, clean)


@pytest.mark.parametrize("name", METHODS)
def test_contract(name):
    movie = noisy(40, 18, 21)
    movie.setflags(write=False)
    first, second = denoise(name, movie), denoise(name, movie)
    assert first.movie.shape == movie.shape and first.movie.dtype == np.float32
    assert np.isfinite(first.movie).all()
    np.testing.assert_array_equal(first.movie, second.movie)
    assert METHODS[name].name == name and first.about == second.about
    assert type(TINY.get(name, METHODS[name].settings)) is type(METHODS[name].settings)
    assert set(METHODS[name].grid) <= set(vars(METHODS[name].settings))


@pytest.mark.parametrize("name", ["noise2void", "deepinterpolation"])
def test_another_seed_trains_another_network(name):
    movie = noisy(20, 16, 16)
    assert np.abs(denoise(name, movie, seed=1).movie - denoise(name, movie, seed=2).movie).max() > 0.1


@pytest.mark.parametrize("name", ["temporal-gaussian", "gaussian", "temporal-median", "pmd"])
def test_counts_in_another_unit(name):
    """`f(α y + β) = α f(y) + β`: nothing depends on the detector's unit."""
    movie = noisy(60, 24, 24)
    expected = 3 * denoise(name, movie).movie + 50
    np.testing.assert_allclose(denoise(name, 3 * movie + 50).movie, expected, rtol=1e-4)


# --- filters


def test_raw_is_the_movie():
    np.testing.assert_array_equal(denoise("raw", noisy(5, 4, 4)).movie, noisy(5, 4, 4))


def test_gaussian_in_time_against_its_definition():
    movie = noisy(40, 3, 4)
    weight = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    padded = np.pad(movie.astype(float), ((8, 8), (0, 0), (0, 0)), mode="symmetric")
    expected = signal.convolve(padded, (weight / weight.sum())[:, None, None], mode="valid")
    np.testing.assert_allclose(denoise("temporal-gaussian", movie).movie, expected, rtol=1e-5)


def test_gaussian_in_space_spreads_a_point_by_its_sigma():
    movie = np.zeros((9, 41, 41), np.float32)
    movie[:, 20, 20] = 1000
    frame = denoise("gaussian", movie, GaussianConfig(1.0, 2.0)).movie[4].astype(float)
    offset = np.arange(41) - 20
    for axis in (0, 1):
        assert (frame.sum(axis) * offset**2).sum() / frame.sum() == pytest.approx(4.0, rel=0.01)
    assert frame.sum() == pytest.approx(1000, rel=1e-4)


def test_median_against_brute_force():
    movie = noisy(20, 3, 4)
    padded = np.pad(movie, ((3, 3), (0, 0), (0, 0)), mode="symmetric")
    expected = np.stack([np.median(padded[t : t + 7], axis=0) for t in range(20)])
    np.testing.assert_array_equal(denoise("temporal-median", movie, MedianConfig(7)).movie, expected)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gaussian", GaussianConfig(-1.0), "must be 0 or more"),
        ("temporal-median", MedianConfig(4), "must be odd"),
        ("temporal-median", MedianConfig(41), "from 1 to 39"),
        ("pmd", PmdConfig(block_px=2), "at least 4 pixels"),
        ("deepinterpolation", replace(DEEP, context=0), "needed are 1 or more"),
        ("deepinterpolation", replace(DEEP, widths=(4,) * 6), "at least 32 pixels"),
        ("noise2void", replace(VOID, crop=8), "at least 12 pixels"),
        ("noise2void", replace(VOID, steps=0), "at least one"),
        ("deepinterpolation", replace(DEEP, decay=2.0), "0 to 1"),
    ],
)
def test_settings_that_cannot_be_used(name, settings, message):
    with pytest.raises(InputError, match=message):
        denoise(name, noisy(20, 24, 24), settings)


# --- low rank in blocks


def rank_one(T: int, side: int) -> np.ndarray:
    """A smooth signal of one spatial and one temporal component (T Y X), standard deviation 10 in the middle."""
    y, x = np.mgrid[:side, :side] - side / 2
    trace = ndimage.gaussian_filter1d(np.random.default_rng(9).standard_normal(T), 4.0)
    return 10 * ((trace - trace.mean()) / trace.std())[:, None, None] * np.exp(-(x**2 + y**2) / 200)


def test_pmd_keeps_a_signal_of_rank_one():
    truth = rank_one(500, 32)
    movie = noisy(500, 32, 32, signal=truth)
    found = denoise("pmd", movie, PmdConfig())
    deviation = found.movie - movie.mean(0)
    assert (deviation * truth).sum() / (truth**2).sum() == pytest.approx(1, abs=0.02)
    # a projection of P = 256 noisy pixels on one component: σ²/P each
    assert np.mean((deviation - truth) ** 2) < 1.5 * 100 / 256
    assert 0.9 < found.about["mean rank"] < 1.2 and found.about["blocks"] == 9


@pytest.mark.parametrize("keep", ["smooth", "strong"])
def test_pmd_returns_the_mean_image_for_pure_noise(keep):
    movie = noisy(500, 48, 48, seed=3)
    found = denoise("pmd", movie, PmdConfig(keep=keep))
    assert found.about["mean rank"] <= 0.12
    assert np.var(found.movie - found.movie.mean(0)) < 0.01 * 100


def test_pmd_sees_through_correlated_noise():
    white = np.random.default_rng(4).standard_normal((500, 36, 40))
    smooth = ndimage.convolve1d(white, [0.4, 1, 0.4], axis=2)  # neighbours correlated by 0.61
    movie = (300 + 10 * smooth).astype(np.float32)
    assert denoise("pmd", movie, PmdConfig(keep="either")).about["mean rank"] < 1  # unwhitened: dozens


@pytest.mark.parametrize(("keep", "rank"), [("smooth", 0), ("strong", 1), ("either", 1)])
def test_a_strong_component_without_memory(keep, rank):
    """It is no noise by its strength, but by its roughness in time."""
    rng = np.random.default_rng(2)
    block = rng.standard_normal((400, 100)) + rng.standard_normal((400, 1))
    settings = PmdConfig(keep=keep)
    low, found = _low_rank(block, (10, 10), noise_limits(400, (10, 10), settings.false_rate), settings)
    assert found == np.linalg.matrix_rank(low) == rank


def test_pmd_blends_without_seams():
    """What is the same in all blocks stays the same: a flat frame that brightens and dims."""
    trace = 30 * np.sin(np.arange(200) / 10)
    movie = noisy(200, 37, 45, signal=trace[:, None, None])
    kept = denoise("pmd", movie, PmdConfig(block_px=12)).movie - movie.mean(0)
    image = (kept * (trace - trace.mean())[:, None, None]).sum(0) / ((trace - trace.mean()) ** 2).sum()
    np.testing.assert_allclose(image, 1, atol=0.15)


def test_noise_edge_holds_99_percent_of_pure_noise():
    rng = np.random.default_rng(5)
    largest = np.array([np.linalg.norm(rng.standard_normal((200, 64)), 2) for _ in range(300)])
    assert np.mean(largest > noise_edge(201, 64)) < 0.01 + 4 * np.sqrt(0.01 * 0.99 / 300)
    assert np.quantile(largest, 0.99) > 0.97 * noise_edge(201, 64)


def test_roughness_of_singular_vectors_of_noise():
    """Their roughness in time and space is below the limit as often as it is meant to be."""
    rng, rate, side = np.random.default_rng(6), 0.05, (8, 9)
    limits = noise_limits(300, side, rate)
    below = []
    for _ in range(60):
        left, _, right = np.linalg.svd(rng.standard_normal((300, 72)), full_matrices=False)
        below.append([
            (roughness_in_time(left.T) < limits.time).mean(),
            (roughness_in_space(right.reshape(-1, *side)) < limits.space).mean(),
        ])  # fmt: skip
    found, spread = np.mean(below, 0), np.std(below, 0) / np.sqrt(60)
    assert (np.abs(found - rate) < 4 * spread + 4 * np.sqrt(rate * (1 - rate) / 2000)).all()


def test_roughness_by_hand():
    assert roughness_in_time(np.array([[1.0, -1.0, 1.0, -1.0]])) == pytest.approx(2)
    assert roughness_in_time(np.array([[2.0, 2.0, 4.0, 4.0]])) == pytest.approx((2 / 3) / 3)
    assert roughness_in_space(np.array([[[1.0, 3.0], [1.0, 3.0]]])) == pytest.approx((0 + 2) / 2 / 2)


def test_limits_of_long_movies_follow_the_square_root():
    """2000 frames are drawn at most; beyond that the spread is scaled."""
    long = np.random.default_rng(1).standard_normal((400, 8000))
    assert noise_limits(8000, (5, 5), 0.05).time == pytest.approx(np.quantile(roughness_in_time(long), 0.05), abs=0.003)


def test_whitening_undoes_the_noise_correlation():
    """`C^{-1/2} C C^{-1/2} = 1` for a kernel whose matrix is well conditioned."""
    whiten, colour = _whitening(correlated(0.3), (5, 6))
    np.testing.assert_allclose(whiten @ dense_kernel(correlated(0.3), (5, 6)) @ whiten, np.eye(30), atol=1e-5)
    np.testing.assert_allclose(whiten @ colour, np.eye(30), atol=1e-5)


# --- networks


def test_hidden_pixels_do_not_reach_the_network():
    rng = np.random.default_rng(7)
    crops = rng.standard_normal((3, 24, 28))
    batch = hide(crops, rng)
    params = unet.init(0, VOID.widths, VOID.convolutions, 1)
    weight = rng.standard_normal(batch.rows.shape)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(weight * predict_hidden(params, batch, x, VOID))))
    gradient = np.asarray(slope(jnp.asarray(crops)))
    at = (np.arange(3)[:, None], batch.rows, batch.columns)
    assert (gradient[at] == 0).all()
    others = np.ones(crops.shape, bool)
    others[at] = False
    assert (gradient[others] != 0).mean() > 0.1


def test_hidden_pixels_take_the_value_of_a_near_neighbour():
    rng = np.random.default_rng(8)
    batches = [hide(np.zeros((4, 32, 20)), rng) for _ in range(50)]
    steps = [np.stack([b.from_rows - b.rows, b.from_columns - b.columns], -1).reshape(-1, 2) for b in batches]
    near = {(y, x) for y in range(-2, 3) for x in range(-2, 3)} - {(0, 0)}
    assert set(map(tuple, np.concatenate(steps).tolist())) == near
    rows = np.concatenate([b.rows.ravel() for b in batches])
    assert (rows.min(), rows.max()) == (2, 25)


def test_published_size():
    """3×3 convolutions, one per level and a last one: Σ (9 · in · out + out)."""
    settings = METHODS["deepinterpolation"].settings
    assert (settings.context, settings.widths) == (30, (64, 128, 256, 512, 1024))
    down = [(60, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    up = [(1024 + 512, 512), (512 + 256, 256), (256 + 128, 128), (128 + 64, 64), (64, 1)]
    shapes = jax.eval_shape(partial(unet.init, 0, settings.widths, settings.convolutions, 2 * settings.context))
    size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert size == sum(9 * i * o + o for i, o in down + up) == 15_705_281


@pytest.mark.parametrize("hidden", [0, 1, 10, 19])
def test_frame_t_does_not_reach_its_own_estimate(hidden):
    params = unet.init(1, DEEP.widths, 1, 2 * DEEP.context)
    near = context_frames(np.array([hidden]), 20, DEEP.context)
    frames = jnp.asarray(np.random.default_rng(hidden).standard_normal((20, 8, 8)))
    slope = jax.jit(jax.grad(lambda x, near: jnp.sum(predict(params, x[near], DEEP) ** 2)))
    gradient = np.asarray(slope(frames, near))
    assert (gradient[hidden] == 0).all()
    assert [t for t in range(20) if np.abs(gradient[t]).max() > 0] == sorted(set(near[0].tolist()))


def test_context_frames_by_hand():
    assert context_frames(np.array([10]), 20, 2).tolist() == [[8, 9, 11, 12]]
    assert context_frames(np.array([0, 19]), 20, 2).tolist() == [[2, 1, 1, 2], [17, 18, 18, 17]]
    for frames in (2, 3, 7, 40):
        every = np.arange(frames)
        near = context_frames(every, frames, 30)
        assert (near != every[:, None]).all() and near.min() >= 0 and near.max() < frames


def test_deepinterpolation_learns_and_says_what_it_saw(known):
    movie, clean, *_ = known
    settings = replace(DEEP, widths=(8, 16), steps=60, batch=4, crop=32, learning_rate=2e-3)
    found = denoise("deepinterpolation", movie, settings)
    assert (found.about["samples"], found.about["crop_px"]) == (240, 32)
    assert found.about["last_loss"] < 0.9 * found.about["first_loss"]
    assert np.mean((found.movie - clean) ** 2) < 0.3 * np.mean((movie - clean) ** 2)


def test_noise2void_learns(known):
    movie, clean, *_ = known
    settings = replace(VOID, widths=(8, 16), steps=80, batch=8, crop=32, learning_rate=4e-3)
    found = denoise("noise2void", movie, settings)
    assert found.about["samples"] == 640
    assert found.about["last_loss"] < 0.9 * found.about["first_loss"]
    assert np.mean((found.movie - clean) ** 2) < 0.6 * np.mean((movie - clean) ** 2)


def test_learning_rates_by_hand():
    rates = learning_rates(replace(DEEP, steps=8, learning_rate=0.2, decay=0.5))
    expected = [0.2] * 5 + [0.1 * (1 + np.cos(np.pi * k / 4)) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose([float(rates(step)) for step in range(9)], expected, atol=1e-7)
    assert {float(learning_rates(DEEP)(step)) for step in range(9)} == {DEEP.learning_rate}


def test_losses_by_hand():
    params = jax.tree.map(jnp.zeros_like, unet.init(0, DEEP.widths, 1, 2 * DEEP.context))
    windows, target = jnp.ones((2, 6, 8, 8)), jnp.full((2, 8, 8), -3.0)
    for loss, expected in (("absolute", 3.0), ("squared", 9.0)):
        settings = replace(DEEP, loss=loss)
        assert float(jax.jit(partial(hidden_loss, settings=settings))(params, (windows, target))) == expected
    nothing = jax.tree.map(jnp.zeros_like, unet.init(0, VOID.widths, VOID.convolutions, 1))
    batch = hide(np.full((2, 16, 16), 2.0), np.random.default_rng(0))
    assert float(jax.jit(partial(blind_loss, settings=VOID))(nothing, batch)) == 4.0


# --- traces, tuning, foreign movies


def test_roi_traces_against_the_sum():
    rng = np.random.default_rng(2)
    weights, movie = rng.random((3, 5, 6)), noisy(7, 5, 6)
    expected = [[(w * frame).sum() for frame in movie.astype(float)] for w in weights]
    np.testing.assert_allclose(roi_traces(movie, weights), expected, rtol=1e-5)


def test_tuning_finds_the_best_of_the_grid(known):
    movie, _, weights, truth = known
    grid = {"sigma_frames": (0.5, 2.0, 40.0), "sigma_px": (0.0, 5.0)}
    tuned = tune(METHODS["gaussian"], grid, movie, roi_score(weights, truth), quiet=True)
    tried = [(trial.settings.sigma_frames, trial.settings.sigma_px) for trial in tuned.trials]
    assert tried == [(f, p) for f in grid["sigma_frames"] for p in grid["sigma_px"]]
    assert tuned.settings == GaussianConfig(2.0, 0.0)
    assert tuned.score == min(trial.score for trial in tuned.trials)
    traces = ndimage.gaussian_filter1d(roi_traces(movie, weights).astype(float), 2.0, axis=1)
    np.testing.assert_allclose(tuned.score, np.mean((traces - truth) ** 2), rtol=1e-3)
    np.testing.assert_array_equal(tuned.denoised.movie, denoise("gaussian", movie, tuned.settings).movie)


def test_the_oracle_beats_the_best_gaussian(known):
    movie, _, weights, truth = known
    method = METHODS["temporal-gaussian"]
    tuned = tune(method, method.grid, movie, roi_score(weights, truth), quiet=True)
    oracle = metrics.roi_error(wiener_traces(movie, weights, truth), truth).mean()
    assert oracle < tuned.score < roi_score(weights, truth)(movie)
    sigmas = np.array(method.grid["sigma_frames"])
    best = metrics.best_temporal_gaussian(roi_traces(movie, weights), truth, sigmas)
    assert tuned.settings.sigma_frames == best.sigma


def test_tuning_refuses_what_it_cannot_try(known):
    movie, _, weights, truth = known
    score = roi_score(weights, truth)
    with pytest.raises(InputError, match="sigma is not a setting of gaussian.*sigma_frames, sigma_px"):
        tune(METHODS["gaussian"], {"sigma": (1.0,)}, movie, score)
    with pytest.raises(InputError, match="sigma_px has no candidates"):
        tune(METHODS["gaussian"], {"sigma_px": ()}, movie, score)
    with pytest.raises(InputError, match="is nan; a finite number"):
        tune(METHODS["raw"], {}, movie, lambda _: float("nan"), quiet=True)


def test_a_foreign_movie_is_aligned(tmp_path, known):
    movie, clean, weights, truth = known
    tifffile.imwrite(tmp_path / "whole.tif", clean, photometric="minisblack")
    np.testing.assert_array_equal(load_foreign(tmp_path / "whole.tif", movie.shape), clean)
    np.save(tmp_path / "cut.npy", clean[30:-30])
    cut = load_foreign(tmp_path / "cut.npy", movie.shape, missing_ends=(30, 30))
    assert np.isnan(cut[:30]).all() and np.isnan(cut[-30:]).all()
    np.testing.assert_array_equal(cut[30:-30], clean[30:-30])
    late = load_foreign(tmp_path / "cut.npy", (290, 40, 48), missing_ends=(35, 15))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(late).all((1, 2))), np.arange(35, 275))
    traces = roi_traces(cut, weights)
    assert np.isfinite(traces).sum(1).tolist() == [240] * 3
    np.testing.assert_allclose(traces[:, 30:-30], truth[:, 30:-30], rtol=1e-5)


def test_a_foreign_movie_that_does_not_fit(tmp_path, known):
    movie, clean, *_ = known
    path = tmp_path / "denoised.npy"
    np.save(path, clean[30:-30])
    with pytest.raises(InputError, match=r"240 frames, needed are 300 less 0 at .*: missing_ends=\(30, 30\)"):
        load_foreign(path, movie.shape)
    with pytest.raises(InputError, match="240 frames, needed are 300 less 30 at the start and 29 at the end"):
        load_foreign(path, movie.shape, missing_ends=(30, 29))
    with pytest.raises(InputError, match="pass the movie it was made of"):
        load_foreign(path, (200, 40, 48))
    np.save(path, clean[:, 1:])
    with pytest.raises(InputError, match="39 x 48, the raw movie 40 x 48"):
        load_foreign(path, movie.shape)
