"""All settings: one frozen dataclass a stage, one place for each default. Importing this imports no numerics."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Baseline = Literal["median", "percentile", "rolling-percentile", "maximin"]


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
    projection: int = 8
    """Channels per pixel after the projection in time."""
    widths: tuple[int, int, int] = (32, 48, 64)
    """Channels at half, quarter and eighth resolution."""
    factors: int = 8
    """Factor maps: patterns of error that neighbouring pixels share."""
    lattice_spacing: int = 16
    """Distance in pixels between the nodes on which the shared errors live."""
    dropout_rate: float = 0.05
    """Channel dropout in the two coarse levels; needed for Monte-Carlo dropout draws."""


@dataclass(frozen=True)
class TrainConfig:
    """Training on the movie itself."""

    steps: int = 2200
    """Step budget."""
    batch: int = 8
    """Crops a step."""
    crop: int = 64
    """Side of a training crop in pixels (a multiple of 16)."""
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
    dropout_draws: int = 0
    """Monte-Carlo dropout passes added to the error (0: none)."""
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


@dataclass(frozen=True)
class SimulationConfig:
    """A movie whose answer is known: the field, the indicator, the detector."""

    frames: int = 1000
    """Length of the movie (T)."""
    height: int = 128
    """Rows (Y), slow scan axis."""
    width: int = 128
    """Columns (X), fast scan axis."""
    frame_rate_hz: float = 30.0
    """Frames per second."""
    cells: int | None = None
    """Somata in focus, each with an ROI; by default one per 600 pixels."""
    soma_diameter_px: float = 12.0
    """Median diameter of a soma, pixels."""
    vessels: int = 1
    """Blood vessels that shade the field."""
    neuropil_activity: float = 0.12
    """Standard deviation of the neuropil's own slow ΔF/F, per local patch."""
    rise_s: float = 0.08
    """Rise time of the indicator, seconds (GCaMP6f about 0.05, 6s 0.18)."""
    decay_s: float = 0.7
    """Decay time of the indicator, seconds (GCaMP6f 0.4 to 0.7, 6s 1.2 to 1.5)."""
    spike_dff: float = 0.35
    """Median ΔF/F of one spike; it differs between cells."""
    event_rate_hz: float = 0.08
    """Median rate of bursts per cell; it differs between cells and waxes and wanes with their assembly."""
    burst_spikes: float = 3.0
    """Mean spikes per burst, at least 1."""
    photons: float = 2.0
    """Mean photons per pixel per frame over field and movie."""
    gain: float = 100.0
    """Mean counts per detected photon."""
    excess_noise: float = 1.25
    """Excess noise factor of the detector, at least 1: variance = gain · excess_noise · mean, in counts."""
    read_noise: float = 10.0
    """Standard deviation of the electronics' noise, counts."""
    offset: float = 100.0
    """Counts at zero light."""
    correlation_x: float = 0.0
    """Noise correlation with the next pixel along X (detector bandwidth), 0 to 0.6."""
    bleaching: float = 0.0
    """Fraction of the brightness lost by the end of the movie."""
    dropped_rows: float = 0.0
    """Fraction of rows lost (written as 0)."""
    seed: int = 0
    """Seed of everything random."""


@dataclass(frozen=True)
class Config:
    """Everything a run depends on besides the movie and the ROIs."""

    movie: MovieConfig = field(default_factory=MovieConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    denoise: DenoiseConfig = field(default_factory=DenoiseConfig)
    trace: TraceConfig = field(default_factory=TraceConfig)
    seed: int = 0
    """Seed of everything random."""


def to_json(config: Any) -> dict[str, Any]:
    """The settings as plain data."""
    return asdict(config)


def from_json(kind: type, data: dict[str, Any]) -> Any:
    """Settings of `kind` from plain data; an unknown name is an error (TypeError)."""
    known = {f.name: f for f in fields(kind)}
    return kind(**{name: _restore(known.get(name), value) for name, value in data.items()})


def _restore(spec: Any, value: Any) -> Any:
    if isinstance(value, dict) and spec is not None:
        return from_json(spec.type if isinstance(spec.type, type) else globals()[spec.type], value)
    return tuple(value) if isinstance(value, list) else value
