"""What stands in a RUN folder, read for the report; what is absent or unreadable is named, never guessed."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from udenoise.arrays import Json

ANATOMY = ("mean", "std", "excess", "correlation", "maximum")
FLAG_WORDS = ("kind", "roi", "reason")
FLAG_COUNTS = ("frame_start", "frame_stop", "sign", "label")
FLAG_NUMBERS = ("y", "x", "area", "size", "score", "p", "q", "start_s", "stop_s", "dff", "sigma_px", "frames")


class Outlined(NamedTuple):
    """Regions of interest as they were used."""

    names: tuple[str, ...]
    """N."""
    pixels: np.ndarray
    """N P flat pixel index y·X + x."""
    weight: np.ndarray
    """N P, padded with 0."""
    shape: tuple[int, int]
    """Y X."""


class Flags(NamedTuple):
    """Where not to believe the denoised movie, as the run found it."""

    events: tuple[Json, ...]
    """Rows of flags.csv; None where a cell is empty."""
    about: Json
    """flags.json."""
    labels: Any
    """T Y X, lazy zarr array: 0, or the `label` of an event; None where no event has one."""


class Sources(NamedTuple):
    """Everything the report is made from; None where the run left nothing."""

    config: Json
    noise: Json | None
    training: Json | None
    calibration: Json | None
    timing: Json | None
    anatomy: dict[str, np.ndarray]
    """Y X images by name."""
    mean: Any
    """T Y X counts, lazy zarr array."""
    sd: Any
    """T Y X counts, lazy zarr array."""
    traces: Any
    """zarr group with raw, mean, sd (N T), lower, upper (L N T)."""
    rois: Outlined | None
    flags: Flags | None
    missing: tuple[str, ...]
    """One sentence each on what the report lacks and why."""


def read_sources(run: Path) -> Sources:
    """Read RUN's files; arrays with a time axis stay on disk."""
    missing: list[str] = []

    def attempt(name: str, read: Any) -> Any:
        try:
            return read(run / name)
        except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
            why = f"unreadable ({_one_line(error)})" if (run / name).exists() else "absent"
            missing.append(f"{name} is {why}.")
            return None

    stated = attempt("config.json", _json) or {}
    posterior = attempt("posterior.zarr", _group)
    images = [attempt(f"posterior.zarr/{name}/0", _array) if posterior is not None else None for name in ("mean", "sd")]
    events = attempt("flags.csv", _events)
    with_rois = bool(stated.get("rois")) or (run / "traces.zarr").exists() or (run / "rois.npz").exists()
    return Sources(
        config=stated,
        noise=attempt("noise.json", _json),
        training=attempt("denoiser/training.json", _json),
        calibration=attempt("calibration.json", _json),
        timing=attempt("timing.json", _json),
        anatomy=attempt("anatomy.zarr", _images) or {},
        mean=images[0],
        sd=images[1],
        traces=attempt("traces.zarr", _traces) if with_rois else None,
        rois=attempt("rois.npz", _rois) if with_rois else None,
        flags=None if events is None else _flags(events, attempt),
        missing=tuple(missing),
    )


def roi_names(sources: Sources) -> tuple[str, ...]:
    """Names of the traces' rows: the ROI file's, or else `ROI 0`, `ROI 1`, ..."""
    if sources.traces is None:
        return sources.rois.names if sources.rois else ()
    count = sources.traces["mean"].shape[0]
    names = sources.rois.names if sources.rois else ()
    return names if len(names) == count else tuple(f"ROI {i}" for i in range(count))


def _json(path: Path) -> Json:
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    return data


def _group(path: Path) -> Any:
    import zarr

    return zarr.open_group(path, mode="r")


def _array(path: Path) -> Any:
    import zarr

    array = zarr.open_array(path, mode="r")
    if array.ndim != 3:
        raise ValueError(f"{array.ndim}-D, needed T Y X")
    return array


def _images(path: Path) -> dict[str, np.ndarray]:
    group = _group(path)
    return {name: np.asarray(group[name][...], np.float32) for name in ANATOMY if name in group}


def _traces(path: Path) -> Any:
    group = _group(path)
    for name in ("raw", "mean", "sd", "lower", "upper"):
        if name not in group:
            raise KeyError(f"{name} is absent")
    if len(group.attrs.get("levels", ())) != group["lower"].shape[0]:
        raise ValueError("attribute levels does not fit lower")
    return group


def _rois(path: Path) -> Outlined:
    with np.load(path, allow_pickle=False) as data:
        names = tuple(str(name) for name in data["names"])
        y, x = (int(n) for n in data["shape"][-2:])
        return Outlined(names, data["index"], data["weight"], (y, x))


def _flags(events: tuple[Json, ...], attempt: Any) -> Flags:
    labelled = any(event["label"] for event in events)
    labels = attempt("flags.zarr/labels/flags/0", _array) if labelled else None
    return Flags(events, attempt("flags.json", _json) or {}, labels)


def _events(path: Path) -> tuple[Json, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        absent = {"kind", "frame_start", "frame_stop"} - set(rows.fieldnames or ())
        if absent:
            raise ValueError(f"no column {', '.join(sorted(absent))}")
        return tuple(_event(row) for row in rows)


def _event(row: dict[str, str | None]) -> Json:
    cells = {name: (row.get(name) or "").strip() for name in (*FLAG_WORDS, *FLAG_COUNTS, *FLAG_NUMBERS)}
    values = {name: float(cells[name] or "nan") for name in (*FLAG_COUNTS, *FLAG_NUMBERS)}
    known = {name: value if math.isfinite(value) else None for name, value in values.items()}
    whole = {name: round(known[name] or 0) for name in FLAG_COUNTS}
    words = {
        name: re.sub(r"^'(?=[=+\-@]|$)", "", cells[name]) for name in FLAG_WORDS
    }  # it stands there for spreadsheets
    return words | known | whole


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
