"""Movies whose answer is known: cells, dendrites, neuropil, GCaMP kinetics, photons, a photomultiplier.

The noiseless field is `bleaching(t) · (rest + footprints @ activity(t))`: every component has a footprint and a trace.
The noise law is exact: Var[counts | F] = a·F + c with a = gain · excess noise (· Σh² of the detector's filter h),
c = read_noise² − a·offset, and correlation ρ(dx) along X only.
"""

import json
from dataclasses import asdict
from functools import reduce
from operator import add
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt16
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from scipy.special import expit

from udenoise.config import SimulationConfig
from udenoise.errors import InputError

Shape = tuple[int, int]


class Simulation(NamedTuple):
    """A simulated movie and everything that is true about it."""

    movie: UInt16[np.ndarray, "T Y X"]
    """Noisy counts."""
    clean: Float[np.ndarray, "T Y X"]
    """Expected counts, offset included, after the detector's filter."""
    masks: Float[np.ndarray, "N Y X"]
    """Soma ROIs (nucleus included) as weights that sum to 1."""
    traces: Float[np.ndarray, "N T"]
    """True ROI traces: weighted mean of `clean`, counts."""
    spikes: Int[np.ndarray, "N T"]
    """Spikes per frame."""
    frame_rate_hz: float
    gain: float
    """a: variance of the counts per mean count (excess noise and filter included)."""
    offset: float
    """Counts at zero light."""
    read_noise: float
    """Standard deviation of the noise at zero light, counts."""
    kernel: Float[np.ndarray, "5 5"]
    """Spatial correlation ρ(dy, dx) of the noise, 1 in the centre."""
    dropped_rows: Int[np.ndarray, "n 2"]
    """(frame, row) pairs written as 0."""

    @property
    def intercept(self) -> float:
        """c of Var = a·F + c, counts²."""
        return self.read_noise**2 - self.gain * self.offset


class _Scene(NamedTuple):
    """The field without detector: P pixels, K components."""

    rest: np.ndarray  # P
    footprints: sparse.csr_array  # P K
    activity: np.ndarray  # K T, relative to rest
    outlines: np.ndarray  # N Y X bool
    spikes: np.ndarray  # N T


def simulate(config: SimulationConfig, chunk: int = 64) -> Simulation:
    """Simulate a movie (T Y X uint16, counts); the same seed gives the same movie whatever the chunk size.

    Raises InputError when the settings contradict each other (excess noise below 1, more somata than fit, ...).
    """
    _check(config)
    scene = _scene(config, np.random.default_rng([config.seed, 0]))
    taps = _detector_taps(config.correlation_x)
    gain = config.gain * config.excess_noise * float(taps @ taps)
    masks = scene.outlines / scene.outlines.sum((1, 2), keepdims=True, dtype=np.float32)
    clean = np.empty((config.frames, config.height, config.width), np.float32)
    movie = np.empty(clean.shape, np.uint16)
    for start in range(0, config.frames, chunk):
        photons = _expected_photons(scene, config, start, min(start + chunk, config.frames))
        clean[start : start + chunk] = config.offset + config.gain * _filter_x(photons, taps)
        for t, frame in enumerate(photons, start):
            movie[t] = _detect(frame, taps, config, np.random.default_rng([config.seed, 1, t]))
    rows = _dropped_rows(config, np.random.default_rng([config.seed, 2]))
    movie[rows[:, 0], rows[:, 1]] = 0
    traces = masks.reshape(len(masks), -1) @ clean.reshape(len(clean), -1).T
    kernel = np.zeros((5, 5))
    kernel[2] = np.correlate(taps, taps, "full") / (taps @ taps)
    return Simulation(
        movie, clean, masks, traces, scene.spikes, config.frame_rate_hz,
        gain, config.offset, config.read_noise, kernel, rows,
    )  # fmt: skip


