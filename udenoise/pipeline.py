"""The whole job, stage by stage: movie in, denoised movie, traces with corridors and a report out.

Each stage leaves its result in the run folder, complete or not at all; an interrupted run goes on where it stood.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from udenoise import extraction, flagging, inference, posterior, training
from udenoise.anatomy import Anatomy, anatomy_maps, estimate_anatomy, load_anatomy, save_anatomy
from udenoise.blocks import FOUND, load_added, load_events, load_moments, write_blocks
from udenoise.config import Config, FlagConfig, MovieConfig, TraceConfig, from_json
from udenoise.denoiser import Denoiser, load_denoiser, save_denoiser
from udenoise.flags import Flag, read_flags
from udenoise.innovation import Spread
from udenoise.io import Rois, open_movie
from udenoise.io.store import (
    read_group,
    read_json,
    write_group,
    write_json,
)
from udenoise.network import MAPS
from udenoise.noise import NoiseModel, estimate_noise, load_noise, save_noise
from udenoise.posterior import Recalibration
from udenoise.progress import progress_bar
from udenoise.recording import Recording, load_recording
from udenoise.regions import lay_out
from udenoise.report import write_report
from udenoise.results import load_rois_npz, write_events
from udenoise.roi_posterior import with_added
from udenoise.runfolder import (
    Run,
    check,
    claim,
    copy_result,
    forget,
    open_run,
    read_run,
    resolve_rois,
    run_settings,
    source_name,
    stored_source,
)
from udenoise.watch import ground_of

CALIBRATION_CHUNKS = 40
SEEDS_APART = 1000
"""Between the networks of an ensemble."""


def run(
    movie: str | Path | list | np.ndarray,
    output: str | Path,
    rois: str | Path | Rois | None = None,
    config: Config = Config(),
    overwrite: bool = False,
    init_from: str | Path | None = None,
    denoiser: str | Path | None = None,
    quiet: bool = False,
) -> Path:
    """Denoise a movie with error bars, extract ΔF/F with corridors, and write a report into the folder `output`.

    `init_from` fine-tunes another run's denoiser; `denoiser` applies one without training. A finished run with the same
    settings is left as it is; an interrupted one goes on. Raises InputError for anything that cannot be used.
    """
    job = open_run(movie, Path(output), rois, config, overwrite, {"init_from": init_from, "denoiser": denoiser}, quiet)
    if (job.folder / "report.json").is_file():
        if not quiet:
            print(f"{job.folder} is finished; pass --overwrite to start anew")
        return job.folder
    recording = examine(job)
    infer(job, recording, _obtain_denoisers(job, recording, init_from, denoiser), write_movie=True)
    finish(job, recording)
    return job.folder


def train(
    movie: str | Path | list | np.ndarray,
    output: str | Path,
    config: Config = Config(),
    overwrite: bool = False,
    init_from: str | Path | None = None,
    quiet: bool = False,
) -> Path:
    """The first half of `run`: noise, anatomy and a trained denoiser; `run` with the same settings goes on from it."""
    job = open_run(movie, Path(output), None, config, overwrite, {"init_from": init_from, "denoiser": None}, quiet)
    recording = examine(job)
    _obtain_denoisers(job, recording, init_from, None)
    return job.folder


def denoise(
    movie: str | Path | list | np.ndarray,
    output: str | Path,
    denoiser: str | Path,
    config: Config = Config(),
    rois: str | Path | Rois | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """`run` with a denoiser that is already trained, on this movie or on another."""
    return run(movie, output, rois, config, overwrite, denoiser=denoiser, quiet=quiet)


def traces(
    folder: str | Path,
    rois: str | Path | Rois,
    output: str | Path | None = None,
    trace: TraceConfig | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Traces of other ROIs from a finished run's denoiser; the denoised movie is not written again.

    Writes into `output`, or into the run itself, whose traces and report are replaced.
    """
    source = Path(folder)
    about = read_run(source)
    kept = from_json(Config, about["config"])
    config = kept if trace is None else replace(kept, trace=trace)
    movie = open_movie(stored_source(about), kept.movie)
    target = source if output is None else Path(output)
    if target != source:
        claim(target, overwrite)
        nets = _network_names(config.denoise.passes if config.denoise.uncertainty == "ensemble" else 1)
        for name in ("noise.json", "anatomy.zarr", *nets):
            copy_result(source / name, target / name)
    known = read_json(source / "timing.json") if (source / "timing.json").is_file() else {}
    job = Run(target, config, movie, resolve_rois(rois, movie), quiet, known)
    check(job)
    forget(target, "moments", FOUND, "innovations.csv", "report.json", "report.html", "calibration.json", "memory.json")
    write_json(target / "config.json", run_settings(job, about["movie"]["source"], source_name(rois), about["how"]))
    recording = load_recording(movie, target)
    infer(job, recording, _obtain_denoisers(job, recording, None, None), write_movie=False)
    finish(job, recording)
    return target


