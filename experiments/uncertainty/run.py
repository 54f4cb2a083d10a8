"""Which error bar is true at ROI level, and what does each part of ours add?

    python -m experiments.uncertainty.run [--out FOLDER] [--full]

Blind predictions of ROI traces with their error bars: pixels taken as independent, Monte-Carlo dropout, an ensemble of
four, low rank (covariance alone), composite likelihood, recalibrated. Then what the whole program makes of one network, of
dropout, of an ensemble and of snapshots, and what each costs. Two movies. About two hours on one CPU core.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
import zarr

import udenoise
from experiments import bench, tables
from experiments.movies import reported
from udenoise import inference, metrics
from udenoise.config import to_json
from udenoise.io.store import read_json
from udenoise.posterior import Recalibration
from udenoise.recording import load_recording
from udenoise.regions import lay_out
from udenoise.results import load_rois_npz

MEMBERS, DRAWS = 4, 8
DROPOUT = {"network": udenoise.NetworkConfig(dropout_rate=0.1, dropout_levels="all")}
LEVELS = (50, 80, 90, 95, 99)
SEEDS = f"{MEMBERS} of other seeds"
SNAPSHOTS = 4
"""Snapshots are fine-tuned for this part of the training."""
WHOLE = {
    "movie": "{}", "networks": "{}", "ROI error / Wiener": "{:.3f}", "fast / raw": "{:.2f}", "sd/RMSE": "{:.2f}",
    "95 %": "{:.1%}", "95 % in events": "{:.1%}", "95 % fast": "{:.1%}", "training steps": "{:,.0f}", "passes": "{:.0f}",
}  # fmt: skip
COLUMNS = {
    "movie": "{}", "error bar": "{}", "ROI error": "{:.3f}", "sd/RMSE": "{:.2f}",
    **{f"{q} %": "{:.1%}" for q in LEVELS}, "95 % in events": "{:.1%}", "95 % fast": "{:.1%}", "width 95 %": "{:.2f}",
    "CRPS": "{:.3f}",
}  # fmt: skip


def main(out: Path = Path("experiments-out"), full: bool = False) -> None:
    """Measure what is not measured yet, and write the table into README.md beside this file."""
    rows, finished, seconds = [], [], 0.0
    for movie in reported(full)[:2]:
        scene = bench.prepare(movie, out)
        raw = bench.measure_baseline(scene, "raw", out)["row"]
        result = bench.cached(
            out / "rows" / f"uncertainty-{bench.key_of(scene.folder.parent.name, full)}.json",
            lambda scene=scene: compute(scene, full, out),
        )
        seconds += result["seconds"]
        for name, row in result["rows"].items():
            rows.append({"movie": scene.name, "error bar": name} | figures(row, raw))
        wiener = bench.measure_wiener(scene, out)["row"]
        result = bench.cached(
            out / "rows" / f"whole-{bench.key_of(scene.folder.parent.name)}.json",
            lambda scene=scene: {"rows": costs(scene, programs(scene, out))},
        )
        for name, row in result["rows"].items():
            finished.append({"movie": scene.name, "networks": name} | outcome(row, raw, wiener))
            seconds += row["training_seconds"]
    text = "\n\n".join([
        "ROI error and CRPS: of the raw traces' error (mean squared, root mean squared); width: of the narrowest constant band "
        "that holds 95 %.", tables.markdown(rows, COLUMNS),
        "What the whole program makes of them, trained until nothing is gained any more, as `udenoise run` does (training steps: "
        "of all networks; passes: networks that are asked for every frame)",
        tables.markdown(finished, WHOLE), tables.measured(seconds),
    ])  # fmt: skip
    print(text)
    tables.fill(Path(__file__).with_name("README.md"), "result", text)


def compute(scene: bench.Scene, full: bool, out: Path) -> dict[str, Any]:
    """Rows by name of the error bar, and the seconds all took."""
    done = bench.timed(lambda: {name: bench.traces_row(scene, e) for name, e in estimates(scene, full, out)})
    return {"rows": done.value, "seconds": done.seconds}


def estimates(scene: bench.Scene, full: bool, out: Path) -> Iterator[tuple[str, metrics.Estimate]]:
    """Every error bar with its traces."""
    usual = udenoise.Config(train=bench.training(full))
    pixels = replace(usual, train=replace(usual.train, likelihood="pixels"))
    members = [blind(scene, replace(pixels, seed=seed), out) for seed in range(MEMBERS)]
    yield "independent pixels", alone(members[0])
    yield "Monte-Carlo dropout (coarse levels, default)", spread([b[0] for b in blind_draws(scene, pixels, out)])
    drawn = blind_draws(scene, replace(pixels, **DROPOUT), out)
    yield "Monte-Carlo dropout (all levels, 10 %)", spread([b[0] for b in drawn])
    yield "Monte-Carlo dropout and independent pixels", mixture(drawn)
    yield f"ensemble of {MEMBERS}, spread alone", spread([mean for mean, _, _ in members])
    yield f"ensemble of {MEMBERS} and independent pixels", mixture(members)
    joint = replace(usual, train=replace(usual.train, likelihood="joint"))
    yield "low rank (covariance alone)", stated(blind(scene, joint, out))
    yield "composite likelihood", stated(blind(scene, usual, out))
    yield "composite, recalibrated", stated(blind(scene, usual, out, recalibrate=True))
    movie, _ = bench.ours(scene, usual, out)
    sd = np.asarray(zarr.open_group(bench.run_folder(scene, usual, out) / "posterior.zarr", mode="r")["sd/0"])
    pixel_sd = np.sqrt(np.einsum("nyx,tyx->nt", scene.weights**2, sd**2))
    yield "fused movie, independent pixels", metrics.Estimate(bench.roi_traces(movie, scene.weights), pixel_sd)


Blind = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Mean, variance with the stated covariance, variance of independent pixels (N T)."""


