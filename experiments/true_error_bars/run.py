"""Does every corridor hold, also during events, on every movie, and how narrow could it be?

    python -m experiments.true_error_bars.run [--out FOLDER]

Eight movies with known truth, on which nothing was chosen: those of the table (many planted rare events), those of the three
photon levels, and two longer ones. Corridors of traces, of ΔF/F, of functions of traces (event amplitude, mean over a second,
correlation of two cells), of single pixels, and over whole traces; and two bounds: what a filter that knows every footprint and
every spectrum reaches, and how often even an exact posterior holds the frames that the truth calls fastest. Then networks on
movies they were not trained on. About 80 minutes on one CPU core, where the table has been measured before.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import zarr
from jaxtyping import Float

import udenoise
from experiments import bench, tables
from experiments.movies import CHOOSING, Reported, check_apart, reported
from experiments.three_photon_levels.run import MOVIES
from experiments.true_error_bars import posterior
from experiments.true_error_bars.bound import linear_bound
from udenoise import metrics
from udenoise.config import PopulationConfig, SimulationConfig
from udenoise.demonstration import true_dff
from udenoise.io.store import read_group, read_json
from udenoise.pipeline import traces
from udenoise.traces import simultaneous

LONGER = {
    "GCaMP6f, 1 photon, 6000 frames": SimulationConfig(
        frames=6000, photons=1.0, gain=80.0, read_noise=6.0, offset=40.0, population=PopulationConfig("GCaMP6f"), seed=671),
    "GCaMP6s, 4 photons, correlated noise, 6000 frames": SimulationConfig(
        frames=6000, photons=4.0, event_rate_hz=0.06, correlation_x=0.25, excess_noise=1.3,
        population=PopulationConfig("GCaMP6s"), seed=672),
}  # fmt: skip
"""More to learn the error from: 27 cells, three times as many frames."""
check_apart(CHOOSING, tuple(Reported(name, config) for name, config in LONGER.items()))
DRAWS, PIXEL_STEP, WINDOW_S = 200, 10, 1.0
ORACLES = (*(movie.name for movie in reported(False)), "0.5 photons")
"""Movies whose own law is asked: a quarter of an hour for 27 cells in 2000 frames."""
LESS_TOLD = ORACLES[:2]
SWEEPS, OWN_SWEEPS, FEW_SWEEPS = 300, 900, 150
BEFORE, LENGTH = 5, 20
"""Frames before an event whose mean is its baseline, and frames in which its peak is sought."""
LEAST_SNR = 8.0
LEVELS = (50, 80, 90, 95, 99)
PERCENT = "{:.1%}"
HELD = {
    "movie": "{}", **{f"{q} %": PERCENT for q in LEVELS}, "fastest 3 %": PERCENT, "if exact": PERCENT, "fastest it shows": PERCENT,
    "events": PERCENT, "worst twentieth": PERCENT, "whole trace": PERCENT,
}  # fmt: skip
DERIVED = {
    "movie": "{}", "ΔF/F": PERCENT, "event amplitude": PERCENT, "mean over 1 s": PERCENT, "mean of all ROIs": PERCENT,
    "correlation of two": PERCENT, "pixels": PERCENT,
}  # fmt: skip
NARROW = {
    "movie": "{}", "width": "{:.2f}", "ROI error / Wiener": "{:.2f}", "linear bound": "{:.2f}", "fastest / raw": "{:.2f}",
    "rare kept": "{:.2f}", "in its interval": "{:.0%}", "as listed": "{:.0%}",
}  # fmt: skip
ORACLE = {
    "movie": "{}", "ours": "{:.2f}", "linear": "{:.2f}", "posterior": "{:.2f}", "own trace": "{:.2f}", "95 %": PERCENT,
    "fastest 3 %": PERCENT, "event amplitude": PERCENT, "correlation of two": PERCENT, "whole trace": PERCENT,
}  # fmt: skip
LESS = {
    "movie": "{}", "all told": "{:.2f}", "amplitude ± 40 %, decay ± 30 %": "{:.2f}", "3 of 10 untold": "{:.2f}",
    "6 of 10 untold": "{:.2f}", "9 of 10 untold": "{:.2f}",
}  # fmt: skip
FOREIGN = {
    "movie": "{}", "network of": "{}", "95 %": PERCENT, "fastest 3 %": PERCENT, "ROI error / Wiener": "{:.2f}", "width": "{:.2f}",
    "the report says": "{}",
}  # fmt: skip


def main(out: Path = Path("experiments-out")) -> None:
    """Measure what is not measured yet, and write the tables into README.md beside this file."""
    movies = [*reported(False), *(Reported(name, config) for name, config in (MOVIES | LONGER).items())]
    scenes, rows, seconds = [bench.prepare(movie, out) for movie in movies], [], 0.0
    for movie, scene in zip(movies, scenes, strict=True):
        result = bench.cached(out / "rows" / f"true-{bench.key_of(scene.folder.parent.name)}.json",
                              lambda m=movie, s=scene: measure(m, s, out))  # fmt: skip
        rows.append({"movie": scene.name} | result["row"])
        seconds += result["seconds"]
        print(tables.markdown(rows, HELD), flush=True)
    strangers, more = foreign(scenes[: -len(LONGER)], out)
    oracles = [oracle(movie, scene, row, out) for movie, scene, row in zip(movies, scenes, rows, strict=True)]
    oracles = [result for result in oracles if result is not None]
    less = [
        told_less(movie, scene, out) for movie, scene in zip(movies, scenes, strict=True) if movie.name in LESS_TOLD
    ]
    text = "\n\n".join([
        "How often the corridor of an ROI's fluorescence holds the truth",
        tables.markdown(rows, HELD), "How often 95 % corridors of other things do", tables.markdown(rows, DERIVED),
        "How narrow it is, and how far from what can be had", tables.markdown(rows, NARROW),
        "A network on a movie that it was not trained on", tables.markdown(strangers, FOREIGN),
        "What the law of the movie knows (errors over that of the Wiener filter; how often 95 % corridors of its posterior hold)",
        tables.markdown([result["row"] for result in oracles], ORACLE),
        "The posterior's error when the law is told less: cells' amplitude and decay wrongly, or not all components that are no "
        "cells", tables.markdown([result["row"] for result in less], LESS),
        tables.measured(seconds + more + sum(result["seconds"] for result in [*oracles, *less])),
    ])  # fmt: skip
    tables.fill(Path(__file__).with_name("README.md"), "result", text)


def measure(movie: Reported, scene: bench.Scene, out: Path) -> dict[str, Any]:
    """One movie's row of all tables."""
    config = udenoise.Config()
    ours, raw = bench.measure_ours(scene, config, out), bench.measure_baseline(scene, "raw", out)
    wiener, folder = bench.measure_wiener(scene, out)["row"]["roi_error"], bench.ran(scene, config, out)
    done = bench.timed(
        lambda: corridors(ours["row"], scene, folder) | narrow(movie, scene, folder, ours, raw, wiener, out)
    )
    return {"row": done.value, "seconds": done.seconds}