def flag(folder: str | Path, fdr: float | None = None, quiet: bool = False) -> list[Flag]:
    """Where not to believe a run: all events of flags.csv, judged at another false discovery rate where one is given.

    flags.csv, flags.json, flags.zarr and the report are replaced. The movie is looked at again only where the run was made by an
    earlier version or without flags.
    """
    target, about = Path(folder), read_run(Path(folder))
    config = from_json(Config, about["config"])
    config = replace(config, flag=FlagConfig(fdr=config.flag.fdr if fdr is None else fdr))
    movie = open_movie(stored_source(about), config.movie)
    rois = load_rois_npz(target / "rois.npz") if (target / "rois.npz").is_file() else None
    job = Run(target, config, movie, rois, quiet, read_json(target / "timing.json"))
    check(job)
    recording = load_recording(movie, target)
    if not (target / FOUND).is_file():
        infer(job, recording, _obtain_denoisers(job, recording, None, None), write_movie=False)
    finish(job, recording)
    return read_flags(target / "flags.csv")


def report(folder: str | Path) -> Path:
    """Write the report of a run again."""
    about = read_run(Path(folder))
    write_report(Path(folder), open_movie(stored_source(about), from_json(Config, about["config"]).movie))
    return Path(folder)


def noise(
    movie: str | Path | list | np.ndarray, config: MovieConfig = MovieConfig(), quiet: bool = False
) -> NoiseModel:
    """The noise model of a movie."""
    opened = open_movie(movie, config)
    with progress_bar("noise", len(opened), quiet) as bar:
        return estimate_noise(opened, bar)


def examine(job: Run) -> Recording:
    """Noise and anatomy, estimated or read back."""
    T, path = len(job.movie), job.folder / "noise.json"
    if not path.is_file():
        with progress_bar("noise", T, job.quiet) as bar:
            job.timed("noise", lambda: save_noise(estimate_noise(job.movie, bar), path))
    measured = load_noise(path)
    path = job.folder / "anatomy.zarr"
    if not path.exists():
        with progress_bar("anatomy", T, job.quiet) as bar:
            job.timed("anatomy", lambda: save_anatomy(estimate_anatomy(job.movie, measured, bar), path))
    anatomy: Anatomy = load_anatomy(path)
    return Recording(job.movie, measured, anatomy)


def _mapped(job: Run, recording: Recording, given: str) -> Recording:
    """The recording with the further images that a network wants, computed or read back."""
    path = job.folder / "anatomy_halves.zarr"
    if MAPS[given] == 0:
        return recording
    if not path.exists():
        with progress_bar("anatomy of both halves", len(job.movie), job.quiet) as bar:
            maps = job.timed("anatomy_halves", lambda: anatomy_maps(job.movie, recording.noise, bar))
        write_group(
            path, {"maps": (maps, ("half", "y", "x", "map"))}, {"maps": ["arcsinh(excess/noise)", "correlation"]}
        )
    return recording._replace(maps=read_group(path)[0]["maps"])


def _obtain_denoisers(job: Run, recording: Recording, init_from: Any, given: Any) -> list[Denoiser]:
    """The network, and the others where an ensemble is asked for; trained, read back, or copied from another run."""
    count = job.config.denoise.passes if job.config.denoise.uncertainty == "ensemble" else 1
    start = None if init_from is None else load_denoiser(Path(init_from))
    if given is None and not all((job.folder / name).is_dir() for name in _network_names(count)):
        recording = _mapped(job, recording, (start.config if start else job.config.network).anatomy)
    nets = []
    for number, name in enumerate(_network_names(count)):
        if not (job.folder / name).is_dir():
            if given is not None:
                source = Path(given).with_name(name) if number else Path(given)
                save_denoiser(load_denoiser(source), job.folder / name)
                if (source / flagging.FAMILIAR).is_file():
                    copy_result(source / flagging.FAMILIAR, job.folder / name / flagging.FAMILIAR)
            else:
                _train_one(job, recording, start, name, job.config.seed + number * SEEDS_APART)
        nets.append(load_denoiser(job.folder / name))
    return nets


def _network_names(count: int) -> list[str]:
    return ["denoiser", *(f"denoiser_{number}" for number in range(2, count + 1))]


