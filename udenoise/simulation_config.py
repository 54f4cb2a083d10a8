"""Settings of the simulator. Importing this imports no numerics."""

from dataclasses import dataclass


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