def corridors(row: dict[str, Any], scene: bench.Scene, folder: Path) -> dict[str, float]:
    """How often they hold."""
    arrays, about = read_group(folder / "traces.zarr")
    at = list(about["levels"]).index(0.95)
    low, high = arrays["lower"][at], arrays["upper"][at]
    truth = scene.truth
    own = metrics.roi_coverage(truth, low, high)
    dff = true_dff(folder, truth, scene.clean, scene.frame_rate_hz)
    shown = metrics.state_coverage(truth, low, high, told_by=arrays["mean"])
    return {
        **{f"{q} %": row[f"coverage_{q}"] for q in LEVELS}, "fastest 3 %": row["fast_coverage_95"],
        "fastest it shows": shown.fast, "events": row["event_coverage_95"], "worst twentieth": float(np.quantile(own, 0.05)),
        "whole trace": row["simultaneous_coverage_95"], "pixels": pixels(scene, folder),
        "ΔF/F": metrics.coverage(dff, arrays["dff/lower"][at], arrays["dff/upper"][at], np.isfinite(dff)),
        **derived(scene, arrays, folder),
    }  # fmt: skip


def pixels(scene: bench.Scene, folder: Path) -> float:
    """How often mean ± 1.96 sd holds a pixel."""
    group = zarr.open_group(folder / "posterior.zarr", mode="r")
    held = []
    for t in range(0, len(scene.movie), PIXEL_STEP):
        mean, sd = (np.asarray(group[f"{name}/0"][t]) for name in ("mean", "sd"))
        held.append(np.mean(np.abs(scene.clean[t] - mean) < 1.96 * sd))
    return float(np.mean(held))


