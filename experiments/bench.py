"""One movie with known truth, any method, one row of numbers: what all experiments share."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import zarr
from jaxtyping import Float

import udenoise
from experiments.movies import Choosing, Reported
from udenoise import metrics
from udenoise.baselines import METHODS, Method, roi_score, roi_traces, tune, wiener_traces
from udenoise.config import SimulationConfig, to_json
from udenoise.io.store import read_group, read_json, write_json
from udenoise.simulate import Simulation, load_simulation, write_simulation

CHUNK = 200
QUICK_STEPS = 600
"""Training steps of the experiments' default size; `--full` trains as long as `udenoise run` does."""
LONGEST_COURSE = 45
"""Frames of an event's time course that the matched filter uses."""
ROOM = 6
"""Frames that the matched filter needs before an event."""
LOCAL, CELLS = ("flash", "dendritic"), ("lone", "decoupled")


class Rare(NamedTuple):
    """Planted events (E): where and when, how large, and the movie without those outside cells, seen through their footprints."""

    planted: metrics.Planted
    kind: np.ndarray
    snr: np.ndarray
    roi: np.ndarray
    """The ROI of an event of a cell; −1 elsewhere."""
    truth: Float[np.ndarray, "E T"]
    without: Float[np.ndarray, "E T"]


class Scene(NamedTuple):
    """A movie in memory (T Y X counts) with its truth."""

    name: str
    folder: Path
    movie: Float[np.ndarray, "T Y X"]
    clean: Float[np.ndarray, "T Y X"]
    weights: Float[np.ndarray, "N Y X"]
    truth: Float[np.ndarray, "N T"]
    noise_variance: Float[np.ndarray, "N"]
    offset: float
    frame_rate_hz: float
    rare: Rare | None


class Timed(NamedTuple):
    """A result and how long it took."""

    value: Any
    seconds: float


def timed(compute: Callable[[], Any]) -> Timed:
    """Compute and look at the clock."""
    began = time.monotonic()
    value = compute()
    return Timed(value, time.monotonic() - began)


def key_of(*parts: Any) -> str:
    """A short name for settings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:10]


def cached(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A result on disk, computed once: an interrupted experiment goes on where it stood."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, compute())
    return {name: _numbers(value) if name in ("row", "rows") else value for name, value in read_json(path).items()}


def _numbers(row: Any) -> Any:
    """Figures that a method cannot have are null in JSON."""
    if isinstance(row, list):
        return [_numbers(value) for value in row]
    if isinstance(row, dict):
        return {name: _numbers(value) for name, value in row.items()}
    return float("nan") if row is None else row


def prepare(movie: Choosing | Reported, out: Path) -> Scene:
    """Simulate (once) and load."""
    folder = out / "movies" / key_of(asdict(movie.config))
    return load(movie.name, simulated(movie.config, folder / "simulation"), twin(movie.config, folder))


def simulated(config: SimulationConfig, folder: Path) -> Simulation:
    """A simulation on disk; one that was interrupted is begun anew."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as part:
            write_simulation(config, Path(part) / "whole").rename(folder)
    return load_simulation(folder)


def twin(config: SimulationConfig, folder: Path) -> Simulation | None:
    """The same movie without planted events outside the cells."""
    if not (config.rare.flashes or config.rare.dendritic_events):
        return None
    return simulated(replace(config, rare=replace(config.rare, flashes=0, dendritic_events=0)), folder / "without")


def load(name: str, known: Simulation, without: Simulation | None) -> Scene:
    """The scene of a simulation."""
    movie, clean = np.asarray(known.movie, np.float32), np.asarray(known.clean, np.float32)
    raw = roi_traces(movie, known.masks)
    rare = None if without is None else rare_events(known, without)
    variance = metrics.roi_error(raw, known.traces)
    folder = Path(known.movie.filename).parent
    return Scene(name, folder, movie, clean, known.masks, known.traces, variance, known.offset,
                 known.frame_rate_hz, rare)  # fmt: skip


