"""From peaks to events, and how many of them chance makes.

Peaks of |z| whose extents overlap are one event. How many events chance alone makes is counted in noise of the recording's law that
goes through the same scan; beyond what can be counted their number falls as `exp(−b z²/2)`, with b, at most 1, from those counted
(of a Gaussian b is 1). That gives p of an event given that there is one, and q, the share of chance among those as large (Benjamini
& Hochberg 1995).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from udenoise.sampling import colour, spectrum_of
from udenoise.scan.peaks import (
    DURATIONS,
    GROUP,
    SHIFTS,
    SIGMAS_PX,
    THRESHOLD,
    Ground,
    Peaks,
    Whitened,
    add_frames,
    joined,
    start_scan,
    take,
)

EXTENT = np.maximum(2 * np.array(SIGMAS_PX), 1.0)
"""Half-widths of the spots, pixels."""
MOST_PX = 128
"""Side of the samples of noise, pixels; smaller where the field is."""
SAMPLE_PLACES = 12_000_000
"""Pixels times frames of all samples."""
SAMPLES = 8


class Chance(NamedTuple):
    """Events that noise alone makes: `rate · exp(−steepness (z² − THRESHOLD²)/2)` per pixel and frame have at least |z|."""

    rate: float
    steepness: float = 1.0

    def above(self, z: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Per pixel and frame."""
        return self.rate * np.exp(-self.steepness * _beyond(z))


class Independent(NamedTuple):
    """As `Chance`, of so many normal variables."""

    count: float

    def above(self, z: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """How many of them."""
        return self.count * 2 * stats.norm.sf(z)


def join_peaks(peaks: Peaks) -> Int[np.ndarray, "P"]:
    """The event that each peak belongs to: peaks whose extents overlap are of one event, and so is a chain of them.

    Above and below stay apart, unless a displacement joins them, which has both.
    """
    template = peaks.spot * len(DURATIONS) + peaks.duration
    kinds, pairs = np.unique(template), [np.zeros((0, 2), int)]
    for i, one in enumerate(kinds):
        pairs += [
            _touching(peaks, np.flatnonzero(template == one), np.flatnonzero(template == other)) for other in kinds[i:]
        ]
    first, second = np.concatenate(pairs).T
    alike = np.sign(peaks.z[first]) == np.sign(peaks.z[second])
    alike |= np.isin(peaks.spot[first], SHIFTS) | np.isin(peaks.spot[second], SHIFTS)
    links = coo_matrix((alike[alike], (first[alike], second[alike])), shape=(len(template), len(template)))
    return connected_components(links, directed=False)[1]


def _touching(peaks: Peaks, some: np.ndarray, others: np.ndarray) -> Int[np.ndarray, "pairs 2"]:
    """Pairs whose extents overlap, of peaks of one template and of another."""
    one, other = some[0], others[0]
    reach = (EXTENT[peaks.spot[one]] + EXTENT[peaks.spot[other]]) / 2
    lasting = np.array(DURATIONS)[peaks.duration]
    scale = np.array([2 / (lasting[one] + lasting[other]), 1 / reach, 1 / reach])
    where = np.stack([peaks.frame + (lasting - 1) / 2, peaks.y, peaks.x], axis=1) * scale
    near = cKDTree(where[others]).query_ball_point(where[some], 1.0, p=np.inf)
    count = [len(found) for found in near]
    return np.stack([np.repeat(some, count), others[np.concatenate([*near, []]).astype(int)]], axis=1)


def event_sizes(z: Float[np.ndarray, "P"], event: Int[np.ndarray, "P"]) -> Float[np.ndarray, "E"]:
    """Largest |z| of each event."""
    out = np.zeros(event.max(initial=-1) + 1)
    np.maximum.at(out, event, np.abs(z))
    return out


def measure_chance(ground: Ground, seed: int = 0) -> Chance:
    """Events in noise of this law: photons of the given skewness, of the given correlation."""
    Y, X = (min(side, MOST_PX) for side in ground.skewness.shape)
    shape = (max(SAMPLE_PLACES // (SAMPLES * Y * X * GROUP), 3) * GROUP, Y, X)
    sizes = np.concatenate([_of_noise(np.random.default_rng([seed, n]), ground, shape) for n in range(SAMPLES)])
    return count_chance(sizes, SAMPLES * int(np.prod(shape)))


def count_chance(sizes: Float[np.ndarray, "E"], places: int) -> Chance:
    """From the events that noise made at so many places; `_beyond` is exponentially distributed, 1/steepness its mean."""
    if not len(sizes):
        return Chance(1 / places)
    return Chance(len(sizes) / places, float(min(len(sizes) / max(_beyond(sizes).sum(), 1e-9), 1.0)))


def _beyond(z: np.ndarray) -> np.ndarray:
    return (np.square(z) - THRESHOLD**2) / 2


def _of_noise(random: np.random.Generator, ground: Ground, shape: tuple[int, int, int]) -> Float[np.ndarray, "E"]:
    sample = _patch(random, ground, shape[1:])
    photons = np.maximum(sample.skewness, 0.01) ** -2.0  # a Poisson variable's skewness is 1/√λ
    unit = ((random.poisson(photons, shape) - photons) / np.sqrt(photons)).astype(np.float32)
    if np.count_nonzero(ground.kernel) > 1:
        unit = colour(unit, spectrum_of(ground.kernel, shape[1:])).astype(np.float32)
    peaks = joined([take(add_frames(start_scan(sample), Whitened(unit, np.zeros_like(unit))), last=True)[0]])
    return event_sizes(peaks.z, join_peaks(peaks))


def _patch(random: np.random.Generator, ground: Ground, shape: tuple[int, int]) -> Ground:
    """A part of the field."""
    first = [random.integers(whole - side + 1) for whole, side in zip(ground.skewness.shape, shape, strict=True)]
    at = tuple(slice(a, a + side) for a, side in zip(first, shape, strict=True))
    return ground._replace(skewness=ground.skewness[at], gradient=ground.gradient[:, *at])


def p_values(size: Float[np.ndarray, "E"], chance: Chance | Independent) -> Float[np.ndarray, "E"]:
    """Probability that an event of chance is at least as large, given that it is one."""
    return np.minimum(chance.above(size) / chance.above(np.array([THRESHOLD])), 1.0)


def q_values(size: Float[np.ndarray, "E"], chance: Chance | Independent, places: float | int) -> Float[np.ndarray, "E"]:
    """Expected share of chance among the events as large as this one, of so many pixels times frames; never falls with p."""
    order = np.argsort(-size)
    share = places * chance.above(size[order]) / np.arange(1, len(size) + 1)
    out = np.empty(len(size))
    out[order] = np.minimum(np.minimum.accumulate(share[::-1])[::-1], 1.0)
    return out
