"""The detector's noise law with every switch on, and whether the noise estimator finds what was put in."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import shift

from udenoise.config import DetectorConfig, NuisanceConfig, OpticsConfig, SimulationConfig, TissueConfig
from udenoise.errors import InputError
from udenoise.io import open_movie
from udenoise.noise import estimate_noise
from udenoise.simulate import load_simulation, simulate, write_simulation
from udenoise.simulate.detector import detector_taps, noise_kernel

SMALL = SimulationConfig(frames=120, height=48, width=64, cells=3, seed=5)
STILL = replace(SMALL, event_rate_hz=0.0, neuropil_activity=0.0)


@pytest.mark.parametrize("bandwidth", [0.3, 1.0])
def test_bandwidth_correlates_along_x_by_its_closed_form(bandwidth):
    """A one-pole low-pass: ρ(dx) = exp(−|dx|/bandwidth), and nothing along Y."""
    kernel = noise_kernel(detector_taps(0.0, bandwidth))
    middle = len(kernel) // 2
    lags = np.arange(-2, 3)
    np.testing.assert_allclose(kernel[middle, middle + lags], np.exp(-np.abs(lags) / bandwidth), atol=2e-3)
    assert np.delete(kernel, middle, axis=0).max() == 0
    trail = detector_taps(0.0, bandwidth)
    assert np.all(trail[: len(trail) // 2] == 0) and trail[len(trail) // 2] > 0  # nothing comes before its light


@pytest.mark.parametrize("correlation", [0.0, 0.25, 0.56])
def test_taps_give_the_correlation_asked_for(correlation):
    taps = detector_taps(correlation)
    assert taps.sum() == pytest.approx(1)
    assert noise_kernel(taps)[2, 3] == pytest.approx(correlation)


@pytest.mark.parametrize(
    ("photons", "correlation", "bandwidth"), [(0.1, 0.0, 0.0), (2.0, 0.3, 0.0), (20.0, 0.0, 0.7), (0.5, 0.4, 0.5)]
)
def test_photon_transfer_law(photons, correlation, bandwidth):
    """Squared residuals over `a·F + c` have mean 1 at every brightness, within 5 of their own standard errors."""
    config = replace(
        SMALL, frames=300, photons=photons, correlation_x=correlation, detector=DetectorConfig(bandwidth_px=bandwidth),
        excess_noise=1.4, read_noise=15.0, gain=40.0, offset=300.0, bleaching=0.2,
        nuisance=NuisanceConfig(flicker=0.05), optics=OpticsConfig(haze=0.3),
    )  # fmt: skip
    made = simulate(config)
    expected = made.gain * made.clean[..., 4:-4].astype(float) + made.intercept + 1 / 12  # rounding to whole counts
    ratio = (made.movie[..., 4:-4] - made.clean[..., 4:-4].astype(float)) ** 2 / expected
    edges = np.quantile(expected, np.linspace(0, 1, 6))
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (expected >= low) & (expected < high)
        frames = np.array([r[i].sum() for r, i in zip(ratio, inside, strict=True)])
        counts = inside.sum((1, 2))
        error = np.sqrt(np.sum((frames - counts) ** 2)) / counts.sum()
        assert abs(frames.sum() / counts.sum() - 1) < 5 * error
        assert error < 0.02


@pytest.mark.parametrize(
    ("change", "nuisance"),
    [
        ({"photons": 2.0}, {}),
        ({"photons": 0.5, "correlation_x": 0.4, "dropped_rows": 0.01}, {}),
        ({"photons": 8.0, "detector": DetectorConfig(bandwidth_px=0.8), "dropped_rows": 0.005}, {"flicker": 0.02}),
    ],
)
def test_estimated_noise_is_what_was_put_in(change, nuisance):
    """Gain within 3 %, kernel within 0.02, every dropped row and no other."""
    config = SimulationConfig(
        frames=300, height=96, width=112, nuisance=NuisanceConfig(**nuisance), bleaching=0.1, seed=7
    )
    made = simulate(replace(config, **change))
    noise = estimate_noise(open_movie(made.movie))
    assert noise.gain == pytest.approx(made.gain, rel=0.03)
    dim = np.quantile(made.clean[::50], 0.05)
    assert noise.variance(dim) == pytest.approx(made.gain * dim + made.intercept, rel=0.03)
    true, middle = np.zeros((7, 7)), len(made.kernel) // 2
    reach = min(3, middle)
    near = slice(middle - reach, middle + reach + 1)
    true[3 - reach : 4 + reach, 3 - reach : 4 + reach] = made.kernel[near, near]
    assert np.abs(noise.kernel - true).max() < 0.02
    assert set(map(tuple, noise.bad_rows.tolist())) == set(map(tuple, made.dropped_rows.tolist()))
    assert not noise.bad_frames.size and not noise.breaks.size


def test_clipping_and_saturation():
    walls = DetectorConfig(floor_counts=5, ceiling_counts=700)
    made = simulate(replace(STILL, offset=-60.0, detector=walls))
    assert (made.movie.min(), made.movie.max()) == (5, 700)
    unclipped = simulate(replace(STILL, offset=-60.0))
    np.testing.assert_array_equal(made.movie, np.clip(unclipped.movie, 5, 700))
    np.testing.assert_array_equal(made.clean, unclipped.clean)


def test_motion_displaces_the_clean_movie():
    """Frames are the first one, moved by the difference of their shifts (cubic splines, away from the border)."""
    nuisance = NuisanceConfig(drift_px=2.0, jitter_px=0.3, motion_bursts_hz=0.5)
    made = simulate(replace(STILL, nuisance=nuisance, optics=OpticsConfig(psf_px=1.2)))
    assert np.abs(made.shifts).max() > 2 and made.clean.shape == (120, 48, 64)
    inner = (slice(8, -8), slice(8, -8))
    for t in (20, 60, 119):
        moved = shift(made.clean[0].astype(float), made.shifts[t] - made.shifts[0], order=3, mode="nearest")
        error = np.abs(moved - made.clean[t])[inner].mean()
        assert error < 0.2 * np.abs(made.clean[0] - made.clean[t])[inner].mean()
    still = simulate(replace(STILL, nuisance=NuisanceConfig()))
    assert not still.shifts.any()


def test_bursts_of_motion_come_back():
    made = simulate(
        replace(STILL, frames=400, height=32, width=32, cells=1, nuisance=NuisanceConfig(motion_bursts_hz=0.3))
    )
    size = np.hypot(*made.shifts.T)
    assert size.max() > 1 and np.quantile(size, 0.3) < 0.05 * size.max()


def test_blur_and_haze_lower_the_contrast():
    def contrast(**optics):
        clean = simulate(replace(STILL, frames=1, vessels=0, optics=OpticsConfig(**optics))).clean[0] - STILL.offset
        return np.diff(clean).std() / clean.mean()  # of neighbours: uneven illumination does not count

    assert contrast(haze=0.6) == pytest.approx(0.4 * contrast(), rel=0.15)
    assert contrast(psf_px=2.5) < 0.6 * contrast()


def test_everything_on_does_not_depend_on_the_chunk_and_streams(tmp_path):
    config = replace(
        SMALL, correlation_x=0.2, dropped_rows=0.02, detector=DetectorConfig(bandwidth_px=0.5),
        nuisance=NuisanceConfig(jitter_px=0.2, flicker=0.1), tissue=TissueConfig(astrocytes=1), frames=70,
    )  # fmt: skip
    made = simulate(config)
    stored = load_simulation(write_simulation(config, tmp_path / "sim", chunk=9))
    for name, one, two in zip(made._fields, made, stored, strict=True):
        if name != "events":
            np.testing.assert_array_equal(one, two, err_msg=name)
    assert open_movie(tmp_path / "sim" / "movie.tif").frame_rate_hz == pytest.approx(30)
    assert not list((tmp_path / "sim").glob("*.part"))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_simulation(SMALL, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
