"""Unfamiliar: the network is given something, or its passes disagree, beyond what its training movie gave.

The training movie's values beyond their quantile 0.999 are taken to fall exponentially (the tail of most laws; Pickands 1975 with
shape 0), which says how often it would give as large a one. q is the share of such among those flagged (Benjamini & Hochberg 1995).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage, stats

from udenoise.flags.contradicted import Found
from udenoise.flags.field import Field, timed
from udenoise.flags.table import Flag, Footprint
from udenoise.watch import FAMILIAR_PX, Sights

RARE = 1e-3
WHY = {
    "given": "the network is given what its training movie never showed: what it makes of it is a guess",
    "disagreement": "passes or networks disagree here more than they did on the training movie",
}


class Tail(NamedTuple):
    """Of a training movie's values: their quantile 0.999, and the mean of what is beyond it."""

    level: float
    excess: float

    def beyond(self, value: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Probability of a value at least as large; 1 below the level."""
        return np.where(value > self.level, RARE * np.exp(-np.maximum(value - self.level, 0) / self.excess), 1.0)


def familiar(sights: Sights) -> dict[str, Tail]:
    """What a training movie gave."""
    return {name: tail for name in WHY if (tail := _tail(getattr(sights, name))) is not None}


def _tail(values: np.ndarray) -> Tail | None:
    values = values.astype(np.float32).ravel()
    level = float(np.quantile(values, 1 - RARE))
    return None if level <= 0 else Tail(level, max(float(values[values >= level].mean() - level), 1e-3 * level))


def unfamiliar(sights: Sights, known: dict[str, Tail], field: Field, fdr: float) -> list[Found]:
    """Events, the strangest first."""
    found = [one for name, tail in known.items() for one in _of(name, getattr(sights, name), tail, field, fdr)]
    return sorted(found, key=lambda one: one.flag.p)


def _of(name: str, values: np.ndarray, tail: Tail, field: Field, fdr: float) -> list[Found]:
    p = tail.beyond(values.astype(np.float64))
    q = stats.false_discovery_control(p.ravel()).reshape(p.shape)
    labels, _ = ndimage.label(q <= fdr, np.ones((3, 3, 3)))
    return [_event(name, span, labels[span] == n, values[span], p[span], q[span], field)
            for n, span in enumerate(ndimage.find_objects(labels), 1)]  # fmt: skip


def _event(
    name: str,
    span: tuple[slice, ...],
    inside: np.ndarray,
    values: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    field: Field,
) -> Found:
    t, y, x = np.nonzero(inside)
    best = int(values[inside].argmax())
    side = min(FAMILIAR_PX, *field.mean.shape)
    centre = [(part + s.start) * side + side // 2 for part, s in zip((y, x), span[1:], strict=True)]
    flag = Flag(
        "unfamiliar", span[0].start, span[0].stop, float(centre[0][best]), float(centre[1][best]),
        float(inside.any(0).sum() * side**2), score=float(stats.norm.isf(max(p[inside][best], 1e-300))),
        p=float(p[inside][best]), q=float(q[inside][best]), frames=float(span[0].stop - span[0].start), reason=WHY[name],
    )  # fmt: skip
    start = t + span[0].start
    return Found(timed(flag, field), Footprint(start, start + 1, *centre, np.full(len(t), side / np.sqrt(np.pi))))
