"""Planted rare events: flashes, dendritic events, lone cells, pairs that come apart once; and astrocyte-like waves."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from scipy import sparse

from udenoise.config import SimulationConfig
from udenoise.errors import InputError
from udenoise.simulate.activity import kinetics, transient, warm_up
from udenoise.simulate.events import Event
from udenoise.simulate.shapes import Shape, blob, lognormal
from udenoise.simulate.tissue import Tissue


class PlantedSpikes(NamedTuple):
    """Spikes (warm-up included) with planted bursts, and which they are."""

    spikes: Int[np.ndarray, "N F"]
    kinds: dict[tuple[int, int], str]
    """Kind by (cell, frame of the movie)."""


class Planted(NamedTuple):
    """Events outside the somata."""

    footprints: sparse.csc_array
    """P Q: one column per component."""
    activity: np.ndarray
    """Q T."""
    places: list[sparse.csc_array]
    """P 1 each: where the events happen."""
    components: list[tuple[int, ...]]
    """The columns of each place."""
    events: list[Event]


def plant_spikes(rng: np.random.Generator, config: SimulationConfig, spikes: Int[np.ndarray, "N F"]) -> PlantedSpikes:
    """Couple pairs (cells 0 and 1, 2 and 3, …), let one fire without the other, and silence the last cells but for once.

    Raises InputError when there are fewer cells than that takes.
    """
    rare, n = config.rare, len(spikes)
    if 2 * rare.coupled_pairs + rare.lone_cells > n:
        raise InputError(f"{n} cells cannot hold {rare.coupled_pairs} pairs and {rare.lone_cells} lone cells: --cells")
    if rare.decoupled_events and not rare.coupled_pairs:
        raise InputError("decoupled events need a pair of cells to come apart: --coupled-pairs 1")
    spikes = spikes.copy()
    pairs = 2 * rare.coupled_pairs
    spikes[1:pairs:2] = spikes[0:pairs:2]
    spikes[n - rare.lone_cells :] = 0
    chosen = [2 * rng.integers(rare.coupled_pairs) + rng.integers(2) for _ in range(rare.decoupled_events)]
    kinds = {}
    for cell, kind in [(int(c), "decoupled") for c in chosen] + [(c, "lone") for c in range(n - rare.lone_cells, n)]:
        frame = _quiet_frame(
            rng, config, spikes[cell - cell % 2 : cell - cell % 2 + 2] if kind == "decoupled" else spikes[[cell]]
        )
        spikes[cell, warm_up(config) + frame] += rare.planted_spikes
        kinds[cell, frame] = kind
    return PlantedSpikes(spikes, kinds)


def _quiet_frame(rng: np.random.Generator, config: SimulationConfig, spikes: np.ndarray) -> int:
    """A frame of the movie, not at its ends, as far as possible from other spikes of these cells (best of 200)."""
    start = warm_up(config)
    at = np.flatnonzero(spikes.sum(0)) - start
    frames = rng.integers(config.frames // 20, max(config.frames // 20 + 1, config.frames * 19 // 20), 200)
    distance = np.abs(frames[:, None] - at).min(1) if at.size else np.ones(200)
    enough = 3 * kinetics(config).decay_s * config.frame_rate_hz
    return int(frames[np.argmax(np.minimum(distance, enough))])


def plant_elsewhere(
    rng: np.random.Generator, config: SimulationConfig, tissue: Tissue, shape: Shape, margin: int
) -> Planted:
    """Flashes, dendritic events and waves in a field of `shape` whose outermost `margin` pixels are not seen."""
    parts = [_flash(rng, config, tissue, shape, margin) for _ in range(config.rare.flashes)]
    parts += [_dendritic(rng, config, tissue, shape, margin) for _ in range(config.rare.dendritic_events)]
    parts += [_waves(rng, config, territory) for territory in tissue.waves]
    columns, activity, places, components, events = [], np.zeros((0, config.frames)), [], [], []
    for place, (footprint, courses, happened) in enumerate(parts):
        first = len(activity)
        columns.append(footprint)
        activity = np.concatenate([activity, courses])
        places.append(sparse.csc_array(footprint.sum(1).reshape(-1, 1)))
        components.append(tuple(range(first, len(activity))))
        events += [event._replace(place=place) for event in happened]
    empty = sparse.csc_array((shape[0] * shape[1], 0))
    return Planted(sparse.csc_array(sparse.hstack([empty, *columns])), activity, places, components, events)


def _flash(rng: np.random.Generator, config: SimulationConfig, tissue: Tissue, shape: Shape, margin: int) -> tuple:
    """One to three frames of a small bright spot."""
    centre = rng.uniform(margin + 4, np.array(shape) - margin - 5)
    footprint = blob(centre, rng.uniform(1.3, 2.3), shape) * tissue.rest[:, None]
    start, length = _frame(rng, config), int(rng.integers(1, 4))
    dff = lognormal(rng, config.rare.planted_dff, config.rare.planted_spread)
    course = np.zeros((1, config.frames))
    course[0, start : start + length] = dff
    stop = min(start + length, config.frames)
    return sparse.csc_array(footprint), course, [Event("flash", -1, 0, start, start, stop, dff)]


def _dendritic(rng: np.random.Generator, config: SimulationConfig, tissue: Tissue, shape: Shape, margin: int) -> tuple:
    """The indicator's transient in a stretch of one neurite."""
    stretch = _stretch(rng, tissue.neurites, shape, margin)
    brightest = stretch.indices[np.argmax(stretch.data)]
    footprint = stretch * (tissue.rest[brightest] / stretch.data.max())
    start, known = _frame(rng, config), kinetics(config)
    t = (np.arange(config.frames) - start + 0.5) / config.frame_rate_hz
    dff = lognormal(rng, config.rare.planted_dff, config.rare.planted_spread)
    course = dff * transient(t, known.rise_s, known.decay_s)
    return footprint, course[None], [_single(course, "dendritic", start)]


