"""The simulator: its noise law, its truth, and that the seed is everything."""

import json
from dataclasses import replace

import numpy as np
import pytest

from udenoise.config import SimulationConfig, from_json
from udenoise.errors import InputError
from udenoise.simulate import load_simulation, save_simulation, simulate

SMALL = SimulationConfig(frames=120, height=48, width=64, cells=3, seed=5)
STILL = replace(SMALL, frames=600, event_rate_hz=0.0, neuropil_activity=0.0)


@pytest.fixture(scope="module")
def small():
    return simulate(SMALL)


def _residual(simulation):
    return simulation.movie.astype(np.float64) - simulation.clean


def same(one, other):
    """Two simulations are equal in everything."""
    for name, first, second in zip(one._fields, one, other, strict=True):
        pairs = zip(first, second, strict=True) if name == "events" else [(first, second)]
        for a, b in pairs:
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_shapes_and_types(small):
    assert small.movie.shape == small.clean.shape == (120, 48, 64)
    assert (small.movie.dtype, small.clean.dtype, small.masks.dtype) == (np.uint16, np.float32, np.float32)
    assert small.masks.shape == (3, 48, 64)
    assert small.traces.shape == small.spikes.shape == (3, 120)
    assert small.dropped_rows.shape == (0, 2)


def test_traces_are_the_weighted_mean_of_the_clean_movie(small):
    np.testing.assert_allclose(small.masks.sum((1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(small.traces, np.einsum("nyx,tyx->nt", small.masks, small.clean), rtol=1e-5)


def test_seed_decides_everything_and_the_chunk_nothing(small):
    for chunk in (7, 1000):
        same(simulate(SMALL, chunk), small)
    assert not np.array_equal(simulate(replace(SMALL, seed=6)).movie, small.movie)


@pytest.mark.parametrize("photons", [0.1, 2.0, 20.0])
def test_photons_are_those_asked_for(photons):
    simulation = simulate(replace(SMALL, photons=photons, bleaching=0.3, gain=30.0))
    assert (simulation.clean.mean() - simulation.offset) / 30.0 == pytest.approx(photons, rel=1e-3)
    error = np.sqrt((simulation.gain * simulation.clean.mean() + simulation.intercept) / simulation.movie.size)
    assert abs(simulation.movie.mean() - simulation.clean.mean()) < 5 * error


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_noise_law(correlation):
    """Var = a·F + c pixel by pixel: slope and intercept over brightness, and the correlation along x only."""
    config = replace(STILL, correlation_x=correlation, photons=3.0, gain=50.0, excess_noise=1.4, read_noise=20.0)
    simulation = simulate(config)
    residual = _residual(simulation)
    variance, mean = residual.var(axis=0).ravel(), simulation.clean.mean(axis=0).ravel()
    slope, intercept = np.polyfit(mean, variance, 1, w=1 / mean)
    assert slope == pytest.approx(simulation.gain, rel=0.02)
    assert intercept + slope * simulation.offset == pytest.approx(simulation.read_noise**2, abs=150)
    if correlation == 0:
        assert simulation.gain == pytest.approx(50 * 1.4)
    white = residual / np.sqrt(simulation.gain * simulation.clean + simulation.intercept)
    measured = [np.mean(white[:, dy:48, dx:] * white[:, : 48 - dy, : 64 - dx]) for dy, dx in ((0, 1), (0, 2), (1, 0))]
    expected = [simulation.kernel[2, 3], simulation.kernel[2, 4], simulation.kernel[3, 2]]
    assert expected[0] == pytest.approx(correlation)
    np.testing.assert_allclose(measured, expected, atol=0.01)
    assert np.mean(white[1:] * white[:-1]) == pytest.approx(0, abs=0.005)  # independent between frames


def test_excess_noise_of_one_is_poisson():
    simulation = simulate(
        replace(STILL, excess_noise=1.0, read_noise=0.0, gain=1.0, offset=0.0, photons=4.0, vessels=0)
    )
    residual = _residual(simulation)
    assert residual.var() / simulation.clean.mean() == pytest.approx(1.0, rel=0.02)
    assert (residual**3).mean() / simulation.clean.mean() == pytest.approx(1.0, rel=0.1)  # third moment of a Poisson


def test_a_field_without_activity_stands_still():
    simulation = simulate(replace(STILL, frames=40))
    assert np.ptp(simulation.clean, axis=0).max() < 1e-3 * simulation.clean.max()
    assert simulation.spikes.sum() == 0


def test_bleaching_and_dropped_rows():
    simulation = simulate(replace(STILL, frames=200, bleaching=0.5, dropped_rows=0.02))
    light = simulation.clean.mean((1, 2)) - simulation.offset
    assert light[-1] / light[0] == pytest.approx(0.5, rel=0.01)
    frame, row = simulation.dropped_rows.T
    assert len(frame) == pytest.approx(0.02 * 200 * 48, rel=0.3)
    assert simulation.movie[frame, row].max() == 0
    kept = np.ones(simulation.movie.shape[:2], bool)
    kept[frame, row] = False
    assert simulation.movie[kept].min() > 0


def test_cells_answer_their_spikes():
    """Brightness rises with a cell's own spikes, rare and large: ΔF/F up to a few hundred percent."""
    simulation = simulate(replace(SMALL, frames=2000, height=64, cells=6, neuropil_activity=0.05, event_rate_hz=0.2))
    rises = np.diff(simulation.traces, axis=1)
    for spikes, rise in zip(simulation.spikes, rises, strict=True):
        if spikes[1:].sum() > 10:
            assert rise[spikes[1:] > 0].mean() > 3 * np.abs(rise[spikes[1:] == 0]).mean()
    light = simulation.traces - simulation.offset
    peak = light.max(1) / np.percentile(light, 20, axis=1) - 1
    assert 0.3 < np.median(peak) < 4
    assert np.mean(simulation.spikes > 0) < 0.1


def test_saving_and_loading(small, tmp_path):
    save_simulation(small, SMALL, tmp_path / "truth")
    truth = np.load(tmp_path / "truth" / "truth.npz")
    np.testing.assert_array_equal(truth["traces"], small.traces)
    assert float(truth["gain"]) == small.gain
    np.testing.assert_array_equal(np.load(tmp_path / "truth" / "rois.npy"), small.masks)
    settings = json.loads((tmp_path / "truth" / "simulation.json").read_text())
    assert from_json(SimulationConfig, settings) == SMALL
    with pytest.raises(InputError, match="another version: colour unknown"):
        from_json(SimulationConfig, settings | {"colour": "green"})
    same(load_simulation(tmp_path / "truth"), small)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"excess_noise": 0.5}, "excess_noise is 0.5"),
        ({"correlation_x": 0.9}, "--correlation-x"),
        ({"photons": float("nan")}, "photons is nan"),
        ({"cells": 500}, "cells is 500"),
        ({"cells": 0}, "cells is 0"),
        ({"height": 8}, "height is 8"),
    ],
)
def test_contradictions_are_one_line_errors(change, word):
    with pytest.raises(InputError, match=word) as error:
        simulate(replace(SMALL, **change))
    assert "\n" not in str(error.value)
