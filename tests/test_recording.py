"""What later stages read of a movie: frames with their holes filled, trials, whitening."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GAIN, correlated, movie_counts, recording_of

from udenoise.recording import fill_rows, hidden_means, read_frames, scaling, segments, usable_frames

T, Y, X = 20, 18, 24


@pytest.fixture(scope="module")
def counts():
    return movie_counts(T, Y, X)


def test_whitening_is_the_noise_model(counts):
    recording = recording_of(counts)
    scale, mean, noise = scaling(recording), recording.anatomy.mean, recording.noise
    sigma = scale.sigma(jnp.asarray(mean), jnp.asarray(recording.ratio))
    np.testing.assert_allclose(sigma**2, noise.pixel_variance(mean), rtol=1e-5)
    np.testing.assert_allclose(scale.level[0], np.median(mean), rtol=1e-6)
    np.testing.assert_allclose(scale.level[1], np.percentile(mean, 90) - np.percentile(mean, 10), rtol=1e-5)


def test_whitening_never_divides_by_zero(counts):
    dark = recording_of(counts)
    dark = dark._replace(noise=dark.noise._replace(intercept=-1e6))
    scale = scaling(dark)
    sigma = np.asarray(scale.sigma(jnp.asarray(dark.anatomy.mean), jnp.asarray(dark.ratio)))
    assert scale.floor > 0 and np.isfinite(sigma).all() and (sigma > 0).all() and scale.level[2] > 0
    uniform = scaling(recording_of(np.full((T, Y, X), 100, np.uint16)))
    assert uniform.level[1] > 0


def test_trials_and_dropped_frames(counts):
    recording = recording_of(counts, bad_frames=[3, 19], breaks=[5, 12])
    assert segments(recording).tolist() == [0] * 5 + [1] * 7 + [2] * 8
    assert np.flatnonzero(~usable_frames(recording)).tolist() == [3, 19]


def test_frames_beyond_the_movie_are_empty(counts):
    frames, good = read_frames(recording_of(counts), -3, T + 2)
    assert frames.dtype == counts.dtype and frames.shape == (T + 5, Y, X)
    np.testing.assert_array_equal(frames[3:-2], counts)
    assert not frames[:3].any() and not frames[-2:].any()
    assert not good[:3].any() and not good[-2:].any() and good[3:-2].all()
    outside, unreal = read_frames(recording_of(counts), T + 4, T + 6)
    assert not outside.any() and not unreal.any()


def test_dropped_rows_are_filled_along_straight_lines_of_their_own_frame():
    rng = np.random.default_rng(0)
    frames, good = rng.random((3, Y, X)).astype(np.float32), np.ones((3, Y), bool)
    good[0, [4, 5]], good[1, 0], good[1, Y - 1], good[2] = False, False, False, False
    filled = fill_rows(frames, good)
    np.testing.assert_array_equal(filled[good], frames[good])
    np.testing.assert_allclose(filled[0, 4], (2 * frames[0, 3] + frames[0, 6]) / 3, rtol=1e-5)
    np.testing.assert_allclose(filled[0, 5], (frames[0, 3] + 2 * frames[0, 6]) / 3, rtol=1e-5)
    np.testing.assert_array_equal(filled[1, 0], frames[1, 1])
    np.testing.assert_array_equal(filled[1, -1], frames[1, -2])
    assert frames is not filled


def test_one_good_row_fills_the_frame():
    frames, good = np.random.default_rng(1).random((1, Y, X)).astype(np.float32), np.zeros((1, Y), bool)
    good[0, 7] = True
    np.testing.assert_array_equal(fill_rows(frames, good), np.broadcast_to(frames[:, 7:8], frames.shape))


def test_what_lies_in_a_dropped_row_is_forgotten(counts):
    spoiled = counts.copy()
    spoiled[4, 7] = 65535
    one, other = (read_frames(recording_of(c, bad_rows=[(4, 7)]), 2, 9) for c in (counts, spoiled))
    np.testing.assert_array_equal(one[0], other[0])
    assert not other[1][2, 7] and other[1].sum() == other[1].size - 1


def test_hidden_means_leave_their_frame_out(counts):
    recording = recording_of(counts, bad_frames=[6])
    means = hidden_means(recording, *read_frames(recording, 5, 8))
    others = np.delete(counts.astype(float), 6, 0).sum(0)
    np.testing.assert_allclose(means[0], (others - counts[5]) / (T - 2), rtol=1e-6)
    np.testing.assert_allclose(means[1], others / (T - 1), rtol=1e-6)
    assert means.dtype == np.float32


def test_kernel_and_gain_are_carried(counts):
    recording = recording_of(counts, kernel=correlated(0.3))
    assert scaling(recording).gain == GAIN and recording.noise.kernel[3, 4] == 0.3
