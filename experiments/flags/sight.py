"""The residual of a finished run, to plant events in, and whether what is flagged in it is wrong: the truth is known."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import zarr
from jaxtyping import Bool, Float
from scipy import sparse

import udenoise
from experiments import bench
from udenoise import inference, innovation, watch
from udenoise.config import from_json
from udenoise.denoiser import load_denoiser
from udenoise.flags import (
    Field,
    Found,
    contradicted_places,
    contradicted_traces,
    field_of,
    join_traces,
    scan_borders,
    scan_traces,
)
from udenoise.flags.contradicted import merged
from udenoise.innovation import Events
from udenoise.io import open_movie, rois_dense
from udenoise.io.store import read_json
from udenoise.posterior import Recalibration
from udenoise.recording import Recording, load_recording, scaling
from udenoise.regions import correlated_share
from udenoise.results import load_rois_npz
from udenoise.scan import Chance, Ground, Peaks, Whitened, add_frames, joined, measure_chance, start_scan, take
from udenoise.watch import Borders, ground_of

FDR = 0.05
CERTAIN = 1.96


class Sight(NamedTuple):
    """A run, its residual, and what it shows beside the truth (T Y X)."""

    recording: Recording
    field: Field
    ground: Ground
    chance: Chance
    borders: Borders
    weights: sparse.csr_array
    """N × pixels: ROIs."""
    noise_variance: Float[np.ndarray, "N"]
    """Of the ROIs at the mean image, counts²."""
    residual: Whitened
    """The recording less the denoised movie, as the program has it."""
    unit: Float[np.ndarray, "T Y X"]
    """Counts of one unit of the residual."""
    noise_sd: Float[np.ndarray, "T Y X"]
    """Of the noise alone, at the predicted level, counts."""
    mean: Float[np.ndarray, "T Y X"]
    """The denoised movie, counts."""
    sd: Float[np.ndarray, "T Y X"]
    error: Float[np.ndarray, "T Y X"]
    """The denoised movie less the truth, counts."""
    blind_error: Float[np.ndarray, "T Y X"]
    """Of the blind prediction with the events that were kept, counts."""


class Judged(NamedTuple):
    """The flags of a residual, and all its peaks."""

    found: list[Found]
    peaks: Peaks


def look(scene: bench.Scene, folder: Path) -> Sight:
    """All of a run that flags are made of; the network predicts every frame once more."""
    movie = open_movie(scene.folder / "movie.tif")
    recording, rois = load_recording(movie, folder), load_rois_npz(folder / "rois.npz")
    config = from_json(udenoise.Config, read_json(folder / "config.json")["config"])
    ground = ground_of(recording)
    chance = measure_chance(ground, config.seed)
    shown = zarr.open_group(folder / "posterior.zarr", mode="r")
    mean, sd = (np.asarray(shown[f"{name}/0"], np.float32) for name in ("mean", "sd"))
    residual, unit, noise_sd, predicted = _residual(recording, folder, config, mean, sd)
    dense = rois_dense(rois).astype(float)
    variance = recording.noise.pixel_variance(recording.anatomy.mean)
    noise = [(w**2 * variance).sum() * correlated_share(w, recording.noise.kernel) for w in dense]
    return Sight(
        recording, field_of(recording, rois, config.trace.offset_counts), ground, chance, watch.borders_of(rois, recording, ground),
        sparse.csr_array(dense.reshape(len(dense), -1)), np.array(noise), residual, unit, noise_sd, mean, sd, mean - scene.clean,
        predicted - scene.clean,
    )  # fmt: skip


def _residual(
    recording: Recording, folder: Path, config: udenoise.Config, mean: np.ndarray, sd: np.ndarray
) -> tuple[Whitened, np.ndarray, np.ndarray, np.ndarray]:
    """The program's residual, counts of one unit of it, the noise's standard deviation, and the prediction with kept events."""
    about = read_json(folder / "calibration.json")
    by = Recalibration(**{name: about[f"factor_{name}"] for name in Recalibration._fields})
    machine = inference.prepare(recording, load_denoiser(folder / "denoiser"), config.denoise)
    events, scale, parts, T = listed_events(folder), scaling(recording), [], len(recording.movie)
    for first in range(0, T, config.denoise.chunk):
        chunk, span = (
            inference.read_chunk(machine, first, config.denoise.chunk),
            slice(first, first + config.denoise.chunk),
        )
        prior, evidence = inference.predict_chunk(machine, chunk), chunk.evidence
        residual = machine.residual(prior=prior, evidence=evidence)
        shape, near = evidence.frame.shape, innovation.shifted(events, -first)
        near = innovation.some(near, np.abs(near.frame) < 2 * config.denoise.chunk)
        sigma = np.asarray(scale.sigma(jnp.asarray(evidence.mean), jnp.asarray(evidence.ratio)))
        shown = {name: np.resize(part[span], shape) for name, part in (("mean", mean), ("sd", sd))}
        result = machine.fuse(prior, evidence, by)._replace(**shown)
        left = watch.whitened(residual, prior, evidence, result, by, sigma)
        unit = np.sqrt(np.asarray(residual.variance) + by.pixel * sigma**2 * np.asarray(prior.diagonal))
        predicted = evidence.frame - np.asarray(residual.value) + innovation.render(near, shape)
        parts.append((*left, unit, np.sqrt(np.asarray(residual.variance)), predicted))
    value, doubt, *rest = (np.concatenate(part)[:T] for part in zip(*parts, strict=True))
    return Whitened(value, doubt), *rest


def listed_events(folder: Path) -> Events:
    """innovations.csv."""
    table = np.loadtxt(folder / "innovations.csv", delimiter=",", skiprows=1, ndmin=2).reshape(-1, 8)
    frame, y, x, sigma, frames, *rest = table.T
    return Events(frame.astype(int), y.astype(int), x.astype(int), sigma, frames.astype(int), *rest)


def judge(sight: Sight, value: Float[np.ndarray, "T Y X"]) -> Judged:
    """As the program flags, of another residual (units of noise) with the same stated errors.

    ROIs are judged by the blind residual, where the program takes that of the filtered traces.
    """
    residual = Whitened(value, sight.residual.doubt)
    peaks = joined([take(add_frames(start_scan(sight.ground), residual), last=True)[0]])
    places = contradicted_places(peaks, sight.chance, sight.field, FDR)
    counts, doubt = (
        sight.weights @ (part * sight.unit).reshape(len(value), -1).T.astype(float) for part in (value, residual.doubt)
    )
    noise = np.broadcast_to(sight.noise_variance[:, None], counts.shape)
    borders = scan_borders(*watch.border_sums(residual, sight.borders), sight.borders)
    traces = contradicted_traces(join_traces([scan_traces(counts, noise, doubt), borders]), sight.field, FDR)
    return Judged(merged(places, traces), peaks)


def voxels(found: Found, shape: tuple[int, ...]) -> tuple[slice, Bool[np.ndarray, "Y X"]]:
    """The frames and pixels of a flag."""
    ys, xs = np.ogrid[: shape[1], : shape[2]]
    mask = np.zeros(shape[1:], bool)
    for y, x, radius in zip(found.footprint.y, found.footprint.x, found.footprint.radius, strict=True):
        mask |= (ys - y) ** 2 + (xs - x) ** 2 <= radius**2
    return slice(max(found.flag.frame_start, 0), found.flag.frame_stop), mask


def truly_wrong(sight: Sight, found: Found, blind: bool = False) -> bool:
    """Whether the truth lies outside the 95 % corridor of the mean over a flag's place and time, stated errors taken as alike; of a
    displacement, whether that is so of the sum along the image's gradient, for which each pixel's error is its own in a frame, the
    shared one has the gradient's signs, and frames err alike. `blind`: of the prediction before the frame itself had its say."""
    frames, mask = voxels(found, sight.error.shape)
    shared = (sight.residual.doubt[frames] * sight.unit[frames])[:, mask]
    error, sd = (
        (sight.blind_error[frames][:, mask], shared)
        if blind
        else (sight.error[frames][:, mask], sight.sd[frames][:, mask])
    )
    if found.flag.sign == 0:  # light is lost on one side and won on the other
        along = (sight.ground.gradient / sight.field.sd)[:, mask]
        doubt = np.sqrt(np.square(along @ shared.T) + np.square(along) @ np.square(sd).T).sum(1)
        return bool((np.abs((along @ error.T).sum(1)) > CERTAIN * doubt).any())
    return bool(abs(error.mean()) > CERTAIN * sd.mean())
