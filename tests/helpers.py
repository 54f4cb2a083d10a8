"""What several test files share: known movies, random networks, and the dense algebra they are held against."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from udenoise import network
from udenoise.anatomy import estimate_anatomy
from udenoise.config import MovieConfig, NetworkConfig
from udenoise.denoiser import Denoiser
from udenoise.io import open_movie
from udenoise.noise import NoiseModel
from udenoise.recording import Recording

GAIN, OFFSET, READ = 4.0, 30.0, 3.0
FIELD = np.array([[0.9, 1.1, 1.0], [1.2, 1.0, 0.9]])
"""Noise relative to the photon-transfer line, over the field of view."""
SMALL = NetworkConfig(context=3, projection=4, widths=(8, 8, 8), factors=2, lattice_spacing=16)


def white(side: int = 7) -> np.ndarray:
    """The kernel of noise that is independent between pixels."""
    kernel = np.zeros((side, side))
    kernel[side // 2, side // 2] = 1
    return kernel


def correlated(lag1: float = 0.4, side: int = 7) -> np.ndarray:
    """The kernel of noise with a neighbour's correlation along X."""
    kernel = white(side)
    kernel[side // 2, [side // 2 - 1, side // 2 + 1]] = lag1
    return kernel


def noise_model(counts, kernel=None, bad_rows=(), bad_frames=(), breaks=()) -> NoiseModel:
    """The true noise of `movie_counts`."""
    return NoiseModel(
        gain=GAIN, intercept=READ**2 - GAIN * OFFSET, kernel=white() if kernel is None else kernel,
        difference_lag1=-0.5, field=FIELD, bin_mean=np.array([100.0]), bin_variance=np.array([300.0]), photons=10.0,
        bad_rows=np.array(bad_rows, np.int64).reshape(-1, 2), bad_frames=np.array(bad_frames, np.int64),
        breaks=np.array(breaks, np.int64), saturated_at=None, saturated_fraction=0.0, clipped_at=None,
        clipped_fraction=0.0, ramp=0.0, frame_mean=counts.mean((1, 2)).astype(np.float32), warnings=(),
    )  # fmt: skip


def movie_counts(T: int, Y: int, X: int, seed: int = 0) -> np.ndarray:
    """A uint16 movie (T Y X) of blobs that wax and wane, photons and read noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:Y, :X]
    photons = np.full((T, Y, X), 6.0)
    for _ in range(max(Y * X // 400, 1)):
        blob = np.exp(-((y - rng.uniform(0, Y)) ** 2 + (x - rng.uniform(0, X)) ** 2) / 18)
        trace = np.convolve(rng.random(T) < 0.1, np.exp(-np.arange(T) / 6))[:T] + 0.3
        photons += 15 * trace[:, None, None] * blob
    counts = GAIN * rng.poisson(photons) + rng.normal(OFFSET, READ, photons.shape)
    return np.clip(np.round(counts), 0, 65535).astype(np.uint16)


def recording_of(counts: np.ndarray, **known) -> Recording:
    """A recording (10 Hz) whose noise is known."""
    movie, noise = open_movie(counts, MovieConfig(frame_rate_hz=10.0)), noise_model(counts, **known)
    return Recording(movie, noise, estimate_anatomy(movie, noise))


def random_denoiser(config: NetworkConfig = SMALL, seed: int = 0, size: float = 1.0) -> Denoiser:
    """A network none of whose parameters is zero, so that nothing of its output is trivial."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        kernel = len(leaf.shape) > 1
        spread = size / np.sqrt(np.prod(leaf.shape[:-1])) if kernel else 0.15
        return jnp.asarray(spread * rng.standard_normal(leaf.shape), jnp.float32)

    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), config))
    return Denoiser(config, jax.tree.map(draw, shapes), 10.0, 10.0)


@cache
def _drawn(config: NetworkConfig, seed: int):
    """By a generator that compiles fast."""
    return jax.device_get(jax.jit(partial(network.init, config=config))(jax.random.key(seed, impl="rbg")))


def untrained(config: NetworkConfig = SMALL, seed: int = 0):
    """Fresh copies of the parameters that a training of this network starts from."""
    return jax.tree.map(jnp.array, _drawn(config, seed))


def dense_phi(factors: np.ndarray, spacing: int) -> np.ndarray:
    """Φ (pixels × latents, float64) by its definition: `Φ[x, (g, r)] = B_g(x) U_r(x)`, B quarter cosines."""
    Y, X, R = factors.shape

    def windows(side: int) -> np.ndarray:
        nodes = np.arange(-(-side // spacing) + 1) * spacing
        distance = np.abs(np.arange(side) + 0.5 - nodes[:, None]) / spacing
        return np.where(distance < 1, np.cos(np.pi / 2 * np.minimum(distance, 1)), 0)

    phi = np.einsum("gy,hx,yxr->yxghr", windows(Y), windows(X), factors.astype(np.float64))
    return phi.reshape(Y * X, -1)


def dense_kernel(kernel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """`ρ(x − x')` as a matrix (pixels × pixels)."""
    y, x = (axis.ravel() for axis in np.mgrid[: shape[0], : shape[1]])
    dy, dx = y[:, None] - y, x[:, None] - x
    reach = len(kernel) // 2
    near = (abs(dy) <= reach) & (abs(dx) <= reach)
    return np.where(near, kernel[np.clip(dy, -reach, reach) + reach, np.clip(dx, -reach, reach) + reach], 0.0)


def blind_filter(noisy: np.ndarray) -> np.ndarray:
    """A blind prediction along the first axis: jittery (it uses its next neighbours), and half of what is slow is lost."""
    lags = np.arange(-60, 61)
    slow = np.exp(-0.5 * (lags / 20.0) ** 2)
    kernel = np.where(np.abs(lags) == 1, 0.5, 0.0) - 0.5 * slow / slow.sum()
    kernel[lags == 0] = 0.0
    return ndimage.convolve1d(noisy, kernel, axis=0)
