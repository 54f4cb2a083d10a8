"""The flags of a run: gathered from what was kept while its movie streamed by, judged, and written down.

What they are judged from stays with the run (found.npz), so that another false discovery rate costs no pass over the movie.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from udenoise.blocks import FOUND, load_border_sums, load_sights, load_steadiness
from udenoise.config import Config
from udenoise.files import whole_file
from udenoise.flags import (
    Chance,
    Flag,
    Found,
    Tail,
    TracePeaks,
    TraceSights,
    familiar,
    field_of,
    find_flags,
    join_traces,
    paint,
    scan_borders,
    scan_traces,
    steadiness_summary,
    summary,
    write_flags,
)
from udenoise.io import Rois, rois_dense
from udenoise.io.store import read_group, read_json, write_json, write_labels
from udenoise.metrics import Pooled
from udenoise.recording import Recording
from udenoise.runfolder import Run
from udenoise.scan import Ground, Peaks, measure_chance
from udenoise.watch import Sights, borders_of, displacement_sd, ground_of

FAMILIAR = "familiar.json"
"""What a network's training movie gave, beside the network."""


class _Kept(NamedTuple):
    """The content of found.npz."""

    sights: Sights
    chance: Chance
    displacement_sd: Float[np.ndarray, "2"]
    traces: TracePeaks
    wobble: Float[np.ndarray, "6"]
    """`metrics.Pooled`; NaN without ROIs."""


class Residuals(NamedTuple):
    """Of traces of ROIs, counts: raw minus denoised, the noise's variance, the stated standard deviation."""

    left: Float[np.ndarray, "N T"]
    noise_variance: Float[np.ndarray, "N T"]
    sd: Float[np.ndarray, "N T"]


def gather(job: Run, recording: Recording, residuals: Residuals | None) -> None:
    """Write found.npz from the blocks of a run, and what its movie gave beside a network that was trained on it."""
    sights = load_sights(job.folder)
    if sights is None:
        return
    ground = ground_of(recording)
    peaks = _of_traces(job, recording, residuals, ground)
    wobble = None if residuals is None else load_steadiness(job, recording)
    wobble = np.full(len(Pooled._fields), np.nan) if wobble is None else np.array(wobble)
    kept = _Kept(sights, measure_chance(ground, job.config.seed), displacement_sd(recording, ground), peaks, wobble)
    with whole_file(job.folder / FOUND) as part, part.open("wb") as file:
        np.savez_compressed(file, **_flat(kept))
    path = job.folder / "denoiser" / FAMILIAR
    if not path.is_file():
        write_json(path, {name: tail._asdict() for name, tail in familiar(sights).items()})


def _of_traces(job: Run, recording: Recording, residuals: Residuals | None, ground: Ground) -> TracePeaks:
    if residuals is None:
        return scan_traces(*np.zeros((3, 0, len(job.movie))))
    borders = scan_borders(*load_border_sums(job.folder), borders_of(job.rois, recording, ground))
    return join_traces([scan_traces(*residuals, _skewness(job, recording, ground)), borders])


def _skewness(job: Run, recording: Recording, ground: Ground) -> Float[np.ndarray, "N"]:
    """Of the noise of a frame of each ROI's trace."""
    sd = np.sqrt(recording.noise.pixel_variance(recording.anatomy.mean))
    light = (rois_dense(job.rois) * sd).reshape(len(job.rois.names), -1)
    return (light**3 @ ground.skewness.ravel() / (light**2).sum(1) ** 1.5).astype(float)


def _flat(kept: _Kept) -> dict[str, np.ndarray]:
    tables = {"peaks": kept.sights.peaks, "shown": kept.sights.shown, "traces": kept.traces}
    arrays = {f"{name}_{part}": column for name, table in tables.items() for part, column in table._asdict().items()}
    arrays |= {name: getattr(kept.sights, name) for name in ("displacement", "given", "disagreement")}
    return arrays | {"chance": np.array(kept.chance), "displacement_sd": kept.displacement_sd, "wobble": kept.wobble}


def _load(path: Path) -> _Kept:
    with np.load(path, allow_pickle=False) as data:
        peaks, shown, traces = (
            kind(*(data[f"{name}_{part}"] for part in kind._fields))
            for name, kind in (("peaks", Peaks), ("shown", Peaks), ("traces", TracePeaks))
        )
        rest = (data[name] for name in ("displacement", "given", "disagreement"))
        chance = Chance(*data["chance"].tolist())
        return _Kept(Sights(peaks, shown, *rest), chance, data["displacement_sd"], traces, data["wobble"])


def judge(folder: Path, recording: Recording, rois: Rois | None, config: Config, foreign: bool) -> list[Flag]:
    """Write flags.csv, flags.json and flags.zarr of a run from its found.npz; `foreign`: its network is another movie's."""
    kept, known = _load(folder / FOUND), folder / "denoiser" / FAMILIAR
    tails = {n: Tail(**t) for n, t in read_json(known).items()} if foreign and known.is_file() else {}
    field = field_of(recording, rois, config.trace.offset_counts)
    traces = None if rois is None else TraceSights(kept.traces, *_denoised(folder))
    found = find_flags(kept.sights, kept.chance, kept.displacement_sd, traces, tails, field, config.flag.fdr)
    flags = [one.flag for one in found]
    _paint(folder / "flags.zarr", found, recording)
    write_flags(folder / "flags.csv", flags)
    notes = _notes(foreign, tails, kept.sights)
    wobble = steadiness_summary(Pooled(*kept.wobble.tolist()))
    path = folder / "flags.json"
    control = read_json(path).get("null") if path.is_file() else None  # `udenoise null` put it there
    write_json(path, summary(flags, field, config.flag.fdr, notes) | {"wobble": wobble, "null": control})
    return flags


def _denoised(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_group(folder / "traces.zarr").arrays
    return arrays["mean"].astype(float), arrays["sd"].astype(float)


def _notes(foreign: bool, tails: dict[str, Tail], sights: Sights) -> list[str]:
    if not foreign:
        return ["What is unfamiliar to the network was not asked: it was trained on this very movie."]
    if not tails:
        return ["What is unfamiliar to the network is not known: its own run kept no record of what it was given."]
    if "disagreement" in tails and sights.disagreement.any():
        return []
    return [
        "Disagreement was not looked at: there is one network without dropout (--uncertainty dropout or ensemble has it)."
    ]


def _paint(path: Path, found: list[Found], recording: Recording) -> None:
    discs = np.concatenate([np.zeros((0, 6)), *(
        np.column_stack([*one.footprint, np.full(len(one.footprint.y), one.flag.label)])
        for one in found if one.footprint is not None
    )])  # fmt: skip
    shape = recording.movie.shape

    def frames(start: int, stop: int) -> np.ndarray | None:
        here = discs[(discs[:, 0] < stop) & (discs[:, 1] > start)]
        block = np.zeros((stop - start, *shape[1:]), np.uint32)
        for first, last, y, x, radius, label in here:
            for t in range(max(int(first), start), min(int(last), stop)):
                paint(block[t - start], int(y), int(x), float(radius), int(label))
        return block if len(here) else None

    write_labels(path, "flags", shape, recording.movie.frame_rate_hz, frames)
