"""One U-Net for the trained baselines: 3×3 convolutions, max pooling, nearest upsampling, skip connections."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class UNet(nn.Module):
    """Channels (B Y X C) to one image (B Y X); Y and X are multiples of `stride(widths)`.

    With widths 64, 128, 256, 512, 1024 and one convolution per level this is the network of Lecoq et al. 2021.
    """

    widths: tuple[int, ...]
    convolutions: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        skips = []
        for width in self.widths[:-1]:
            skips.append(self._level(x, width))
            x = nn.max_pool(skips[-1], (2, 2), (2, 2))
        x = self._level(x, self.widths[-1])
        for width, skip in zip(self.widths[-2::-1], skips[::-1], strict=True):
            wide = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = self._level(jnp.concatenate([wide, skip], axis=-1), width)
        return _conv(1)(x)[..., 0]

    def _level(self, x: Array, width: int) -> Array:
        for _ in range(self.convolutions):
            x = nn.relu(_conv(width)(x))
        return x


def _conv(width: int) -> nn.Conv:
    return nn.Conv(width, (3, 3), kernel_init=nn.initializers.glorot_uniform())


def stride(widths: tuple[int, ...]) -> int:
    """Sides must be multiples of this."""
    return 2 ** (len(widths) - 1)


def init(seed: int, widths: tuple[int, ...], convolutions: int, channels: int) -> Any:
    """Parameters of an untrained network."""
    side = stride(widths)
    net = UNet(tuple(widths), convolutions)
    return jax.jit(net.init)(jax.random.key(seed, impl="rbg"), jnp.zeros((1, side, side, channels)))["params"]


def apply(params: Any, widths: tuple[int, ...], convolutions: int, x: Float[Array, "B Y X C"]) -> Float[Array, "B Y X"]:
    """Run the network."""
    return UNet(tuple(widths), convolutions).apply({"params": params}, x)


def pad(images: Float[np.ndarray, "*n Y X"], multiple: int) -> Float[np.ndarray, "*n y x"]:
    """Images mirrored at their lower and right border until the sides are multiples."""
    after = [(0, -n % multiple) for n in images.shape[-2:]]
    return np.pad(images, [(0, 0)] * (images.ndim - 2) + after, mode="symmetric")
