"""Summary images against the movie held whole in memory."""

from pathlib import Path

import numpy as np
import pytest
from helpers import movie_counts

from udenoise.anatomy import Anatomy, anatomy_maps, estimate_anatomy, half_of, leave_one_out, load_anatomy, save_anatomy
from udenoise.errors import InputError
from udenoise.io import open_movie
from udenoise.noise import NoiseModel, estimate_noise, good_rows

DATA = Path(__file__).parents[2] / "shared" / "data"
GAIN, OFFSET, READ = 50.0, 100.0, 10.0


def noise_of(counts, bad_rows=(), bad_frames=(), kernel=None) -> NoiseModel:
    """The true noise model of `record`."""
    white = np.zeros((7, 7))
    white[3, 3] = 1
    return NoiseModel(
        gain=GAIN, intercept=READ**2 - GAIN * OFFSET, kernel=white if kernel is None else kernel, difference_lag1=-0.5,
        field=np.ones((1, 1)), bin_mean=np.array([200.0]), bin_variance=np.array([5000.0]), photons=2.0,
        bad_rows=np.array(bad_rows, np.int64).reshape(-1, 2), bad_frames=np.array(bad_frames, np.int64),
        breaks=np.zeros(0, np.int64), saturated_at=None, saturated_fraction=0.0, clipped_at=None, clipped_fraction=0.0,
        ramp=0.0, frame_mean=counts.mean((1, 2)).astype(np.float32), warnings=(),
    )  # fmt: skip


def record(rate, seed=0):
    rng = np.random.default_rng(seed)
    return np.round(GAIN * rng.poisson(rate) + rng.normal(0, READ, rate.shape) + OFFSET).astype(np.int32)


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(1)
    return record(2 * np.exp(0.3 * rng.normal(size=(24, 20))) * np.ones((300, 1, 1)))


def test_mean_std_and_maximum_are_those_of_the_movie(counts):
    anatomy = estimate_anatomy(open_movie(counts), noise_of(counts))
    np.testing.assert_array_equal(anatomy.total, counts.sum(0))
    assert (anatomy.count == 300).all()
    np.testing.assert_allclose(anatomy.mean, counts.mean(0), rtol=1e-6)
    np.testing.assert_allclose(anatomy.std, counts.std(0), rtol=1e-5)
    np.testing.assert_array_equal(anatomy.maximum, counts.max(0))


def test_excess_and_correlation_against_brute_force(counts):
    noise = noise_of(counts)
    anatomy = estimate_anatomy(open_movie(counts), noise)
    field = counts.mean((1, 2)) - counts.mean()
    centred = counts - counts.mean(0)
    slope = np.einsum("tyx,t->yx", centred, field) / (field**2).sum()
    residual = centred - slope * field[:, None, None]
    np.testing.assert_allclose(anatomy.excess, residual.var(0) - noise.variance(counts.mean(0)), rtol=1e-4, atol=0.5)
    padded = np.pad(residual / residual.std(0), ((0, 0), (1, 1), (1, 1)))
    inside = np.pad(np.ones((24, 20)), 1)
    around = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    summed = sum((padded[:, 1:-1, 1:-1] * padded[:, y : y + 24, x : x + 20]).mean(0) for y, x in around)
    neighbours = sum(inside[y : y + 24, x : x + 20] for y, x in around)
    np.testing.assert_allclose(anatomy.correlation, summed / neighbours, atol=1e-5)


def test_chunks_do_not_matter(counts, monkeypatch):
    noise = noise_of(counts, bad_rows=[(0, 3), (17, 20)], bad_frames=[50])
    whole = estimate_anatomy(open_movie(counts), noise)
    monkeypatch.setattr("udenoise.anatomy.PIXELS_AT_ONCE", 7 * 24 * 20)
    scale = {"excess": whole.std.max() ** 2, "correlation": 1.0}
    for name, one, other in zip(Anatomy._fields, whole, estimate_anatomy(open_movie(counts), noise), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * scale.get(name, 0), err_msg=name)


def test_bad_rows_and_frames_count_nowhere(counts):
    spoiled = counts.copy()
    spoiled[5, 7], spoiled[0, 23], spoiled[40] = 0, 60000, 60000
    noise = noise_of(counts, bad_rows=[(5, 7), (0, 23)], bad_frames=[40])
    clean, dirty = (estimate_anatomy(open_movie(c), noise) for c in (counts, spoiled))
    for name, one, other in zip(Anatomy._fields, clean, dirty, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    good = good_rows(noise, 0, 300, 24)
    np.testing.assert_array_equal(dirty.count, np.repeat(good.sum(0)[:, None], 20, 1))
    np.testing.assert_array_equal(dirty.total, np.einsum("tyx,ty->yx", counts, good))


def test_active_cells_light_up_and_the_field_does_not():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:32, :32]
    cell = (y - 16) ** 2 + (x - 12) ** 2 < 16
    trace = np.convolve(rng.random(600) < 0.02, np.exp(-np.arange(60) / 10))[:600]
    ramp = np.linspace(1.3, 0.7, 600)
    rate = 3 * ramp[:, None, None] * (1 + 1.5 * trace[:, None, None] * cell)
    counts = record(rate)
    anatomy = estimate_anatomy(open_movie(counts), noise_of(counts))
    quiet = (y - 16) ** 2 + (x - 12) ** 2 > 49
    signal, field = GAIN * rate[:, 16, 12], counts.mean((1, 2))
    truth = signal.var() * (1 - np.corrcoef(signal, field)[0, 1] ** 2)
    assert anatomy.excess[cell].mean() == pytest.approx(truth, rel=0.1)
    assert abs(anatomy.excess[quiet].mean()) < 0.05 * truth
    assert anatomy.correlation[cell].mean() > 0.2 and abs(anatomy.correlation[quiet].mean()) < 0.02


