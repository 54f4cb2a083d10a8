"""What the movie's own law knows: draws from the posterior of the generative model, everything but the activity being told.

Told are every footprint, the noise, each cell's kinetics, amplitude and rate, how spikes cluster, and the power spectrum of
whatever is no cell. Left are the spikes, and light with these spectra. `all_pixels` hears the movie through `Φᵀ N⁻¹ (y − rest)`,
which loses nothing; `own_trace` hears each ROI's raw trace alone. Gibbs sampling (Geman & Geman 1984): given the spikes the rest
is Gaussian and drawn exactly, frequency by frequency; given the rest, spikes are born, die and move one by one in a Metropolis
walk through the frames (as in Pnevmatikakis et al. 2013). The prior of spikes is a stand-in for the simulator's bursts: the
log odds of a first spike in a frame rise after frames with spikes, and further spikes of the frame are geometric.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy import optimize
from scipy.signal import fftconvolve

from experiments import bench
from experiments.true_error_bars.bound import components, smooth_spectra
from udenoise.config import SimulationConfig
from udenoise.simulate.activity import accumulate, fire, kinetics, respond, saturate, transient, warm_up
from udenoise.simulate.rare import plant_spikes
from udenoise.simulate.tissue import draw_tissue

REACH, FADE = 8, 3.0
"""Frames over which a spike makes others likelier, and the frames in which that falls to 1/e."""
AHEAD = REACH + 4
FARTHEST = 3
"""Frames over which a spike may be moved at once."""
DECAYS = 6.0
"""Length of a transient, in decay times."""


class Cells(NamedTuple):
    """How cells answer spikes."""

    spikes: Float[np.ndarray, "N T"]
    """The true ones; only their statistics are used."""
    kernel: Float[np.ndarray, "N L"]
    before: Float[np.ndarray, "N T"]
    """Calcium from spikes before the movie."""
    amplitude: Float[np.ndarray, "N"]
    half: float
    brightness: Float[np.ndarray, "T"]


class Bursts(NamedTuple):
    """Log odds of spikes in a frame, α + β Σ_d e^(−d/FADE) [spikes d frames ago], and the probability of each further one."""

    beta: float
    alpha: Float[np.ndarray, "N"]
    more: float


class Told(NamedTuple):
    """The law of the movie; the first N of K components are cells, the others Gaussian."""

    cells: Cells
    heard: Float[np.ndarray, "K T"]
    """`Φᵀ N⁻¹ (y − rest)`."""
    precision: Float[np.ndarray, "K K"]
    """`Φᵀ N⁻¹ Φ`."""
    light: Float[np.ndarray, "K T"]
    """The truth; of the Gaussian ones only mean and spectrum are used."""
    weights: Float[np.ndarray, "N K"]
    """Of the components in the ROIs."""


def all_pixels(config: SimulationConfig, scene: bench.Scene) -> Told | None:
    """What the whole movie says; None for one with motion."""
    law = components(config, scene)
    if law is None:
        return None
    frames = zip(scene.movie, scene.clean, law.light.T, strict=True)
    heard = [law.whitened.T @ (y.ravel() - clean.ravel()).astype(float) + law.precision @ a for y, clean, a in frames]
    return Told(_cells(config, law.brightness), np.stack(heard, 1), law.precision, law.light, law.weights)


def own_trace(told: Told, scene: bench.Scene) -> Told:
    """What the ROIs' raw traces say, each of its own cell and, as one more component, of all other light in it."""
    N = len(scene.truth)
    share, noise = np.diag(told.weights[:, :N]), scene.noise_variance
    light = np.concatenate([told.light[:N], scene.truth - share[:, None] * told.light[:N]])
    Phi = np.concatenate([np.diag(share), np.eye(N)], axis=1)
    raw = bench.roi_traces(scene.movie, scene.weights)
    return Told(told.cells, Phi.T @ (raw / noise[:, None]), Phi.T @ (Phi / noise[:, None]), light, Phi)


def mistaken(told: Told, amplitude: float, decay: float, seed: int = 1) -> Told:
    """The same with every cell's amplitude and time scale off by lognormal factors of these spreads."""
    rng, cells = np.random.default_rng(seed), told.cells
    sizes, stretches = (np.exp(spread * rng.standard_normal(len(cells.amplitude))) for spread in (amplitude, decay))
    t = np.arange(cells.kernel.shape[1])
    kernel = [np.interp(t / stretch, t, row, right=0.0) for stretch, row in zip(stretches, cells.kernel, strict=True)]
    return told._replace(cells=cells._replace(amplitude=cells.amplitude * sizes, kernel=np.stack(kernel)))


