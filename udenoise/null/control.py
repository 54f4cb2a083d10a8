"""The null control of a run: make the movie in which nothing happens, denoise it likewise, and say what appears.

Every stage is kept in the folder (movie.tif, run/, suite2p/, null.json), so that the same command goes on after an interruption.
"""

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from udenoise.anatomy import load_anatomy
from udenoise.config import Config, MovieConfig, from_json
from udenoise.errors import InputError
from udenoise.flagging import FAMILIAR
from udenoise.io import Rois
from udenoise.io.movie import MINIMUM_FRAMES
from udenoise.io.store import read_json, write_json
from udenoise.noise import load_noise
from udenoise.null.cells import MISSING, Task, count_cells, python_with_suite2p
from udenoise.null.findings import (
    LEVEL,
    chance_sentence,
    flag_findings,
    pixel_coverage,
    still_traces,
    trace_findings,
)
from udenoise.null.movie import FARTHEST_SD, Scene, counts_type, write_null_movie
from udenoise.pipeline import denoise, report
from udenoise.results import load_rois_npz
from udenoise.runfolder import claim, forget, read_run

USUAL_FRAMES = 3000
MADE_FROM = "control.json"
WRITTEN = ("null.json", "suite2p", "movie.tif", MADE_FROM)
"""All that a control leaves in its folder besides run/, last first; --overwrite deletes this and what the run wrote."""


class _Source(NamedTuple):
    """The run that is controlled."""

    folder: Path
    config: Config
    scene: Scene
    rois: Rois | None


def null(
    run: str | Path,
    output: str | Path | None = None,
    frames: int | None = None,
    seed: int = 0,
    suite2p: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """What a finished run's denoiser shows where nothing happens: denoise a movie of the run's mean image and noise alone.

    `frames`: as many as the recording has, at most 3000, where none are given. `suite2p`: a Python that has Suite2p, to look for
    cells; this one where it has it. Leaves null.json, movie.tif and run/ in `output` (RUN-null beside the run), and what was found
    in the run's own report. The same call goes on after an interruption. Raises InputError for a run that is not finished.
    """
    source = _source(Path(run), frames, seed)
    python = python_with_suite2p(suite2p)
    beside = source.folder.resolve()
    folder = beside.with_name(f"{beside.name}-null") if output is None else Path(output)
    _open(folder, source, overwrite)
    if not (folder / "movie.tif").is_file():
        write_null_movie(source.scene, folder / "movie.tif", quiet)
    if not (folder / "run" / "report.json").is_file():
        network, inner = source.folder / "denoiser", folder / "run"
        denoise(folder / "movie.tif", inner, network, source.config, source.rois, quiet=quiet)
    found = _findings(folder, source, python, quiet)
    write_json(folder / "null.json", found)
    told = _tell(source.folder, found)
    if not quiet:
        _print(found, told, folder)
    return folder


def _source(folder: Path, frames: int | None, seed: int) -> _Source:
    """Everything of the run that the control needs. Raises InputError where some of it is missing."""
    about = read_run(folder)
    if not (folder / "report.json").is_file():
        raise InputError(f"{folder} is not finished (no report.json); finish it first: udenoise run, the same command")
    config = from_json(Config, about["config"])
    for name in _networks(config):
        if not (folder / name).is_dir():
            raise InputError(f"{folder / name} is missing; a trained network is needed: udenoise run --overwrite")
    count = min(about["movie"]["shape"][0], USUAL_FRAMES) if frames is None else frames
    if count < MINIMUM_FRAMES:
        raise InputError(f"frames is {count}; at least {MINIMUM_FRAMES} are needed: --frames {USUAL_FRAMES}")
    if seed < 0:
        raise InputError(f"seed is {seed}; give 0 or more: --seed 0")
    mean, noise = load_anatomy(folder / "anatomy.zarr").mean, load_noise(folder / "noise.json")
    rate, dtype = about["movie"]["frame_rate_hz"], counts_type(mean, noise, np.dtype(about["movie"]["dtype"]))
    config = replace(config, movie=MovieConfig(frame_rate_hz=rate), flag=replace(config.flag, flags=True))
    rois = load_rois_npz(folder / "rois.npz") if (folder / "rois.npz").is_file() else None
    return _Source(folder, config, Scene(mean, noise, count, dtype, rate, seed), rois)


def _networks(config: Config) -> list[str]:
    count = config.denoise.passes if config.denoise.uncertainty == "ensemble" else 1
    return ["denoiser", *(f"denoiser_{number}" for number in range(2, count + 1))]


def _open(folder: Path, source: _Source, overwrite: bool) -> None:
    """Claim the folder, or see that what is in it was made from the same."""
    made_from = {
        "run": str(source.folder.resolve()), "frames": source.scene.frames, "seed": source.scene.seed,
        "state of the run": _state(source),
    }  # fmt: skip
    path = folder / MADE_FROM
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not path.is_file():
            raise InputError(f"{folder} exists and is no null control; give another folder: -o OTHER")
        before = read_json(path)
        changed = [name for name, value in made_from.items() if before.get(name) != value]
        if changed and not overwrite:
            was, now = before.get(changed[0]), made_from[changed[0]]
            raise InputError(f"{folder} was made from another {changed[0]} ({was}, now {now}); pass --overwrite to start "
                             "anew, or another -o")  # fmt: skip
    if overwrite and folder.is_dir():
        if (folder / "run").exists():
            claim(folder / "run", overwrite=True)
        forget(folder, *WRITTEN)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror}); give a folder that can be written: -o OTHER"
        ) from error
    write_json(path, made_from)


