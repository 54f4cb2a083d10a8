"""Movies on a real mean image with a measured noise law: null movies (no activity) and semi-real ones (known traces)."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from scipy import sparse

from udenoise.config import SimulationConfig, to_json
from udenoise.errors import InputError
from udenoise.io import Rois, rois_dense, rois_from_masks
from udenoise.noise import NoiseModel
from udenoise.sampling import colour, spectrum_of
from udenoise.simulate.activity import Firing, fire, kinetics, neuropil_activity, respond
from udenoise.simulate.events import Event, cell_events, matched_filter_snr, table
from udenoise.simulate.rare import plant_spikes
from udenoise.simulate.simulation import Plan, Simulation
from udenoise.simulate.tissue import neuropil_patches


class _Overlay(NamedTuple):
    """What is laid over the mean image; the first N components are the cells."""

    masks: np.ndarray
    """N Y X, each sums to 1."""
    footprints: sparse.csr_array
    """P K, counts per ΔF/F of 1."""
    activity: np.ndarray
    """K T, ΔF/F."""
    firing: Firing
    events: list[Event]


def plan_null(
    mean: Float[np.ndarray, "Y X"], noise: NoiseModel, frames: int, frame_rate_hz: float = 30.0, seed: int = 0
) -> Plan:
    """A movie in which nothing happens: the mean image (counts) in every frame, with fresh noise of this law."""
    nobody = np.zeros((0, *mean.shape), np.float32)
    silence = Firing(np.zeros((0, frames), np.int32), np.zeros((0, frames)))
    nothing = _Overlay(nobody, sparse.csr_array((mean.size, 0)), silence.dff, silence, [])
    return _plan(mean, noise, nothing, frame_rate_hz, seed, {"null": True, "frames": frames, "seed": seed})


def plan_semireal(
    mean: Float[np.ndarray, "Y X"],
    noise: NoiseModel,
    rois: Rois,
    config: SimulationConfig,
    dff: Float[np.ndarray, "N T"] | None = None,
) -> Plan:
    """Known traces in a real field: `mean · (1 + shape ⊗ ΔF/F)` above the dark level, with fresh noise of this law.

    shape is the ROI's weights, 1 at their largest. ΔF/F is drawn from the settings (frames, frame rate, indicator, events,
    pairs, lone cells, seed) or given; the neuropil's own activity is added as the settings say. Raises InputError when
    mean, regions and traces do not fit together.
    """
    if rois.shape != mean.shape:
        raise InputError(f"regions are for frames of {rois.shape}, the mean image is {mean.shape}; cut one to fit")
    if dff is not None and (dff.ndim != 2 or len(dff) != len(rois.names)):
        raise InputError(f"traces are {dff.shape} for {len(rois.names)} regions; pass one row per region (N, T)")
    masks = rois_dense(rois)
    light = np.maximum(mean - dark_level(noise), 0)
    firing, events = _firing(config, len(masks)) if dff is None else (Firing(np.zeros(dff.shape, np.int32), dff), [])
    config = replace(config, frames=firing.dff.shape[1])
    shapes = sparse.csc_array((masks / masks.max((1, 2), keepdims=True) * light).reshape(len(masks), -1).T)
    patches, around = _neuropil(config, light)
    footprints, activity = sparse.csr_array(sparse.hstack([shapes, *patches])), np.concatenate([firing.dff, around])
    overlay = _Overlay(masks, footprints, activity.astype(np.float32), firing, events)
    settings = to_json(config) | {"semireal": True, "traces_given": dff is not None}
    return _plan(mean, noise, overlay, config.frame_rate_hz, config.seed, settings)


def _firing(config: SimulationConfig, n: int) -> tuple[Firing, list[Event]]:
    rng = np.random.default_rng([config.seed, 0])
    spikes, kinds = plant_spikes(rng, config, fire(rng, config, n))
    firing = respond(rng, config, spikes)
    return firing, cell_events(firing.spikes, firing.dff, kinetics(config), config.frame_rate_hz, kinds)


def _neuropil(config: SimulationConfig, light: np.ndarray) -> tuple[list, np.ndarray]:
    """Patches of neuropil (P 1 each) and their ΔF/F (L T)."""
    if not config.neuropil_activity:
        return [], np.zeros((0, config.frames))
    rng = np.random.default_rng([config.seed, 4])
    patches = neuropil_patches(rng, light)
    return patches, config.neuropil_activity * neuropil_activity(rng, config, len(patches))


def load_footprints(path: str | Path, shape: tuple[int, int]) -> Rois:
    """CaImAn's footprints: a scipy sparse `A` (pixels × components, pixels in Fortran order) saved as .npz.

    Other kinds of regions are for `udenoise.load_rois`. Raises InputError when the file is none or does not fit `shape`.
    """
    try:
        A = sparse.csc_array(sparse.load_npz(path))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} holds no sparse matrix ({' '.join(str(error).split())[:100]}); pass A as .npz"
        ) from error
    if A.shape[0] != shape[0] * shape[1]:
        raise InputError(f"{path} holds footprints of {A.shape[0]} pixels, {shape[0]} x {shape[1]} are needed")
    return rois_from_masks(A.toarray().T.reshape(-1, *shape, order="F").astype(np.float32))


def dark_level(noise: NoiseModel) -> float:
    """Counts at which the noise vanishes, −intercept / gain: the offset, where the read noise is small."""
    return -noise.intercept / noise.gain


def add_noise(
    clean: Float[np.ndarray, "t Y X"], noise: NoiseModel, seed: int, start: int = 0
) -> Float32[np.ndarray, "t Y X"]:
    """Counts with mean `clean` and the model's variance, correlation and field; frame start + i has its own seed.

    Photons of the model's gain carry the variance v: `F + gain · Poisson(v / gain²) − v / gain`, coloured by ρ.
    """
    spectrum = spectrum_of(noise.kernel, clean.shape[1:])
    noisy = np.empty(clean.shape, np.float32)
    for i, frame in enumerate(clean):
        variance = noise.pixel_variance(frame).astype(np.float64)
        rng = np.random.default_rng([seed, 1, start + i])
        photons = variance / noise.gain**2
        unit = (rng.poisson(photons) - photons) / np.sqrt(photons)
        noisy[i] = frame + np.sqrt(variance) * colour(unit, spectrum)
    return noisy


def _plan(
    mean: np.ndarray, noise: NoiseModel, overlay: _Overlay, frame_rate_hz: float, seed: int, settings: dict
) -> Plan:
    spikes, dff = overlay.firing
    shape = (dff.shape[1], *mean.shape)

    def render(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        above = (overlay.footprints @ overlay.activity[:, start:stop]).T.reshape(-1, *mean.shape)
        clean = (mean + above).astype(np.float32)
        return clean, add_noise(clean, noise, seed, start)

    nothing = np.empty((0, *mean.shape))
    truth = Simulation(
        nothing, nothing, overlay.masks, np.empty((len(dff), 0)), spikes, frame_rate_hz, noise.gain, dark_level(noise),
        0.0, noise.kernel, np.zeros((0, 2), np.int64), dff.astype(np.float32),
        table(overlay.events, _snr(overlay, noise, mean)), np.zeros((0, *mean.shape)), np.zeros((shape[0], 2)),
    )  # fmt: skip
    return Plan(truth, shape, np.float32, render, settings)


def _snr(overlay: _Overlay, noise: NoiseModel, mean: np.ndarray) -> list[float]:
    variance = noise.pixel_variance(mean.astype(np.float64)).ravel()
    ratios = []
    for event in overlay.events:
        course = overlay.firing.dff[event.roi]
        rise = course[event.start : event.stop] - (course[event.start - 1] if event.start else 0.0)
        ratios.append(matched_filter_snr(overlay.footprints[:, [event.roi]].toarray().ravel(), variance, rise))
    return ratios
