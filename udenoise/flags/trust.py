"""What the flags mean for each ROI, and in sum."""

from typing import Any

import numpy as np

from udenoise.flags.field import Field
from udenoise.flags.table import KINDS, Flag
from udenoise.metrics import Pooled

UNCLEAR = 0.2
"""Standard error of the share of pattern change that is real from which nothing is said."""
MANY = 0.05
"""Share of a trace's frames in contradicted events from which it should not be used as it is."""


def summary(flags: list[Flag], field: Field, fdr: float, notes: list[str]) -> dict[str, Any]:
    """The content of flags.json."""
    counts = {kind: sum(flag.kind == kind for flag in flags) for kind in KINDS}
    tested = {"places": field.frames * field.mean.size, "rois": len(field.names)}
    rois = [of_roi(name, flags, field.frames) for name in field.names]
    return {"fdr": fdr, "counts": counts, "tested": tested, "note": notes, "rois": rois, "wobble": None, "null": None}


def steadiness_summary(pooled: Pooled) -> dict[str, Any] | None:
    """Do cells wobble? In numbers, relative to a cell's brightness, and in a sentence; None where it was not measured."""
    if not np.isfinite(pooled.shown):
        return None
    measured, se = (np.sqrt(max(pooled.error, 0.0)), pooled.error_se)
    return {
        "shown": pooled.shown, "real_share": pooled.real_share, "real_share_se": pooled.real_share_se,
        "stated": float(np.sqrt(pooled.stated)), "measured": float(measured),
        "measured_se": float(se / max(2 * measured, np.sqrt(se))) if se > 0 else 0.0, "sentence": _steady(pooled),
    }  # fmt: skip


def _steady(pooled: Pooled) -> str:
    invented, se = 1 - pooled.real_share, pooled.real_share_se
    shown = (
        f"Inside ROIs the blind prediction's pattern changes by {pooled.shown:.1%} of the brightness from frame to frame (rms); "
        f"{pooled.real_share:.0%} ± {se:.0%} of that change is in the recording"
    )
    if se > UNCLEAR:
        return f"{shown}: too little to tell whether borders wobble."
    return (
        f"{shown}; {max(invented, 0):.0%} was invented." if invented > 2 * se else f"{shown}: none of it was invented."
    )


def of_roi(name: str, flags: list[Flag], frames: int) -> dict[str, Any]:
    """How many flags of each kind touch a ROI, in what share of its frames, and what to do."""
    own = [flag for flag in flags if name in flag.roi.split(";")]
    count = {kind: sum(flag.kind == kind for flag in own) for kind in KINDS[:3]}
    against = [flag for flag in own if flag.kind == "contradicted"]
    swallowed, invented = (sum(flag.sign == sign for flag in against) for sign in (1, -1))
    share = _share(own, frames)
    return {
        "name": name, "flags": len(own), **count, "swallowed": swallowed, "invented": invented,
        "frames_flagged": share, "verdict": _verdict(own, _share(against, frames)),
    }  # fmt: skip


def _share(flags: list[Flag], frames: int) -> float:
    inside = np.zeros(frames, bool)
    for flag in flags:
        inside[flag.frame_start : flag.frame_stop] = True
    return float(inside.mean())


def _verdict(own: list[Flag], against: float) -> str:
    if not own:
        return "nothing found"
    if against > MANY:
        return f"do not use as it is: {against:.0%} of its frames contradict the recording"
    return f"look at {len(own)} event{'s' * (len(own) != 1)}"