def _state(source: _Source) -> str:
    """A checksum of all that the control takes from the run."""
    sum_ = zlib.crc32(source.scene.mean.tobytes(), zlib.crc32(repr(source.config).encode()))
    networks = [source.folder / name for name in _networks(source.config)]
    paths = [path for network in networks for path in sorted(network.rglob("*")) if path.name != FAMILIAR]
    for path in [source.folder / "noise.json", source.folder / "rois.npz", *paths]:
        sum_ = zlib.crc32(path.read_bytes(), sum_) if path.is_file() else sum_
    return f"{sum_:08x}"


def _findings(folder: Path, source: _Source, python: str | None, quiet: bool) -> dict[str, Any]:
    """The content of null.json."""
    scene, inner = source.scene, folder / "run"
    flags = flag_findings(inner)
    traces = None if source.rois is None else trace_findings(inner, still_traces(source.rois, scene.mean))
    pixels = pixel_coverage(inner, scene.mean, quiet)
    sd = np.sqrt(scene.noise.pixel_variance(scene.mean))
    highest = float((np.abs(scene.mean) + FARTHEST_SD * sd).max())
    cells = {"rows": None, "note": MISSING}
    if python is not None:
        tau = source.config.network.indicator_time_constant_s
        cells = count_cells(folder, Task(python, scene.frame_rate_hz, tau, highest), quiet)
    found = {
        **json.loads((folder / MADE_FROM).read_text(encoding="utf-8")), "shape": [scene.frames, *scene.mean.shape],
        "dtype": str(scene.dtype), "frame_rate_hz": scene.frame_rate_hz, "flags": flags,
        "chance": chance_sentence(flags), "traces": traces, "pixels": {"level": LEVEL, "coverage": pixels}, "cells": cells,
    }  # fmt: skip
    return found | {"sentence": _sentence(found)}


def _sentence(found: dict[str, Any]) -> str:
    """What the run's own report says of its null control."""
    flags, traces, rows = found["flags"], found["traces"], found["cells"]["rows"]
    n, kinds = flags["events"], ", ".join(f"{count:,} {kind}" for kind, count in flags["counts"].items() if count)
    what = f"{n:,} {'event is' if n == 1 else 'events are'} flagged ({kinds})" if n else "nothing is flagged"
    parts = [
        f"In a movie of {found['frames']:,} frames with this recording's mean image and noise and no activity, denoised in the "
        f"same way, {what}; {100 * flags['false_area']['all']:.2g} % of all pixels of all frames lie in what is contradicted or "
        f"unconstrained. {found['chance']}"
    ]
    if traces is not None:
        parts.append(
            f"Of the ROIs' denoised traces {traces['events']:,} events stand {traces['z']:g} times above the trace's own spread "
            f"({traces['raw_events']:,} of the raw ones), {traces['certain_events']:,} of them outside the corridor. The "
            f"{100 * traces['level']:g} % corridor of fluorescence holds the truth in {100 * traces['held']:.1f} % of all frames"
            + (f", that of ΔF/F in {100 * traces['dff_held']:.1f} %." if traces["dff"] else ".")
        )
    parts.append(
        f"The {100 * LEVEL:g} % corridor of single pixels holds the truth in {100 * found['pixels']['coverage']:.1f} %."
    )
    if rows:
        both = "; ".join(
            f"{_number(r['denoised'])} and {_number(r['raw'])} at threshold {r['threshold']:g}" for r in rows
        )
        parts.append(
            f"Suite2p finds ROIs in the denoised and in the raw null movie: {both}. {_advice(found['cells'])}".strip()
        )
    return " ".join(parts)


