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


class _Best(NamedTuple):
    z: np.ndarray
    score: np.ndarray
    template: np.ndarray
    amplitude: np.ndarray
    sd: np.ndarray


Spread = Float[np.ndarray, "S Y X"]
"""f of each spot size at each pixel."""


def spot(sigma_px: float) -> Float[np.ndarray, "W W"]:
    """A Gaussian spot of height 1."""
    line = _line(sigma_px)
    return np.outer(line, line)


def _line(sigma_px: float) -> Float[np.ndarray, "W"]:
    return np.exp(-(np.arange(-HALF_PX, HALF_PX + 1) ** 2) / (2 * sigma_px**2)).astype(np.float32)


def start_spread(shape: tuple[int, int]) -> tuple[Spread, int]:
    """Sums of zeros for `add_spread`."""
    return np.zeros((len(SIGMAS_PX), *shape)), 0


def add_spread(sums: tuple[Spread, int], residual: Residual) -> tuple[Spread, int]:
    """The sums with the squared z of these frames added, clipped so that events count little."""
    return sums[0] + np.asarray(_clipped_power(residual)), sums[1] + len(residual.value)


@jax.jit
def _clipped_power(residual: Residual) -> Float[Array, "S Y X"]:
    parts = [_sums(residual, sigma) for sigma in SIGMAS_PX]
    squares = [heard**2 / jnp.maximum(power, LEAST_POWER) for heard, power, _ in parts]
    return jnp.stack([jnp.minimum(square, CLIP**2).sum(0) for square in squares])


def spread(sums: tuple[Spread, int], kernel: Float[np.ndarray, "ky kx"]) -> Spread:
    """f: root mean square of z, smooth over the field, at least that of noise with this correlation alone."""
    power = sums[0] / max(sums[1], 1) / CLIPPED_POWER
    least = np.array([correlated_share(spot(sigma), kernel) for sigma in SIGMAS_PX])
    smooth = ndimage.gaussian_filter(power, (0, SMOOTH_PX, SMOOTH_PX), mode="nearest")
    return np.sqrt(np.maximum(smooth, np.maximum(least, 1.0)[:, None, None])).astype(np.float32)


def search(residual: Residual, widths: Spread) -> Events:
    """The events of successive frames, the most significant first of each neighbourhood; frames count from the first one."""
    left, found = residual.value.copy(), []
    for _ in range(PASSES):
        best = _Best(*map(np.asarray, _best(residual._replace(value=left), widths)))
        size = np.where(np.abs(best.score) > THRESHOLD, np.abs(best.z), 0.0)
        largest = ndimage.maximum_filter(size, [2 * reach + 1 for reach in REACH], mode="constant")
        at = np.nonzero((size > 0) & (size == largest))
        events = _events(at, best)
        left -= render(events, left.shape)
        found.append(events)
        if not len(events.frame):
            break
    return Events(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _events(at: tuple[np.ndarray, ...], best: _Best) -> Events:
    size, duration = np.divmod(best.template[at], len(DURATIONS))
    sigma, frames = np.array(SIGMAS_PX)[size], np.array(DURATIONS)[duration]
    return Events(*at, sigma, frames, best.amplitude[at], best.sd[at], best.score[at])


@jax.jit
def _best(residual: Residual, widths: Array) -> _Best:
    """At every place the template with the largest |z|, that is the likeliest, if it began there."""
    kinds = _Best(jnp.float32, jnp.float32, jnp.int8, jnp.float32, jnp.float32)
    out = _Best(*(jnp.zeros(residual.value.shape, kind) for kind in kinds))
    for s, sigma in enumerate(SIGMAS_PX):
        sums = _sums(residual, sigma)
        for d, duration in enumerate(DURATIONS):
            heard, power, third = (_over_time(part, duration) for part in sums)
            power = jnp.maximum(power, LEAST_POWER)
            z = heard / jnp.sqrt(power) / widths[s]
            score, amplitude = normal_score(z, third / power**1.5 / widths[s]), heard / power
            sd = jnp.sqrt(widths[s] ** 2 / power + jnp.maximum(amplitude, 0) * third / power**2)
            new = _Best(z, score, jnp.int8(s * len(DURATIONS) + d), amplitude, sd)
            better = jnp.abs(z) > jnp.abs(out.z)
            out = _Best(*(jnp.where(better, one, other) for one, other in zip(new, out, strict=True)))
    return out


def _sums(residual: Residual, sigma_px: float) -> tuple[Array, Array, Array]:
    """Σ k r/v, Σ k²/v and Σ k³ κ₃/v³ in every frame, κ₃ = gain · v."""
    precision, line = 1 / residual.variance, _line(sigma_px)
    seen = jnp.where(precision > 0, residual.value * precision, 0.0)
    return _blur(seen, line), _blur(precision, line**2), _blur(residual.gain * precision**2, line**3)


def _blur(frames: Array, line: np.ndarray) -> Array:
    """Correlation with line ⊗ line; beyond the field is nothing."""
    for axis in (1, 2):
        size = frames.shape[axis]
        padded = jnp.pad(frames, [(HALF_PX, HALF_PX) if a == axis else (0, 0) for a in range(3)])
        frames = sum(float(w) * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, w in enumerate(line))
    return frames


def _over_time(frames: Array, duration: int) -> Array:
    """Sums over frames t … t + duration − 1; past the last there are none."""
    padded = jnp.pad(frames, ((0, duration - 1), (0, 0), (0, 0)))
    return sum(padded[d : d + len(frames)] for d in range(duration))


def normal_score(z: Array, skewness: Array) -> Array:
    """The standard normal quantile of a standardised variable with this skewness, taken as Gamma (Wilson & Hilferty 1931)."""
    k = 4 / jnp.maximum(skewness, 1e-3) ** 2
    ratio = jnp.maximum(1 + z / jnp.sqrt(k), 0.0)
    return 3 * jnp.sqrt(k) * (jnp.cbrt(ratio) - 1 + 1 / (9 * k))


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
        one = Events(*(part[e : e + 1] for part in events))
        alone = one._replace(frame=np.zeros(1, int), duration=np.ones(1, int))
        share = (render(alone, (1, *shape[1:]))[0].ravel()[index] * weight).sum(-1)
        span = slice(max(int(one.frame[0]), 0), max(int(one.frame[0] + one.duration[0]), 0))
        added[span] += share
        variance[span] += (share * (one.amplitude_sd[0] / one.amplitude[0])) ** 2
    return added, variance


def shifted(events: Events, frames: int) -> Events:
    """The same, counted from a frame `frames` earlier."""
    return events._replace(frame=events.frame + frames)


def joined(parts: list[Events]) -> Events:
    """All events in order of their first frames."""
    whole = Events(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    order = np.lexsort((whole.x, whole.y, whole.frame))
    return Events(*(part[order] for part in whole))


def none() -> Events:
    """No events."""
    kinds = Events(int, int, int, float, int, float, float, float)
    return Events(*(np.zeros(0, kind) for kind in kinds))
