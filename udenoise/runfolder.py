"""The run folder: what it was made from, whether it may be gone on with, and what may be deleted in it."""

import os
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from udenoise import traces as tracing
from udenoise import training
from udenoise.config import Config, NetworkConfig, to_json
from udenoise.denoiser import load_denoiser
from udenoise.errors import InputError
from udenoise.io import Movie, Rois, load_rois, open_movie
from udenoise.io.store import read_json, write_json

WRITTEN = (
    "report.json", "report.html", "flags.csv", "flags.json", "flags.zarr", "found.npz", "innovations.csv", "traces.csv",
    "traces.zarr", "rois.npz", "posterior.zarr", "moments", "memory.json",
    "calibration.json", "denoiser", "training", "anatomy.zarr", "anatomy_halves.zarr", "noise.json",
    "timing.json", "config.json",
)  # fmt: skip
"""All that a run leaves in its folder, last first, but for the further networks of an ensemble (denoiser_2, …); --overwrite
deletes this in this order, and nothing else."""


@dataclass
class Run:
    """A run folder with what has been opened or computed so far."""

    folder: Path
    config: Config
    movie: Movie
    rois: Rois | None
    quiet: bool
    timing: dict[str, float]

    def timed(self, stage: str, work: Callable[[], Any]) -> Any:
        """Do the work of a stage and note how long it took, over all sittings."""
        began = time.monotonic()
        result = work()
        self.timing[stage] = self.timing.get(stage, 0.0) + time.monotonic() - began
        write_json(self.folder / "timing.json", self.timing)
        return result


def open_run(
    movie: Any, folder: Path, rois: Any, config: Config, overwrite: bool, how: dict[str, Any], quiet: bool
) -> Run:
    """Check everything that can be checked before work begins, and claim the folder."""
    opened = open_movie(movie, config.movie)
    job = Run(folder, config, opened, None if rois is None else resolve_rois(rois, opened), quiet, {})
    check(job)
    how = {name: None if value is None else str(value) for name, value in how.items()}
    settings = run_settings(job, source_name(movie), None if rois is None else source_name(rois), how)
    if overwrite or not (folder / "denoiser").exists():
        for path in filter(None, how.values()):
            _check_network(config.network, load_denoiser(Path(path)).config, path)
            if overwrite and Path(path).resolve().is_relative_to(folder.resolve()):
                raise InputError(f"--overwrite would delete {path}; give another folder: -o OTHER")
    if not overwrite and _is_run(folder):
        if (folder / "noise.json").is_file():  # before that there is nothing that other settings would contradict
            _same_or_raise(read_json(folder / "config.json"), settings, folder)
        if (folder / "timing.json").is_file():
            job.timing.update(read_json(folder / "timing.json"))
    else:
        claim(folder, overwrite)
    write_json(folder / "config.json", settings)
    return job


def _check_network(asked: NetworkConfig, trained: NetworkConfig, path: str) -> None:
    """A network that exists has its own settings: others than these are refused, not ignored."""
    for name, usual in asdict(NetworkConfig()).items():
        wanted, has = getattr(asked, name), getattr(trained, name)
        if wanted not in (usual, has):
            flag = name.replace("_", "-")
            raise InputError(
                f"{flag} is {wanted}, and {path} was trained with {has}; leave out --{flag}, or train anew"
            )


def check(job: Run) -> None:
    """Raise InputError for settings that cannot work, before anything is written."""
    if job.rois is not None:
        tracing.check_baseline(job.config.trace, job.movie.frame_rate_hz)
    if min(job.movie.shape[1:]) < training.SCALES[-1]:
        raise InputError(f"frames are {job.movie.shape[1]} x {job.movie.shape[2]} pixels; at least 16 x 16 are needed: "
                         "give a larger field of view")  # fmt: skip
    if not 0 < job.config.flag.fdr < 1:
        raise InputError(f"fdr is {job.config.flag.fdr}; give a share of false discoveries between 0 and 1: --fdr 0.05")
    if not all(0 < level < 1 for level in job.config.trace.levels):
        raise InputError(f"levels are {job.config.trace.levels}; give fractions between 0 and 1: --levels 0.5 0.95")
    if job.config.trace.draws < 50:
        raise InputError(f"draws is {job.config.trace.draws}; corridors need at least 50: --draws 400")
    if job.config.denoise.chunk < 1 or job.config.train.steps < 1 or job.config.train.crop < 16:
        raise InputError("chunk and steps must be at least 1 and crop at least 16; leave them out to use the defaults")
    if job.config.network.lattice_spacing != 16:
        raise InputError(f"lattice-spacing is {job.config.network.lattice_spacing}; only 16 is supported")
    if job.config.denoise.uncertainty == "dropout" and not job.config.network.dropout_rate:
        raise InputError("dropout is needed in training as well: --dropout-rate 0.1, or --uncertainty lowrank")
    if job.config.denoise.uncertainty != "lowrank" and job.config.denoise.passes < 2:
        raise InputError(f"passes is {job.config.denoise.passes}; a spread needs at least 2: --passes 4")


