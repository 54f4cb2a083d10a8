"""Draws of traces: each is a set of whole traces that may as well be true.

The errors of an ROI and its ring share the covariance of each frame. In time they have the memory of `sampling`, which is cut
short where the trace rises; a part that grows with the trace lasts for all of it, and so does the error of the mean image. Between
regions they share what is wrong everywhere and what is wrong nearby (`roi_error.Together`); and since the error bar itself is
off, now more, now less, their tails are heavy. The series behind draw s of region n belong to (seed, n, s): draws are the same
whether they are made region by region, as the corridors need them, or one by one, as a function of all traces does.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from udenoise.errors import InputError
from udenoise.regions import Places, nearness
from udenoise.roi_error import Together
from udenoise.sampling import SCALE_MEMORY_FRAMES, SCALE_SPREAD, Memory, frames_needed, log_scales, remember

EVERYWHERE, NODES, SCALES, LASTING, STILL = 2**40, 2**41, 2**42, 2**43, 2**44
"""First numbers of the series that regions share, and of those of their scales; their own have the region's number."""
RISE, AHEAD = 0.3, 3.0
"""Error bars per frame by which a trace may rise before its errors' clock runs faster, and frames per error bar beyond that."""
MOST_AHEAD = 2.0
"""How far it may run ahead in all, in lengths of the recording: draws stay small where a trace rises all the time."""
GAIN_SPREAD = 0.05
"""Relative error of a whole trace's size, one for all its events."""
MOST_LASTING = 0.9
"""Largest share that this may have in an error bar."""


class TracePosterior(NamedTuple):
    """What is known of ROIs (k = 0) and rings (k = 1): each frame's Gaussian (counts, counts²), and how errors hang together.

    `still` is the part of the variance (counts²) that is one error in all frames, that of the mean image.
    """

    mean: Float[np.ndarray, "T K N"]
    covariance: Float[np.ndarray, "T N K K"]
    memory: Memory
    together: Together
    places: Places
    still: Float[np.ndarray, "K N"]


class Corridor(NamedTuple):
    """Where the value of a function of the traces may lie."""

    levels: tuple[float, ...]
    mean: Float[np.ndarray, "*f"] | np.floating
    sd: Float[np.ndarray, "*f"] | np.floating
    lower: Float[np.ndarray, "L *f"]
    upper: Float[np.ndarray, "L *f"]


Held = dict[int, Float[np.ndarray, "S K T"]]
"""Shared series that the next region may need again, by their number."""


def propagate(
    draws: Iterable[Float[np.ndarray, "N T"]],
    f: Callable[[Float[np.ndarray, "N T"]], Any],
    levels: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.99),
    mean: Float[np.ndarray, "N T"] | None = None,
) -> Corridor:
    """The corridor of any function of the traces: its quantiles over draws (an array S N T, or `load_draws(run)`).

    `f` takes the traces of all ROIs (N T) and returns a number or an array, always of one shape; NaN stays NaN. A draw is
    rougher than the truth, so a peak, a spread or a correlation of draws is off in one direction: with the `mean` traces the
    corridor also holds the quantiles moved to where `f(mean)` is their median. Raises InputError with fewer than two draws, or
    for a level outside (0, 1).
    """
    if not all(0 < level < 1 for level in levels):
        raise InputError(f"levels are {levels}; give probabilities between 0 and 1, e.g. 0.95")
    values = [np.asarray(f(draw), float) for draw in draws]
    if len(values) < 2:
        raise InputError(f"{len(values)} draws say nothing about a corridor; at least 2 are needed, better 400")
    drawn = np.stack(values)
    lower, upper = quantile_band(drawn, levels)
    shift = 0.0 if mean is None else np.asarray(f(mean), float) - np.median(drawn, axis=0)
    lower, upper = np.minimum(lower, lower + shift), np.maximum(upper, upper + shift)
    return Corridor(tuple(levels), drawn.mean(0), drawn.std(0, ddof=1), lower, upper)


