"""All settings: one frozen dataclass a stage, one place for each default. Importing this imports no numerics."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from udenoise.errors import InputError

Baseline = Literal["median", "percentile", "rolling-percentile", "maximin"]
AnatomyInput = Literal["none", "baseline", "mean", "std", "correlation"]
DropoutLevels = Literal["coarse", "all"]
Likelihood = Literal["composite", "pixels", "joint"]
Uncertainty = Literal["lowrank", "dropout", "ensemble"]
Indicator = Literal["GCaMP6f", "GCaMP6s", "jGCaMP8m", "OGB-1"]


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
class TissueConfig:
    """What a simulated field holds besides its somata in focus, and how much these differ."""

    size_spread: float = 0.12
    """Spread of the somata's diameters, standard deviation of the logarithm."""
    brightness_spread: float = 0.8
    """Spread of the cells' brightness, standard deviation of the logarithm."""
    filled_nuclei: float = 0.2
    """Share of cells whose nucleus holds indicator too."""
    dark_cells: float = 0.5
    """Somata without indicator, per labelled one."""
    dendrites: float = 1.0
    """Brightness of the dendrites that leave the somata, relative to the usual; 0 turns them off."""
    processes: float = 1.0
    """Dendrites and axons from elsewhere, per cell."""
    boutons: float = 1.5
    """Bright points (boutons, spines, dendrites that cross the plane), per cell."""
    blurred_cells: float = 1.0
    """Cells above or below the focal plane, per cell in focus."""
    texture: float = 1.0
    """Contrast of the neuropil's fine structure, relative to the usual."""
    astrocytes: int = 0
    """Astrocyte-like territories with slow local waves."""
    wave_rate_hz: float = 0.02
    """Waves per second of one territory."""
    wave_dff: float = 0.6
    """Median ΔF/F of a wave at its brightest."""


@dataclass(frozen=True)
class PopulationConfig:
    """How simulated cells fire together, and what their indicator makes of it."""

    indicator: Indicator | None = None
    """Take rise, decay, ΔF/F of a spike and saturation from this indicator instead of from the settings."""
    half_saturation: float = 10.0
    """Spikes' worth of calcium at which the indicator is half saturated."""
    assemblies: int = 4
    """Groups of cells whose rates wax and wane together."""
    assembly_strength: float = 1.0
    """Standard deviation of the logarithm of a group's rate; 0: cells fire independently."""
    sparse_cells: float = 0.0
    """Share of cells that fire single spikes, at a third of the rate, instead of bursts."""


@dataclass(frozen=True)
class OpticsConfig:
    """The simulated microscope's focus."""

    psf_px: float = 0.4
    """Lateral point-spread function in focus, standard deviation in pixels."""
    defocus_px: float = 1.2
    """Blur added at the edge of the focal depth, standard deviation in pixels; it grows linearly with depth."""
    haze: float = 0.0
    """Share of the light that comes from out of focus everywhere (imaging depth), 0 to 0.95."""


@dataclass(frozen=True)
class DetectorConfig:
    """The simulated digitiser."""

    bandwidth_px: float = 0.0
    """Time constant of the amplifier in pixels: each pixel trails into the next ones along X."""
    floor_counts: int = 0
    """Counts below this are written as this (clipping; lower the offset to see it)."""
    ceiling_counts: int = 65535
    """Counts above this are written as this (saturation)."""


@dataclass(frozen=True)
class NuisanceConfig:
    """What else moves and changes in a simulated recording."""

    flicker: float = 0.0
    """Standard deviation of slow fluctuations (20 s) of the whole field's brightness."""
    drift_px: float = 0.0
    """Slow displacement by the end of the movie, pixels."""
    jitter_px: float = 0.0
    """Standard deviation of the displacement from frame to frame, pixels along each axis."""
    motion_bursts_hz: float = 0.0
    """Bursts of brain motion per second, each about half a second long."""
    motion_burst_px: float = 3.0
    """Median displacement at the height of such a burst, pixels."""


@dataclass(frozen=True)
class RareConfig:
    """Planted rare events: what a denoiser must not swallow."""

    flashes: int = 0
    """One-off local events anywhere: standard deviation 1.3 to 2.3 pixels, 1 to 3 frames."""
    dendritic_events: int = 0
    """One-off events in a stretch of one neurite, its soma silent."""
    lone_cells: int = 0
    """Cells that fire one burst in the whole movie."""
    coupled_pairs: int = 0
    """Pairs of cells that fire together."""
    decoupled_events: int = 0
    """Bursts of one cell of such a pair without the other."""
    planted_dff: float = 1.5
    """Median ΔF/F of flashes and dendritic events at their brightest pixel."""
    planted_spread: float = 0.7
    """Spread of that ΔF/F, standard deviation of the logarithm."""
    planted_spikes: int = 3
    """Spikes in a planted burst of a cell."""


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
    tissue: TissueConfig = field(default_factory=TissueConfig)
    population: PopulationConfig = field(default_factory=PopulationConfig)
    optics: OpticsConfig = field(default_factory=OpticsConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    nuisance: NuisanceConfig = field(default_factory=NuisanceConfig)
    rare: RareConfig = field(default_factory=RareConfig)
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
    """Settings of `kind` from plain data. Raises InputError for a name that it does not have."""
    known = {f.name: f.type for f in fields(kind)}
    if strange := sorted(data.keys() - known.keys()):
        raise InputError(f"settings of another version: {', '.join(strange)} unknown here; run anew elsewhere")
    return kind(**{name: _restore(known[name], value) for name, value in data.items()})


def _restore(kind: Any, value: Any) -> Any:
    plain = tuple(value) if isinstance(value, list) else value
    return from_json(kind, value) if isinstance(value, dict) else plain
