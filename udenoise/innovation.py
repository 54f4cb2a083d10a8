"""What no neighbouring frame foretold and noise does not explain: small local events, found in the hidden frame itself.

The blind prediction cannot know an event of one to three frames, and the Gaussian fusion of `posterior`, whose errors are small at
rest, weakens it. But in a frame's residual `r = y − μ` such an event stands out: the amplitude of a template k (a Gaussian spot
that lasts one to three frames) is measured by the matched filter (North 1943)

    â = Σ k r/v / Σ k²/v,     z = Σ k r/v / (f √(Σ k²/v)),     Var â = f²/Σ k²/v + â Σ k³ κ/v² / (Σ k²/v)²

with noise variance v, gain κ, and f the factor by which the noise's correlation and the prediction's own error widen z; the
last term is the shot noise of the event itself. Photon counts are skewed: z is made normal by the Gamma distribution of the
same skewness (Wilson & Hilferty 1931), so that a threshold means what it says in dim movies too. The most significant event of
a neighbourhood is taken out of the residual, until none is left above the threshold (matching pursuit, Mallat & Zhang 1993).
The frame is then fused without these events, and they are added again with their own variance: what is certain is not
weakened, what is not is left to the prior.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import ndimage

from udenoise.regions import correlated_share

SIGMAS_PX = (1.3, 1.8, 2.4)
"""Standard deviations of the spots, pixels."""
DURATIONS = (1, 2, 3)
"""How long they last, frames."""
THRESHOLD = 5.5
"""Least |z|: of 10⁸ places without an event about four pass."""
CANDIDATE = 3.0
"""Least |z| for which it is asked how likely it is."""
REACH = (2, 6, 6)
"""Frames, rows and columns around an event within which only the most significant one is taken in one pass."""
PASSES = 8
CLIP = 3.0
"""z beyond this count as this for the spread, which is that of places without events."""
CLIPPED_POWER = 0.97332
"""E[min(z², CLIP²)] of a normal z."""
SMOOTH_PX = 8.0
"""Gaussian smoothing of the spread, pixels."""
LEAST_POWER = 1e-20
HALF_PX = int(np.ceil(3 * SIGMAS_PX[-1]))
BEFORE, AFTER = 9, 6
"""Frames that a search should see before and after those it is asked for."""


class Events(NamedTuple):
    """What was found, E events: first frame and centre, template, amplitude and its standard deviation (counts), and
    how significant: z as that of a normal variable."""

    frame: Int[np.ndarray, "E"]
    y: Int[np.ndarray, "E"]
    x: Int[np.ndarray, "E"]
    sigma_px: Float[np.ndarray, "E"]
    duration: Int[np.ndarray, "E"]
    amplitude: Float[np.ndarray, "E"]
    amplitude_sd: Float[np.ndarray, "E"]
    z: Float[np.ndarray, "E"]


class Residual(NamedTuple):
    """Blind residuals of successive frames (counts), their noise variance (counts², infinite where nothing was measured)
    and its third cumulant over the variance (counts per photon)."""

    value: Float[np.ndarray, "F Y X"]
    variance: Float[np.ndarray, "F Y X"]
    gain: Float[np.ndarray, "F Y X"]


class Matched(NamedTuple):
    """What the matched filter of each spot size hears in single frames: Σ k r/v, Σ k²/v and Σ k³ κ₃/v³, κ₃ = gain · v."""

    heard: Float[np.ndarray, "S F Y X"]
    power: Float[np.ndarray, "S F Y X"]
    third: Float[np.ndarray, "S F Y X"]


Spread = Float[np.ndarray, "S Y X"]
"""f of each spot size at each pixel."""


def spot(sigma_px: float) -> Float[np.ndarray, "W W"]:
    """A Gaussian spot of height 1."""
    line = _line(sigma_px)
    return np.outer(line, line)


def _line(sigma_px: float) -> Float[np.ndarray, "W"]:
    """Its profile, three standard deviations to either side; none is shorter than the longest of `SIGMAS_PX`."""
    half = max(int(np.ceil(3 * sigma_px)), HALF_PX)
    return np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma_px**2)).astype(np.float32)


def start_spread(shape: tuple[int, int]) -> tuple[Spread, int]:
    """Sums of zeros for `add_spread`."""
    return np.zeros((len(SIGMAS_PX), *shape)), 0


def add_spread(sums: tuple[Spread, int], residual: Residual) -> tuple[Spread, int]:
    """The sums with the squared z of these frames added, clipped so that events count little."""
    return sums[0] + np.asarray(_clipped_power(residual)), sums[1] + len(residual.value)


@jax.jit
def _clipped_power(residual: Residual) -> Float[Array, "S Y X"]:
    heard, power, _ = match(residual)
    return jnp.minimum(heard**2 / jnp.maximum(power, LEAST_POWER), CLIP**2).sum(1)


def spread(sums: tuple[Spread, int], kernel: Float[np.ndarray, "ky kx"]) -> Spread:
    """f: root mean square of z, smooth over the field, at least that of noise with this correlation alone."""
    power = sums[0] / max(sums[1], 1) / CLIPPED_POWER
    least = np.array([correlated_share(spot(sigma), kernel) for sigma in SIGMAS_PX])
    smooth = ndimage.gaussian_filter(power, (0, SMOOTH_PX, SMOOTH_PX), mode="nearest")
    return np.sqrt(np.maximum(smooth, np.maximum(least, 1.0)[:, None, None])).astype(np.float32)


def search(residual: Residual, matched: Matched, widths: Spread) -> Events:
    """The events of successive frames, the most significant first of each neighbourhood; frames count from the first one.

    `matched` is `match(residual)`, which a frame needs once however often it is searched.
    """
    left, found = residual.value.copy(), []
    for _ in range(PASSES):
        events = _most_significant(matched, widths)
        found.append(events)
        if not len(events.frame):
            break
        left -= render(events, left.shape)
        matched = matched._replace(heard=_heard(residual._replace(value=left)))
    return Events(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _most_significant(matched: Matched, widths: Spread) -> Events:
    """Events beyond the threshold that are the largest of their neighbourhoods."""
    z, template = map(np.asarray, _best(matched, widths))
    at = np.nonzero(z > CANDIDATE)
    events = _events(at, template[at], matched, widths)
    kept = np.abs(events.z) > THRESHOLD
    size = np.zeros(z.shape, np.float32)
    size[tuple(part[kept] for part in at)] = z[at][kept]
    if kept.any():
        largest = ndimage.maximum_filter(size, [2 * reach + 1 for reach in REACH], mode="constant")
        kept &= size[at] == largest[at]
    return some(events, kept)


def _events(at: tuple[np.ndarray, ...], template: np.ndarray, matched: Matched, widths: Spread) -> Events:
    """What the templates measure at these places."""
    size, duration = np.divmod(template.astype(int), len(DURATIONS))
    frames = np.array(DURATIONS)[duration]
    t, y, x = at
    heard, power, third = (_summed(np.asarray(part), size, at, frames) for part in matched)
    power, width = np.maximum(power, LEAST_POWER), widths[size, y, x]
    score = normal_score(heard / np.sqrt(power) / width, third / power**1.5 / width)
    amplitude = heard / power
    sd = np.sqrt(width**2 / power + np.maximum(amplitude, 0) * third / power**2)
    return Events(t, y, x, np.array(SIGMAS_PX)[size], frames, amplitude, sd, score)


def _summed(part: np.ndarray, size: np.ndarray, at: tuple[np.ndarray, ...], frames: np.ndarray) -> np.ndarray:
    """Over the frames of each event; past the last there are none."""
    t, y, x = at
    F = part.shape[1]
    each = [
        np.where((d < frames) & (t + d < F), part[size, np.minimum(t + d, F - 1), y, x], 0.0)
        for d in range(DURATIONS[-1])
    ]
    return np.sum(each, axis=0, dtype=np.float64)


@jax.jit
def _best(matched: Matched, widths: Array) -> tuple[Float[Array, "F Y X"], Int[Array, "F Y X"]]:
    """At every place the largest |z| and the template that has it, the likeliest, if it began there; none does where the first
    frame was not measured (of the frames behind it a shorter one says the same)."""
    shape = matched.heard.shape[1:]
    largest, template = jnp.zeros(shape), jnp.zeros(shape, jnp.int8)
    for s in range(len(SIGMAS_PX)):
        for d, duration in enumerate(DURATIONS):
            heard, power = _over_time(matched.heard[s], duration), _over_time(matched.power[s], duration)
            z = jnp.abs(heard) * jax.lax.rsqrt(jnp.maximum(power, LEAST_POWER)) / widths[s]
            better = (z > largest) & (matched.power[s] > LEAST_POWER)
            largest = jnp.where(better, z, largest)
            template = jnp.where(better, jnp.int8(s * len(DURATIONS) + d), template)
    return largest, template


@partial(jax.jit, static_argnames="sigmas_px")
def match(residual: Residual, sigmas_px: tuple[float, ...] = SIGMAS_PX) -> Matched:
    """The matched filter's sums in every frame."""
    precision = 1 / residual.variance
    lines = [_line(sigma) for sigma in sigmas_px]
    power = [_blur(precision, line**2) for line in lines]
    third = [_blur(residual.gain * precision**2, line**3) for line in lines]
    return Matched(_heard(residual, sigmas_px), jnp.stack(power), jnp.stack(third))