def blind(scene: bench.Scene, config: udenoise.Config, out: Path, recalibrate: bool = False) -> Blind:
    """The blind prediction of the ROIs, never fused."""
    machine, by = prepared(bench.ran(scene, config, out), draws=0)
    return streamed(scene, machine, by if recalibrate else Recalibration())


def blind_draws(scene: bench.Scene, config: udenoise.Config, out: Path) -> list[Blind]:
    """Monte-Carlo dropout: one network per draw, the same in all frames."""
    machine, _ = prepared(bench.ran(scene, config, out), draws=1)
    return [streamed(scene, machine, Recalibration(), seed) for seed in range(DRAWS)]


def streamed(scene: bench.Scene, machine: inference.Inference, by: Recalibration, seed: int = 0) -> Blind:
    """The ROIs' moments of a whole movie."""
    means, stated, own = [], [], []
    for _, part in inference.stream(machine, 0, len(scene.movie), by, seed=seed):
        means.append(part.regions.mean[:, 0])
        stated.append(part.regions.covariance[:, :, 0, 0])
        own.append(np.einsum("nyx,tyx->tn", scene.weights**2, part.prior_sd**2))
    return tuple(np.concatenate(parts).T for parts in (means, stated, own))


def prepared(folder: Path, draws: int) -> tuple[inference.Inference, Recalibration]:
    """A finished run's denoiser, ready to stream."""
    recording = load_recording(udenoise.open_movie(read_json(folder / "config.json")["movie"]["source"]), folder)
    net, about = udenoise.load_denoiser(folder / "denoiser"), read_json(folder / "calibration.json")
    rois = load_rois_npz(folder / "rois.npz")
    regions = lay_out((rois,), net.config.lattice_spacing, recording.noise.kernel)
    config = udenoise.DenoiseConfig(uncertainty="dropout" if draws else "lowrank", passes=max(draws, 1))
    by = Recalibration(about["factor_shared"], about["factor_pixel"])
    return inference.prepare(recording, net, config, regions), by


def stated(b: Blind) -> metrics.Estimate:
    """Mean and the stated covariance."""
    return metrics.Estimate(b[0], np.sqrt(b[1]))


def alone(b: Blind) -> metrics.Estimate:
    """Mean and the pixels' variances as if they were independent."""
    return metrics.Estimate(b[0], np.sqrt(b[2]))


def spread(means: list[np.ndarray]) -> metrics.Estimate:
    """Mean and standard deviation over networks."""
    return metrics.Estimate(np.mean(means, 0), np.std(means, 0, ddof=1))


def mixture(members: list[Blind]) -> metrics.Estimate:
    """The variance of a mixture: spread of the means and the mean of the variances."""
    own = np.mean([b[2] for b in members], 0)
    between = spread([b[0] for b in members])
    return between._replace(sd=np.sqrt(between.sd**2 + own))


class Program(NamedTuple):
    """A finished run, the runs that trained its networks, and how many are asked for every frame."""

    run: Path
    trained: list[Path]
    passes: int


