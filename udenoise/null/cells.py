"""How many cells Suite2p finds in a null movie, raw and denoised, where it is at hand."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from udenoise.errors import InputError
from udenoise.io import open_movie
from udenoise.io.store import open_movie_store, read_json, write_json
from udenoise.io.tiff_writer import tiff_file
from udenoise.progress import progress_bar
from udenoise.runfolder import forget

THRESHOLDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Suite2p's threshold_scaling: its usual value, and higher ones until the denoised movie has no ROI that the raw one has not."""
FRAMES_AT_ONCE = 64
TOP = 30000.0
"""Largest count of a movie as Suite2p reads it, 16 bits with a sign."""
ALIKE = 0.5
"""Share of either one's pixels that two ROIs have in common if they are the same."""
USUAL_RATE_HZ = 30.0
"""Where the recording has none."""
MISSING = "Suite2p is not here, so cells were not looked for: pip install suite2p, or give its Python: --suite2p PYTHON"


class Task(NamedTuple):
    """What Suite2p is asked."""

    python: str
    frame_rate_hz: float | None
    time_constant_s: float
    highest: float
    """About the largest count of the movie."""


def python_with_suite2p(given: str | Path | None) -> str | None:
    """The interpreter that has Suite2p; None where none was given and this one has not. InputError if the given one has not."""
    if given is None:
        return sys.executable if importlib.util.find_spec("suite2p") else None
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('suite2p') is None)"
    try:
        found = subprocess.run([str(given), "-c", look], capture_output=True).returncode == 0
    except OSError:
        found = False
    if not found:
        raise InputError(f"{given} is no Python with Suite2p; give that of an environment with it: --suite2p PYTHON")
    return str(given)


def count_cells(folder: Path, task: Task, quiet: bool = False) -> dict[str, Any]:
    """ROIs in the raw null movie and in the denoised one, threshold by threshold until the denoised one has none of its own; what
    was found before is read back. `clean_from` is that threshold, None where there is none.

    A failure of Suite2p is told in the result; where it fails, the number is None.
    """
    rows, notes = [], []
    with progress_bar("cells", len(THRESHOLDS), quiet) as bar, _movies(folder, task) as places:
        for number, threshold in enumerate(THRESHOLDS):
            both = [_found(place, threshold) for place in places]
            notes += [one["failed"] for one in both if one["failed"]]
            rows.append(_row(threshold, *(one["rois"] for one in both)))
            bar(number + 1)
            if not rows[-1]["only_denoised"]:  # none, or not known
                break
        bar(len(THRESHOLDS))
    rate = task.frame_rate_hz or USUAL_RATE_HZ
    clean = threshold if rows[-1]["only_denoised"] == 0 else None
    return {
        "frame_rate_hz": rate,
        "tau_s": task.time_constant_s,
        "rows": rows,
        "clean_from": clean,
        "note": " ".join(notes[:1]),
    }


class _Place(NamedTuple):
    """Where Suite2p works on one of the movies of a control."""

    name: str
    folder: Path
    task: Task

    @property
    def path(self) -> Path:
        """Deleted in the end; the results lie beside it."""
        return self.folder / "suite2p" / self.name

    def ready(self) -> Path:
        """Where the movie lies."""
        if not (self.path / "movie.tif").is_file():
            self.path.mkdir(parents=True, exist_ok=True)
            _write_counts(self.folder, self.name, self.task, self.path / "movie.tif")
        return self.path


@contextmanager
def _movies(folder: Path, task: Task) -> Iterator[list[_Place]]:
    """Both movies, written when Suite2p first asks for one; what it leaves on the disk is deleted."""
    places = [_Place(name, folder, task) for name in ("raw", "denoised")]
    try:
        yield places
    finally:
        for place in places:
            forget(place.path.parent, place.name)


def _found(place: _Place, threshold: float) -> dict[str, Any]:
    """ROIs at a threshold, or why there are none."""
    path = place.path.with_name(f"{place.name}-{threshold:g}.json")
    if not path.is_file():
        try:
            found = {"rois": _suite2p(place.ready(), threshold, place.task), "failed": ""}
        except RuntimeError as error:
            found = {
                "rois": None,
                "failed": f"Suite2p failed on the {place.name} null movie at threshold {threshold:g}: {error}",
            }
        write_json(path, found)
    return read_json(path)


def _row(threshold: float, raw: list[dict] | None, denoised: list[dict] | None) -> dict[str, Any]:
    """Where Suite2p failed on the raw movie, every ROI of the denoised one is taken for its own."""
    return {
        "threshold": threshold, "raw": None if raw is None else len(raw), "denoised": None if denoised is None else len(denoised),
        "only_denoised": None if denoised is None else only_in(denoised, raw or []),
        "raw_cells": None if raw is None else sum(roi["cell"] for roi in raw),
        "denoised_cells": None if denoised is None else sum(roi["cell"] for roi in denoised),
    }  # fmt: skip


def only_in(rois: list[dict], others: list[dict]) -> int:
    """How many ROIs have no other one in common by half of either's pixels."""
    sets, known = ([set(roi["pixels"]) for roi in part] for part in (rois, others))
    return sum(not any(len(one & two) >= ALIKE * min(len(one), len(two)) for two in known) for one in sets)


def _write_counts(folder: Path, name: str, task: Task, path: Path) -> None:
    """The movie as Suite2p reads it; both movies in the same units."""
    read, shape = _reader(folder, name)
    scale = 2.0 ** np.floor(np.log2(TOP / task.highest))
    with tiff_file(path, shape, np.int16, task.frame_rate_hz) as write:
        for start in range(0, shape[0], FRAMES_AT_ONCE):
            frames = read(start, min(start + FRAMES_AT_ONCE, shape[0])).astype(np.float32)
            write(start, np.clip(np.rint(scale * frames), -(2**15), 2**15 - 1).astype(np.int16))


def _reader(folder: Path, name: str) -> tuple[Callable[[int, int], np.ndarray], tuple[int, int, int]]:
    if name == "raw":
        movie = open_movie(folder / "movie.tif")
        return movie.read, movie.shape
    store = open_movie_store(folder / "run" / "posterior.zarr")
    return lambda start, stop: store.read("mean", start, stop), store.shape


def _suite2p(place: Path, threshold: float, task: Task) -> list[dict]:
    return run_suite2p(task.python, place, threshold, task.frame_rate_hz or USUAL_RATE_HZ, task.time_constant_s)


def run_suite2p(python: str, place: Path, threshold: float, rate: float, time_constant_s: float) -> list[dict]:
    """ROIs that Suite2p finds in `place`/movie.tif (`suite2p_program`), by a Python that has it. RuntimeError where it fails."""
    numbers = (f"{number:g}" for number in (threshold, rate, time_constant_s))
    program = Path(__file__).with_name("suite2p_program.py").absolute()
    done = subprocess.run([python, str(program), str(place.absolute()), *numbers], capture_output=True, text=True)
    if done.returncode == 0:
        return read_json(place / "rois.json")
    if "no ROIs" in done.stderr + done.stdout:
        return []
    raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1][:200])
