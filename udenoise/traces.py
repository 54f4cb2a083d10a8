"""From moments of regions to traces with corridors: neuropil, F₀ and ΔF/F, draw by draw."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage, stats

from udenoise.config import TraceConfig
from udenoise.draws import TracePosterior, draw_region, quantile_band, side_by_side
from udenoise.errors import InputError
from udenoise.metrics import noise_level_nu
from udenoise.sampling import tail_quantile

LARGEST_SPREAD = 0.3
"""Standard deviation of the logarithm of the factor by which the largest error of a whole trace is off. With it, bands of 50, 80,
90, 95 and 99 % hold 50, 80, 90, 96 and 98 % of the traces of the simulated movies that settings are chosen on; without it 50,
69, 77, 82 and 92 %."""
MOST_UNDEFINED = 0.1
"""Share of the draws."""
NORMAL_NODES = stats.norm.ppf((np.arange(101) + 0.5) / 101)


class Bands(NamedTuple):
    """A trace with its corridor. `simultaneous` times sd is the half-width that holds over the whole trace at once."""

    raw: Float[np.ndarray, "N T"]
    mean: Float[np.ndarray, "N T"]
    sd: Float[np.ndarray, "N T"]
    lower: Float[np.ndarray, "L N T"]
    upper: Float[np.ndarray, "L N T"]
    simultaneous: Float[np.ndarray, "L N"]


class Traces(NamedTuple):
    """Fluorescence of ROIs and neuropil (counts), ΔF/F after subtraction (fraction), F₀ (counts), ν (%/√Hz)."""

    levels: tuple[float, ...]
    roi: Bands
    neuropil: Bands | None
    dff: Bands
    f0: Float[np.ndarray, "N T"]
    f0_shift: Float[np.ndarray, "N T"]
    """F₀ of the mean trace less the median of the draws' (counts): a minimum of what is drawn lies lower than that of what is
    true, so the draws tell how F₀ scatters, and the mean trace where it is."""
    nu: Float[np.ndarray, "N"]
    draws: Float[np.ndarray, "S N T"] | None


def make_traces(
    raw: Float[np.ndarray, "T K N"],
    posterior: TracePosterior,
    config: TraceConfig,
    frame_rate_hz: float | None,
    seed: int,
    report: Callable[[int], None] = lambda done: None,
) -> Traces:
    """Corridors of every ROI, from draws of whole traces. Raises InputError where F₀ needs a frame rate and none is known."""
    check_baseline(config, frame_rate_hz)
    N, held, parts = raw.shape[2], {}, {}
    for done, n in enumerate(side_by_side(posterior)):
        draws = draw_region(posterior, n, range(config.draws), seed, held)
        parts[n] = _one_roi(draws, raw[:, :, n].T.astype(float), posterior, n, config, frame_rate_hz)
        report(done + 1)
    roi, ring, dff, f0, shift, nu, draws = zip(*(parts[n] for n in range(N)), strict=True)
    return Traces(
        config.levels, _stack(roi), _stack(ring) if ring[0] else None, _stack(dff), np.stack(f0), np.stack(shift), np.array(nu),
        np.stack(draws, axis=1) if config.save_draws else None,
    )  # fmt: skip


def _one_roi(draws, raw, posterior, n, config, frame_rate_hz):
    own, ring = draws[:, 0], draws[:, 1] if draws.shape[1] > 1 else None
    mean, covariance = posterior.mean[:, :, n], posterior.covariance[:, n]
    sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)).T
    fluorescence = stated_bands(raw[0], mean[:, 0], sd[0], own, config.levels)
    around = None if ring is None else stated_bands(raw[1], mean[:, 1], sd[1], ring, config.levels)
    above = subtracted(draws, config)
    drawn = f0(above, config, frame_rate_hz)
    shift = f0(subtracted(mean.T[None], config), config, frame_rate_hz)[0] - np.median(drawn, axis=0)
    baseline, middle = positive(drawn + shift), positive(np.median(drawn + shift, axis=0))
    dff = drawn_bands((subtracted(raw[None], config)[0] - middle) / middle, above / baseline - 1, config.levels)
    nu = _nu(raw[0], config, frame_rate_hz)
    return fluorescence, around, dff, middle, shift.astype(np.float32), nu, own.astype(np.float32)


def subtracted(parts: Float[np.ndarray, "S K T"], config: TraceConfig) -> Float[np.ndarray, "S T"]:
    """Fluorescence above the offset, less the neuropil's where there are rings (counts)."""
    above = parts - config.offset_counts
    return above[:, 0] - config.neuropil_coefficient * above[:, 1] if parts.shape[1] > 1 else above[:, 0]


def _nu(raw: np.ndarray, config: TraceConfig, frame_rate_hz: float | None) -> float:
    if frame_rate_hz is None:
        return np.nan
    plain = filled(raw - config.offset_counts)
    alone = positive(f0(plain[None], config, frame_rate_hz))[0]
    return noise_level_nu((plain / alone - 1)[None], float(frame_rate_hz))[0]


def positive(baseline: np.ndarray) -> np.ndarray:
    """F₀ where ΔF/F means something, NaN elsewhere."""
    return np.where(baseline > 0, baseline, np.nan)


