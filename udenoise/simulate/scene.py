"""The field without detector: everything that can light up has a footprint and a time course.

The noiseless light is `brightness(t) · (rest + footprints @ activity(t))`, displaced by the motion of frame t.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy import sparse

from udenoise.config import SimulationConfig
from udenoise.simulate.activity import Firing, fire, kinetics, neuropil_activity, respond
from udenoise.simulate.events import Event, Events, cell_events, matched_filter_snr, table
from udenoise.simulate.nuisance import brightness, motion, move
from udenoise.simulate.rare import Planted, plant_elsewhere, plant_spikes
from udenoise.simulate.tissue import Tissue, draw_tissue

NEURITE_DFF = 1.8
"""Response of dendrites, axons and boutons relative to somata, so that maps of activity look like measured ones."""


class Scene(NamedTuple):
    """Photons per pixel and frame; P pixels of the field with its margin, K components."""

    rest: Float32[np.ndarray, "P"]
    footprints: sparse.csr_array
    """P K."""
    activity: Float32[np.ndarray, "K T"]
    """Relative to rest; the first N components are the cells."""
    brightness: Float[np.ndarray, "T"]
    shifts: Float[np.ndarray, "T 2"]
    margin: int
    """Pixels around the field that motion may bring in."""
    outlines: Bool[np.ndarray, "N Y X"]
    firing: Firing
    events: Events
    places: Float32[np.ndarray, "M Y X"]
    """Where events outside the somata happen; each sums to 1."""


def draw_scene(config: SimulationConfig) -> Scene:
    """Draw all components, then scale the light to the photons asked for."""
    rng = np.random.default_rng([config.seed, 0])
    shifts = motion(config, np.random.default_rng([config.seed, 3]))
    bright = brightness(config, np.random.default_rng([config.seed, 4]))
    margin = int(np.ceil(np.abs(shifts).max())) + 3 if np.any(shifts) else 0
    shape = (config.height + 2 * margin, config.width + 2 * margin)
    tissue = draw_tissue(rng, config, shape)
    inside = _inside(shape, margin)
    spikes, kinds = plant_spikes(rng, config, fire(rng, config, tissue.cells.shape[1]))
    firing = respond(rng, config, spikes)
    planted = plant_elsewhere(np.random.default_rng([config.seed, 5]), config, tissue, shape, margin)
    activity = _activity(rng, config, tissue, firing, planted)
    footprints = sparse.csr_array(
        sparse.hstack(
            [tissue.cells, tissue.neurites, tissue.boutons, tissue.blurred, tissue.patches, planted.footprints]
        )
    )
    scale = config.photons / _mean_light(tissue.rest[inside], footprints[inside], activity, bright)
    rest, footprints = (tissue.rest * scale).astype(np.float32), (footprints * scale).astype(np.float32)
    events = cell_events(firing.spikes, firing.dff, kinetics(config), config.frame_rate_hz, kinds)
    ratios = _snr([*events, *planted.events], config, rest, footprints, activity, planted)
    return Scene(
        rest, footprints, activity.astype(np.float32), bright, shifts, margin,
        tissue.outlines.reshape(-1, shape[0] * shape[1])[:, inside].reshape(-1, config.height, config.width),
        firing, table([*events, *planted.events], ratios), _places(planted, inside, (config.height, config.width)),
    )  # fmt: skip


def expected_photons(scene: Scene, config: SimulationConfig, start: int, stop: int) -> Float[np.ndarray, "t Y X"]:
    """Photons per pixel of frames start ≤ t < stop."""
    light = scene.rest[:, None] + scene.footprints @ scene.activity[:, start:stop]
    light = light * scene.brightness[start:stop]
    frames = np.moveaxis(light.reshape(config.height + 2 * scene.margin, -1, stop - start), -1, 0)
    return np.maximum(move(frames, scene.shifts[start:stop], scene.margin), 0)


def _inside(shape: tuple[int, int], margin: int) -> Int[np.ndarray, "p"]:
    """Flat indices of the pixels that are seen without motion."""
    index = np.arange(shape[0] * shape[1]).reshape(shape)
    return index[margin : shape[0] - margin, margin : shape[1] - margin].ravel()


def _activity(
    rng: np.random.Generator, config: SimulationConfig, tissue: Tissue, firing: Firing, planted: Planted
) -> Float[np.ndarray, "K T"]:
    """Time courses of cells, neurites, boutons and blurred cells, neuropil, and what is planted: as the columns."""
    thin, blurred = tissue.neurites.shape[1] + tissue.boutons.shape[1], tissue.blurred.shape[1]
    return np.concatenate([
        firing.dff,
        NEURITE_DFF * respond(rng, config, fire(rng, config, thin)).dff,
        respond(rng, config, fire(rng, config, blurred)).dff,
        config.neuropil_activity * neuropil_activity(rng, config, tissue.patches.shape[1]),
        planted.activity,
    ])  # fmt: skip


def _mean_light(rest: np.ndarray, footprints: sparse.csr_array, activity: np.ndarray, bright: np.ndarray) -> float:
    """Mean over field and movie of (rest + footprints @ activity) · brightness."""
    return float(rest.mean() * bright.mean() + footprints.mean(0) @ activity @ bright / len(bright))


def _snr(
    events: list[Event],
    config: SimulationConfig,
    rest: np.ndarray,
    footprints: sparse.csr_array,
    activity: np.ndarray,
    planted: Planted,
) -> list[float]:
    """Matched-filter SNR of every event; noise variance in photons² is excess · rest + (read noise / gain)²."""
    columns = sparse.csc_array(footprints)
    variance = config.excess_noise * rest + (config.read_noise / config.gain) ** 2 + 1e-9
    first = footprints.shape[1] - len(planted.activity)
    ratios = []
    for event in events:
        own = [event.roi] if event.roi >= 0 else [first + k for k in planted.components[event.place]]
        parts = []
        for k in own:
            course = activity[k, event.start : event.stop] - (activity[k, event.start - 1] if event.start else 0.0)
            pixels = slice(columns.indptr[k], columns.indptr[k + 1])
            parts.append(matched_filter_snr(columns.data[pixels], variance[columns.indices[pixels]], course))
        ratios.append(float(np.hypot.reduce(parts)))
    return ratios


def _places(planted: Planted, inside: np.ndarray, shape: tuple[int, int]) -> Float32[np.ndarray, "M Y X"]:
    weights = np.array([place.toarray().ravel()[inside] for place in planted.places]).reshape(-1, *shape)
    return (weights / np.maximum(weights.sum((1, 2), keepdims=True), 1e-12)).astype(np.float32)