def save_simulation(simulation: Simulation, config: SimulationConfig, folder: Path) -> None:
    """Write the truth into `folder`: rois.npy (N Y X), truth.npz (clean, traces, spikes, noise), simulation.json.

    The movie itself is for the caller to write in the format of choice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "rois.npy", simulation.masks)
    truth = {name: value for name, value in simulation._asdict().items() if name not in ("movie", "masks")}
    np.savez(folder / "truth.npz", **truth)
    (folder / "simulation.json").write_text(json.dumps(asdict(config), indent=1))


def _check(config: SimulationConfig) -> None:
    limits = {
        "excess_noise": (1.0, 10.0), "correlation_x": (0.0, 0.6), "bleaching": (0.0, 0.99), "dropped_rows": (0.0, 0.5),
        "photons": (1e-6, 1e6), "gain": (1e-6, 1e6), "read_noise": (0.0, 1e4), "burst_spikes": (1.0, 100.0),
        "frames": (1, np.inf), "height": (32, np.inf), "width": (32, np.inf), "frame_rate_hz": (0.1, 1e5),
        "rise_s": (1e-4, 100.0), "decay_s": (1e-3, 100.0), "soma_diameter_px": (4.0, 100.0),
        "event_rate_hz": (0.0, 1e3), "spike_dff": (0.0, 1e3), "neuropil_activity": (0.0, 2.0), "vessels": (0, 100),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise InputError(f"{name} is {value}; it must lie between {low:g} and {high:g}: --{name.replace('_', '-')}")


# --- the detector


def _detector_taps(correlation: float) -> Float[np.ndarray, "3"]:
    """Symmetric filter (r, 1, r)/(1 + 2r) whose output has correlation 2r/(1 + 2r²) between neighbours."""
    r = (1 - np.sqrt(1 - 2 * correlation**2)) / (2 * correlation) if correlation else 0.0
    return np.array([r, 1.0, r]) / (1 + 2 * r)


def _filter_x(padded: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filter along X; the input carries one more column on either side."""
    return taps[0] * padded[..., :-2] + taps[1] * padded[..., 1:-1] + taps[2] * padded[..., 2:]