def untold(told: Told, share: float, seed: int = 2) -> tuple[Told, Float[np.ndarray, "N"]]:
    """The same when of this share of the other components only the mean light is told, and what that is in the ROIs (counts)."""
    N, K = len(told.cells.amplitude), len(told.light)
    known = np.append(np.ones(N, bool), np.random.default_rng(seed).random(K - N) >= share)
    mean = told.light[~known].mean(1)
    heard = told.heard[known] - (told.precision[np.ix_(known, ~known)] @ mean)[:, None]
    precision, light, weights = told.precision[np.ix_(known, known)], told.light[known], told.weights[:, known]
    return Told(told.cells, heard, precision, light, weights), told.weights[:, ~known] @ mean


def _cells(config: SimulationConfig, brightness: np.ndarray) -> Cells:
    """Drawn as `draw_scene` does it."""
    rng = np.random.default_rng([config.seed, 0])
    n = draw_tissue(rng, config, (config.height, config.width)).cells.shape[1]
    spikes, _ = plant_spikes(rng, config, fire(rng, config, n))
    state = rng.bit_generator.state
    firing = respond(rng, config, spikes)
    rng.bit_generator.state = state
    known, rate, start = kinetics(config), config.frame_rate_hz, warm_up(config)
    decay_s = known.decay_s * np.exp(0.15 * rng.normal(size=n))
    amplitude = known.spike_dff * np.exp(0.4 * rng.normal(size=(n, 1)))[:, 0]
    t = (np.arange(int(np.ceil(DECAYS * decay_s.max() * rate))) + 0.5) / rate
    early = np.where(np.arange(spikes.shape[1]) < start, spikes, 0)
    before = accumulate(early, known.rise_s, decay_s, rate)[:, start:]
    kernel = np.stack([transient(t, known.rise_s, decay) for decay in decay_s])
    return Cells(firing.spikes.astype(float), kernel, before, amplitude, known.half_saturation, brightness)


