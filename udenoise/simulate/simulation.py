"""A movie and everything that is true about it; made in memory or streamed to disk, whatever it is made of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import sparse

from udenoise.config import SimulationConfig, to_json
from udenoise.errors import InputError
from udenoise.io.store import read_json, write_json
from udenoise.io.tiff_writer import map_tiff, tiff_file
from udenoise.simulate.events import Events


class Simulation(NamedTuple):
    """A simulated movie and everything that is true about it."""

    movie: Shaped[np.ndarray, "T Y X"]
    """Noisy counts: uint16, or float32 where it is built on a real mean image."""
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
    kernel: Float[np.ndarray, "K K"]
    """Spatial correlation ρ(dy, dx) of the noise, 1 in the centre."""
    dropped_rows: Int[np.ndarray, "n 2"]
    """(frame, row) pairs written as 0."""
    dff: Float[np.ndarray, "N T"]
    """ΔF/F of each cell's own fluorescence, without the neuropil, processes and bleaching that its ROI also sees."""
    events: Events
    """What happens when and where."""
    places: Float[np.ndarray, "M Y X"]
    """Where events outside the somata happen, as weights that sum to 1."""
    shifts: Float[np.ndarray, "T 2"]
    """Displacement (y, x) of each frame, pixels."""

    @property
    def intercept(self) -> float:
        """c of Var = a·F + c, counts²."""
        return self.read_noise**2 - self.gain * self.offset


class Plan(NamedTuple):
    """A movie that can be made piece by piece."""

    truth: Simulation
    """Everything but movie, clean and traces, which have no frames yet."""
    shape: tuple[int, int, int]
    """T Y X."""
    dtype: type
    """Of the noisy counts."""
    render: Callable[[int, int], tuple[np.ndarray, np.ndarray]]
    """(clean, noisy) frames start ≤ t < stop; they do not depend on how the movie is cut into pieces."""
    settings: dict[str, Any]
    """What the movie was made from, as plain data."""


Write = Callable[[int, np.ndarray], object]


def make(plan: Plan, chunk: int = 64) -> Simulation:
    """The movie in memory."""
    clean, movie = np.empty(plan.shape, np.float32), np.empty(plan.shape, plan.dtype)

    def into(array: np.ndarray) -> Write:
        return lambda start, frames: array.__setitem__(slice(start, start + len(frames)), frames)

    traces = _fill(plan, chunk, into(clean), into(movie))
    return plan.truth._replace(movie=movie, clean=clean, traces=traces)


def write(plan: Plan, folder: str | Path, chunk: int = 64) -> Path:
    """Stream the movie into a folder: movie.tif, clean.tif, rois.npy, truth.npz, simulation.json; memory is a chunk.

    Raises InputError when the folder holds something else than a simulation.
    """
    target = Path(folder)
    if target.exists() and any(target.iterdir()) and not (target / "simulation.json").is_file():
        raise InputError(f"{target} is not empty; give another folder: -o OTHER")
    target.mkdir(parents=True, exist_ok=True)
    (target / "simulation.json").unlink(missing_ok=True)
    rate = plan.truth.frame_rate_hz
    with (
        tiff_file(target / "clean.tif", plan.shape, np.float32, rate) as clean,
        tiff_file(target / "movie.tif", plan.shape, plan.dtype, rate) as movie,
    ):
        traces = _fill(plan, chunk, clean, movie)
    _save_truth(plan.truth._replace(traces=traces), plan.settings, target)
    return target


def _fill(plan: Plan, chunk: int, clean: Write, movie: Write) -> Float[np.ndarray, "N T"]:
    """Render chunk by chunk; the traces of the clean movie."""
    masks = plan.truth.masks
    weights = sparse.csr_array(masks.reshape(len(masks), masks.shape[1] * masks.shape[2]))
    traces = np.empty((len(masks), plan.shape[0]), np.float32)
    for start in range(0, plan.shape[0], chunk):
        expected, noisy = plan.render(start, min(start + chunk, plan.shape[0]))
        clean(start, expected)
        movie(start, noisy)
        traces[:, start : start + chunk] = weights @ expected.reshape(len(expected), -1).T
    return traces


def save_simulation(simulation: Simulation, config: SimulationConfig, folder: Path) -> None:
    """Write a movie that is in memory as `write` does: movie.tif, clean.tif, rois.npy, truth.npz, simulation.json."""

    def render(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        return simulation.clean[start:stop], simulation.movie[start:stop]

    write(Plan(simulation, simulation.movie.shape, simulation.movie.dtype.type, render, to_json(config)), folder)


def _save_truth(truth: Simulation, settings: dict[str, Any], folder: Path) -> None:
    np.save(folder / "rois.npy", truth.masks)
    known = {
        name: value for name, value in truth._asdict().items() if name not in ("movie", "clean", "masks", "events")
    }
    np.savez(folder / "truth.npz", **known, **{f"events_{name}": v for name, v in truth.events._asdict().items()})
    write_json(folder / "simulation.json", settings)


def load_simulation(folder: str | Path) -> Simulation:
    """What `write` wrote; movie and clean stay on disk and are read as they are used. InputError if it is none."""
    folder = Path(folder)
    read_json(folder / "simulation.json")
    with np.load(folder / "truth.npz", allow_pickle=False) as stored:
        truth = {name: stored[name] for name in stored.files}
    events = Events(**{name: truth.pop(f"events_{name}") for name in Events._fields})
    numbers = {name: value.item() if value.ndim == 0 else value for name, value in truth.items()}
    movie, clean = (map_tiff(folder / name) for name in ("movie.tif", "clean.tif"))
    return Simulation(movie=movie, clean=clean, masks=np.load(folder / "rois.npy"), events=events, **numbers)