def _train_one(job: Run, recording: Recording, start: Denoiser | None, name: str, seed: int) -> None:
    settings = job.config.network, job.config.train, seed
    checkpoints = job.folder / "training"
    net, record = job.timed(
        f"train {name}" if name != "denoiser" else "train",
        lambda: training.train(recording, *settings, checkpoints, start, job.quiet),
    )
    save_denoiser(net, job.folder / name, record._asdict())
    forget(job.folder, "training")


def infer(job: Run, recording: Recording, nets: list[Denoiser], write_movie: bool) -> None:
    """Recalibrate, then stream the movie through prior and fusion: pixels and regions' moments, then traces."""
    net, *others = nets
    recording = _mapped(job, recording, net.config.anatomy)
    spacing, kernel = net.config.lattice_spacing, recording.noise.kernel
    regions = None if job.rois is None else lay_out(extraction.parts(job), spacing, kernel)
    by = _recalibrate(job, recording, nets)
    ground = ground_of(recording) if job.config.flag.flags else None
    machine = inference.prepare(recording, net, job.config.denoise, regions, tuple(others), ground)
    widths = _spread(job, machine)
    job.timed("denoise", lambda: write_blocks(job, machine, by, widths, write_movie))
    if widths is not None:
        write_events(job.folder / "innovations.csv", load_events(job.folder))
    residuals = None
    if regions is not None:
        moments, added = load_moments(job.folder), load_added(job.folder)
        response = job.timed(
            "memory", lambda: extraction.respond(job, recording, machine, by, with_added(moments, added))
        )
        given = net.config.anatomy
        residuals = job.timed("traces", lambda: extraction.extract(job, recording, moments, added, response, given))
    if job.config.flag.flags:
        job.timed("flags", lambda: flagging.gather(job, recording, residuals))


def _recalibrate(job: Run, recording: Recording, nets: list[Denoiser]) -> Recalibration:
    path = job.folder / "calibration.json"
    if path.is_file():
        about = read_json(path)
        known = {name: about.get(f"factor_{name}") for name in Recalibration._fields}  # an older run has fewer
        return Recalibration(**{name: value for name, value in known.items() if value is not None})
    machine = inference.prepare(recording, nets[0], job.config.denoise, others=tuple(nets[1:]))
    starts = _calibration_starts(len(recording.movie), job.config)
    with progress_bar("calibrate", len(starts), job.quiet) as bar:
        moments = job.timed("calibrate", lambda: inference.measure_scales(machine, starts, bar))
    by, moments = posterior.fit_recalibration(moments), posterior.ScaleMoments(*(part.sum(0) for part in moments))
    n = moments.count
    write_json(path, {
        "scales": list(posterior.SCALES), **{f"factor_{name}": value for name, value in by._asdict().items()},
        "stated": ((moments.own + moments.shared) / n).tolist(),
        "predicted": ((by.pixel * moments.own + by.shared * moments.shared) / n).tolist(),
        "measured": ((moments.squared - moments.noise) / n).tolist(), "noise": (moments.noise / n).tolist(),
    })  # fmt: skip
    return by


def _spread(job: Run, machine: inference.Inference) -> Spread | None:
    """How far scores of places without events scatter, where events are asked for."""
    if not job.config.denoise.innovations:
        return None
    starts = _calibration_starts(len(job.movie), job.config)
    return job.timed("calibrate", lambda: inference.measure_spread(machine, starts))


def _calibration_starts(T: int, config: Config) -> np.ndarray:
    """Chunks within the validation blocks, which no training step ever had as a target; spread over the movie."""
    chunk = min(config.denoise.chunk, T)
    held_out = training.validation_frames(T, config.train.validation_fraction)
    first = np.flatnonzero(held_out & ~np.concatenate([[False], held_out[:-1]]))
    starts = np.concatenate([np.arange(f, f + max(int(held_out[f : f + 200].argmin()) or 1, 1), chunk) for f in first])
    starts = np.unique(np.clip(starts, 0, T - chunk))
    return starts[np.linspace(0, len(starts) - 1, min(len(starts), CALIBRATION_CHUNKS)).astype(int)]


def finish(job: Run, recording: Recording) -> None:
    """Flags, and the report last of all: its presence says that the run is complete."""
    if (job.folder / FOUND).is_file():
        foreign = read_run(job.folder)["how"]["denoiser"] is not None
        job.timed("flags", lambda: flagging.judge(job.folder, recording, job.rois, job.config, foreign))
    job.timed("report", lambda: write_report(job.folder, recording.movie))
    forget(job.folder, "moments")