def derived(scene: bench.Scene, arrays: dict[str, np.ndarray], folder: Path) -> dict[str, float]:
    """Corridors of functions of fluorescence, from draws; and how often the exact posterior holds fast frames."""
    draws = udenoise.load_draws(folder, "counts", DRAWS)
    drawn = np.stack(list(draws))
    window = max(round(WINDOW_S * scene.frame_rate_hz), 1)
    functions: dict[str, Callable] = {
        "event amplitude": amplitudes(arrays["mean"]), "mean over 1 s": partial(means, window=window),
        "mean of all ROIs": partial(np.mean, axis=0), "correlation of two": correlations,
    }  # fmt: skip
    found = {name: held_by_draws(f, drawn, scene.truth, draws.mean) for name, f in functions.items()}
    return found | {"if exact": if_exact(drawn, arrays)}


def held_by_draws(
    f: Callable, drawn: Float[np.ndarray, "S N T"], truth: Float[np.ndarray, "N T"], mean: Float[np.ndarray, "N T"]
) -> float:
    """How often the 95 % corridor of f over draws holds f of the truth."""
    found, true = udenoise.propagate(drawn, f, (0.95,), mean), f(truth)
    return float(np.mean((found.lower[0] <= true) & (true <= found.upper[0])))


def amplitudes(mean: Float[np.ndarray, "N T"]) -> Callable[[np.ndarray], np.ndarray]:
    """Peak above the frames before of the events that the denoised traces show."""
    events = metrics.detect_events(mean, metrics.event_threshold(mean))
    inside = (events.start >= BEFORE) & (events.start + LENGTH < mean.shape[1])
    roi, start = events.roi[inside], events.start[inside]
    before, during = start[:, None] - np.arange(BEFORE), start[:, None] + np.arange(LENGTH)
    return lambda traces: traces[roi[:, None], during].max(1) - traces[roi[:, None], before].mean(1)


def means(traces: Float[np.ndarray, "N T"], window: int) -> Float[np.ndarray, "N W"]:
    """Over successive windows."""
    whole = traces.shape[1] // window * window
    return traces[:, :whole].reshape(len(traces), -1, window).mean(2)


def correlations(traces: Float[np.ndarray, "N T"]) -> Float[np.ndarray, "pairs"]:
    """Of all pairs."""
    return np.corrcoef(traces)[np.triu_indices(len(traces), 1)]


def if_exact(drawn: Float[np.ndarray, "S N T"], arrays: dict[str, np.ndarray]) -> float:
    """How often the corridor holds a draw in the frames in which that draw is fastest: were the posterior exact, the truth would
    be such a draw, and the corridor could not hold it more often there without holding too much elsewhere."""
    half = 1.96 * arrays["sd"]
    held = [
        metrics.coverage(d, arrays["mean"] - half, arrays["mean"] + half, metrics.fast_changes(d)) for d in drawn[:40]
    ]
    return float(np.mean(held))


def narrow(
    movie: Reported,
    scene: bench.Scene,
    folder: Path,
    ours: dict[str, Any],
    raw: dict[str, Any],
    wiener: float,
    out: Path,
) -> dict[str, float | None]:
    """Width, errors beside the bounds, and what becomes of one-off events."""
    row = ours["row"]
    bound = linear_bound(movie.config, scene)
    return {
        "width": row["sd_ratio"], "ROI error / Wiener": row["roi_error"] / wiener,
        "linear bound": None if bound is None else bound / wiener, "fastest / raw": row["fast_error"] / raw["row"]["fast_error"],
        "rare kept": bench.rare_kept(ours, LEAST_SNR), "in its interval": rare_inside(scene, folder, out),
        "as listed": rare_as_listed(scene, folder, ours),
    }  # fmt: skip


