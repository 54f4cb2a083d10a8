"""Several metrics at once: everything about the traces, everything about their bands. `metrics.table` makes rows of them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from udenoise.metrics.coverage import (
    coverage,
    coverage_by_group,
    quantile_groups,
    relative_width,
    roi_coverage,
    simultaneous_coverage,
    state_coverage,
)
from udenoise.metrics.errors import roi_error, state_errors
from udenoise.metrics.events import (
    Events,
    EventScore,
    Threshold,
    detect_events,
    event_amplitude_ratio,
    event_amplitude_ratios,
    event_delays,
    missed_events,
    score_events,
)
from udenoise.metrics.probability import PitHistogram, crps_draws, crps_gaussian, pit, pit_draws, pit_histogram
from udenoise.metrics.states import Bands, Traces, event_mask, fast_changes, frame_states


class Summary(NamedTuple):
    """One row of the table that decides what is better (design §8); pooled over ROIs and frames."""

    roi_error: float
    """Mean squared error."""
    fast_error: float
    """The same over the fastest 3 % of frames of each ROI."""
    event_amplitude: float
    """Median ratio of estimated to true event peak, 1 is unbiased."""
    levels: tuple[float, ...]
    coverage: tuple[float, ...]
    """How often the band of each level holds the truth."""
    fast_coverage: tuple[float, ...]
    """The same over the fastest 3 % of frames."""
    event_coverage: tuple[float, ...]
    """The same during events."""
    width_ratio: float
    """Mean standard deviation over root mean squared error; an oracle of constant error has 1."""
    crps: float
    """Continuous ranked probability score of Normal(mean, sd)."""


class TraceScore(NamedTuple):
    """Any estimate of traces, with or without an error bar; pooled over ROIs."""

    roi_error: float
    fast_error: float
    rest_error: float
    amplitude: float
    """Median over true events of estimated over true rise."""
    delay: float
    """Mean over true events that were found, frames; positive is late."""
    events: EventScore


class BandScore(NamedTuple):
    """An error bar and its bands; tuples have one entry per level."""

    levels: tuple[float, ...]
    coverage: tuple[float, ...]
    event_coverage: tuple[float, ...]
    fast_coverage: tuple[float, ...]
    rest_coverage: tuple[float, ...]
    seen_coverage: tuple[float, ...]
    """During the events that the estimate shows, which the truth may not have."""
    dim_coverage: tuple[float, ...]
    """Over the fifth of frames (of all ROIs) with the least true brightness, so the fewest photons."""
    bright_coverage: tuple[float, ...]
    poorest_coverage: tuple[float, ...]
    """That of the ROI which a tenth of the ROIs do not reach."""
    whole_coverage: tuple[float, ...]
    """Share of ROIs inside at every frame: what a simultaneous band claims, and a pointwise one does not."""
    relative_width: tuple[float, ...]
    """Mean width over that of an oracle (`oracle_width`) that knows the errors of all frames together."""
    local_width: tuple[float, ...]
    """Over that of an oracle that knows them at rest, in between, during events and during fast changes."""
    crps: float
    pit: PitHistogram


def trace_score(estimate: Traces, truth: Traces, threshold: Threshold, tolerance: int = 5) -> TraceScore:
    """Errors and events; `threshold` (N) as in `event_threshold`, `tolerance` in frames for matching and for delays."""
    errors = state_errors(estimate, truth)
    true = detect_events(truth, threshold)
    found = ~missed_events(estimate, true, threshold, tolerance)
    delays = event_delays(estimate, truth, Events(*(part[found] for part in true)), tolerance)
    ratios = event_amplitude_ratios(estimate, truth, true)
    return TraceScore(
        *(float(np.nanmean(error)) for error in errors),
        amplitude=float(np.median(ratios)) if len(ratios) else float("nan"),
        delay=float(np.nanmean(delays)) if np.isfinite(delays).any() else float("nan"),
        events=score_events(estimate, truth, threshold, tolerance),
    )


def band_score(
    truth: Traces,
    mean: Traces,
    sd: Traces,
    lower: Bands,
    upper: Bands,
    levels: tuple[float, ...],
    draws: Float[np.ndarray, "S N T"] | None = None,
) -> BandScore:
    """Coverage by state and by brightness, width against two oracles, of bands of L levels.

    CRPS and PIT are those of the draws (S N T) where there are any, of Normal(mean, sd²) otherwise.
    """
    bands, states, fifths = list(zip(lower, upper, strict=True)), frame_states(truth), quantile_groups(truth, 5)
    held = [state_coverage(truth, *band) for band in bands]
    by_fifth = [coverage_by_group(truth, *band, fifths).value for band in bands]
    return BandScore(
        tuple(levels),
        *(tuple(getattr(h, state) for h in held) for state in ("overall", "event", "fast", "rest")),
        seen_coverage=tuple(state_coverage(truth, *band, told_by=mean).event for band in bands),
        dim_coverage=tuple(float(value[0]) for value in by_fifth),
        bright_coverage=tuple(float(value[-1]) for value in by_fifth),
        poorest_coverage=tuple(float(np.quantile(roi_coverage(truth, *band), 0.1)) for band in bands),
        whole_coverage=tuple(simultaneous_coverage(truth, *band) for band in bands),
        relative_width=tuple(relative_width(*b, mean, truth, q) for b, q in zip(bands, levels, strict=True)),
        local_width=tuple(relative_width(*b, mean, truth, q, states) for b, q in zip(bands, levels, strict=True)),
        crps=float(np.mean(crps_gaussian(mean, sd, truth) if draws is None else crps_draws(draws, truth))),
        pit=pit_histogram(pit(mean, sd, truth) if draws is None else pit_draws(draws, truth)),
    )


def summary(truth: Traces, mean: Traces, sd: Traces, lower: Bands, upper: Bands, levels: tuple[float, ...]) -> Summary:
    """The table of design §8 for one estimate with its error bar and its bands (L levels)."""
    fast, event = fast_changes(truth), event_mask(truth)
    rates = [
        tuple(coverage(truth, low, high, where) for low, high in zip(lower, upper, strict=True))
        for where in (None, fast, event)
    ]
    error = float(roi_error(mean, truth).mean())
    return Summary(
        roi_error=error,
        fast_error=float(roi_error(mean, truth, fast).mean()),
        event_amplitude=event_amplitude_ratio(mean, truth),
        levels=tuple(levels),
        coverage=rates[0],
        fast_coverage=rates[1],
        event_coverage=rates[2],
        width_ratio=float(np.mean(sd) / np.sqrt(error)),
        crps=float(np.mean(crps_gaussian(mean, sd, truth))),
    )