def rare_events(known: Simulation, without: Simulation) -> Rare:
    """All planted events as the matched filter wants them; their size from the movie with and without them."""
    e = known.events
    chosen = np.flatnonzero(np.isin(e.kind, LOCAL + CELLS) & (e.start >= ROOM) & (e.stop < len(known.movie) - 60))
    scale = float(np.median(known.clean - known.offset) / np.median(without.clean - without.offset))
    footprints = np.stack([_footprint(known, i) for i in chosen])
    truth = metrics.footprint_traces(np.asarray(known.clean) - known.offset, footprints)
    rest = scale * metrics.footprint_traces(np.asarray(without.clean) - without.offset, footprints)
    local = np.isin(e.kind[chosen], LOCAL)
    for k in np.flatnonzero(~local):  # of cells: the ROI's own trace, less its level before the event
        truth[k] = known.traces[e.roi[chosen[k]]] - known.offset
        rest[k] = truth[k, e.start[chosen[k]] - 1]
    courses = np.zeros((len(chosen), LONGEST_COURSE))
    for k, i in enumerate(chosen):
        span = slice(e.start[i], min(max(e.stop[i], e.peak[i] + 1), e.start[i] + LONGEST_COURSE))
        courses[k, : span.stop - span.start] = (truth[k] - rest[k])[span]
    size = courses.max(1)
    kept = size > 0
    planted = metrics.Planted(footprints[kept], e.start[chosen][kept], (courses / size[:, None])[kept], size[kept])
    roi = np.where(local, -1, e.roi[chosen])
    return Rare(planted, e.kind[chosen][kept], e.snr[chosen][kept], roi[kept], truth[kept], rest[kept])


def _footprint(known: Simulation, event: int) -> Float[np.ndarray, "Y X"]:
    place, roi = known.events.place[event], known.events.roi[event]
    image = known.places[place] if place >= 0 else known.masks[roi]
    return image / image.max()


def score(scene: Scene, movie: np.ndarray, estimate: metrics.Estimate | None = None) -> dict[str, Any]:
    """Every number of one method on one movie: `row` of traces and pixels, `rare` event by event."""
    estimate = estimate or metrics.Estimate(roi_traces(movie, scene.weights))
    row = traces_row(scene, estimate)
    masks = scene.weights > 0
    ripple, pixels = metrics.start_wobble(masks), metrics.start_pixels(masks)
    for start in range(0, len(movie), CHUNK):
        frames, true = movie[start : start + CHUNK], scene.clean[start : start + CHUNK]
        ripple = metrics.add_wobble(ripple, frames, true, scene.offset)
        pixels = metrics.add_pixels(pixels, frames, true, scene.offset)
    rare = None if scene.rare is None else score_rare(scene, movie, estimate.mean)
    return {"row": row | metrics.movie_row(ripple, pixels), "rare": rare}


def traces_row(scene: Scene, estimate: metrics.Estimate) -> dict[str, float]:
    """Numbers of traces; also mean standard deviation over root mean squared error, bias relative to the brightness, and the
    error that is left when every trace is given its true mean."""
    row = metrics.trace_row(scene.truth, estimate, scene.noise_variance)
    sd = None if estimate.sd is None else float(np.mean(estimate.sd) / np.sqrt(row["roi_error"]))
    error = estimate.mean - scene.truth
    bias = float(error.mean() / np.mean(scene.truth - scene.offset))
    return row | {"sd_ratio": sd, "bias": bias, "levelled_error": float(error.var(axis=1).mean())}


def rare_kept(result: dict[str, Any], least_snr: float = 8.0) -> float | None:
    """Median share left of the amplitude of planted local events that stand out of the raw movie."""
    rare = result["rare"]
    if rare is None:
        return None
    local = np.isin(rare["kind"], LOCAL) & (np.array(rare["snr"]) >= least_snr)
    return float(np.median(np.array(rare["recovered"])[local])) if local.any() else None


def score_rare(scene: Scene, movie: np.ndarray, traces: np.ndarray) -> dict[str, Any]:
    """Share of each planted event's amplitude that is left, its z-score and those of quiet places; truth subtracted."""
    rare = scene.rare
    seen = metrics.footprint_traces(movie - np.float32(scene.offset), rare.planted.footprint)
    for k in np.flatnonzero(rare.roi >= 0):
        seen[k] = traces[rare.roi[k]] - scene.offset
    left = metrics.recovered_amplitudes(rare.planted, seen, rare.truth)
    local = rare.roi < 0
    planted = metrics.Planted(*(part[local] for part in rare.planted))
    found = metrics.findable(planted, (seen - rare.without)[local])
    quiet = np.sort(found.quiet)[-2000:]
    return {"kind": rare.kind.tolist(), "snr": rare.snr.tolist(), "recovered": left.tolist(),
            "z": found.event.tolist(), "quiet": quiet.tolist(), "quiet_places": len(found.quiet)}  # fmt: skip


