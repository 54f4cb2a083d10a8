"""Traces and ROIs as they stand in the run folder: zarr for programs, CSV for spreadsheets."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from udenoise.config import Config, TraceConfig, from_json
from udenoise.draws import Held, TracePosterior, correlation, draw_region, side_by_side
from udenoise.errors import InputError
from udenoise.files import text_cell, whole_file, write_table
from udenoise.innovation import Events
from udenoise.io import Rois
from udenoise.io.store import read_group, read_json, write_group
from udenoise.regions import locate
from udenoise.roi_error import Together
from udenoise.sampling import Memory
from udenoise.traces import Bands, Traces, f0, positive, subtracted

ROI_TIME = ("roi", "time")
BAND = ("level", "roi", "time")
CSV_LEVEL = 0.95
Kind = Literal["dff", "counts", "subtracted"]
"""What a draw holds."""


def save_traces(
    path: Path,
    traces: Traces,
    posterior: TracePosterior,
    names: tuple[str, ...],
    frame_rate_hz: float | None,
    covariance: bool = False,
) -> None:
    """Write `traces.zarr`: F in counts before neuropil subtraction, `neuropil/` and `dff/` likewise, `nu`, attributes, and what
    `load_draws` needs; with `covariance`, that of the errors of every two ROIs too."""
    arrays = _members(traces.roi, "") | _members(traces.dff, "dff/")
    arrays |= {"dff/f0": (traces.f0.astype(np.float32), ROI_TIME), "dff/f0_shift": (traces.f0_shift, ROI_TIME)}
    arrays |= {"nu": (traces.nu, ("roi",))}
    arrays["still_sd"] = (np.sqrt(posterior.still.T).astype(np.float32), ("roi", "part"))
    if traces.neuropil is not None:
        arrays |= _members(traces.neuropil, "neuropil/")
        arrays["neuropil/correlation"] = (_ring_correlation(posterior), ROI_TIME)
    if covariance:
        arrays["cov"] = (mean_covariance(posterior), ("roi", "other_roi"))
    if traces.draws is not None:
        arrays["draws"] = (traces.draws, ("draw", "roi", "time"))
    attributes = {
        "levels": list(traces.levels), "roi_names": list(names), "frame_rate_hz": frame_rate_hz,
        "units": {"mean": "counts", "dff": "fraction", "nu": "%/sqrt(Hz)"},
        "error_memory": posterior.memory._asdict(), "error_together": posterior.together._asdict(),
        "simultaneous": "half-width of the band that holds over the whole trace, in multiples of sd",
    }  # fmt: skip
    write_group(path, arrays, attributes)


def _ring_correlation(posterior: TracePosterior) -> Float[np.ndarray, "N T"]:
    """Of the errors of each ROI and its ring."""
    S = posterior.covariance
    return (S[..., 0, 1] / np.sqrt(S[..., 0, 0] * S[..., 1, 1])).T.astype(np.float32)


def mean_covariance(posterior: TracePosterior) -> Float[np.ndarray, "N N"]:
    """Covariance of the errors of every two ROIs in the same frame, mean over frames (counts²)."""
    sd = np.sqrt(posterior.covariance[..., 0, 0])
    return (sd.T @ sd / len(sd) * correlation(posterior, 0)).astype(np.float32)


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
            titles += [f"{text_cell(name)}_{prefix}{part}" for part in parts]
    if frame_rate_hz:
        columns.insert(0, np.arange(len(columns[0])) / frame_rate_hz)
    rows = ([t, *(f"{value:.6g}" for value in values)] for t, values in enumerate(np.transpose(columns)))
    write_table(path, titles, rows)


def write_events(path: Path, events: Events) -> None:
    """One row an event: first frame, centre (pixels), how long (frames), size (pixels), amplitude with its sd (counts), z."""
    rows = ([f"{value:g}" for value in row] for row in zip(*events, strict=True))
    write_table(path, ["frame", "y", "x", "sigma_px", "frames", "amplitude", "amplitude_sd", "z"], rows)


def save_rois_npz(path: Path, rois: Rois) -> None:
    """The ROIs as they were used, without pickles."""
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, names=np.array(rois.names), index=rois.index, weight=rois.weight, shape=rois.shape)


def load_rois_npz(path: Path) -> Rois:
    """Read what `save_rois_npz` wrote. Raises InputError when it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            shape = tuple(int(side) for side in stored["shape"])
            return Rois(tuple(map(str, stored["names"])), stored["index"], stored["weight"], shape)
    except Exception as error:  # whatever a damaged archive raises
        raise InputError(f"{path} cannot be read ({error}); run again with --overwrite") from error


