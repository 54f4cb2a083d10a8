"""Settings of the program: one frozen dataclass a stage."""

from dataclasses import dataclass, field
from typing import Literal

Baseline = Literal["median", "percentile", "rolling-percentile", "maximin"]
AnatomyInput = Literal["none", "baseline", "mean", "std", "correlation"]
DropoutLevels = Literal["coarse", "all"]
Likelihood = Literal["composite", "pixels", "joint"]
Uncertainty = Literal["lowrank", "dropout", "ensemble"]


@dataclass(frozen=True)
class MovieConfig:
    """How the input is to be read."""

    axes: str | None = None
    """Axes of the stored array, e.g. TYX, TCYX, TZYX, YXT; needed only where the file does not say."""
    channel: int | None = None
    """Which channel (C) to use, counted from 0."""
    plane: int | None = None
    """Which focal plane (Z) to use, counted from 0."""
    frame_rate_hz: float | None = None
    """Frames per second of one plane; overrides the file's own."""


@dataclass(frozen=True)
class NetworkConfig:
    """The interpolation network: context, widths, and what it predicts."""

    context: int | None = None
    """Frames seen on each side of the hidden one; by default from frame rate and indicator, at most 60."""
    indicator_time_constant_s: float = 1.0
    """Decay time of the indicator (GCaMP6f about 0.7, 6m 1.0, 6s 1.5)."""
    anatomy: AnatomyInput = "mean"
    """What the network knows of the field, each the one before and more: nothing; the mean image as the baseline its output is
    added to; also as an input; the variance above noise as well; the correlation image as well."""
    projection: int = 8
    """Channels per pixel after the projection in time."""
    widths: tuple[int, int, int] = (32, 48, 64)
    """Channels at half, quarter and eighth resolution."""
    factors: int = 8
    """Factor maps: patterns of error that neighbouring pixels share."""
    lattice_spacing: int = 16
    """Distance in pixels between the nodes on which the shared errors live."""
    dropout_rate: float = 0.05
    """Channel dropout; needed for Monte-Carlo dropout draws."""
    dropout_levels: DropoutLevels = "coarse"
    """coarse: the two coarse levels; all: also the features of single pixels."""


@dataclass(frozen=True)
class TrainConfig:
    """Training on the movie itself."""

    steps: int = 2200
    """Step budget."""
    batch: int = 8
    """Crops a step."""
    crop: int = 64
    """Side of a training crop in pixels (a multiple of 16)."""
    likelihood: Likelihood = "composite"
    """Score of a prediction: squares of 1 to 16 pixels and their covariance; single pixels; or the covariance alone."""
    learning_rate: float = 4e-3
    """Peak learning rate (warm-up, then cosine)."""
    validate_every: int = 250
    """Steps between validations (and checkpoints)."""
    patience: int = 4
    """Validations without improvement before training stops early."""
    validation_fraction: float = 0.1
    """Share of the movie, in blocks of time, on which the network is validated and never trained."""
    train_memory_mb: int = 512
    """Frames kept in memory for training; longer movies are visited in blocks."""


@dataclass(frozen=True)
class DenoiseConfig:
    """Streaming inference."""

    chunk: int = 8
    """Frames computed at once; the result does not depend on it."""
    tile: int = 512
    """Largest side of the square computed at once; larger frames are tiled without seams."""
    uncertainty: Uncertainty = "lowrank"
    """Where doubt comes from: what the network states; also the spread of passes with dropout; or that of several networks, each
    trained from another seed."""
    passes: int = 4
    """Passes with dropout, or networks, whose mean is taken and whose spread is added to the error."""
    innovations: bool = True
    """Keep small events of one to three frames that stand out of the hidden frame itself; lists them in innovations.csv."""
    write_prior: bool = False
    """Also write prior_mean and prior_sd (blind to the frame itself)."""


@dataclass(frozen=True)
class TraceConfig:
    """From pixels to ΔF/F."""

    neuropil_coefficient: float = 0.7
    """Share of the surrounding neuropil that is subtracted (Suite2p's default); 0 turns it off."""
    f0: Baseline = "maximin"
    """Baseline F₀: median, percentile, rolling-percentile, or maximin (Suite2p's)."""
    f0_percentile: float = 8.0
    """Percentile of `percentile` and `rolling-percentile`."""
    f0_window_s: float = 60.0
    """Window of `rolling-percentile` and `maximin`, seconds."""
    f0_sigma_frames: float = 10.0
    """Gaussian smoothing of `maximin`, frames."""
    offset_counts: float = 0.0
    """Counts at zero light, subtracted before ΔF/F."""
    draws: int = 400
    """Monte-Carlo draws of every trace."""
    levels: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.99)
    """Levels of the corridors."""
    save_draws: bool = False
    """Also write the draws themselves (S N T)."""
    save_covariance: bool = False
    """Also write the covariance of the errors of every two ROIs (`cov`, N N)."""


@dataclass(frozen=True)
class FlagConfig:
    """Where not to believe the result."""

    flags: bool = True
    """Look for places that contradict the denoised movie while it is made; lists them in flags.csv."""
    fdr: float = 0.05
    """False discovery rate: expected share of chance among the events that are flagged."""


@dataclass(frozen=True)
class Config:
    """Everything a run depends on besides the movie and the ROIs."""

    movie: MovieConfig = field(default_factory=MovieConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    denoise: DenoiseConfig = field(default_factory=DenoiseConfig)
    trace: TraceConfig = field(default_factory=TraceConfig)
    flag: FlagConfig = field(default_factory=FlagConfig)
    seed: int = 0
    """Seed of everything random."""
