"""The interpolation network: neighbours in time and the anatomy in, deviation, log-variance and factor maps out.

It never sees the hidden frame: the windows leave it out by weight zero, the mean image is the leave-one-out mean. Windows
grow with distance (frames ±1, ±2, ±3, then means over 4–5, 6–8, 9–12 …), so long context costs few channels.
About 13,000 multiply-adds per pixel: a linear projection in time gated by the anatomy, then a residual U-Net at half,
quarter and eighth resolution.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from udenoise.config import NetworkConfig

EDGES = (1, 2, 3, 4, 6, 9, 13, 19, 28, 41, 61, 91, 136)
"""First frame of each window, and the end of the last."""
LONGEST_CONTEXT = 60
MAPS = {"none": 0, "baseline": 0, "mean": 0, "std": 1, "correlation": 2}
"""Maps beyond the mean image that each choice of anatomy gives to the network."""
STRIDE = 8
"""Frames given to the network are padded to a multiple of this."""
HALO = 48
"""Pixels beyond which nothing reaches a block of STRIDE output pixels (receptive field, rounded up to the stride)."""


class Prior(NamedTuple):
    """What the neighbours say about the hidden frame, in whitened units (see `whitening`)."""

    deviation: Float[Array, "B Y X"]
    diagonal: Float[Array, "B Y X"]
    factors: Float[Array, "B Y X R"]


def default_context(frame_rate_hz: float | None, indicator_time_constant_s: float) -> int:
    """Three decay times of the indicator on each side, 4 to 60 frames; 30 frames where the rate is unknown."""
    if frame_rate_hz is None:
        return 30
    return int(np.clip(round(3 * frame_rate_hz * indicator_time_constant_s), 4, LONGEST_CONTEXT))


def context_windows(context: int) -> tuple[tuple[int, int], ...]:
    """Distances [first, stop) of the windows on one side."""
    spans = zip(EDGES, EDGES[1:], strict=False)
    return tuple((first, min(stop, context + 1)) for first, stop in spans if first <= context)


def window_weights(
    hidden: np.ndarray, usable: np.ndarray, segment: np.ndarray, context: int
) -> Float[np.ndarray, "B K W"]:
    """Weights that average each window over the frames that exist, are usable and belong to the same trial.

    Frame j of the last axis (W = 2 context + 1) is `hidden + j − context`. An empty window has weight zero throughout.
    """
    frame = hidden[:, None] + np.arange(-context, context + 1)
    inside = (frame >= 0) & (frame < len(usable))
    at = np.clip(frame, 0, len(usable) - 1)
    valid = inside & usable[at] & (segment[at] == segment[hidden][:, None])
    masks = np.stack(
        [_span(context, first, stop, side) for side in (-1, 1) for first, stop in context_windows(context)]
    )
    chosen = valid[:, None] & masks
    return (chosen / np.maximum(chosen.sum(-1, keepdims=True), 1)).astype(np.float32)


def _span(context: int, first: int, stop: int, side: int) -> np.ndarray:
    distance = np.arange(-context, context + 1) * side
    return (distance >= first) & (distance < stop)


def whitening(mean: Array, ratio: Array, gain: float, intercept: float, floor: float) -> Array:
    """`σ₀ = sqrt((a m + c) q)`, counts: the noise's standard deviation at the mean image; q is `NoiseModel.relative`."""
    return jnp.sqrt(jnp.maximum(gain * mean + intercept, floor) * ratio)


def whiten_windows(
    averages: Float[Array, "B K Y X"], weights: Float[Array, "B K W"], mean: Float[Array, "B Y X"], sigma: Array
) -> Float[Array, "B Y X K"]:
    """Window averages (counts) as deviations from the mean image, each scaled to unit noise; an empty window is zero."""
    norm = jnp.sqrt(jnp.sum(weights**2, axis=-1))[:, :, None, None]  # noise of a mean of n frames is 1/sqrt(n)
    z = (averages - mean[:, None]) / (sigma[:, None] * jnp.where(norm > 0, norm, 1.0))
    return jnp.moveaxis(jnp.where(norm > 0, z, 0.0), 1, -1)


def anatomy_features(
    mean: Float[Array, "B Y X"], sigma: Array, level: Float[np.ndarray, "3"], maps: Float[Array, "B Y X E"], given: str
) -> Float[Array, "B Y X A"]:
    """The mean image and its noise, relative to the field's own (centre, spread, σ₀ at the centre), and further maps."""
    mean = jnp.stack([jnp.arcsinh((mean - level[0]) / level[1]), jnp.log(sigma / level[2])], axis=-1)
    return jnp.concatenate([jnp.zeros_like(mean) if given in ("none", "baseline") else mean, maps], axis=-1)