def training(full: bool) -> udenoise.TrainConfig:
    """As long as `udenoise run` trains, or the default size of an experiment."""
    return udenoise.TrainConfig() if full else udenoise.TrainConfig(steps=QUICK_STEPS)


def run_folder(scene: Scene, config: udenoise.Config, out: Path) -> Path:
    """Where our run of a scene lies."""
    return out / "runs" / key_of(scene.folder.parent.name, to_json(config))


def ran(scene: Scene, config: udenoise.Config, out: Path, like: udenoise.Config | None = None) -> Path:
    """The folder of our run, finished; with the network of the run with settings `like`, where there are such."""
    folder = run_folder(scene, config, out)
    network = None if like is None else ran(scene, like, out) / "denoiser"
    movie, rois = scene.folder / "movie.tif", scene.folder / "rois.npy"
    return udenoise.run(movie, folder, rois, config, denoiser=network, quiet=True)


def ours(
    scene: Scene, config: udenoise.Config, out: Path, like: udenoise.Config | None = None
) -> tuple[np.ndarray, metrics.Estimate]:
    """Our denoised movie, and traces with error bars."""
    folder = ran(scene, config, out, like)
    movie = np.asarray(zarr.open_group(folder / "posterior.zarr", mode="r")["mean/0"])
    return movie, estimate_of(folder)


def estimate_of(folder: Path) -> metrics.Estimate:
    """The traces of a run, with error bars."""
    arrays, _ = read_group(folder / "traces.zarr")
    return metrics.Estimate(*(arrays[name] for name in ("mean", "sd", "lower", "upper", "simultaneous")))


def measure_ours(
    scene: Scene, config: udenoise.Config, out: Path, like: udenoise.Config | None = None
) -> dict[str, Any]:
    """Our row."""

    def compute() -> dict[str, Any]:
        run = timed(lambda: ours(scene, config, out, like))
        return score(scene, *run.value) | {"seconds": run.seconds, "settings": to_json(config)}

    return cached(out / "rows" / f"ours-{run_folder(scene, config, out).name}.json", compute)


def measure_baseline(scene: Scene, name: str, out: Path, **settings: Any) -> dict[str, Any]:
    """The row of a baseline: filters at their best given this movie's truth, networks with the settings given."""
    key, method = baseline_key(scene, name, settings)
    grid = {} if hasattr(method.settings, "learning_rate") else method.grid

    def compute() -> dict[str, Any]:
        best = timed(lambda: tune(method, grid, scene.movie, roi_score(scene.weights, scene.truth), quiet=True))
        (out / "denoised").mkdir(parents=True, exist_ok=True)
        np.save(out / "denoised" / f"{key}.npy", best.value.denoised.movie)
        about = {"seconds": best.seconds, "settings": asdict(best.value.settings), "about": best.value.denoised.about}
        return score(scene, best.value.denoised.movie) | about

    return cached(out / "rows" / f"{key}.json", compute)


def baseline_key(scene: Scene, name: str, settings: dict[str, Any]) -> tuple[str, Method]:
    """Under which name results are kept, and the method with these settings."""
    method = METHODS[name]
    method = method._replace(settings=replace(method.settings, **settings))
    return f"{name}-{key_of(scene.folder.parent.name, asdict(method.settings))}", method


def denoised(scene: Scene, name: str, out: Path, **settings: Any) -> np.ndarray:
    """The movie that a baseline made (it is made if it is not there)."""
    measure_baseline(scene, name, out, **settings)
    return np.load(out / "denoised" / f"{baseline_key(scene, name, settings)[0]}.npy")


def measure_wiener(scene: Scene, out: Path) -> dict[str, Any]:
    """The oracle Wiener filter of each ROI's raw trace: a bound, not a method; it has no movie."""

    def compute() -> dict[str, Any]:
        traces = wiener_traces(scene.movie, scene.weights, scene.truth)
        return {"row": traces_row(scene, metrics.Estimate(traces)), "rare": None, "seconds": 0.0, "settings": {}}

    return cached(out / "rows" / f"wiener-{key_of(scene.folder.parent.name)}.json", compute)