@partial(jax.jit, static_argnames="sigmas_px")
def _heard(residual: Residual, sigmas_px: tuple[float, ...] = SIGMAS_PX) -> Float[Array, "S F Y X"]:
    precision = 1 / residual.variance
    seen = jnp.where(precision > 0, residual.value * precision, 0.0)
    return jnp.stack([_blur(seen, line) for line in map(_line, sigmas_px)])


def _blur(frames: Array, line: np.ndarray) -> Array:
    """Correlation with line ⊗ line; beyond the field is nothing."""
    half = len(line) // 2
    for axis in (1, 2):
        size = frames.shape[axis]
        padded = jnp.pad(frames, [(half, half) if a == axis else (0, 0) for a in range(3)])
        frames = sum(float(w) * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, w in enumerate(line))
    return frames


def _over_time(frames: Array, duration: int) -> Array:
    """Sums over frames t … t + duration − 1; past the last there are none."""
    padded = jnp.pad(frames, ((0, duration - 1), (0, 0), (0, 0)))
    return sum(padded[d : d + len(frames)] for d in range(duration))


def normal_score(z: Float[np.ndarray, "*n"], skewness: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The standard normal quantile of a standardised variable with this skewness, taken as Gamma (Wilson & Hilferty 1931).

    Below the mean z itself, which says too little, never too much: counts end at no photon at all, where a Gamma variable does not.
    """
    k = 4 / np.maximum(skewness, 1e-3) ** 2
    ratio = np.maximum(1 + z / np.sqrt(k), 0.0)
    return np.where(z > 0, 3 * np.sqrt(k) * (np.cbrt(ratio) - 1 + 1 / (9 * k)), z)


def render(events: Events, shape: tuple[int, int, int]) -> Float[np.ndarray, "F Y X"]:
    """The events as frames (counts)."""
    return _painted(events, events.amplitude, spot, shape)


def render_variance(events: Events, shape: tuple[int, int, int]) -> Float[np.ndarray, "F Y X"]:
    """The variance of every pixel that comes with the amplitudes (counts²)."""
    return _painted(events, events.amplitude_sd**2, lambda sigma: spot(sigma) ** 2, shape)


def _painted(events: Events, height: np.ndarray, image: Callable, shape: tuple[int, int, int]) -> np.ndarray:
    F, Y, X = shape
    out = np.zeros((F, Y + 2 * HALF_PX, X + 2 * HALF_PX), np.float32)
    side = 2 * HALF_PX + 1
    for t, y, x, sigma, duration, size in zip(*events[:5], height, strict=True):
        out[max(t, 0) : max(t + duration, 0), y : y + side, x : x + side] += size * image(sigma)
    return out[:, HALF_PX : HALF_PX + Y, HALF_PX : HALF_PX + X]


def in_regions(
    events: Events, index: Int[np.ndarray, "K N P"], weight: Float[np.ndarray, "K N P"], shape: tuple[int, int, int]
) -> tuple[Float[np.ndarray, "F K N"], Float[np.ndarray, "F K N"]]:
    """What the events add to the regions' means (counts), and its variance (counts²)."""
    added, variance = np.zeros((2, shape[0], *index.shape[:2]))
    for e in range(len(events.frame)):
        one = some(events, np.array([e]))
        alone = one._replace(frame=np.zeros(1, int), duration=np.ones(1, int))
        share = (render(alone, (1, *shape[1:]))[0].ravel()[index] * weight).sum(-1)
        span = slice(max(int(one.frame[0]), 0), max(int(one.frame[0] + one.duration[0]), 0))
        added[span] += share
        variance[span] += (share * (one.amplitude_sd[0] / one.amplitude[0])) ** 2
    return added, variance


def some(events: Events, which: np.ndarray) -> Events:
    """Those that are chosen, by position or by truth."""
    return Events(*(part[which] for part in events))


def shifted(events: Events, frames: int) -> Events:
    """The same, counted from a frame `frames` earlier."""
    return events._replace(frame=events.frame + frames)


def no_events() -> Events:
    """An empty table."""
    whole = np.zeros(0, int)
    return Events(whole, whole, whole, np.zeros(0), whole, *np.zeros((3, 0)))


def joined(parts: list[Events]) -> Events:
    """All events in order of their first frames."""
    whole = Events(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    order = np.lexsort((whole.x, whole.y, whole.frame))
    return some(whole, order)