def programs(scene: bench.Scene, out: Path) -> dict[str, Program]:
    """By name."""
    usual = udenoise.Config()
    train = usual.train
    one = bench.ran(scene, usual, out)
    longer = bench.ran(scene, replace(usual, train=replace(train, steps=MEMBERS * train.steps)), out)
    passes = udenoise.DenoiseConfig(uncertainty="dropout", passes=DRAWS)
    dropout = bench.ran(scene, replace(usual, **DROPOUT, denoise=passes), out)
    members = [one, *(bench.ran(scene, replace(usual, seed=seed), out) for seed in range(1, MEMBERS))]
    snapshots = [one]
    for seed in range(1, MEMBERS):
        again = replace(usual, seed=seed, train=replace(train, steps=train.steps // SNAPSHOTS))
        snapshots.append(ran_from(scene, again, snapshots[-1] / "denoiser", out))
    return {
        "one (default)": Program(one, [one], 1),
        f"one, with {MEMBERS} times the step budget": Program(longer, [longer], 1),
        f"one, {DRAWS} passes of dropout (all levels, 10 %)": Program(dropout, [dropout], DRAWS),
        SEEDS: Program(together(scene, members, out), members, MEMBERS),
        f"{MEMBERS} snapshots": Program(together(scene, snapshots, out), snapshots, MEMBERS),
    }  # fmt: skip


def ran_from(scene: bench.Scene, config: udenoise.Config, network: Path, out: Path) -> Path:
    """The finished run of a network fine-tuned from another."""
    folder = out / "ensembles" / bench.key_of(scene.folder.parent.name, to_json(config), network)
    return udenoise.run(
        scene.folder / "movie.tif", folder, scene.folder / "rois.npy", config, init_from=network, quiet=True
    )


def together(scene: bench.Scene, runs: list[Path], out: Path) -> Path:
    """The finished run of an ensemble of these runs' networks."""
    folder = out / "ensembles" / bench.key_of(scene.folder.parent.name, *runs)
    for number, run in enumerate(runs, start=1):
        name = "denoiser" if number == 1 else f"denoiser_{number}"
        shutil.copytree(run / "denoiser", folder / "networks" / name, dirs_exist_ok=True)
    config = udenoise.Config(denoise=udenoise.DenoiseConfig(uncertainty="ensemble", passes=len(runs)))
    movie, rois = scene.folder / "movie.tif", scene.folder / "rois.npy"
    return udenoise.run(movie, folder / "run", rois, config, denoiser=folder / "networks" / "denoiser", quiet=True)


def costs(scene: bench.Scene, made: dict[str, Program]) -> dict[str, dict[str, float]]:
    """A row for each program, and one for the ensemble's networks by themselves."""
    rows = {name: costing(scene, program) for name, program in made.items()}
    alone = [costing(scene, Program(run, [run], 1)) for run in made[SEEDS].trained]
    mean = {name: float(np.mean([row[name] for row in alone])) for name in alone[0]}
    return rows | {"one of these seeds, on average": mean | {"training_seconds": 0.0}}


def costing(scene: bench.Scene, program: Program) -> dict[str, float]:
    """A finished run's row, and what its networks cost; steps do not depend on what else a machine does."""
    records = [read_json(folder / "denoiser" / "training.json") for folder in program.trained]
    cost = {"steps": sum(record["steps"][-1] for record in records), "passes": program.passes}
    seconds = sum(record["seconds"] for record in records)
    return bench.traces_row(scene, bench.estimate_of(program.run)) | cost | {"training_seconds": seconds}


def outcome(row: dict[str, float], raw: dict[str, float], wiener: dict[str, float]) -> dict[str, Any]:
    """The columns of the second table."""
    return {
        "ROI error / Wiener": row["roi_error"] / wiener["roi_error"], "fast / raw": row["fast_error"] / raw["fast_error"],
        "sd/RMSE": row["sd_ratio"], "95 %": row["coverage_95"], "95 % in events": row["event_coverage_95"],
        "95 % fast": row["fast_coverage_95"], "training steps": row["steps"], "passes": row["passes"],
    }  # fmt: skip


def figures(row: dict[str, float], raw: dict[str, float]) -> dict[str, Any]:
    """The columns of the table."""
    held = {f"{q} %": row[f"coverage_{q}"] for q in LEVELS}
    return {
        "ROI error": row["roi_error"] / raw["roi_error"], "sd/RMSE": row["sd_ratio"], **held,
        "95 % in events": row["event_coverage_95"], "95 % fast": row["fast_coverage_95"],
        "width 95 %": row["relative_width_95"], "CRPS": row["crps"] / np.sqrt(raw["roi_error"]),
    }  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