@dataclass(frozen=True)
class Draws:
    """Draws of all traces of a run (N T each), made when they are asked for: the same every time."""

    posterior: TracePosterior
    f0_shift: Float[np.ndarray, "N T"]
    config: TraceConfig
    frame_rate_hz: float | None
    seed: int
    of: Kind
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Float[np.ndarray, "N T"]]:
        return (self[s] for s in range(self.count))

    def __getitem__(self, s: int) -> Float[np.ndarray, "N T"]:
        if not 0 <= s < self.count:
            raise IndexError(s)
        held: Held = {}
        traces = {n: self._trace(n, s, held) for n in side_by_side(self.posterior)}
        return np.stack([traces[n] for n in range(len(traces))])

    @property
    def mean(self) -> Float[np.ndarray, "N T"]:
        """What the draws scatter about, for `propagate(…, mean=draws.mean)`."""
        above = subtracted(self.posterior.mean.transpose(2, 1, 0), self.config)
        if self.of == "counts":
            return self.posterior.mean[:, 0].T
        return above if self.of == "subtracted" else above / positive(f0(above, self.config, self.frame_rate_hz)) - 1

    def _trace(self, n: int, s: int, held: Held) -> Float[np.ndarray, "T"]:
        drawn = draw_region(self.posterior, n, [s], self.seed, held)
        if self.of == "counts":
            return drawn[0, 0]
        above = subtracted(drawn, self.config)
        if self.of == "subtracted":
            return above[0]
        return (above / positive(f0(above, self.config, self.frame_rate_hz) + self.f0_shift[n]) - 1)[0]


def load_draws(folder: str | Path, of: Kind = "dff", count: int | None = None) -> Draws:
    """The draws behind the corridors of a finished run: ΔF/F, fluorescence in counts, or that less the neuropil's.

    `count` of them (by default as many as the run made). Raises InputError where there is no finished run.
    """
    folder = Path(folder)
    config = from_json(Config, read_json(folder / "config.json")["config"])
    arrays, about = read_group(folder / "traces.zarr")
    if "still_sd" not in arrays:
        raise InputError(f"{folder} was made by an earlier version: udenoise traces {folder} --rois ROIS")
    kinds = ["", "neuropil/"] if "neuropil/mean" in arrays else [""]
    mean, sd = (np.stack([arrays[kind + name].T for kind in kinds], 1).astype(float) for name in ("mean", "sd"))
    correlation = np.ones((len(mean), mean.shape[2], len(kinds), len(kinds)))
    if len(kinds) > 1:
        correlation[..., 0, 1] = correlation[..., 1, 0] = arrays["neuropil/correlation"].T
    covariance = correlation * sd.transpose(0, 2, 1)[..., None] * sd.transpose(0, 2, 1)[..., None, :]
    together = Together(*(np.asarray(share) for share in about["error_together"].values()))
    places = locate(load_rois_npz(folder / "rois.npz"))
    still = np.square(arrays["still_sd"].T.astype(float))
    posterior = TracePosterior(mean, covariance, Memory(**about["error_memory"]), together, places, still)
    return Draws(
        posterior,
        arrays["dff/f0_shift"],
        config.trace,
        about["frame_rate_hz"],
        config.seed,
        of,
        count or config.trace.draws,
    )
