"""Null, semi-real and re-noised movies against the law they are given."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import correlated, movie_counts, noise_model, white
from scipy import sparse

from udenoise.config import RareConfig, SimulationConfig
from udenoise.errors import InputError
from udenoise.io import open_movie, rois_from_masks
from udenoise.simulate import add_noise, load_footprints, make, plan_null, plan_semireal, thin, write, write_renoised
from udenoise.simulate.measured import dark_level

T, Y, X = 400, 32, 48
COUNTS = movie_counts(40, Y, X)
MEAN = COUNTS.mean(0).astype(np.float32)
LAW = noise_model(COUNTS, kernel=correlated(0.3))
CONFIG = SimulationConfig(frames=T, frame_rate_hz=10.0, event_rate_hz=0.1, seed=3)


def masks():
    y, x = np.mgrid[:Y, :X]
    return np.stack([np.exp(-((y - 10) ** 2 + (x - a) ** 2) / 8) > 0.3 for a in (10, 30)]).astype(np.float32)


def law_holds(residual, variance, kernel):
    """Unit variance of whitened residuals and the kernel's neighbour along X and Y, within 5 standard errors."""
    unit = residual / np.sqrt(variance)
    for measured, expected in (
        (unit**2, 1.0),
        (unit[:, :, 1:] * unit[:, :, :-1], kernel[3, 4]),
        (unit[:, 1:] * unit[:, :-1], kernel[4, 3]),
        (unit, 0.0),
    ):
        frames = measured.mean((1, 2))
        assert abs(frames.mean() - expected) < 5 * frames.std() / np.sqrt(len(frames))


@pytest.mark.parametrize("kernel", [white(), correlated(0.3)])
def test_null_movie_is_the_mean_image_and_its_noise(kernel):
    law = noise_model(COUNTS, kernel=kernel)
    made = make(plan_null(MEAN, law, T))
    assert made.masks.shape == (0, Y, X) and not len(made.events.kind)
    np.testing.assert_array_equal(made.clean, np.broadcast_to(MEAN, made.clean.shape))
    law_holds(made.movie - made.clean, law.pixel_variance(MEAN), kernel)
    assert made.intercept == pytest.approx(law.intercept) and made.gain == law.gain


def test_noise_does_not_depend_on_the_chunk():
    plan = plan_null(MEAN, LAW, 30, seed=4)
    np.testing.assert_array_equal(make(plan, 7).movie, make(plan, 64).movie)
    clean = np.broadcast_to(MEAN, (5, Y, X))
    np.testing.assert_array_equal(add_noise(clean, LAW, 4, 10), make(plan).movie[10:15])


def test_semireal_movie_has_the_traces_it_was_given(tmp_path):
    dff = np.abs(np.random.default_rng(0).normal(size=(2, T))).astype(np.float32)
    calm = replace(CONFIG, neuropil_activity=0.0)
    made = make(plan_semireal(MEAN, LAW, rois_from_masks(masks()), calm, dff))
    light = MEAN - dark_level(LAW)
    for mask, trace in zip(masks(), dff, strict=True):
        inside = mask > 0
        np.testing.assert_allclose(made.clean[:, inside], MEAN[inside] + light[inside] * trace[:, None], rtol=1e-5)
    outside = masks().sum(0) == 0
    np.testing.assert_allclose(made.clean[:, outside], np.broadcast_to(MEAN[outside], (T, outside.sum())))
    law_holds(made.movie - made.clean, LAW.pixel_variance(made.clean), LAW.kernel)
    np.testing.assert_array_equal(made.dff, dff)


def test_semireal_movie_with_drawn_activity_streams(tmp_path):
    config = replace(CONFIG, rare=RareConfig(lone_cells=1))
    plan = plan_semireal(MEAN, LAW, rois_from_masks(masks()), config)
    made = make(plan)
    assert "lone" in made.events.kind and made.events.snr.min() > 0
    stored = open_movie(write(plan, tmp_path / "semi", chunk=50) / "movie.tif")
    np.testing.assert_array_equal(stored[:], made.movie)
    loud = (made.clean / MEAN - 1)[:, masks().sum(0) > 0].max()
    calm = (made.clean / MEAN - 1)[:, masks().sum(0) == 0].std()
    assert loud > 0.2 and 0.02 < calm < 0.4