def _fading(lag: Int[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """How much a spike that many frames ago still counts."""
    return np.where((lag >= 1) & (lag <= REACH), np.exp(-lag / FADE), 0.0)


def burst_law(spikes: Float[np.ndarray, "N T"]) -> Bursts:
    """The likeliest of this form for given spikes; the rate is each cell's own."""
    some = (spikes > 0).astype(float)
    lately = fftconvolve(some, _fading(np.arange(REACH + 1))[None], axes=1)[:, : some.shape[1]]

    def misfit(p: np.ndarray) -> float:
        odds = p[1:, None] + p[0] * lately
        return float(np.logaddexp(0, odds).sum() - (some * odds).sum())

    rate = np.maximum(some.mean(1), 0.5 / some.shape[1])
    found = optimize.minimize(misfit, np.concatenate([[2.0], np.log(rate)]), method="L-BFGS-B").x
    several = spikes[spikes > 0].mean() if some.any() else 1.01
    return Bursts(float(found[0]), found[1:], 1 - 1 / max(several, 1.01))


def draw(told: Told, sweeps: int, skipped: int, seed: int = 0, at_truth: bool = False) -> Float[np.ndarray, "S N T"]:
    """Fluorescence of the ROIs (counts, above rest) after each sweep but the first ones.

    The walk begins without any spikes, or at the true ones: where the two ends meet, neither start is remembered.
    """
    rng, law = np.random.default_rng(seed), burst_law(told.cells.spikes)
    spikes, out = told.cells.spikes * float(at_truth), []
    rest = _Rest.of(told, len(spikes))
    for sweep in range(sweeps):
        calcium = _calcium(told.cells, spikes)
        cells = _light(told.cells, calcium)
        others = rest.draw(told, cells, rng)
        for n in range(len(spikes)):
            without = (
                told.heard[n] - told.precision[n] @ np.concatenate([cells, others]) + told.precision[n, n] * cells[n]
            )
            key = jax.random.key(rng.integers(2**31))
            spikes[n], calcium[n] = _walk(key, told, law, n, without, spikes[n], calcium[n])
            cells[n] = _light(told.cells, calcium)[n]
        if sweep >= skipped:
            out.append((told.weights @ np.concatenate([cells, others])).astype(np.float32))
    return np.stack(out)


def _calcium(cells: Cells, spikes: np.ndarray) -> np.ndarray:
    return np.maximum(cells.before + fftconvolve(spikes, cells.kernel, axes=1)[:, : spikes.shape[1]], 0)


def _light(cells: Cells, calcium: np.ndarray) -> np.ndarray:
    return cells.brightness * cells.amplitude[:, None] * saturate(calcium, cells.half)


class _Rest(NamedTuple):
    """The Gaussian components: their mean, and the Cholesky factor of `S⁻¹ + G` at each frequency."""

    mean: Float[np.ndarray, "Z"]
    factor: Float[np.ndarray, "frequencies Z Z"]

    @classmethod
    def of(cls, told: Told, N: int) -> "_Rest":
        precision = told.precision[N:, N:]
        inside = [precision + np.diag(1 / power) for power in smooth_spectra(told.light[N:]).T]
        return cls(told.light[N:].mean(1), np.linalg.cholesky(np.stack(inside)))

    def draw(self, told: Told, cells: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "Z T"]:
        """Given the cells: mean `(S⁻¹ + G)⁻¹ b` and covariance `(S⁻¹ + G)⁻¹` at each frequency."""
        N, T = cells.shape
        left = told.heard[N:] - told.precision[N:, :N] @ cells - (told.precision[N:, N:] @ self.mean)[:, None]
        white = np.fft.rfft(rng.standard_normal(left.shape), axis=1).T[..., None]
        inner = np.linalg.solve(self.factor, np.fft.rfft(left, axis=1).T[..., None])
        found = np.linalg.solve(self.factor.swapaxes(1, 2), inner + white)[..., 0]
        return np.fft.irfft(found.T, T, axis=1) + self.mean[:, None]


def _walk(
    key: jax.Array, told: Told, law: Bursts, n: int, heard: np.ndarray, spikes: np.ndarray, calcium: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One walk through the frames of cell n: its spikes and calcium afterwards. Past the last frame nothing is heard."""
    cells, T, precision = told.cells, len(spikes), told.precision[n, n]
    beyond = cells.kernel.shape[1] + AHEAD
    series = (calcium, heard / precision, cells.brightness)
    own = [np.pad(part, (0, beyond)).astype(np.float32) for part in series]
    size = (precision, cells.amplitude[n], cells.half, law.beta, law.alpha[n], np.log(law.more), np.log1p(-law.more))
    spikes, calcium = walk(
        key, np.pad(spikes, (REACH, beyond)).astype(np.float32), *own, cells.kernel[n].astype(np.float32),
        jnp.array(size, jnp.float32), T,
    )  # fmt: skip
    return np.asarray(spikes)[REACH : REACH + T], np.asarray(calcium)[:T]


@partial(jax.jit, static_argnames="T")
def walk(key, spikes, calcium, measured, brightness, kernel, size, T: int):
    """Visit every frame: a spike more or less there, then one moved between it and one of the next three.

    `size` holds the precision of a frame, amplitude, half saturation, and the law of bursts (β, α, log more, log no more).
    Spikes have REACH frames before the first one, and all series enough after the last.
    """
    precision, amplitude, half, beta, alpha, more, enough = size
    L = len(kernel) + FARTHEST
    answer = jnp.pad(kernel, (0, FARTHEST))
    lately = _fading(np.arange(AHEAD)[:, None] + REACH - np.arange(AHEAD + REACH)).astype(np.float32)

    def prior(near, real):
        odds, count = alpha + beta * lately @ (near > 0).astype(jnp.float32), near[REACH:]
        some = (count - 1) * more + enough - jax.nn.softplus(-odds)
        return jnp.where(real, jnp.where(count > 0, some, -jax.nn.softplus(odds)), 0.0).sum()

    def likely(c, x, light):
        return -precision / 2 * jnp.sum((x - light * amplitude * c * (1 + half) / (c + half)) ** 2)

    def choose(state, other, allowed, real, x, light, u):
        (near, c), (near_, c_) = state, other
        gain = prior(near_, real) - prior(near, real) + likely(c_, x, light) - likely(c, x, light)
        taken = allowed & (jnp.log(u) < gain)
        return jax.tree.map(lambda a, b: jnp.where(taken, b, a), state, other)

    def visit(series, step):
        t, u = step
        real = t + jnp.arange(AHEAD) < T
        near = jax.lax.dynamic_slice(series[0], (t,), (REACH + AHEAD,))
        c, x, light = (jax.lax.dynamic_slice(part, (t,), (L,)) for part in (series[1], measured, brightness))
        sign = jnp.where(u[0] < 0.5, 1.0, -1.0)
        other = near.at[REACH].add(sign), jnp.maximum(c + sign * answer, 0)
        state = choose((near, c), other, other[0][REACH] >= 0, real, x, light, u[1])
        far, sign = 1 + jnp.floor(u[2] * FARTHEST).astype(int), jnp.where(u[3] < 0.5, 1.0, -1.0)
        moved = state[0].at[REACH].add(-sign).at[REACH + far].add(sign)
        other = moved, jnp.maximum(state[1] + sign * (jnp.roll(answer, far) - answer), 0)
        allowed = (moved[REACH] >= 0) & (moved[REACH + far] >= 0) & (t + far < T)
        state = choose(state, other, allowed, real, x, light, u[4])
        return tuple(
            jax.lax.dynamic_update_slice(whole, part, (t,)) for whole, part in zip(series, state, strict=True)
        ), None

    steps = jnp.arange(T), jax.random.uniform(key, (T, 5))
    return jax.lax.scan(visit, (spikes, calcium), steps)[0]