def rare_inside(scene: bench.Scene, folder: Path, out: Path) -> float | None:
    """Share of planted local events whose amplitude is within the 95 % corridor of the place where they happened: with it as an
    ROI, the matched filter of the event's course over draws."""
    if scene.rare is None:
        return None
    chosen = (scene.rare.roi < 0) & (scene.rare.snr >= LEAST_SNR)
    planted = metrics.Planted(*(part[chosen] for part in scene.rare.planted))
    there = out / "places" / folder.name
    there.parent.mkdir(parents=True, exist_ok=True)
    np.save(there.with_suffix(".npy"), planted.footprint.astype(np.float32))
    traces(folder, there.with_suffix(".npy"), output=there, overwrite=True, quiet=True)
    weights = planted.footprint / planted.footprint.sum((1, 2), keepdims=True)
    draws = udenoise.load_draws(there, "counts", DRAWS)
    return held_by_draws(
        partial(metrics.at_start, planted), list(draws), bench.roi_traces(scene.clean, weights), draws.mean
    )


def rare_as_listed(scene: bench.Scene, folder: Path, ours: dict[str, Any]) -> float | None:
    """Share whose amplitude lies within 1.96 sd, as innovations.csv has it, of what was put back there."""
    if scene.rare is None:
        return None
    listed = np.loadtxt(folder / "innovations.csv", delimiter=",", skiprows=1, ndmin=2)
    chosen = [k for k in np.flatnonzero(scene.rare.roi < 0) if scene.rare.snr[k] >= LEAST_SNR]
    inside = [_inside(scene.rare.planted, k, ours["rare"]["recovered"][k], listed) for k in chosen]
    return float(np.mean(inside)) if inside else None


def _inside(planted: metrics.Planted, k: int, share: float, listed: np.ndarray) -> bool:
    footprint = planted.footprint[k]
    centre = np.unravel_index(footprint.argmax(), footprint.shape)
    near = (np.abs(listed[:, 0] - planted.start[k]) <= 3) & (np.hypot(*(listed[:, 1:3] - centre).T) <= 5)
    if not near.any():
        return False
    best = listed[near][np.abs(listed[near, 7]).argmax()]
    return bool(abs(share - 1) <= 1.96 * best[6] / abs(best[5]))


def oracle(movie: Reported, scene: bench.Scene, row: dict[str, Any], out: Path) -> dict[str, Any] | None:
    """What can be known by whom everything but the activity is told; None with motion, and for movies that would take hours."""
    if movie.name not in ORACLES:
        return None
    result = bench.cached(out / "rows" / f"oracle-{bench.key_of(scene.folder.parent.name)}.json",
                          lambda: known_by_law(movie, scene, out))  # fmt: skip
    ours = {"movie": scene.name, "ours": row["ROI error / Wiener"], "linear": row["linear bound"]}
    return result | {"row": ours | result["row"]} if result["row"] else None


