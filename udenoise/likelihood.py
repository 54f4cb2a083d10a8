"""Composite Gaussian likelihood of the blind residual at several scales (design: Σ + N at squares of 1 … 16 pixels).

The residual of a hidden frame, averaged over squares of s pixels, has variance

    mean(d)/s² + Σ_nodes (mean of B U)² + v̄ κ_s/s²,   κ_s = Σ_δ ρ(δ) (1 − |δy|/s)₊ (1 − |δx|/s)₊

Single-pixel noise dominates a joint likelihood and leaves the errors of whole cells underestimated; each scale by itself
does not (Lindsay 1988, Varin et al. 2011 on composite likelihoods).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from udenoise.gaussian import log_likelihood, to_cells, window
from udenoise.network import Prior

SCALES = (1, 2, 4, 8, 16)
JOINT_SCALES = (4,)
"""Scales at which all squares of a crop are also scored together: their correlations, not only their variances."""
JOINT_WEIGHT = 1.0
WEIGHTS = {
    "composite": (tuple(1 / s**2 for s in SCALES), JOINT_WEIGHT),
    "pixels": ((1.0, 0.0, 0.0, 0.0, 0.0), 0.0),
    "joint": ((0.0,) * len(SCALES), 1.0),
}
"""Weight of each scale, and of the joint score, by name of the likelihood."""
UNMEASURED = 1e6


def box_noise_factor(kernel: Float[np.ndarray, "ky kx"], side: int) -> float:
    """`κ_s`: how much larger the noise variance of a square's mean is than for independent pixels."""
    reach_y, reach_x = (n // 2 for n in kernel.shape)
    fall_y = np.clip(1 - np.abs(np.arange(-reach_y, reach_y + 1)) / side, 0, None)
    fall_x = np.clip(1 - np.abs(np.arange(-reach_x, reach_x + 1)) / side, 0, None)
    return float(fall_y @ kernel @ fall_x)


def noise_in_whitened_units(deviation: Array, sigma: Array, gain: Array) -> Array:
    """`v/σ₀² = 1 + a δ/σ₀`: noise at the predicted signal instead of at the mean image; at least a tenth.

    `gain` is that of each pixel (counts per photon, `a q`).
    """
    return jnp.maximum(1 + gain * jax.lax.stop_gradient(deviation) / sigma, 0.1)


def box_mean(image: Float[Array, "B Y X *C"], side: int) -> Float[Array, "B y x *C"]:
    """Means over squares; the frame is cut to whole squares."""
    B, Y, X, *rest = image.shape
    cut = image[:, : Y // side * side, : X // side * side]
    return cut.reshape(B, Y // side, side, X // side, side, *rest).mean((2, 4))


def box_designs(factors: Float[Array, "B Y X R"], spacing: int) -> list[Float[Array, "B y x 4 R"]]:
    """For each scale, the mean over each square of `B_g U_r` for the four nodes g around it; scales divide the spacing."""
    B, Y, X, R = factors.shape
    w = jnp.asarray(window(spacing))
    rows = jnp.tile(w, (1, -(-Y // spacing)))[:, :Y].T
    columns = jnp.tile(w, (1, -(-X // spacing)))[:, :X].T
    nodes = (rows[:, None, :, None] * columns[None, :, None, :]).reshape(Y, X, 4, 1)
    designs, previous, design = [], 1, nodes * factors[:, :, :, None]
    for side in SCALES:
        design = box_mean(design, side // previous)
        designs.append(design)
        previous = side
    return designs


def box_moments(
    residual: Float[Array, "B Y X"],
    prior: Prior,
    noise: Float[Array, "B Y X"],
    kernel_factors: tuple[float, ...],
    spacing: int,
) -> list[tuple[Array, Array, Array, Array]]:
    """For each scale: residual, own variance (d), design (ΦU), noise variance of the squares' means."""
    return [
        (box_mean(residual, s), box_mean(prior.diagonal, s) / s**2, design, box_mean(noise, s) * (k / s**2))
        for s, design, k in zip(SCALES, box_designs(prior.factors, spacing), kernel_factors, strict=True)
    ]


def composite_nll(
    residual: Float[Array, "B Y X"],
    good: Float[Array, "B Y X"],
    prior: Prior,
    noise: Float[Array, "B Y X"],
    kernel_factors: tuple[float, ...],
    spacing: int,
    likelihood: str = "composite",
) -> Float[Array, ""]:
    """Weighted mean over scales of `½ log V + ½ r²/V`, over the squares that hold no masked pixel."""
    total, (weights, joint_weight) = 0.0, WEIGHTS[likelihood]
    moments = box_moments(residual, prior, noise, kernel_factors, spacing)
    for (r, own, design, n), s, k, weight in zip(moments, SCALES, kernel_factors, weights, strict=True):
        whole = box_mean(good, s) > 0.999
        D = own + n
        V = D + jnp.sum(design**2, axis=(3, 4))
        nll = 0.5 * (jnp.log(V * s**2 / k) + r**2 / V)
        total += weight * jnp.sum(jnp.where(whole, nll, 0.0)) / jnp.maximum(jnp.sum(whole), 1)
        if s in JOINT_SCALES and joint_weight > 0:
            r, D = jnp.where(whole, r, 0.0), jnp.where(whole, D, UNMEASURED)
            joint = joint_nll(r, D, design, spacing // s) - 0.5 * jnp.sum(
                jnp.where(whole, jnp.log(k / s**2), jnp.log(UNMEASURED))
            )
            total += joint_weight * joint / jnp.maximum(jnp.sum(whole), 1)
    return total / (sum(weights) + joint_weight * len(JOINT_SCALES))


def joint_nll(
    residual: Float[Array, "B y x"], diagonal: Float[Array, "B y x"], design: Float[Array, "B y x 4 R"], spacing: int
) -> Float[Array, ""]:
    """Negative log-density of all squares of a crop together: this is what says which errors go together."""
    B, y, x, _, R = design.shape
    flat = design.reshape(B, y, x, 4 * R)
    cells = [jax.vmap(lambda image: to_cells(image, spacing))(image) for image in (residual, diagonal, flat)]
    return -jnp.sum(jax.vmap(log_likelihood)(*cells))
