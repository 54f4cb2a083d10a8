"""Swallowed and invented events: where what judges differs from the denoised movie by more than noise, from pixel to soma."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from udenoise.arrays import Json
from udenoise.audit.evidence import Evidence, Piece
from udenoise.files import write_table
from udenoise.sampling import SPLIT
from udenoise.scan import (
    DURATIONS,
    SHIFTS,
    SIGMAS_PX,
    Ground,
    Peaks,
    Scan,
    Whitened,
    add_frames,
    gradient_of,
    join_peaks,
    joined,
    measure_chance,
    p_values,
    q_values,
    some_peaks,
    start_scan,
    take,
)

LISTED = 20
"""Events on the page; all are in events.csv."""
TITLES = ("kind", "frame", "time_s", "y", "x", "sigma_px", "frames", "z", "height", "p", "q")


class Found(NamedTuple):
    """E events by falling |z|: their strongest peaks (frames of the recording), p, q, and whether q is small enough."""

    peaks: Peaks
    p: Float[np.ndarray, "E"]
    q: Float[np.ndarray, "E"]
    listed: Bool[np.ndarray, "E"]


def start_search(evidence: Evidence) -> Scan:
    """Before the first frame."""
    return start_scan(ground(evidence))


def ground(evidence: Evidence) -> Ground:
    """What is constant in the recording, for the noise of what judges (`watch.ground_of` for the movie itself)."""
    noise = evidence.noise
    v = noise.pixel_variance(evidence.mean)
    sd = np.sqrt(v * evidence.louder)
    # E (n − σε/τ)³ = E n³ + 3 E[n σ²]/τ², summed over a spot within which σ² follows the counts
    spread = noise.skew + (3 * noise.mixing / SPLIT**2 if evidence.halved else 0.0)
    third = spread * max(noise.gain, 0.0) * noise.relative(v.shape) * v
    return Ground(noise.kernel, (third / sd**3).astype(np.float32), gradient_of(evidence.mean, sd))


def add_piece(search: Scan, piece: Piece) -> Scan:
    """The search with some more frames; rows that may not be believed count as agreement."""
    sd = np.sqrt(piece.expected)
    value = np.where(piece.good[..., None], (piece.measured - piece.estimate) / sd, 0)
    doubt = np.zeros_like(value) if piece.stated is None else np.sqrt(piece.stated) / sd
    return add_frames(search, Whitened(value.astype(np.float32), doubt.astype(np.float32)))


def find(search: Scan, first: int, frames: int, fdr: float | int) -> Found:
    """The events, and which of them to believe when a share `fdr` of those may be chance (Benjamini & Hochberg 1995).

    The search began at frame `first` of the recording and saw so many frames.
    """
    seen, _ = take(search, last=True)
    peaks = joined([seen])
    event = join_peaks(peaks)
    order = np.argsort(-np.abs(peaks.z), kind="stable")
    strongest = np.sort(np.unique(event[order], return_index=True)[1])
    peaks = some_peaks(peaks, order[strongest])
    chance, size = measure_chance(search.ground), np.abs(peaks.z)
    q = q_values(size, chance, frames * search.ground.skewness.size)
    return Found(peaks._replace(frame=np.maximum(peaks.frame, 0) + first), p_values(size, chance), q, q <= fdr)


def kinds(found: Found) -> list[str]:
    """swallowed, invented or moved (displaced), of each event."""
    signed = np.where(found.peaks.z > 0, "swallowed", "invented")
    return np.where(np.isin(found.peaks.spot, SHIFTS), "moved", signed).tolist()


def event_rows(found: Found, evidence: Evidence, level: float) -> list[Json]:
    """The events to believe, strongest first."""
    sd = np.sqrt(evidence.noise.pixel_variance(evidence.mean) * (evidence.louder * level))
    rate, peaks, kind = evidence.given.frame_rate_hz, found.peaks, kinds(found)
    rows = []
    for i in np.flatnonzero(found.listed):
        frame, y, x = int(peaks.frame[i]), int(peaks.y[i]), int(peaks.x[i])
        values = (
            kind[i], frame, frame / rate if rate else None, y, x, SIGMAS_PX[peaks.spot[i]], DURATIONS[peaks.duration[i]],
            float(peaks.z[i]), float(peaks.height[i] * (1.0 if kind[i] == "moved" else sd[y, x])), float(found.p[i]),
            float(found.q[i]),
        )  # fmt: skip
        rows.append(dict(zip(TITLES, values, strict=True)))
    return rows


def write_events(path: Path, rows: list[Json]) -> None:
    """One row an event; height is that of y − D at its centre in counts, of what moved the distance in pixels."""
    write_table(path, TITLES, ([row[title] if row[title] is not None else "" for title in TITLES] for row in rows))


def event_numbers(rows: list[Json], fdr: float | int, frames: int, rate: float | None) -> Json:
    """How many of each kind, how often, and the strongest."""
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in ("swallowed", "invented", "moved")}
    minutes = frames / rate / 60 if rate else None
    return counts | {"fdr": fdr, "minutes": minutes, "strongest": rows[:LISTED]}
