"""Where not to believe a denoised movie: events, each with a reason, a place, a time, a size and a p-value (design, section 7)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from udenoise.flags.assumptions import broken_assumptions
from udenoise.flags.contradicted import (
    Found,
    TracePeaks,
    contradicted_places,
    contradicted_traces,
    join_traces,
    merged,
    scan_borders,
    scan_traces,
)
from udenoise.flags.field import Field, field_of, paint
from udenoise.flags.table import KINDS, Flag, Footprint, read_flags, write_flags
from udenoise.flags.trust import steadiness_summary, summary
from udenoise.flags.unconstrained import unconstrained_places, unconstrained_traces
from udenoise.flags.unfamiliar import Tail, familiar, unfamiliar
from udenoise.scan import Chance
from udenoise.watch import Sights

__all__ = [
    "KINDS", "Chance", "Field", "Flag", "Footprint", "Found", "Tail", "TracePeaks", "TraceSights", "contradicted_places",
    "familiar", "field_of", "find_flags", "join_traces", "paint", "read_flags", "scan_borders", "scan_traces",
    "steadiness_summary", "summary", "write_flags",
]  # fmt: skip


class TraceSights(NamedTuple):
    """What flags need of the traces of ROIs (counts)."""

    peaks: TracePeaks
    """Of raw minus denoised traces."""
    mean: Float[np.ndarray, "N T"]
    sd: Float[np.ndarray, "N T"]


def find_flags(
    sights: Sights,
    chance: Chance,
    displacement_sd: Float[np.ndarray, "2"],
    traces: TraceSights | None,
    known: dict[str, Tail],
    field: Field,
    fdr: float,
) -> list[Found]:
    """All flags, kind by kind, the strongest first; they are numbered as flags.zarr has them.

    `known` is what the network's training movie gave; empty where it is this movie.
    """
    against, uncertain = (
        contradicted_places(sights.peaks, chance, field, fdr),
        unconstrained_places(sights.shown, field),
    )
    if traces is not None:
        against = merged(against, contradicted_traces(traces.peaks, field, fdr))
        uncertain = uncertain + unconstrained_traces(traces.mean, traces.sd, field)
    found = [*against, *uncertain, *unfamiliar(sights, known, field, fdr)]
    found += broken_assumptions(sights.displacement, displacement_sd, field, fdr)
    return _numbered(found)


def _numbered(found: list[Found]) -> list[Found]:
    number, out = 0, []
    for one in found:
        number += one.footprint is not None
        out.append(one._replace(flag=one.flag._replace(label=number if one.footprint is not None else 0)))
    return out
