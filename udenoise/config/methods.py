"""Settings of the baselines."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RawConfig:
    """Baseline: the movie as it is; nothing to set."""


@dataclass(frozen=True)
class GaussianConfig:
    """Baseline: one Gaussian in time and, where asked for, in space."""

    sigma_frames: float = 3.0
    """Standard deviation in time, frames; 0: none."""
    sigma_px: float = 0.0
    """Standard deviation along Y and X, pixels; 0: none."""


@dataclass(frozen=True)
class MedianConfig:
    """Baseline: running median in time."""

    window_frames: int = 5
    """Length of the window, frames (odd)."""


@dataclass(frozen=True)
class PmdConfig:
    """Baseline: low rank in overlapping blocks (after Buchanan et al. 2018)."""

    block_px: int = 16
    """Side of a block, pixels; neighbouring blocks share half of it."""
    keep: Literal["smooth", "strong", "either"] = "smooth"
    """Components kept: smoother than noise in time and in space, stronger than noise, or either."""
    false_rate: float = 0.005
    """Share of noise components that pass for smooth in time, and in space."""
    smooth_frames: float = 0.0
    """Standard deviation of a Gaussian in time over the components, frames; 0: none."""


@dataclass(frozen=True)
class Noise2VoidConfig:
    """Baseline: a small U-Net that fills in hidden pixels from their surroundings in the same frame (Krull et al. 2019)."""

    widths: tuple[int, ...] = (32, 64, 128)
    """Channels at full, half, quarter ... resolution."""
    convolutions: int = 2
    """3×3 convolutions at each resolution."""
    steps: int = 1000
    """Training steps."""
    batch: int = 8
    """Crops a step."""
    crop: int = 64
    """Side of a training crop, pixels."""
    learning_rate: float = 4e-4
    """Of Adam."""
    decay: float = 0.0
    """Share of the steps, at the end, over which the learning rate falls to zero."""


@dataclass(frozen=True)
class DeepInterpolationConfig:
    """Baseline: the network of Lecoq et al. 2021 at its published size."""

    context: int = 30
    """Frames seen on each side of the hidden one."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    """Channels at full, half, quarter ... resolution."""
    convolutions: int = 1
    """3×3 convolutions at each resolution."""
    loss: Literal["absolute", "squared"] = "absolute"
    """Error to the hidden frame; published is the absolute one."""
    steps: int = 2000
    """Training steps."""
    batch: int = 5
    """Crops a step."""
    crop: int = 64
    """Side of a training crop, pixels; as large as the frame for whole frames."""
    learning_rate: float = 5e-4
    """Of RMSprop."""
    decay: float = 0.0
    """Share of the steps, at the end, over which the learning rate falls to zero."""
