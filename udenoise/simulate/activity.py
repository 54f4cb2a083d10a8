"""When simulated cells fire and what the indicator shows of it: bursts, assemblies, rise, decay, saturation.

One spike gives `ΔF/F(t) = amplitude · (1 − exp(−t/rise)) exp(−t/decay) / peak`; calcium adds up, fluorescence saturates.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.signal import fftconvolve

from udenoise.config import SimulationConfig


class Kinetics(NamedTuple):
    """An indicator's answer to spikes."""

    rise_s: float
    decay_s: float
    spike_dff: float
    """ΔF/F of one spike at its peak."""
    half_saturation: float
    """Spikes' worth of calcium at which the indicator is half saturated."""


INDICATORS = {
    "GCaMP6f": Kinetics(0.02, 0.20, 0.19, 15.0),
    "GCaMP6s": Kinetics(0.08, 0.79, 0.23, 15.0),
    "jGCaMP8m": Kinetics(0.004, 0.17, 0.40, 10.0),
    "OGB-1": Kinetics(0.01, 0.60, 0.08, 6.0),
}
"""Single-spike rise, decay and amplitude of the published order: GCaMP6 after Chen et al. 2013 (half-decays of 142 and
550 ms, 19 and 23 %), jGCaMP8m after Zhang et al. 2023, OGB-1 after Kerr et al. 2005. Saturation is a round figure; the
superlinear foot of GCaMP (Hill coefficient above 1) is not modelled."""


class Firing(NamedTuple):
    """Spikes per frame and what the indicator shows."""

    spikes: Int[np.ndarray, "N T"]
    dff: Float[np.ndarray, "N T"]


def kinetics(config: SimulationConfig) -> Kinetics:
    """The indicator that is named, or the one that the settings describe."""
    known = config.population.indicator
    described = Kinetics(config.rise_s, config.decay_s, config.spike_dff, config.population.half_saturation)
    return INDICATORS[known] if known else described


def transient(t_s: Float[np.ndarray, "*t"], rise_s: float, decay_s: float) -> Float[np.ndarray, "*t"]:
    """Calcium after one spike at t = 0, peak 1: (1 − exp(−t/rise)) exp(−t/decay), 0 before."""
    peak_s = rise_s * np.log1p(decay_s / rise_s)
    peak = -np.expm1(-peak_s / rise_s) * np.exp(-peak_s / decay_s)
    later = np.maximum(t_s, 0)
    return -np.expm1(-later / rise_s) * np.exp(-later / decay_s) / peak


def saturate(calcium: Float[np.ndarray, "*n"], half: float) -> Float[np.ndarray, "*n"]:
    """Fluorescence c (1 + half) / (c + half): 1 for one spike, half of its ceiling at `half` spikes (one-site binding)."""
    return calcium * (1 + half) / (calcium + half)


def fire(rng: np.random.Generator, config: SimulationConfig, n: int) -> Int[np.ndarray, "N T"]:
    """Spikes per frame of n cells, a warm-up of five decays included, which `respond` cuts off.

    Poisson bursts of geometric length, whose rate differs between cells and follows one of a few slow assemblies.
    """
    population, rate_hz = config.population, config.frame_rate_hz
    frames = warm_up(config) + config.frames
    assemblies = slow_noise(rng, max(1, population.assemblies), frames, 4.0 * rate_hz)
    strength = population.assembly_strength
    sparse = rng.random(n) < population.sparse_cells
    rate = config.event_rate_hz * np.exp(0.8 * rng.normal(size=(n, 1))) * np.where(sparse, 0.3, 1.0)[:, None]
    rate = rate * np.exp(strength * assemblies[rng.integers(0, len(assemblies), n)] - strength**2 / 2)
    cell, frame = np.nonzero(bursts := rng.poisson(rate / rate_hz))
    size = np.where(sparse[cell], 1, rng.geometric(1 / config.burst_spikes, len(cell))) * bursts[cell, frame]
    return _scatter(rng, np.repeat(cell, size), np.repeat(frame, size), config, (n, frames))


def _scatter(rng: np.random.Generator, cell: np.ndarray, frame: np.ndarray, config: SimulationConfig, shape: tuple):
    """Spikes of bursts at their frames, each with a short exponential delay."""
    delay = rng.exponential(0.03 * config.burst_spikes, len(cell)) * config.frame_rate_hz
    frame = frame + delay.astype(int)
    spikes = np.zeros(shape, np.int32)
    np.add.at(spikes, (cell[frame < shape[1]], frame[frame < shape[1]]), 1)
    return spikes


def respond(rng: np.random.Generator, config: SimulationConfig, spikes: Int[np.ndarray, "N F"]) -> Firing:
    """Spikes and ΔF/F without the warm-up; decay times and amplitudes differ between cells."""
    known = kinetics(config)
    decay_s = known.decay_s * np.exp(0.15 * rng.normal(size=len(spikes)))
    amplitude = known.spike_dff * np.exp(0.4 * rng.normal(size=(len(spikes), 1)))
    calcium = accumulate(spikes, known.rise_s, decay_s, config.frame_rate_hz)
    start = warm_up(config)
    return Firing(spikes[:, start:], amplitude * saturate(calcium, known.half_saturation)[:, start:])


def accumulate(
    spikes: Int[np.ndarray, "N F"], rise_s: float, decay_s: Float[np.ndarray, "N"], frame_rate_hz: float
) -> Float[np.ndarray, "N F"]:
    """Calcium: each spike, at the start of its frame, adds one `transient`, read at the middle of every frame."""
    if not len(spikes):
        return np.zeros(spikes.shape)
    t = (np.arange(int(np.ceil(8 * decay_s.max() * frame_rate_hz)) + 1) + 0.5) / frame_rate_hz
    kernel = np.stack([transient(t, rise_s, decay) for decay in decay_s])
    return np.maximum(fftconvolve(spikes, kernel, axes=1)[:, : spikes.shape[1]], 0)


def warm_up(config: SimulationConfig) -> int:
    """Frames simulated before the first, so that the movie starts in the middle of things."""
    return int(np.ceil(5 * kinetics(config).decay_s * config.frame_rate_hz))


def slow_noise(rng: np.random.Generator, n: int, frames: int, sigma: float) -> Float[np.ndarray, "n frames"]:
    """Gaussian noise of ensemble standard deviation 1, smoothed by a Gaussian of `sigma` frames."""
    pad = int(4 * sigma) + 1
    noise = rng.normal(size=(n, frames + 2 * pad))
    kernel = np.exp(-0.5 * (np.arange(-pad, pad + 1) / sigma) ** 2)
    return fftconvolve(noise, kernel[None] / np.sqrt(np.sum(kernel**2)), mode="valid", axes=1)[:, :frames]


def neuropil_activity(rng: np.random.Generator, config: SimulationConfig, n: int) -> Float[np.ndarray, "n T"]:
    """Fluctuations of summed small inputs: fast and slow parts, skewed upwards, standard deviation about 1."""
    parts = [0.6 * slow_noise(rng, n, config.frames, s * config.frame_rate_hz) for s in (0.15, 0.6, 3.0)]
    skewed = np.exp(0.4 * sum(parts))
    return (skewed - np.exp(0.08 * 1.08)) / 0.45