def quantile_band(values: Float[np.ndarray, "S *f"], levels: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edges at each level: quantiles over draws (median-unbiased, Hyndman & Fan 1996 type 8)."""
    tail = (1 - np.array(levels)) / 2
    edges = np.quantile(values, np.concatenate([tail, 1 - tail]), axis=0, method="median_unbiased")
    return edges[: len(tail)], edges[len(tail) :]


def side_by_side(posterior: TracePosterior) -> list[int]:
    """All regions in an order in which neighbours, which have series in common, follow each other."""
    return np.lexsort(posterior.places.node.T).tolist()


def correlation(posterior: TracePosterior, k: int) -> Float[np.ndarray, "N N"]:
    """Of the errors of every two ROIs (k = 0) or rings (k = 1) in the same frame, as it is in the mean over frames."""
    shared = posterior.together.everywhere[k] + posterior.together.nearby[k] * nearness(posterior.places)
    apart = np.exp(-(SCALE_SPREAD**2))  # E[factor]²: each region's error bar is off by itself
    own = [
        np.sqrt((1 - _lasting(posterior, n)[k] ** 2) * (1 - _still(posterior, n)[k] ** 2)).mean()
        for n in range(len(shared))
    ]
    return np.where(np.eye(len(shared), dtype=bool), 1.0, apart * np.outer(own, own) * shared)


def draw_region(posterior: TracePosterior, n: int, draws: Sequence[int], seed: int, held: Held) -> np.ndarray:
    """The given draws of ROI n and its ring (S K T, counts); `held` is filled with series that a neighbour needs too."""
    covariance = posterior.covariance[:, n]
    sd = _error_bars(posterior, n)
    correlation = covariance / (sd[:, :, None] * sd[:, None]) + 1e-9 * np.eye(covariance.shape[-1])
    normal = _standard(posterior, n, draws, seed, held)
    normal = np.einsum("tkl,slt->skt", np.linalg.cholesky(correlation), normal)
    slow = Memory(1.0, SCALE_MEMORY_FRAMES)
    scale = log_scales(_series(slow, SCALES + n, draws, seed, (1, len(sd))))
    return posterior.mean[:, :, n].T + sd.T * scale * normal


def _standard(
    posterior: TracePosterior, n: int, draws: Sequence[int], seed: int, held: Held
) -> Float[np.ndarray, "S K T"]:
    """Standard normal errors of one region, kinds still apart."""
    T, K, _ = posterior.mean.shape
    everywhere, nearby = (np.asarray(share, np.float32)[:K, None] for share in posterior.together)
    shares = {EVERYWHERE: np.sqrt(everywhere)} | {
        NODES + int(node): np.sqrt(nearby) * weight
        for node, weight in zip(posterior.places.node[n], posterior.places.weight[n], strict=True)
    }
    for who in held.keys() - shares.keys():
        del held[who]
    time = clock(posterior, n)
    own = _series(posterior.memory, n, draws, seed, (K, int(time[-1]) + 1))
    out = np.sqrt(1 - everywhere - nearby) * own[..., time]
    for who, share in shares.items():
        if not share.any():
            continue
        if who not in held:
            held[who] = _series(posterior.memory, who, draws, seed, (K, T))
        out += share * held[who]
    lasting, still = _lasting(posterior, n), _still(posterior, n)
    moving = np.sqrt(1 - lasting**2) * out + lasting * _normal(LASTING + n, draws, seed, (K, 1))
    return np.sqrt(1 - still**2) * moving + still * _normal(STILL + n, draws, seed, (K, 1))


def _still(posterior: TracePosterior, n: int) -> Float[np.ndarray, "K T"]:
    """What share of the standard deviation is the same error in all frames."""
    share = np.sqrt(posterior.still[:, n]) / _error_bars(posterior, n)
    return np.minimum(share, 1.0).astype(np.float32).T


def _error_bars(posterior: TracePosterior, n: int) -> Float[np.ndarray, "T K"]:
    """Standard deviations of a region and its ring (counts), kept from zero."""
    return np.sqrt(np.maximum(np.diagonal(posterior.covariance[:, n], axis1=1, axis2=2), 1e-12))


def _lasting(posterior: TracePosterior, n: int) -> Float[np.ndarray, "K T"]:
    """What share of the standard deviation is an error of the whole trace's gain; below the median it has the other sign."""
    mean = posterior.mean[:, :, n]
    gain = GAIN_SPREAD * (mean - np.median(mean, axis=0)) / _error_bars(posterior, n)
    return np.clip(gain, -MOST_LASTING, MOST_LASTING).astype(np.float32).T


def clock(posterior: TracePosterior, n: int) -> Int[np.ndarray, "T"]:
    """The time of the errors of one ROI and its ring, in frames: where the ROI's trace rises it runs ahead.

    What is wrong before an onset tells little about what is wrong after it, for the onset itself is what was least known.
    """
    mean = posterior.mean[:, 0, n]
    rise = np.diff(mean, prepend=mean[:1]) / _error_bars(posterior, n)[:, 0]
    ahead = np.minimum(AHEAD * np.maximum(rise - RISE, 0), frames_needed(0, posterior.memory))
    ahead *= min(1.0, MOST_AHEAD * len(mean) / max(ahead.sum(), 1e-12))
    return (np.arange(len(mean)) + np.cumsum(ahead)).astype(int)


def _series(
    memory: Memory, who: int, draws: Sequence[int], seed: int, shape: tuple[int, int]
) -> Float[np.ndarray, "S K T"]:
    n = frames_needed(shape[-1], memory)
    return remember(_normal(who, draws, seed, (*shape[:-1], n)), memory)[..., : shape[-1]]


def _normal(who: int, draws: Sequence[int], seed: int, shape: tuple[int, int]) -> Float[np.ndarray, "S K n"]:
    generators = (np.random.Generator(np.random.Philox(key=[seed, who], counter=[0, 0, 0, s])) for s in draws)
    return np.stack([random.standard_normal(shape, np.float32) for random in generators])