def _stretch(rng: np.random.Generator, neurites: sparse.csc_array, shape: Shape, margin: int) -> sparse.csc_array:
    """A neurite seen through a Gaussian window (4 pixels) around one of its pixels inside the field."""
    low, high = np.full(2, margin), np.array(shape) - margin
    for column in rng.permutation(neurites.shape[1]):
        neurite = sparse.csc_array(neurites[:, [column]])
        at = np.stack(np.unravel_index(neurite.indices, shape), 1)
        inside = np.flatnonzero(
            np.all((at >= low) & (at < high), axis=1) & (neurite.data > 0.5 * neurite.data.max(initial=0))
        )
        if inside.size:
            return sparse.csc_array(neurite * blob(at[rng.choice(inside)].astype(float), 4.0, shape).toarray())
    raise InputError("there is no neurite to plant a dendritic event in: --processes 1")


def _waves(rng: np.random.Generator, config: SimulationConfig, territory: sparse.csc_array) -> tuple:
    """Waves that pass a territory: (t/τ) exp(1 − t/τ) with τ about 1.5 s, 0.6 s later in each of its four patches."""
    frames, rate_hz = config.frames, config.frame_rate_hz
    starts = np.flatnonzero(rng.random(frames) < config.tissue.wave_rate_hz / rate_hz)
    courses, events = np.zeros((4, frames)), []
    for start in starts:
        dff, tau = lognormal(rng, config.tissue.wave_dff, 0.4), lognormal(rng, 1.5, 0.3)
        seconds = (np.arange(frames) - start + 0.5) / rate_hz
        t = np.maximum(seconds - 0.6 * np.arange(4)[:, None], 0) / tau
        wave = dff * t * np.exp(1 - t)
        courses += wave
        events.append(_single(wave.max(0), "wave", int(start)))
    return territory, courses, events


def _frame(rng: np.random.Generator, config: SimulationConfig) -> int:
    return int(rng.integers(config.frames // 20, max(config.frames // 20 + 1, config.frames * 19 // 20)))


def _single(course: np.ndarray, kind: str, start: int) -> Event:
    """An event that is all of a time course."""
    peak = int(np.argmax(course))
    fallen = np.flatnonzero(course[peak:] < course[peak] / np.e)
    stop = peak + int(fallen[0]) if fallen.size else len(course)
    return Event(kind, -1, 0, start, peak, stop, float(course[peak]))