def test_footprints_of_caiman_are_in_fortran_order(tmp_path):
    columns = masks()
    sparse.save_npz(tmp_path / "A.npz", sparse.csc_matrix(np.stack([m.ravel(order="F") for m in columns], 1)))
    rois = load_footprints(tmp_path / "A.npz", (Y, X))
    same = rois_from_masks(columns)
    np.testing.assert_array_equal(rois.index, same.index)
    np.testing.assert_allclose(rois.weight, same.weight)
    with pytest.raises(InputError, match="1536 pixels"):
        load_footprints(tmp_path / "A.npz", (Y, Y))
    np.savez(tmp_path / "B.npz", a=1)
    with pytest.raises(InputError, match="no sparse matrix"):
        load_footprints(tmp_path / "B.npz", (Y, X))


def test_what_does_not_fit_is_said():
    rois = rois_from_masks(masks())
    with pytest.raises(InputError, match="mean image is"):
        plan_semireal(MEAN[:-1], LAW, rois, CONFIG)
    with pytest.raises(InputError, match="one row per region"):
        plan_semireal(MEAN, LAW, rois, CONFIG, np.zeros((3, T)))


@pytest.mark.parametrize("kernel", [white(), correlated(0.3)])
def test_gaussian_thinning_keeps_the_law_and_makes_independent_halves(kernel):
    """Kept counts obey `a F' + c` at F' = dark + p (F − dark); their noise is uncorrelated with that of the rest."""
    p, law = 0.3, noise_model(COUNTS, kernel=kernel)._replace(field=np.ones((2, 3)))
    made = make(plan_null(MEAN, law, T))
    kept, rest = thin(made.movie, law, p)
    dark = dark_level(law)
    dimmed = dark + p * (MEAN - dark)
    law_holds(kept - dimmed, law.gain * dimmed + law.intercept, kernel)
    for one in (kept, rest):
        frames = (one - dimmed).mean((1, 2))
        assert abs(frames.mean()) < 5 * frames.std() / np.sqrt(T)
    product = ((kept - dimmed) * (rest - dimmed)).mean((1, 2))
    assert abs(product.mean()) < 5 * product.std() / np.sqrt(T)
    np.testing.assert_allclose((kept - dark) + (rest - dark) * (1 - p) / p, made.movie - dark, rtol=1e-3, atol=1e-2)


def test_binomial_thinning_of_photons_is_poisson():
    law = noise_model(COUNTS)._replace(gain=4.0, intercept=-4.0 * 30, field=np.ones((2, 3)))
    photons = np.random.default_rng(0).poisson(20.0, (T, Y, X))
    kept, rest = thin((30 + 4 * photons).astype(np.uint16), law, 0.25, "binomial")
    n = (kept - 30) / 4
    assert (n == np.rint(n)).all() and (n >= 0).all() and (n <= photons).all()
    size = np.sqrt(n.size)
    assert abs(n.mean() - 5) < 5 * np.sqrt(5) / size
    assert abs(n.var() - 5) < 5 * np.sqrt(55) / size  # the variance of (n − 5)² is λ + 2 λ² = 55
    m = (rest - 30) / 4
    assert abs(np.corrcoef(n.ravel(), m.ravel())[0, 1]) < 5 / size
    with pytest.raises(InputError, match="gaussian"):
        thin(np.zeros((1, Y, X), np.uint16), law, 0.25, "binomial")


def test_renoised_movie_streams_whatever_the_chunk(tmp_path):
    movie = open_movie(COUNTS)
    one, two = (write_renoised(movie, LAW, 0.5, tmp_path / str(c), chunk=c) for c in (7, 64))
    for name in ("movie.tif", "rest.tif"):
        np.testing.assert_array_equal(open_movie(one / name)[:], open_movie(two / name)[:])
    with pytest.raises(InputError, match="fraction is 1.5"):
        thin(COUNTS, LAW, 1.5)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_renoised(movie, LAW, 0.5, tmp_path / "other")
