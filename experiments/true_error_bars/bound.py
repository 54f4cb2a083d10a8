"""The least error that any filter of the whole movie can have that knows every footprint, every spectrum and the noise.

The simulated field is `rest + Φ a(t)` with K components; projected on them the movie is `Φᵀ N⁻¹ (y − rest)`, and nothing about
a is lost. Frequency by frequency the Wiener estimate is `(S⁻¹ + G)⁻¹ Φᵀ N⁻¹ y`, `G = Φᵀ N⁻¹ Φ`, and its error covariance
`(S⁻¹ + G)⁻¹` (Kay 1993, ch. 12), with the components' own power spectra S, smoothed over 31 frequencies. It is linear: what can
be known beyond it is that transients are positive, sparse and of one shape.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import toeplitz
from scipy.ndimage import convolve1d, uniform_filter1d

from experiments import bench
from udenoise.config import SimulationConfig
from udenoise.simulate.detector import detector_taps, noise_kernel
from udenoise.simulate.scene import Scene, draw_scene

SMOOTH = 31
"""Frequencies over which spectra are averaged."""


class Components(NamedTuple):
    """A simulated movie as `rest + Φ a(t)`, seen through the detector."""

    brightness: Float[np.ndarray, "T"]
    light: Float[np.ndarray, "K T"]
    """a, bleaching included."""
    whitened: Float[np.ndarray, "P K"]
    """`N⁻¹ Φ`, with the noise of the mean image."""
    precision: Float[np.ndarray, "K K"]
    """`Φᵀ N⁻¹ Φ`."""
    weights: Float[np.ndarray, "N K"]
    """Of the components in the ROIs, counts."""


def components(config: SimulationConfig, scene: bench.Scene) -> Components | None:
    """Everything that the simulation knows of the movie but the frames; None for a movie with motion."""
    drawn = draw_scene(config)
    if drawn.margin:
        return None
    footprints, whitened, precision = _seen_by(config, drawn, scene.clean.mean(0, dtype=np.float64))
    weights = scene.weights.reshape(len(scene.weights), -1).astype(float) @ footprints
    light = drawn.activity.astype(float) * drawn.brightness
    return Components(drawn.brightness, light, whitened, precision, weights)


def linear_bound(config: SimulationConfig, scene: bench.Scene) -> float | None:
    """Expected mean squared error of the ROIs' fluorescence (counts²); None for a movie with motion."""
    law = components(config, scene)
    if law is None:
        return None
    each = [_error(law.weights, law.precision, power) for power in smooth_spectra(law.light).T]
    T = law.light.shape[1]
    twice = np.where((np.arange(len(each)) == 0) | ((T % 2 == 0) & (np.arange(len(each)) == len(each) - 1)), 1, 2)
    return float((np.array(each) * twice[:, None]).sum(0).mean() / T)


def _seen_by(
    config: SimulationConfig, drawn: Scene, mean: Float[np.ndarray, "Y X"]
) -> tuple[Float[np.ndarray, "P K"], Float[np.ndarray, "P K"], Float[np.ndarray, "K K"]]:
    """Footprints Φ in counts after the detector, `N⁻¹ Φ`, and `Φᵀ N⁻¹ Φ`, with the noise of the mean image."""
    shape = (config.height, config.width, -1)
    taps = detector_taps(config.correlation_x, config.detector.bandwidth_px)
    raw = config.gain * drawn.footprints.toarray().reshape(shape)
    seen = convolve1d(raw, taps[::-1], axis=1, mode="nearest").reshape(config.height * config.width, -1)
    gain = config.gain * config.excess_noise * float(taps @ taps)
    sd = np.sqrt(gain * (mean.ravel() - config.offset) + config.read_noise**2)[:, None]
    correlation = np.zeros(config.width)
    lags = noise_kernel(taps)[len(taps) - 1, len(taps) - 1 :]
    correlation[: len(lags)] = lags
    undone = np.einsum("ij,yjk->yik", np.linalg.inv(toeplitz(correlation)), (seen / sd).reshape(shape))
    whitened = undone.reshape(seen.shape) / sd
    return seen, whitened, seen.T @ whitened


def smooth_spectra(light: Float[np.ndarray, "K T"]) -> Float[np.ndarray, "K frequencies"]:
    """Power of each component at each frequency (counts² over frames), averaged over `SMOOTH` of them."""
    about = light - light.mean(1, keepdims=True)
    power = np.abs(np.fft.rfft(about, axis=1)) ** 2 / light.shape[1]
    return uniform_filter1d(power, SMOOTH, axis=1, mode="nearest") + 1e-12


def _error(weights: np.ndarray, precision: np.ndarray, power: Float[np.ndarray, "K"]) -> Float[np.ndarray, "N"]:
    """`wᵀ (S⁻¹ + G)⁻¹ w` at one frequency."""
    root = np.sqrt(power)
    inside = np.eye(len(root)) + root[:, None] * precision * root
    return np.einsum("nk,kn->n", weights * root, np.linalg.solve(inside, (weights * root).T))