class Interpolator(nn.Module):
    """U-Net from windows (B Y X K), missing windows (B K) and anatomy (B Y X A) to `Prior`."""

    config: NetworkConfig

    @nn.compact
    def __call__(self, windows: Array, missing: Array, anatomy: Array, deterministic: bool = True) -> Prior:
        c = self.config
        seen = self._project(windows, missing, anatomy)
        if c.dropout_levels == "all":
            seen = self._drop(seen, deterministic)
        half, quarter, eighth = c.widths
        e1 = _Block(half, name="encode1")(space_to_depth(seen))
        e2 = self._drop(
            _Block(quarter, name="encode2")(space_to_depth(_conv(half // 2, 1, "down1")(e1))), deterministic
        )
        e3 = self._drop(
            _Block(eighth, name="encode3")(space_to_depth(_conv(quarter // 2, 1, "down2")(e2))), deterministic
        )
        edge = nn.Dense(eighth, use_bias=False, name="edge")(missing)[
            :, None, None
        ]  # wider errors where windows are missing
        d2 = _Block(quarter, name="decode2")(e2 + _upsample(_conv(quarter, 1, "up2")(e3 + edge)))
        d1 = _Block(half, name="decode1")(e1 + _upsample(_conv(half, 1, "up1")(d2)))
        return self._head(d1, d2, seen)

    def _project(self, windows: Array, missing: Array, anatomy: Array) -> Array:
        K, C = windows.shape[-1], self.config.projection
        kernel = self.param("projection", nn.initializers.lecun_normal(), (K, C))
        change = nn.relu(nn.Dense(16, use_bias=False, name="missing")(missing))  # zero when no window is missing
        change = nn.Dense(K * C, use_bias=False, name="reweigh")(change).reshape(-1, K, C)
        projected = jnp.einsum("byxk,bkc->byxc", windows, kernel + change)
        gate = _conv(C, 3, "gate2")(nn.relu(_conv(8, 3, "gate1")(anatomy)))
        return jnp.concatenate([projected * (1 + gate), gate], axis=-1)

    def _drop(self, features: Array, deterministic: bool) -> Array:
        return nn.Dropout(self.config.dropout_rate, broadcast_dims=(0, 1, 2))(features, deterministic=deterministic)

    def _head(self, half: Array, quarter: Array, seen: Array) -> Prior:
        fine = depth_to_space(_conv(4 * 16, 1, "widen")(half))
        both = nn.relu(jnp.concatenate([fine, _conv(8, 3, "fine")(seen)], axis=-1))
        deviation = nn.Dense(1, kernel_init=nn.initializers.zeros, name="deviation")(jnp.concatenate([both, seen], -1))
        maps = double_smoothly(nn.Dense(2, kernel_init=nn.initializers.zeros, name="variances")(half))
        log_diagonal = jnp.clip(maps[..., 0] - 5.5, -12.0, 4.0)
        # Shared errors vary over a few pixels and are scaled, never flipped, pixel by pixel: a texture of signs would
        # have any variance at any scale and let the fusion believe in evidence that is not there.
        shared = nn.Dense(self.config.factors, kernel_init=nn.initializers.normal(0.02), name="factors")(quarter)
        factors = double_smoothly(double_smoothly(shared)) * (2 * nn.sigmoid(maps[..., 1:]))
        return Prior(deviation[..., 0], jnp.exp(log_diagonal), factors)


class _Block(nn.Module):
    """Two 3×3 convolutions with a residual path."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = nn.relu(_conv(self.width, 3, "first")(x))
        y = _conv(self.width, 3, "second")(y)
        return nn.relu(y + (x if x.shape[-1] == self.width else _conv(self.width, 1, "skip")(x)))


def _conv(width: int, side: int, name: str) -> nn.Conv:
    return nn.Conv(width, (side, side), name=name)


def space_to_depth(x: Float[Array, "B Y X C"]) -> Float[Array, "B Y/2 X/2 4*C"]:
    """Fold 2×2 pixels into channels."""
    B, Y, X, C = x.shape
    return x.reshape(B, Y // 2, 2, X // 2, 2, C).transpose(0, 1, 3, 2, 4, 5).reshape(B, Y // 2, X // 2, 4 * C)


def depth_to_space(x: Float[Array, "B Y X C"]) -> Float[Array, "B 2*Y 2*X C/4"]:
    """Inverse of `space_to_depth`."""
    B, Y, X, C = x.shape
    return x.reshape(B, Y, X, 2, 2, C // 4).transpose(0, 1, 3, 2, 4, 5).reshape(B, 2 * Y, 2 * X, C // 4)


def _upsample(x: Array) -> Array:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def double_smoothly(x: Float[Array, "B Y X C"]) -> Float[Array, "B 2*Y 2*X C"]:
    """Linear interpolation to twice the resolution."""
    for axis in (1, 2):
        n = x.shape[axis]
        first, last = jax.lax.slice_in_dim(x, 0, 1, axis=axis), jax.lax.slice_in_dim(x, n - 1, n, axis=axis)
        before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, n - 1, axis=axis)], axis)
        after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, n, axis=axis), last], axis)
        both = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
        x = both.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
    return x


def init(key: Array, config: NetworkConfig) -> Any:
    """Parameters of an untrained network: it returns the anatomy (deviation zero)."""
    K, A = 2 * len(context_windows(config.context)), 2 + MAPS[config.anatomy]
    windows, missing, anatomy = jnp.zeros((1, 16, 16, K)), jnp.zeros((1, K)), jnp.zeros((1, 16, 16, A))
    return jax.jit(Interpolator(config).init)(key, windows, missing, anatomy)["params"]


def apply(
    params: Any, config: NetworkConfig, windows: Array, missing: Array, anatomy: Array, key: Array | None = None
) -> Prior:
    """Run the network; with a `key`, dropout is on (one Monte-Carlo dropout pass)."""
    rngs = None if key is None else {"dropout": key}
    return Interpolator(config).apply({"params": params}, windows, missing, anatomy, key is None, rngs=rngs)