def known_by_law(movie: Reported, scene: bench.Scene, out: Path) -> dict[str, Any]:
    """The posterior's error and how often its own corridors hold, from the whole movie; and its error from the ROIs' traces alone.

    Both walks begin at the truth: before they have forgotten it their errors are too small, never too large.
    """
    whole = posterior.all_pixels(movie.config, scene)
    if whole is None:
        return {"seconds": 0.0, "row": {}}
    own = posterior.own_trace(whole, scene)
    done = bench.timed(lambda: posterior.draw(whole, SWEEPS, SWEEPS // 3, at_truth=True))
    alone = bench.timed(lambda: posterior.draw(own, OWN_SWEEPS, OWN_SWEEPS // 3, at_truth=True))
    wiener = bench.measure_wiener(scene, out)["row"]["roi_error"]
    drawn, truth = done.value, whole.weights @ whole.light
    mean, sd = drawn.mean(0), drawn.std(0)
    held = {name: held_by_draws(f, drawn, truth, mean) for name, f in
            {"event amplitude": amplitudes(mean), "correlation of two": correlations}.items()}  # fmt: skip
    wide = sd * [simultaneous(drawn[:, n], mean[n], sd[n], (0.95,), doubt=0.0) for n in range(len(truth))]
    return {"seconds": done.seconds + alone.seconds, "row": {
        "posterior": float(metrics.roi_error(mean, truth).mean() / wiener),
        "own trace": float(metrics.roi_error(alone.value.mean(0), own.weights @ own.light).mean() / wiener),
        "95 %": metrics.coverage(truth, mean - 1.96 * sd, mean + 1.96 * sd),
        "fastest 3 %": metrics.state_coverage(truth, mean - 1.96 * sd, mean + 1.96 * sd).fast,
        "whole trace": metrics.simultaneous_coverage(truth, mean - wide, mean + wide), **held,
    }}  # fmt: skip


def told_less(movie: Reported, scene: bench.Scene, out: Path) -> dict[str, Any]:
    """The posterior's error, over the Wiener filter's, for one who knows the law less well."""
    wiener = bench.measure_wiener(scene, out)["row"]["roi_error"]

    def compute() -> dict[str, Any]:
        whole = posterior.all_pixels(movie.config, scene)

        def error(told: posterior.Told, beside: np.ndarray | float = 0.0) -> float:
            drawn = posterior.draw(told, FEW_SWEEPS, FEW_SWEEPS // 3, at_truth=True)
            found = drawn.mean(0) + np.reshape(beside, (-1, 1))
            return float(metrics.roi_error(found, whole.weights @ whole.light).mean() / wiener)

        done = bench.timed(lambda: [error(whole), error(posterior.mistaken(whole, 0.4, 0.3)),
                                    *(error(*posterior.untold(whole, share)) for share in (0.3, 0.6, 0.9))])  # fmt: skip
        return {"seconds": done.seconds, "row": dict(zip(list(LESS)[1:], done.value, strict=True))}

    result = bench.cached(out / "rows" / f"less-{bench.key_of(scene.folder.parent.name)}.json", compute)
    return result | {"row": {"movie": scene.name} | result["row"]}


def foreign(scenes: list[bench.Scene], out: Path) -> tuple[list[dict[str, Any]], float]:
    """Each movie with the network of the one before."""
    config, rows, seconds = udenoise.Config(), [], 0.0
    for number, (other, scene) in enumerate(pairwise([scenes[-1], *scenes])):
        result = bench.cached(out / "rows" / f"foreign-{number}-{bench.key_of(scene.folder.parent.name)}.json",
                              lambda s=scene, o=other: applied(s, bench.ran(o, config, out) / "denoiser", config, out))  # fmt: skip
        rows.append(
            {"movie": scene.name, "network of": other.name} | result["row"] | {"the report says": result["says"]}
        )
        seconds += result["seconds"]
    return rows, seconds


def applied(scene: bench.Scene, network: Path, config: udenoise.Config, out: Path) -> dict[str, Any]:
    """What another movie's network makes of a movie."""
    folder = out / "foreign" / bench.key_of(scene.folder.parent.name, str(network))
    movie, rois = scene.folder / "movie.tif", scene.folder / "rois.npy"
    done = bench.timed(lambda: udenoise.run(movie, folder, rois, config, denoiser=network, quiet=True))
    row = bench.traces_row(scene, bench.estimate_of(folder))
    wiener = bench.measure_wiener(scene, out)["row"]["roi_error"]
    said = read_json(folder / "report.json")["trust"]
    return {"seconds": done.seconds, "says": said["verdict"], "row": {
        "95 %": row["coverage_95"], "fastest 3 %": row["fast_coverage_95"], "ROI error / Wiener": row["roi_error"] / wiener,
        "width": row["sd_ratio"],
    }}  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
