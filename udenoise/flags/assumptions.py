"""Assumption broken: what error bars rest on and this recording does not keep, with its place in time where it has one."""

import numpy as np
from jaxtyping import Float
from scipy import stats

from udenoise.flags.contradicted import Found
from udenoise.flags.field import Field, timed
from udenoise.flags.table import Flag

STILL_PX = 0.3
"""Displacements up to this do no harm worth a flag, pixels."""
NEAR = 2
"""Frames apart from which two are told apart."""
WHITE, WHITE_WITHIN = -0.5, 0.02
"""Lag-1 correlation of frame differences of noise that is white in time."""
RAMP = 0.1


def broken_assumptions(
    displacement: Float[np.ndarray, "T 2"], displacement_sd: Float[np.ndarray, "2"], field: Field, fdr: float
) -> list[Found]:
    """Flags of the whole recording first, then of frames."""
    noise, T = field.noise, field.frames
    whole = [*_in_time(field), *_walls(field)]
    rows = np.unique(noise.bad_rows[:, 0])
    spans = [(run, "rows dropped out or flashed: they are masked") for run in runs(rows)]
    spans += [(run, "frames are blank, flashed or repeated: they are masked") for run in runs(noise.bad_frames)]
    spans += [((int(at), int(at) + 1), "a trial begins: context does not cross it") for at in noise.breaks]
    flags = [Flag("assumption broken", 0, T, reason=reason) for reason in whole]
    flags += [Flag("assumption broken", *span, reason=reason) for span, reason in spans]
    return [Found(timed(flag, field), None) for flag in flags + _moved(displacement, displacement_sd, fdr)]


def _in_time(field: Field) -> list[str]:
    noise, found = field.noise, []
    if abs(noise.difference_lag1 - WHITE) > WHITE_WITHIN:
        found.append(
            f"noise is not white in time (difference lag-1 {noise.difference_lag1:.3f}): error bars may be too narrow"
        )
    if abs(noise.ramp) > RAMP:
        found.append(f"brightness changes by {noise.ramp:+.0%} over the movie (bleaching?): one baseline does not fit")
    return found


def _walls(field: Field) -> list[str]:
    noise, found = field.noise, []
    if noise.clipped_at is not None and noise.clipped_fraction > 0.005:
        found.append(
            f"{noise.clipped_fraction:.2%} of values are clipped to {noise.clipped_at:g}: dark regions look brighter"
        )
    if noise.saturated_at is not None and noise.saturated_fraction > 1e-5:
        found.append(
            f"{noise.saturated_fraction:.3%} of values are saturated at {noise.saturated_at:g}: transients are cut off"
        )
    return found


def _moved(displacement: np.ndarray, sd: np.ndarray, fdr: float) -> list[Flag]:
    """Frames that lie further off than `STILL_PX`, by more than noise makes."""
    far = np.abs(displacement)
    z = (far - STILL_PX) / np.maximum(sd * _beyond_noise(displacement, sd), 1e-9)
    p = np.where(np.isfinite(z), stats.norm.sf(z), 1.0)
    q = stats.false_discovery_control(p.ravel()).reshape(p.shape) if p.size else p
    return [_motion(run, displacement, z, p, q) for run in runs(np.flatnonzero((q <= fdr).any(1)))]


def _beyond_noise(displacement: np.ndarray, sd: np.ndarray) -> Float[np.ndarray, "2"]:
    """Spread of successive differences over that of noise alone, at least 1: activity looks a little like motion."""
    steps = np.diff(displacement, axis=0)
    return np.maximum(1.4826 * np.nanmedian(np.abs(steps), axis=0) / np.sqrt(2) / np.maximum(sd, 1e-9), 1.0)


def _motion(run: tuple[int, int], displacement: np.ndarray, z: np.ndarray, p: np.ndarray, q: np.ndarray) -> Flag:
    part = np.nan_to_num(z[slice(*run)], nan=-np.inf)
    t, axis = np.unravel_index(part.argmax(), part.shape)
    at = run[0] + t, axis
    return Flag(
        "assumption broken", *run, score=float(z[at]), p=float(p[at]), q=float(q[at]),
        reason=f"the field lies {abs(displacement[at]):.2g} px off along {'YX'[axis]}: motion; register the movie first",
    )  # fmt: skip


def runs(frames: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of frames that follow each other, with at most `NEAR` missing between."""
    if not len(frames):
        return []
    cut = np.flatnonzero(np.diff(frames) > NEAR + 1)
    first, last = frames[np.concatenate([[0], cut + 1])], frames[np.concatenate([cut, [len(frames) - 1]])]
    return [(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)]
