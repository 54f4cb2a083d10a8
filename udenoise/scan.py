"""Where residuals are larger than chance, at any of many sizes: from one pixel in one frame to a soma for a second.

A template is a Gaussian spot that lasts some frames; z is its matched filter's output in standard deviations (`innovation`). Peaks
of |z| over places, frames and templates whose extents overlap are one event. How many events chance alone makes is counted in
white noise of the recording's spatial correlation that goes through the same scan; beyond what can be counted their number falls
as the peaks of a Gaussian field do, `A z² exp(−z²/2)` (Worsley et al. 1996), with A from the count. Of events found, that gives
p given that there is one, and q, the share of chance among those as large (Benjamini & Hochberg 1995).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from udenoise.innovation import Matched, Residual, match
from udenoise.sampling import colour, spectrum_of

SIGMAS_PX = (0.3, 1.3, 2.4, 5.0)
"""Standard deviations of the spots, pixels; the first is a single pixel."""
DURATIONS = (1, 3, 10, 30)
"""How long they last, frames."""
THRESHOLD = 4.0
"""Least |z| of a peak."""
AFTER = DURATIONS[-1] - 1
"""Frames that a scan should see beyond those in which events may begin."""
EXTENT = np.maximum(2 * np.array(SIGMAS_PX), 1.0)
"""Half-widths of the spots, pixels."""
FIELD = (96, 96, 150)
"""Rows, columns and frames of a sample of noise."""
SAMPLES = 6


class Peaks(NamedTuple):
    """P local maxima of |z|: first frame and centre, template (spot and duration by number), and z."""

    frame: Int[np.ndarray, "P"]
    y: Int[np.ndarray, "P"]
    x: Int[np.ndarray, "P"]
    spot: Int[np.ndarray, "P"]
    duration: Int[np.ndarray, "P"]
    z: Float[np.ndarray, "P"]


class Chance(NamedTuple):
    """Events that noise alone makes: `amount · z² exp(−z²/2)` per pixel and frame have at least |z|."""

    amount: float

    def above(self, z: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Per pixel and frame."""
        return self.amount * z**2 * np.exp(-np.square(z) / 2)


def find_peaks(residual: Residual, widths: Float[np.ndarray, "S Y X"]) -> Peaks:
    """Peaks of successive frames; those of the last `AFTER` frames are of shorter templates only.

    `widths` are the standard deviations of z of each spot where nothing happens (`innovation.spread`).
    """
    z, template = map(np.asarray, _largest(match(residual, SIGMAS_PX), widths))
    size = np.abs(z)
    at = np.nonzero((size >= THRESHOLD) & (size == ndimage.maximum_filter(size, 3, mode="constant")))
    return Peaks(*at, *np.divmod(template[at].astype(int), len(DURATIONS)), z[at])


@jax.jit
def _largest(matched: Matched, widths: Array) -> tuple[Float[Array, "F Y X"], Int[Array, "F Y X"]]:
    """At every place the z of largest size, and its template."""
    shape = matched.heard.shape[1:]
    largest, template = jnp.zeros(shape), jnp.zeros(shape, jnp.int8)
    for s in range(len(SIGMAS_PX)):
        for d, frames in enumerate(DURATIONS):
            heard, power = (_over_time(part[s], frames) for part in matched[:2])
            z = jnp.where(power > 0, heard * jax.lax.rsqrt(jnp.maximum(power, 1e-30)) / widths[s], 0.0)
            better = jnp.abs(z) > jnp.abs(largest)
            largest, template = (
                jnp.where(better, z, largest),
                jnp.where(better, jnp.int8(s * len(DURATIONS) + d), template),
            )
    return largest, template


def _over_time(frames: Array, duration: int) -> Array:
    """Sums over frames t … t + duration − 1; where the last of these is missing there is nothing."""
    if duration > len(frames):
        return jnp.zeros_like(frames)
    whole = jax.lax.reduce_window(frames, 0.0, jax.lax.add, (duration, 1, 1), (1, 1, 1), "valid")
    return jnp.pad(whole, ((0, duration - 1), (0, 0), (0, 0)))


def join_peaks(peaks: Peaks) -> Int[np.ndarray, "P"]:
    """The event that each peak belongs to: peaks of one sign whose extents overlap are of one event, and so is a chain of them."""
    template = peaks.spot * len(DURATIONS) + peaks.duration
    kinds, pairs = np.unique(template), [np.zeros((0, 2), int)]
    for i, one in enumerate(kinds):
        pairs += [
            _touching(peaks, np.flatnonzero(template == one), np.flatnonzero(template == other)) for other in kinds[i:]
        ]
    first, second = np.concatenate(pairs).T
    alike = np.sign(peaks.z[first]) == np.sign(peaks.z[second])
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


def event_sizes(peaks: Peaks, event: Int[np.ndarray, "P"]) -> Float[np.ndarray, "E"]:
    """Largest |z| of each event."""
    out = np.zeros(event.max(initial=-1) + 1)
    np.maximum.at(out, event, np.abs(peaks.z))
    return out


def measure_chance(kernel: Float[np.ndarray, "ky kx"], widths: Float[np.ndarray, "S"], seed: int = 0) -> Chance:
    """Events of white noise with this spatial correlation; `widths` of each spot's z, as such noise has them."""
    Y, X, F = FIELD
    everywhere = np.broadcast_to(np.asarray(widths, np.float32)[:, None, None], (len(SIGMAS_PX), Y, X))
    sizes = [_of_noise(np.random.default_rng([seed, n]), kernel, everywhere) for n in range(SAMPLES)]
    count = sum(len(part) for part in sizes)
    return Chance(float(count / (SAMPLES * Y * X * F) / Chance(1.0).above(np.array([THRESHOLD]))[0]))


def _of_noise(random: np.random.Generator, kernel: np.ndarray, widths: np.ndarray) -> Float[np.ndarray, "E"]:
    Y, X, F = FIELD
    white = random.standard_normal((F + AFTER, Y, X), np.float32)
    noise = white if np.count_nonzero(kernel) == 1 else colour(white, spectrum_of(kernel, (Y, X)))
    units = np.ones((2, *noise.shape), np.float32)
    peaks = begun_before(find_peaks(Residual(noise.astype(np.float32), *units), widths), F)
    return event_sizes(peaks, join_peaks(peaks))


def begun_before(peaks: Peaks, stop: int) -> Peaks:
    """Those that begin before a frame."""
    return Peaks(*(part[peaks.frame < stop] for part in peaks))


def p_values(size: Float[np.ndarray, "E"], chance: Chance) -> Float[np.ndarray, "E"]:
    """Probability that an event of chance is at least as large, given that it is one."""
    return np.minimum(chance.above(size) / chance.above(np.array([THRESHOLD])), 1.0)


def q_values(size: Float[np.ndarray, "E"], chance: Chance, places: int) -> Float[np.ndarray, "E"]:
    """Expected share of chance among the events as large as this one, of so many pixels times frames; never falls with p."""
    order = np.argsort(-size)
    share = places * chance.above(size[order]) / np.arange(1, len(size) + 1)
    out = np.empty(len(size))
    out[order] = np.minimum(np.minimum.accumulate(share[::-1])[::-1], 1.0)
    return out