def _number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _advice(cells: dict[str, Any]) -> str:
    """At which threshold cells should be sought in the denoised recording."""
    if cells["rows"][-1]["only_denoised"] is None:
        return ""
    if cells["clean_from"] is None:
        return (
            "At none of these thresholds it is free of ROIs that the raw one has not: find cells in the raw recording."
        )
    return f"Cells of the denoised recording should be sought with threshold_scaling {cells['clean_from']:g} or more."


def _tell(run: Path, found: dict[str, Any]) -> str:
    """Put the finding into the run's flags and report; a line on how that went."""
    if not (run / "flags.json").is_file():
        return f"{run} has no flags, so its report is left as it is: udenoise flags {run}"
    entry = {"events": found["flags"]["events"], "sentence": found["sentence"]}
    write_json(run / "flags.json", read_json(run / "flags.json") | {"null": entry})
    try:
        report(run)
    except InputError as error:
        return f"The report of the run could not be written again: {error}"
    return f"Told in {run / 'report.html'}"


def _print(found: dict[str, Any], told: str, folder: Path) -> None:
    console = Console(width=max(Console().width, 110))
    table = Table(title=f"{found['frames']:,} frames in which nothing happens ({found['dtype']})", title_justify="left")
    for column in ("", "raw", "denoised"):
        table.add_column(column, justify="right" if column else "left")
    for row in _rows(found):
        table.add_row(*row)
    console.print(table)
    cells = found["cells"]
    advice = _advice(cells) if cells["rows"] else ""
    for line in filter(None, (found["chance"], advice, cells["note"], f"Numbers: {folder / 'null.json'}", told)):
        console.print(line, soft_wrap=True, highlight=False)


def _rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    flags, traces = found["flags"], found["traces"]
    ways = ", ".join(f"{flags[name]} {name}" for name in ("swallowed", "invented", "displaced"))
    rows = [(f"contradicted ({ways})", "", str(flags["counts"]["contradicted"]))]
    rows += [(kind, "", str(count)) for kind, count in flags["counts"].items() if kind != "contradicted"]
    area = flags["false_area"]["all"]
    rows.append(("pixels of all frames in contradicted or unconstrained places", "", f"{100 * area:.3g} %"))
    if traces is not None:
        z, level = f"{traces['z']:g} times", f"{100 * traces['level']:g} % corridor"
        rows += [
            (f"events of ROIs, {z} the trace's own spread", str(traces["raw_events"]), str(traces["events"])),
            (f"of these outside the {level}", "", str(traces["certain_events"])),
            (f"{level} of ROIs holds the truth", "", f"{100 * traces['held']:.1f} %"),
            *_changes(traces["dff"], level, traces["dff_held"]),
        ]
    held = f"{100 * found['pixels']['coverage']:.1f} %"
    rows.append((f"{100 * LEVEL:g} % corridor of pixels holds the truth", "", held))
    for row in found["cells"]["rows"] or ():
        both = _number(row["raw"]), f"{_number(row['denoised'])} ({_number(row['only_denoised'])} new)"
        rows.append((f"Suite2p's ROIs, threshold {row['threshold']:g}", *both))
    return rows


def _changes(dff: dict[str, Any] | None, level: str, held: float | None) -> list[tuple[str, str, str]]:
    if dff is None or held is None:
        return []
    most = dff["change"][list(dff["quantiles"]).index(0.99)]
    return [
        (f"{level} of their ΔF/F holds 0", "", f"{100 * held:.1f} %"),
        ("ΔF/F of ROIs, mean", "", f"{dff['mean']:.3g}"),
        ("ΔF/F of ROIs, root mean square", f"{dff['raw_rms']:.3g}", f"{dff['rms']:.3g}"),
        ("stated standard deviation", "", f"{dff['stated_sd']:.3g}"),
        ("|ΔF/F| of ROIs, 99 % of frames below", "", f"{most:.3g}"),
    ]