def _detect(photons: np.ndarray, taps: np.ndarray, config: SimulationConfig, rng: np.random.Generator) -> np.ndarray:
    """One frame of counts. The pulses of k photons sum to Gamma(k·shape)/shape, shape = 1/(excess noise − 1)."""
    detected = rng.poisson(photons).astype(np.float64)
    if config.excess_noise > 1:
        shape = 1 / (config.excess_noise - 1)
        detected = rng.standard_gamma(detected * shape) / shape
    read = rng.normal(0, config.read_noise / np.sqrt(taps @ taps), photons.shape)
    counts = config.offset + _filter_x(config.gain * detected + read, taps)
    return np.clip(np.rint(counts), 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _dropped_rows(config: SimulationConfig, rng: np.random.Generator) -> np.ndarray:
    return np.argwhere(rng.random((config.frames, config.height)) < config.dropped_rows)


def _expected_photons(scene: _Scene, config: SimulationConfig, start: int, stop: int) -> np.ndarray:
    """Photons per pixel of frames [start, stop), one column wider on either side (frames Y X+2)."""
    light = scene.rest[:, None] + scene.footprints @ scene.activity[:, start:stop]
    light = light * _bleaching(config)[start:stop]
    frames = np.moveaxis(light.reshape(config.height, config.width, -1), -1, 0)
    return np.pad(np.maximum(frames, 0), ((0, 0), (0, 0), (1, 1)), mode="edge")


def _bleaching(config: SimulationConfig) -> np.ndarray:
    """Remaining brightness of every frame: exponential decay to 1 − bleaching."""
    return (1 - config.bleaching) ** (np.arange(config.frames) / config.frames)


# --- the field


def _scene(config: SimulationConfig, rng: np.random.Generator) -> _Scene:
    """Draw all components, then scale the light to the photons asked for."""
    shape = (config.height, config.width)
    n = config.cells if config.cells is not None else max(1, config.height * config.width // 600)
    centres = _place(rng, n, n // 2, config.soma_diameter_px, shape)
    bodies, somata = zip(*(_soma(rng, centre, config.soma_diameter_px, shape) for centre in centres), strict=True)
    room = np.ones(shape)
    for body in bodies:
        room *= 1 - 0.65 * body.toarray().reshape(shape)  # somata displace neuropil
    cells = [
        soma * _lognormal(rng, 1.2, 0.6) + _dendrite(rng, centre, shape) * _lognormal(rng, 0.25, 0.6)
        for centre, soma in zip(centres[:n], somata, strict=False)
    ]
    others = [draw(rng, shape) for draw in (_process, _bouton, _blurred_cell) for _ in range(max(2, n))]
    texture = room * _neuropil_rest(rng, shape)
    patches = _neuropil_patches(rng, texture)

    spikes, cell_activity = _cell_activity(rng, config, n)
    activity = np.concatenate([
        cell_activity,
        _cell_activity(rng, config, len(others))[1],
        config.neuropil_activity * _slow_activity(rng, config, len(patches)),
    ])  # fmt: skip
    light = _shading(rng, config)
    neurites = sparse.hstack([*cells, *others], format="csr")
    rest = (texture.ravel() + neurites.sum(1)) * light
    footprints = sparse.csr_array(sparse.hstack([neurites, *patches]).multiply(light[:, None]))
    scale = config.photons / _mean_light(rest, footprints, activity, _bleaching(config))
    outlines = np.stack([body.toarray().reshape(shape) > 0.5 for body in bodies[:n]])
    return _Scene(
        (rest * scale).astype(np.float32),
        (footprints * scale).astype(np.float32),
        activity.astype(np.float32),
        outlines,
        spikes,
    )


def _mean_light(rest: np.ndarray, footprints: sparse.csr_array, activity: np.ndarray, remaining: np.ndarray) -> float:
    """Mean over field and movie of (rest + footprints @ activity) · remaining."""
    return float(rest.mean() * remaining.mean() + footprints.mean(0) @ activity @ remaining / len(remaining))


def _lognormal(rng: np.random.Generator, median: float, spread: float) -> float:
    return median * np.exp(spread * rng.normal())


def _place(rng: np.random.Generator, n: int, dark: int, diameter: float, shape: Shape) -> np.ndarray:
    """Centres of n somata and then of up to `dark` cells without indicator (as many as there is room for)."""
    centres = np.empty((0, 2))
    margin = 0.6 * diameter
    for _ in range(60 * (n + dark)):
        candidate = rng.uniform(margin, np.array(shape) - 1 - margin)
        if np.all(np.hypot(*(centres - candidate).T) > 0.85 * diameter):
            centres = np.vstack([centres, candidate])
        if len(centres) == n + dark:
            break
    if not 1 <= n <= len(centres):
        raise InputError(f"cells is {n}; 1 to {len(centres)} fit into {shape[0]} x {shape[1]} pixels: --cells 1")
    return centres


def _stamp(patch: np.ndarray, corner: np.ndarray, shape: Shape) -> sparse.csc_array:
    """A drawn patch as one column (P 1) of the footprints; what sticks out of the field is cut."""
    rows, columns = np.nonzero(np.abs(patch) > 1e-3 * np.abs(patch).max())
    values, rows, columns = patch[rows, columns], rows + corner[0], columns + corner[1]
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    index = rows[inside] * shape[1] + columns[inside]
    return sparse.csc_array((values[inside], (index, np.zeros_like(index))), shape=(shape[0] * shape[1], 1))


def _texture(rng: np.random.Generator, shape: Shape, sigma: float) -> np.ndarray:
    """Smooth Gaussian field with mean 0 and standard deviation 1."""
    field = gaussian_filter(rng.normal(size=shape), sigma, mode="wrap")
    return (field - field.mean()) / field.std()


def _soma(rng: np.random.Generator, centre: np.ndarray, diameter: float, shape: Shape) -> tuple:
    """(filled body, fluorescence with the dark nucleus) of one cell, as columns (P 1)."""
    corner = np.floor(centre - 1.5 * diameter).astype(int)
    y, x = np.mgrid[: int(3 * diameter) + 2, : int(3 * diameter) + 2] - (centre - corner)[:, None, None]
    angle = np.arctan2(y, x) - rng.uniform(0, 2 * np.pi)
    radius = diameter / 2 * np.exp(0.12 * rng.normal())
    outline = radius * (1 + 0.1 * rng.normal() * np.cos(2 * angle) + 0.07 * rng.normal() * np.cos(3 * angle))
    body = expit((outline - np.hypot(y, x)) / 0.5)
    shift = 0.12 * radius * rng.normal(size=2)
    nucleus = expit((rng.uniform(0.5, 0.72) * outline - np.hypot(y - shift[0], x - shift[1])) / 0.6)
    depth = rng.uniform(0.3, 0.9) if rng.random() < 0.8 else 0.0  # some cells have filled nuclei
    cytoplasm = np.exp(0.2 * _texture(rng, body.shape, 1.2))
    light = gaussian_filter(body * (1 - depth * nucleus) * cytoplasm, rng.uniform(0.4, 1.3))
    return _stamp(body, corner, shape), _stamp(light, corner, shape)


def _curve(rng: np.random.Generator, start: np.ndarray, length: float, bend: float = 0.04) -> np.ndarray:
    """Points (n 2), a quarter pixel apart, of a line that wanders."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(bend * rng.normal(size=max(2, int(4 * length))))
    return start + np.cumsum(0.25 * np.stack([np.sin(heading), np.cos(heading)], 1), axis=0)


def _draw_curve(rng: np.random.Generator, points: np.ndarray, width: float, shape: Shape) -> sparse.csc_array:
    """A neurite of brightness about 1 with varicosities, as a column (P 1)."""
    margin = int(4 * width) + 2
    corner = np.floor(points.min(0)).astype(int) - margin
    size = np.ceil(points.max(0)).astype(int) + margin + 1 - corner
    weight = np.exp(0.5 * gaussian_filter(rng.normal(size=len(points)), 6) * np.sqrt(12 * np.sqrt(np.pi)))
    row, column = np.rint(points - corner).astype(int).T
    patch = np.zeros(size)
    np.add.at(patch, (row, column), weight)
    return _stamp(gaussian_filter(patch, width) * width * np.sqrt(2 * np.pi) / 4, corner, shape)


def _dendrite(rng: np.random.Generator, centre: np.ndarray, shape: Shape) -> sparse.csc_array:
    """One to three neurites that leave a soma, active with it."""
    curves = [_curve(rng, centre, rng.uniform(12, 40))[24:] for _ in range(rng.integers(1, 4))]
    return reduce(add, [_draw_curve(rng, curve, rng.uniform(0.7, 1.1), shape) for curve in curves])


def _process(rng: np.random.Generator, shape: Shape) -> sparse.csc_array:
    """A dendrite or axon whose soma lies elsewhere."""
    curve = _curve(rng, rng.uniform(0, shape), rng.uniform(15, 70))
    return _draw_curve(rng, curve, rng.uniform(0.6, 1.2), shape) * _lognormal(rng, 0.18, 0.6)


def _bouton(rng: np.random.Generator, shape: Shape) -> sparse.csc_array:
    """A bright point: bouton, spine head, or a dendrite that crosses the plane."""
    curve = _curve(rng, rng.uniform(0, shape), rng.uniform(0.5, 3))
    return _draw_curve(rng, curve, rng.uniform(0.8, 1.3), shape) * _lognormal(rng, 0.4, 0.6)


def _blurred_cell(rng: np.random.Generator, shape: Shape) -> sparse.csc_array:
    """A soma above or below the focal plane."""
    sigma = rng.uniform(4, 9)
    half = int(3 * sigma)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    corner = rng.integers(0, shape) - half
    return _stamp(np.exp(-(y**2 + x**2) / (2 * sigma**2)), corner, shape) * _lognormal(rng, 0.12, 0.6)


def _neuropil_rest(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Mean brightness of the neuropil (Y X), about 1: fine structure on top of smooth."""
    levels = ((1.0, 0.16), (2.5, 0.1), (12.0, 0.1))
    return np.exp(sum(contrast * _texture(rng, shape, sigma) for sigma, contrast in levels))


def _neuropil_patches(rng: np.random.Generator, texture: np.ndarray, spacing: int = 16) -> list:
    """Patches of neuropil with a life of their own, as columns (P 1): a jittered lattice, and the whole field."""
    shape = texture.shape
    lattice = np.mgrid[0 : shape[0] + spacing : spacing, 0 : shape[1] + spacing : spacing].reshape(2, -1).T
    y, x = np.mgrid[-32:33, -32:33]
    columns = []
    for centre in lattice + rng.integers(-spacing // 2, spacing // 2, lattice.shape):
        window = np.exp(-(y**2 + x**2) / (2 * rng.uniform(6, 13) ** 2)) * (1 + 0.5 * _texture(rng, y.shape, 1.2))
        columns.append(_stamp(window, centre - 32, shape) * texture.reshape(-1, 1))
    return [*columns, sparse.csc_array(0.7 * texture.reshape(-1, 1))]


def _shading(rng: np.random.Generator, config: SimulationConfig) -> np.ndarray:
    """Light that reaches each pixel (P): uneven illumination and the shadows of vessels."""
    shape = (config.height, config.width)
    light = np.exp(0.2 * _texture(rng, shape, min(shape) / 4))
    for _ in range(config.vessels):
        points = _curve(rng, rng.uniform(0, shape), 3.0 * max(shape), bend=0.01)
        row, column = np.rint(points[np.all((points > 0) & (points < np.array(shape) - 1), axis=1)]).astype(int).T
        shadow = np.zeros(shape)
        shadow[row, column] = 1
        width = rng.uniform(1.5, 4)
        light *= 1 - 0.75 * np.minimum(1, 1.4 * width * gaussian_filter(shadow, width))
    return light.ravel()


# --- activity


def _cell_activity(rng: np.random.Generator, config: SimulationConfig, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(spikes (n T), ΔF/F (n T)) of n cells: bursts, rise and decay, saturation at about ten times one spike."""
    warm_up = int(np.ceil(5 * config.decay_s * config.frame_rate_hz))
    spikes = _spikes(rng, config, n, warm_up + config.frames)
    calcium = _convolve(spikes, config.rise_s, config.decay_s * np.exp(0.15 * rng.normal(size=n)), config.frame_rate_hz)
    amplitude = config.spike_dff * np.exp(0.4 * rng.normal(size=(n, 1)))
    return spikes[:, warm_up:], (amplitude * calcium / (1 + calcium / 10))[:, warm_up:]


def _spikes(rng: np.random.Generator, config: SimulationConfig, n: int, frames: int) -> np.ndarray:
    """Spikes per frame (n, frames): Poisson bursts whose rate follows one of four slow assemblies."""
    assemblies = _slow_noise(rng, 4, frames, 4.0 * config.frame_rate_hz)
    rate = config.event_rate_hz * np.exp(0.8 * rng.normal(size=(n, 1)))  # per second
    rate = rate * np.exp(1.0 * assemblies[rng.integers(0, 4, n)] - 0.5)
    cell, frame = np.nonzero(bursts := rng.poisson(rate / config.frame_rate_hz))
    size = rng.geometric(1 / config.burst_spikes, len(cell)) * bursts[cell, frame]
    delay = rng.exponential(0.03 * config.burst_spikes, size.sum()) * config.frame_rate_hz
    frame = np.repeat(frame, size) + delay.astype(int)
    spikes = np.zeros((n, frames), np.int32)
    np.add.at(spikes, (np.repeat(cell, size)[frame < frames], frame[frame < frames]), 1)
    return spikes


def _convolve(spikes: np.ndarray, rise_s: float, decay_s: np.ndarray, frame_rate_hz: float) -> np.ndarray:
    """Convolve with (1 − exp(−t/rise)) exp(−t/decay), peak 1, t at the middle of each frame."""
    t = (np.arange(int(np.ceil(6 * decay_s.max() * frame_rate_hz))) + 0.5) / frame_rate_hz
    kernel = (1 - np.exp(-t / rise_s)) * np.exp(-t / decay_s[:, None])
    calcium = fftconvolve(spikes, kernel / kernel.max(1, keepdims=True), axes=1)[:, : spikes.shape[1]]
    return np.maximum(calcium, 0)


def _slow_noise(rng: np.random.Generator, n: int, frames: int, sigma: float) -> np.ndarray:
    """Gaussian noise (n, frames) of ensemble standard deviation 1, smoothed by a Gaussian of `sigma` frames."""
    pad = int(4 * sigma) + 1
    noise = rng.normal(size=(n, frames + 2 * pad))
    kernel = np.exp(-0.5 * (np.arange(-pad, pad + 1) / sigma) ** 2)
    return fftconvolve(noise, kernel[None] / np.sqrt(np.sum(kernel**2)), mode="valid", axes=1)[:, :frames]


def _slow_activity(rng: np.random.Generator, config: SimulationConfig, n: int) -> np.ndarray:
    """Fluctuations (n T) of summed small inputs: fast and slow parts, skewed upwards, standard deviation about 1."""
    parts = [0.6 * _slow_noise(rng, n, config.frames, s * config.frame_rate_hz) for s in (0.15, 0.6, 3.0)]
    skewed = np.exp(0.4 * sum(parts))
    return (skewed - np.exp(0.08 * 1.08)) / 0.45