def test_correlated_noise_is_no_activity():
    counts = record(2 * np.ones((400, 24, 32)))
    blurred = (counts + np.roll(counts, 1, 2)) / np.sqrt(2)
    kernel = np.zeros((7, 7))
    kernel[3, 2:5] = 0.5, 1.0, 0.5
    law = noise_of(blurred)._replace(intercept=READ**2 - GAIN * OFFSET * np.sqrt(2), gain=GAIN / np.sqrt(2))
    law = law._replace(intercept=float(blurred.var(0).mean() - law.gain * blurred.mean()))
    ignored = estimate_anatomy(open_movie(blurred), law).correlation[:, 2:-2].mean()
    known = estimate_anatomy(open_movie(blurred), law._replace(kernel=kernel)).correlation[:, 2:-2].mean()
    assert ignored == pytest.approx(0.125, abs=0.01) and abs(known) < 0.01


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_the_mean_without_a_frame_is_that_of_the_movie_without_it(counts, kind):
    movie = (counts * (1 if kind == np.uint16 else np.pi)).astype(kind)
    noise = noise_of(movie, bad_rows=[(5, 7), (8, 0)], bad_frames=[40])
    anatomy = estimate_anatomy(open_movie(movie), noise)
    good = good_rows(noise, 0, 300, 24)
    left_out = leave_one_out(anatomy, movie[[5, 8, 40, 299]], good[[5, 8, 40, 299]])
    assert left_out.dtype == np.float32
    for t, image in zip((5, 8, 40, 299), left_out, strict=True):
        others = good.copy()
        others[t] = False
        expected = np.einsum("tyx,ty->yx", movie.astype(np.float64), others) / others.sum(0)[:, None]
        np.testing.assert_allclose(image, expected, rtol=1e-7)


def test_the_mean_without_a_frame_does_not_depend_on_it(counts):
    changed = counts.copy()
    changed[123] = np.random.default_rng(9).integers(0, 65535, counts.shape[1:])
    noise, good = noise_of(counts), np.ones((1, 24), bool)
    one, other = (leave_one_out(estimate_anatomy(open_movie(c), noise), c[123:124], good) for c in (counts, changed))
    np.testing.assert_array_equal(one, other)


def test_saving_and_loading_gives_the_same_images(counts, tmp_path):
    anatomy = estimate_anatomy(open_movie(counts), noise_of(counts))
    save_anatomy(anatomy, tmp_path / "anatomy.zarr")
    for one, other in zip(anatomy, load_anatomy(tmp_path / "anatomy.zarr"), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_a_movie_without_a_good_frame_is_refused(counts):
    with pytest.raises(InputError, match="no good frame"):
        estimate_anatomy(open_movie(counts), noise_of(counts, bad_frames=range(300)))


def test_neurofinder_cells_stand_out():
    path = DATA / "neurofinder_crop" / "movie.tif"
    if not path.exists():
        pytest.skip("the real movies are not here")
    movie = open_movie(path)
    noise = estimate_noise(movie)
    anatomy = estimate_anatomy(movie, noise)
    assert (anatomy.count == 600 - np.bincount(noise.bad_rows[:, 1], minlength=224)[:, None]).all()
    assert anatomy.mean.min() > 5 and np.isfinite(np.stack(anatomy[2:])).all()
    assert np.quantile(anatomy.correlation, 0.99) > 4 * abs(np.median(anatomy.correlation))


def test_maps_of_the_halves_are_the_images_of_their_frames():
    counts = movie_counts(80, 12, 14)
    noise = noise_of(counts)
    first = half_of(np.arange(80), 80) == 0
    assert first.sum() == 40 and first[:4].all() and not first[4:8].any()
    maps = anatomy_maps(open_movie(counts), noise)
    for half, chosen in enumerate((first, ~first)):
        alone = estimate_anatomy(open_movie(counts[chosen]), noise._replace(frame_mean=noise.frame_mean[chosen]))
        np.testing.assert_allclose(maps[half, ..., 1], alone.correlation, atol=0.02)  # the field is centred differently
        expected = np.arcsinh(alone.excess / noise.pixel_variance(alone.mean))
        np.testing.assert_allclose(maps[half, ..., 0], expected, atol=0.02)
