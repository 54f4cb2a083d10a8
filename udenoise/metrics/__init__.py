"""How good an estimate and its error bar are, when the truth is known. Traces are (N T) in any one unit.

Errors are mean squared; `where` (N T) restricts a figure to some frames, e.g. `fast_changes(truth)`. A movie never has to be in
memory: `start_…` makes sums of zeros, `add_…` returns them with a chunk of frames added, and the last function reads them.
"""

from udenoise.metrics.coverage import (
    Grouped,
    StateCoverage,
    by_group,
    coverage,
    coverage_by_group,
    mean_width,
    oracle_width,
    quantile_groups,
    relative_width,
    roi_coverage,
    simultaneous_coverage,
    state_coverage,
)
from udenoise.metrics.errors import StateErrors, relative_roi_error, roi_error, state_errors
from udenoise.metrics.events import (
    Events,
    EventScore,
    detect_events,
    event_amplitude_ratio,
    event_amplitude_ratios,
    event_delays,
    event_threshold,
    match_events,
    missed_events,
    score_events,
    unmatched,
)
from udenoise.metrics.filters import GaussianFit, best_temporal_gaussian, oracle_wiener
from udenoise.metrics.pixels import PixelScore, PixelSums, add_pixels, pixel_score, start_pixels
from udenoise.metrics.probability import (
    PitHistogram,
    crps_draws,
    crps_gaussian,
    pit,
    pit_draws,
    pit_histogram,
)
from udenoise.metrics.spectra import Spectra, noise_level_nu, spectra
from udenoise.metrics.states import Bands, Traces, Where, at_rest, event_mask, fast_changes, frame_states
from udenoise.metrics.summary import BandScore, Summary, TraceScore, band_score, summary, trace_score
from udenoise.metrics.wobble import Cells, WobbleSums, add_wobble, cells_of, start_wobble, wobble

__all__ = [
    "BandScore",
    "Bands",
    "Cells",
    "EventScore",
    "Events",
    "GaussianFit",
    "Grouped",
    "PitHistogram",
    "PixelScore",
    "PixelSums",
    "Spectra",
    "StateCoverage",
    "StateErrors",
    "Summary",
    "TraceScore",
    "Traces",
    "Where",
    "WobbleSums",
    "add_pixels",
    "add_wobble",
    "at_rest",
    "band_score",
    "best_temporal_gaussian",
    "by_group",
    "cells_of",
    "coverage",
    "coverage_by_group",
    "crps_draws",
    "crps_gaussian",
    "detect_events",
    "event_amplitude_ratio",
    "event_amplitude_ratios",
    "event_delays",
    "event_mask",
    "event_threshold",
    "fast_changes",
    "frame_states",
    "match_events",
    "mean_width",
    "missed_events",
    "noise_level_nu",
    "oracle_width",
    "oracle_wiener",
    "pit",
    "pit_draws",
    "pit_histogram",
    "pixel_score",
    "quantile_groups",
    "relative_roi_error",
    "relative_width",
    "roi_coverage",
    "roi_error",
    "score_events",
    "simultaneous_coverage",
    "spectra",
    "start_pixels",
    "start_wobble",
    "state_coverage",
    "state_errors",
    "summary",
    "trace_score",
    "unmatched",
    "wobble",
]
