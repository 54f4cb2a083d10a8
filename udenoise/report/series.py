"""Traces for the page: 12-bit codes, deflated, thinned to the extremes of each bin where they are many."""

import base64
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from udenoise.arrays import Json
from udenoise.report.sources import Sources

TRACE_BYTES = 3_200_000
"""What all traces may take in the page, base64."""
FEWEST_POINTS = 800
"""Below this many points per trace, fewer ROIs are embedded instead."""
BLOCK_VALUES = 1_000_000
"""Numbers of one array in memory at a time."""
TOP = 4094
"""Largest code; TOP + 1 stands for a missing value."""
ROWS = ("raw", "mean", "inner_lower", "inner_upper", "outer_lower", "outer_upper")


class Plan(NamedTuple):
    """How much of the traces fits."""

    rois: Int[np.ndarray, "n"]
    """Which ROIs are embedded."""
    points: int
    """Points per trace; T if none are left out."""


def trace_series(sources: Sources) -> Json | None:
    """All traces with their inner and outer corridor, for as many ROIs and points as TRACE_BYTES holds."""
    if sources.traces is None:
        return None
    N, T = sources.traces["mean"].shape
    inner, outer = chosen_levels(sources)
    kinds = [kind for kind in ("counts", "dff") if kind == "counts" or _has_dff(sources.traces)]
    plan = _plan(sources, kinds, N, T)
    packed = [
        {kind: pack(thin(rows[kind], plan.points)) for kind in kinds} for rows in _rows(sources, plan.rois, kinds)
    ]
    levels = _levels(sources)
    return {
        "rois": plan.rois.tolist(),
        "data": packed,
        "kinds": kinds,
        "frames": T,
        "points": plan.points,
        "bins": None if plan.points == T else bin_edges(T, plan.points).tolist(),
        "inner": levels[inner],
        "outer": levels[outer],
    }


def chosen_levels(sources: Sources) -> tuple[int, int]:
    """Positions of the levels nearest to 50 % and 95 %."""
    levels = np.asarray(_levels(sources))
    return int(np.abs(levels - 0.5).argmin()), int(np.abs(levels - 0.95).argmin())


def thin(rows: Float[np.ndarray, "rows T"], points: int) -> Float[np.ndarray, "rows points"]:
    """Two points per bin: least and largest of `raw` and `mean`; of a corridor its outermost value, twice."""
    if points >= rows.shape[1]:
        return rows
    starts = bin_edges(rows.shape[1], points)[:-1]
    low, high = np.fmin.reduceat(rows, starts, axis=1), np.fmax.reduceat(rows, starts, axis=1)
    low[3::2], high[2::2] = high[3::2], low[2::2]
    return np.stack([low, high], axis=2).reshape(len(rows), -1)


def bin_edges(T: int, points: int) -> Int[np.ndarray, "edges"]:
    """First frames of `points`/2 equal bins, and T."""
    return np.linspace(0, T, max(points // 2, 1) + 1).astype(int)


def pack(rows: Float[np.ndarray, "rows points"]) -> Json:
    """12-bit codes, least to largest value; all but `raw` as differences in time; low, then high bytes; deflated."""
    finite = rows[np.isfinite(rows)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    high = high if high > low else low + 1.0
    scaled = np.nan_to_num((rows - low) / (high - low) * TOP, nan=TOP + 1, posinf=TOP, neginf=0)
    codes = np.round(scaled).astype(np.int32)
    codes[1:] = np.diff(codes[1:], axis=1, prepend=0)
    planes = (codes % 65536).astype("<u2").reshape(-1, 1).view(np.uint8).T
    text = base64.b64encode(zlib.compress(np.ascontiguousarray(planes).tobytes(), 6)).decode("ascii")
    return {"low": low, "high": high, "z": text}


def unpack(packed: Json, rows: int) -> Float[np.ndarray, "rows points"]:
    """The inverse of `pack`, as the page does it, to within half a code."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["z"])), np.uint8).reshape(2, -1)
    codes = (planes[0].astype(np.int64) + 256 * planes[1].astype(np.int64)).reshape(rows, -1)
    codes[1:] = np.cumsum(codes[1:], axis=1) % 65536
    values = packed["low"] + codes / TOP * (packed["high"] - packed["low"])
    return np.where(codes > TOP, np.nan, values)


def _plan(sources: Sources, kinds: list[str], N: int, T: int) -> Plan:
    """Points first, ROIs last: what a few packed traces take tells what all would."""
    if N == 0:
        return Plan(np.arange(0), T)
    some = np.unique(np.linspace(0, N - 1, min(N, 6)).astype(int))
    sizes = [sum(len(pack(rows[kind])["z"]) for kind in kinds) for rows in _rows(sources, some, kinds)]
    per_point = 1.1 * float(np.mean(sizes)) / T
    points = int(TRACE_BYTES / (per_point * N))
    if points >= T:
        return Plan(np.arange(N), T)
    points = min(max(points, FEWEST_POINTS), T)
    count = min(N, max(int(TRACE_BYTES / (per_point * points)), 1))
    return Plan(np.unique(np.linspace(0, N - 1, count).astype(int)), points // 2 * 2)


def _rows(sources: Sources, rois: np.ndarray, kinds: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """ROWS × T for each ROI and kind, read in blocks of neighbouring ROIs."""
    inner, outer = chosen_levels(sources)
    for span in blocks(sources.traces):
        wanted = rois[(rois >= span.start) & (rois < span.stop)]
        if not len(wanted):
            continue
        groups = {kind: sources.traces if kind == "counts" else sources.traces["dff"] for kind in kinds}
        block = {kind: _read(group, span, inner, outer) for kind, group in groups.items()}
        for i in wanted:
            yield {kind: rows[:, i - span.start] for kind, rows in block.items()}


def blocks(traces: Any) -> Iterator[slice]:
    """ROIs to read at once: BLOCK_VALUES numbers of each array."""
    N, T = traces["mean"].shape
    step = max(BLOCK_VALUES // max(T, 1), 1)
    yield from (slice(first, min(first + step, N)) for first in range(0, N, step))


def _read(group: Any, span: slice, inner: int, outer: int) -> Float[np.ndarray, "rows n T"]:
    parts = [group["raw"][span], group["mean"][span]]
    parts += [group[side][level, span] for level in (inner, outer) for side in ("lower", "upper")]
    return np.stack([np.asarray(part, np.float64) for part in parts])


def _has_dff(traces: Any) -> bool:
    return "dff" in traces and all(name in traces["dff"] for name in ("raw", "mean", "lower", "upper"))


def _levels(sources: Sources) -> list[float]:
    return [float(level) for level in sources.traces.attrs["levels"]]
