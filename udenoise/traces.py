"""From moments of regions to traces with corridors: neuropil, F₀ and ΔF/F, draw by draw."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage, stats

from udenoise.config import TraceConfig
from udenoise.errors import InputError
from udenoise.metrics import noise_level_nu
from udenoise.roi_posterior import Fused
from udenoise.sampling import Memory, draw_pairs


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
    nu: Float[np.ndarray, "N"]
    memory: Memory
    draws: Float[np.ndarray, "S N T"] | None


def make_traces(
    raw: Float[np.ndarray, "T K N"],
    fused: Fused,
    memory: Memory,
    config: TraceConfig,
    frame_rate_hz: float | None,
    seed: int,
    report: Callable[[int], None] = lambda done: None,
) -> Traces:
    """Corridors of every ROI, from draws of whole traces. Raises InputError where F₀ needs a frame rate and none is known."""
    check_baseline(config, frame_rate_hz)
    N = raw.shape[2]
    parts = []
    for n in range(N):
        random = np.random.default_rng([seed, 7, n])
        parts.append(
            _one_roi(
                random,
                raw[:, :, n].T.astype(float),
                fused.mean[:, :, n],
                fused.covariance[:, n],
                memory,
                config,
                frame_rate_hz,
            )
        )
        report(n + 1)
    roi, ring, dff, f0, nu, draws = zip(*parts, strict=True)
    return Traces(
        config.levels, _stack(roi), _stack(ring) if ring[0] else None, _stack(dff), np.stack(f0), np.array(nu),
        memory, np.stack(draws, axis=1) if config.save_draws else None,
    )  # fmt: skip


def _one_roi(random, raw, mean, covariance, memory, config, frame_rate_hz):
    draws = draw_pairs(random, mean, covariance, memory, config.draws)
    own, ring = draws[:, 0], draws[:, 1] if draws.shape[1] > 1 else None
    sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)).T
    fluorescence = gaussian_bands(raw[0], mean[:, 0], sd[0], own, config.levels)
    around = None if ring is None else gaussian_bands(raw[1], mean[:, 1], sd[1], ring, config.levels)
    ratio = config.neuropil_coefficient if ring is not None else 0.0
    subtracted = own - config.offset_counts - (ratio * (ring - config.offset_counts) if ring is not None else 0.0)
    baseline = _positive(f0(subtracted, config, frame_rate_hz))
    raw_subtracted = (
        raw[0] - config.offset_counts - (ratio * (raw[1] - config.offset_counts) if ring is not None else 0.0)
    )
    middle = np.median(baseline, axis=0)
    dff = drawn_bands((raw_subtracted - middle) / middle, subtracted / baseline - 1, config.levels)
    plain = _filled(raw[0] - config.offset_counts)
    alone = _positive(f0(plain[None], config, frame_rate_hz))[0]
    nu = np.nan if frame_rate_hz is None else noise_level_nu((plain / alone - 1)[None], float(frame_rate_hz))[0]
    return fluorescence, around, dff, middle, nu, own.astype(np.float32)


def _positive(baseline: np.ndarray) -> np.ndarray:
    return np.where(baseline > 0, baseline, np.nan)  # ΔF/F means nothing where F₀ is not positive


def _filled(trace: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(~np.isnan(trace))
    return np.interp(np.arange(len(trace)), known, trace[known]) if len(known) else trace


def gaussian_bands(
    raw: np.ndarray, mean: np.ndarray, sd: np.ndarray, draws: np.ndarray, levels: tuple[float, ...]
) -> Bands:
    """Corridor of a Gaussian trace: the limit of the draws' quantiles, without their Monte-Carlo error."""
    half = stats.norm.ppf(0.5 + np.array(levels) / 2)[:, None] * sd
    return Bands(raw, mean, sd, mean - half, mean + half, _simultaneous(draws, mean, sd, levels))


def drawn_bands(raw: np.ndarray, draws: Float[np.ndarray, "S T"], levels: tuple[float, ...]) -> Bands:
    """Corridor of anything computed draw by draw: quantiles over draws (median-unbiased, Hyndman & Fan 1996 type 8)."""
    mean, sd = draws.mean(0), draws.std(0, ddof=1)
    tail = (1 - np.array(levels)) / 2
    edges = np.quantile(draws, np.concatenate([tail, 1 - tail]), axis=0, method="median_unbiased")
    return Bands(raw, mean, sd, edges[: len(tail)], edges[len(tail) :], _simultaneous(draws, mean, sd, levels))


def _simultaneous(draws: np.ndarray, mean: np.ndarray, sd: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Quantile over draws of the largest standardised deviation (sup-t band, Montiel Olea & Plagborg-Møller 2019)."""
    largest = np.max(np.abs(draws - mean) / np.maximum(sd, 1e-12), axis=1)
    return np.quantile(largest, levels)


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
