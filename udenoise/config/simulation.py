"""Settings of simulated movies."""

from dataclasses import dataclass, field
from typing import Literal

Indicator = Literal["GCaMP6f", "GCaMP6s", "jGCaMP8m", "OGB-1"]


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
