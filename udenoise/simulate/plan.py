"""From the settings to a movie: check them, draw the scene, and render it frame by frame."""

from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from udenoise.config import SimulationConfig
from udenoise.errors import InputError
from udenoise.simulate.detector import detect, detector_taps, dropped_rows, filter_x, noise_kernel
from udenoise.simulate.scene import draw_scene, expected_photons
from udenoise.simulate.simulation import Plan, Simulation, make, write

LIMITS = {
    "excess_noise": (1.0, 10.0), "correlation_x": (0.0, 0.6), "bleaching": (0.0, 0.99), "dropped_rows": (0.0, 0.5),
    "photons": (1e-6, 1e6), "gain": (1e-6, 1e6), "read_noise": (0.0, 1e4), "burst_spikes": (1.0, 100.0),
    "frames": (1, np.inf), "height": (32, np.inf), "width": (32, np.inf), "frame_rate_hz": (0.1, 1e5),
    "rise_s": (1e-4, 100.0), "decay_s": (1e-3, 100.0), "soma_diameter_px": (4.0, 100.0), "offset": (-1e5, 6e4),
    "event_rate_hz": (0.0, 1e3), "spike_dff": (0.0, 1e3), "neuropil_activity": (0.0, 2.0), "vessels": (0, 100),
    "size_spread": (0.0, 1.0), "brightness_spread": (0.0, 2.0), "filled_nuclei": (0.0, 1.0), "dark_cells": (0.0, 10.0),
    "dendrites": (0.0, 10.0), "processes": (0.0, 50.0), "boutons": (0.0, 50.0), "blurred_cells": (0.0, 50.0),
    "texture": (0.0, 5.0), "astrocytes": (0, 1000), "wave_rate_hz": (0.0, 10.0), "wave_dff": (0.0, 100.0),
    "half_saturation": (0.01, 1e6), "assemblies": (1, 1000), "assembly_strength": (0.0, 3.0), "sparse_cells": (0.0, 1.0),
    "psf_px": (0.05, 20.0), "defocus_px": (0.0, 20.0), "haze": (0.0, 0.95), "bandwidth_px": (0.0, 10.0),
    "floor_counts": (0, 65535), "ceiling_counts": (1, 65535), "flicker": (0.0, 1.0), "drift_px": (0.0, 50.0),
    "jitter_px": (0.0, 10.0), "motion_bursts_hz": (0.0, 10.0), "motion_burst_px": (0.0, 50.0), "flashes": (0, 10000),
    "dendritic_events": (0, 10000), "lone_cells": (0, 10000), "coupled_pairs": (0, 10000),
    "decoupled_events": (0, 10000), "planted_dff": (0.0, 1e3), "planted_spread": (0.0, 2.0), "planted_spikes": (1, 100),
}  # fmt: skip


def simulate(config: SimulationConfig, chunk: int = 64) -> Simulation:
    """Simulate a movie (T Y X uint16, counts); the same seed gives the same movie whatever the chunk size.

    Raises InputError when the settings contradict each other (excess noise below 1, more somata than fit, ...).
    """
    return make(plan_simulation(config), chunk)


def write_simulation(config: SimulationConfig, folder: str | Path, chunk: int = 64) -> Path:
    """The same, streamed into a folder; see `udenoise.simulate.write`. Memory does not grow with the frame size times T."""
    return write(plan_simulation(config), folder, chunk)


def plan_simulation(config: SimulationConfig) -> Plan:
    """Draw everything but the frames. Raises InputError as `simulate`."""
    _check(config)
    scene = draw_scene(config)
    taps = detector_taps(config.correlation_x, config.detector.bandwidth_px)
    rows = dropped_rows(config, np.random.default_rng([config.seed, 2]))
    reach = len(taps) // 2

    def render(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        photons = np.pad(expected_photons(scene, config, start, stop), ((0, 0), (0, 0), (reach, reach)), mode="edge")
        clean = config.offset + config.gain * filter_x(photons, taps)
        seeds = ([config.seed, 1, t] for t in range(start, stop))
        frames = [detect(p, taps, config, np.random.default_rng(s)) for p, s in zip(photons, seeds, strict=True)]
        noisy = np.stack(frames)
        lost = rows[(rows[:, 0] >= start) & (rows[:, 0] < stop)]
        noisy[lost[:, 0] - start, lost[:, 1]] = 0
        return clean.astype(np.float32), noisy

    shape = (config.frames, config.height, config.width)
    nothing, none = np.empty((0, *shape[1:])), np.empty((len(scene.outlines), 0))
    masks = scene.outlines / scene.outlines.sum((1, 2), keepdims=True, dtype=np.float32)
    gain = config.gain * config.excess_noise * float(taps @ taps)
    truth = Simulation(
        nothing, nothing, masks, none, scene.firing.spikes, config.frame_rate_hz, gain, float(config.offset),
        float(config.read_noise), noise_kernel(taps), rows, scene.firing.dff.astype(np.float32), scene.events,
        scene.places, scene.shifts,
    )  # fmt: skip
    return Plan(truth, shape, np.uint16, render, asdict(config))


def quiet(config: SimulationConfig) -> SimulationConfig:
    """The same field and detector without any activity: a null movie. Bleaching, motion and flicker stay."""
    return replace(
        config,
        event_rate_hz=0.0,
        neuropil_activity=0.0,
        tissue=replace(config.tissue, wave_rate_hz=0.0),
        population=replace(config.population, assembly_strength=0.0),
        rare=type(config.rare)(),
    )


def _check(config: Any) -> None:
    """InputError for the first setting outside its limits, groups included."""
    for name, value in vars(config).items():
        if is_dataclass(value):
            _check(value)
        elif name in LIMITS and not LIMITS[name][0] <= value <= LIMITS[name][1]:
            low, high = LIMITS[name]
            raise InputError(f"{name} is {value}; it must lie between {low:g} and {high:g}: --{name.replace('_', '-')}")