def claim(folder: Path, overwrite: bool) -> None:
    """Make a run folder without results; never delete what is not a run, nor what a run did not write."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not _is_run(folder):
            raise InputError(f"{folder} exists and is not a udenoise run; give another folder: -o OTHER")
        if not overwrite:
            raise InputError(f"{folder} holds a run already; pass --overwrite to start anew, or another -o")
        networks = [path.name for path in folder.glob("denoiser_*")]
        forget(folder, *networks, *WRITTEN, *(f"{name}.part" for name in WRITTEN))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror}); give a folder that can be written: -o OTHER"
        ) from error


def _is_run(folder: Path) -> bool:
    path = folder / "config.json"
    about = read_json(path) if path.is_file() else None
    versions = about.get("versions") if isinstance(about, dict) else None
    return isinstance(versions, dict) and "udenoise" in versions


def _same_or_raise(before: dict, now: dict, folder: Path) -> None:
    needs_rois = any((folder / name).exists() for name in ("moments", "posterior.zarr"))  # `train` asks for none
    for part in ("movie", "config", "how", *(["rois"] if needs_rois else [])):
        was, wanted = before.get(part), _as_json(now[part])
        if was != wanted:
            raise InputError(f"{folder} was made with another {_first_difference(part, was, wanted)}; "
                             "pass --overwrite to start anew, or another -o")  # fmt: skip


def _first_difference(name: str, before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in now:
            if before.get(key) != now[key]:
                return _first_difference(key, before.get(key), now[key])
    return f"{name} ({before}, now {now})"


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value


def run_settings(job: Run, source: str, rois: str | None, how: dict[str, Any]) -> dict[str, Any]:
    """The content of config.json."""
    m = job.movie
    about = {"source": source, "shape": list(m.shape), "dtype": str(m.dtype), "frame_rate_hz": m.frame_rate_hz}
    names = ("udenoise", "jax", "flax", "optax", "numpy", "zarr", "tifffile")
    return {
        "config": _as_json(to_json(job.config)), "movie": about, "rois": rois, "how": how, "seed": job.config.seed,
        "versions": {name: version(name) for name in names}, "device": jax.devices()[0].device_kind,
    }  # fmt: skip


def source_name(source: Any) -> str:
    """What a run is known to have been made from: absolute paths, or a checksum of what came in memory."""
    if isinstance(source, np.ndarray):
        return f"array in memory, checksum {zlib.crc32(np.ascontiguousarray(source)):08x}"
    if isinstance(source, Rois):
        return f"ROIs in memory, checksum {zlib.crc32(source.index.tobytes() + source.weight.tobytes()):08x}"
    return ";".join(os.path.abspath(part) for part in (source if isinstance(source, list) else [source]))  # noqa: PTH100


def resolve_rois(rois: Any, movie: Movie) -> Rois:
    """ROIs from a file or as they are."""
    return rois if isinstance(rois, Rois) else load_rois(rois, movie.shape[1:])


def read_run(folder: Path) -> dict[str, Any]:
    """The content of a run's config.json; InputError where there is none."""
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder} is not a udenoise run (no config.json); give the folder that `udenoise run -o` made"
        )
    return read_json(folder / "config.json")


def stored_source(about: dict[str, Any]) -> Any:
    """The movie that a run was made from, as `open_movie` takes it."""
    source = about["movie"]["source"]
    return source.split(";") if ";" in source else source


def copy_result(source: Path, target: Path) -> None:
    """Copy a file or folder of one run into another; InputError where it is missing."""
    if not source.exists():
        raise InputError(f"{source} is missing; finish the run first: udenoise run")
    (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)


def forget(folder: Path, *names: str) -> None:
    """Delete results by name."""
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