def filled(trace: Float[np.ndarray, "T"]) -> Float[np.ndarray, "T"]:
    """Frames that are not known, from their neighbours; unchanged where none is."""
    known = np.flatnonzero(~np.isnan(trace))
    return np.interp(np.arange(len(trace)), known, trace[known]) if len(known) else trace


def stated_bands(
    raw: np.ndarray, mean: np.ndarray, sd: np.ndarray, draws: np.ndarray, levels: tuple[float, ...]
) -> Bands:
    """Corridor of a trace whose distribution is stated: the limit of the draws' quantiles, without their Monte-Carlo error."""
    half = tail_quantile(0.5 + np.array(levels) / 2)[:, None] * sd
    return Bands(raw, mean, sd, mean - half, mean + half, simultaneous(draws, mean, sd, levels))


def drawn_bands(raw: np.ndarray, draws: Float[np.ndarray, "S T"], levels: tuple[float, ...]) -> Bands:
    """Corridor of anything computed draw by draw.

    A draw that is undefined in a frame (NaN: its F₀ is not positive) may be anything there, so it lies outside of both edges; where
    more than `MOST_UNDEFINED` of the draws are, all is NaN.
    """
    if np.isnan(draws).any():
        return _partly_defined(raw, draws, levels)
    mean, sd = draws.mean(0), draws.std(0, ddof=1)
    return Bands(raw, mean, sd, *quantile_band(draws, levels), simultaneous(draws, mean, sd, levels))


def _partly_defined(raw: np.ndarray, draws: Float[np.ndarray, "S T"], levels: tuple[float, ...]) -> Bands:
    undefined = np.isnan(draws)
    hopeless = undefined.mean(0) > MOST_UNDEFINED
    known = np.where(hopeless, 0.0, draws)
    mean, sd = (np.where(hopeless, np.nan, part) for part in (np.nanmean(known, 0), np.nanstd(known, 0, ddof=1)))
    with np.errstate(invalid="ignore"):
        lower = quantile_band(np.where(undefined, -np.inf, known), levels)[0]
        upper = quantile_band(np.where(undefined, np.inf, known), levels)[1]
    told = np.isfinite(lower) & np.isfinite(upper) & ~hopeless
    return Bands(
        raw, mean, sd, *(np.where(told, edge, np.nan) for edge in (lower, upper)), simultaneous(draws, mean, sd, levels)
    )


def simultaneous(
    draws: Float[np.ndarray, "S T"],
    mean: Float[np.ndarray, "T"],
    sd: Float[np.ndarray, "T"],
    levels: tuple[float, ...],
    doubt: float = LARGEST_SPREAD,
) -> Float[np.ndarray, "L"]:
    """Quantile over draws of the largest standardised deviation (sup-t band, Montiel Olea & Plagborg-Møller 2019).

    What is as rare as the largest error of a recording cannot be counted in it: it is in `doubt` by a lognormal factor.
    """
    largest = np.nanmax(np.abs(draws - mean) / np.maximum(sd, 1e-12), axis=1, initial=0.0)
    return np.quantile(np.outer(largest, np.exp(doubt * NORMAL_NODES)), levels)


def _stack(bands: tuple[Bands, ...]) -> Bands:
    axes = Bands(raw=0, mean=0, sd=0, lower=1, upper=1, simultaneous=1)
    return Bands(
        *(np.stack(part, axis).astype(np.float32) for part, axis in zip(zip(*bands, strict=True), axes, strict=True))
    )


def check_baseline(config: TraceConfig, frame_rate_hz: float | None) -> None:
    """Raise InputError where the baseline is measured in seconds and the frame rate is unknown."""
    if frame_rate_hz is None and config.f0 in ("rolling-percentile", "maximin"):
        raise InputError(
            f"the movie's frame rate is unknown and F₀ by {config.f0} uses a window in seconds; "
            "pass --frame-rate-hz 30, or --f0 median"
        )


def f0(trace: Float[np.ndarray, "S T"], config: TraceConfig, frame_rate_hz: float | None) -> Float[np.ndarray, "S T"]:
    """Baseline fluorescence of each draw, counts.

    median, percentile: one number per trace. rolling-percentile: in a centred window, every twentieth of it, joined by
    straight lines. maximin: Gaussian smoothing, running minimum, running maximum (Suite2p's definition).
    """
    if config.f0 == "median":
        return np.broadcast_to(np.median(trace, axis=1, keepdims=True), trace.shape)
    if config.f0 == "percentile":
        return np.broadcast_to(np.percentile(trace, config.f0_percentile, axis=1, keepdims=True), trace.shape)
    check_baseline(config, frame_rate_hz)
    width = max(int(round(config.f0_window_s * frame_rate_hz)), 1)
    if config.f0 == "rolling-percentile":
        return _rolling_percentile(trace, width, config.f0_percentile)
    smooth = ndimage.gaussian_filter1d(trace, config.f0_sigma_frames, axis=1)
    return ndimage.maximum_filter1d(ndimage.minimum_filter1d(smooth, width, axis=1), width, axis=1)


def _rolling_percentile(trace: np.ndarray, width: int, percentile: float) -> np.ndarray:
    T = trace.shape[1]
    centres = np.unique(np.append(np.arange(0, T, max(width // 20, 1)), T - 1))
    values = [np.percentile(trace[:, max(c - width // 2, 0) : c + width // 2 + 1], percentile, axis=1) for c in centres]
    return np.stack([np.interp(np.arange(T), centres, row) for row in np.transpose(values)])
