"""Traces and ROIs as they stand in the run folder: zarr for programs, CSV for spreadsheets."""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Float

from udenoise.errors import InputError
from udenoise.innovation import Events
from udenoise.io import Rois
from udenoise.io.store import write_group
from udenoise.traces import Bands, Traces

ROI_TIME = ("roi", "time")
BAND = ("level", "roi", "time")
CSV_LEVEL = 0.95


def save_traces(path: Path, traces: Traces, names: tuple[str, ...], frame_rate_hz: float | None) -> None:
    """Write `traces.zarr`: F in counts before neuropil subtraction, `neuropil/` and `dff/` likewise, `nu`, attributes."""
    arrays = _members(traces.roi, "") | _members(traces.dff, "dff/")
    arrays |= {"dff/f0": (traces.f0.astype(np.float32), ROI_TIME), "nu": (traces.nu, ("roi",))}
    if traces.neuropil is not None:
        arrays |= _members(traces.neuropil, "neuropil/")
    if traces.draws is not None:
        arrays["draws"] = (traces.draws, ("draw", "roi", "time"))
    attributes = {
        "levels": list(traces.levels), "roi_names": list(names), "frame_rate_hz": frame_rate_hz,
        "units": {"mean": "counts", "dff": "fraction", "nu": "%/sqrt(Hz)"},
        "error_memory": traces.memory._asdict(),
        "simultaneous": "half-width of the band that holds over the whole trace, in multiples of sd",
    }  # fmt: skip
    write_group(path, arrays, attributes)


def _members(bands: Bands, prefix: str) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    dims = Bands(ROI_TIME, ROI_TIME, ROI_TIME, BAND, BAND, ("level", "roi"))
    return {prefix + name: (getattr(bands, name), getattr(dims, name)) for name in Bands._fields}


def write_csv(path: Path, traces: Traces, names: tuple[str, ...], frame_rate_hz: float | None) -> None:
    """One row a frame; for each ROI raw, mean and the corridor nearest to 95 %, in counts and as ΔF/F."""
    level = int(np.argmin(np.abs(np.array(traces.levels) - CSV_LEVEL)))
    percent = f"{100 * traces.levels[level]:g}"
    titles = ["frame"] + (["time_s"] if frame_rate_hz else [])
    columns: list[Float[np.ndarray, T]] = []
    for n, name in enumerate(names):
        for bands, prefix in ((traces.roi, ""), (traces.dff, "dff_")):
            columns += [bands.raw[n], bands.mean[n], bands.lower[level, n], bands.upper[level, n]]
            parts = "raw", "mean", f"lower{percent}", f"upper{percent}"
            titles += [f"{_cell(name)}_{prefix}{part}" for part in parts]
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(titles)
        for t, values in enumerate(np.transpose(columns)):
            clock = [f"{t / frame_rate_hz:.6g}"] if frame_rate_hz else []
            writer.writerow([t, *clock, *(f"{value:.6g}" for value in values)])
    part.replace(path)


def write_events(path: Path, events: Events) -> None:
    """One row an event: first frame, centre (pixels), how long (frames), size (pixels), amplitude with its sd (counts), z."""
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "y", "x", "sigma_px", "frames", "amplitude", "amplitude_sd", "z"])
        writer.writerows([f"{value:g}" for value in row] for row in zip(*events, strict=True))
    part.replace(path)


def _cell(name: str) -> str:
    """A name that a spreadsheet does not take for a formula."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name


def save_rois_npz(path: Path, rois: Rois) -> None:
    """The ROIs as they were used, without pickles."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, names=np.array(rois.names), index=rois.index, weight=rois.weight, shape=rois.shape)
    part.replace(path)


def load_rois_npz(path: Path) -> Rois:
    """Read what `save_rois_npz` wrote. Raises InputError when it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            shape = tuple(int(side) for side in stored["shape"])
            return Rois(tuple(map(str, stored["names"])), stored["index"], stored["weight"], shape)
    except Exception as error:  # whatever a damaged archive raises
        raise InputError(f"{path} cannot be read ({error}); run again with --overwrite") from error
