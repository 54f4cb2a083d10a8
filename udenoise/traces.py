"""From moments of regions to traces with corridors: neuropil, F₀ and ΔF/F, draw by draw."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage, optimize, stats

from udenoise.config import TraceConfig
from udenoise.errors import InputError
from udenoise.metrics import noise_level_nu
from udenoise.posterior import Region
from udenoise.sampling import Memory, draw_pairs
from udenoise.smoothing import fit_smoother, influence, smooth


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


class RoiCalibration(NamedTuple):
    """Error variance of the blind predictions of ROIs (k = 0) and rings (k = 1), measured without ground truth.

    In units of the noise variance n of the region's raw mean: where the network states P, the error is
    `factor · h(P/n) · n`, with h rising through the knots (stated, found).
    """

    predicted: Float[np.ndarray, "K N"]
    """Mean of `h(P/n) n`, counts²."""
    measured: Float[np.ndarray, "K N"]
    """Mean squared residual minus noise, counts²; unbiased, and therefore sometimes negative."""
    measured_se: Float[np.ndarray, "K N"]
    factor: Float[np.ndarray, "K N"]
    """Of each region, shrunk towards 1."""
    stated: Float[np.ndarray, "K knots"]
    found: Float[np.ndarray, "K knots"]

    def variance(self, covariance: Float[np.ndarray, "T N K K"], noise: Float[np.ndarray, "T K N"]) -> np.ndarray:
        """The prior covariance of regions (T N K K) with its variances as measured, its correlations as stated."""
        stated = np.diagonal(covariance, axis1=2, axis2=3)
        rise = [_rise(stated[:, :, k] / noise[:, k], self.stated[k], self.found[k]) for k in range(len(self.stated))]
        scale = np.sqrt(np.stack(rise, axis=-1) * noise.transpose(0, 2, 1) * self.factor.T / stated)
        return covariance * scale[..., :, None] * scale[..., None, :]


def calibrate_rois(moments: Region) -> RoiCalibration:
    """`E[(wᵀ(y − μ))²] = wᵀ Σ w + wᵀ N w` measures the error of every region's blind prediction, frame by frame.

    First h: the excess over the noise, averaged over groups of frames and ROIs of similar stated variance, made monotone
    (isotonic regression). Then each region's own factor, drawn towards 1 by its uncertainty (`_shrink`).
    """
    return RoiCalibration(*(np.stack(part) for part in zip(*map(_calibrate, *_by_kind(moments)), strict=True)))


def _by_kind(moments: Region) -> tuple[list[np.ndarray], ...]:
    kinds = range(moments.raw.shape[1])
    stated = [moments.covariance[:, :, k, k] for k in kinds]
    noise = [np.maximum(moments.noise_variance[:, k], 1e-9) for k in kinds]
    return [(moments.raw[:, k] - moments.mean[:, k]) ** 2 / noise[k] - 1 for k in kinds], stated, noise


def _calibrate(excess: np.ndarray, stated: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, ...]:
    """`excess` (T N) is an unbiased estimate of error²/noise, frame by frame; NaN where nothing was measured."""
    ratio = np.where(np.isnan(excess), np.nan, stated / noise)
    knots, found = _monotone(ratio[~np.isnan(ratio)], excess[~np.isnan(ratio)])
    expected = _rise(ratio, knots, found)
    seen = np.maximum((~np.isnan(ratio)).sum(0), 2)
    quotient = np.nanmean(excess, 0) / np.nanmean(expected, 0)
    doubt = np.nanstd(excess, 0) / np.sqrt(seen) / np.nanmean(expected, 0)
    measured = np.nanmean(excess * noise, 0)
    se = np.nanstd(excess * noise, 0) / np.sqrt(seen)
    return (
        np.nanmean(expected * noise, 0),
        measured,
        se,
        _shrink(quotient, doubt),
        knots,
        found,
    )


def _monotone(ratio: np.ndarray, excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots of a rising curve through the mean excess of groups of similar stated ratio; the last groups are the rarest."""
    groups = int(np.clip(len(ratio) // 8000, 2, 10))
    edges = np.quantile(ratio, np.append(np.linspace(0, 0.95, groups + 1), [0.98, 1.0]))
    member = np.clip(np.searchsorted(edges, ratio, side="right") - 1, 0, groups + 1)
    count = np.maximum(np.bincount(member, minlength=groups + 2), 1)
    knots = np.bincount(member, ratio, groups + 2) / count
    mean = np.bincount(member, excess, groups + 2) / count
    weight = count / np.maximum(np.bincount(member, excess**2, groups + 2) / count, 1e-6)
    fitted = optimize.isotonic_regression(mean, weights=weight).x
    kept = np.maximum.accumulate(np.maximum(fitted, 0.1 * knots))
    return np.maximum.accumulate(knots + 1e-9 * np.arange(len(knots))), kept


def _rise(ratio: np.ndarray, knots: np.ndarray, found: np.ndarray) -> np.ndarray:
    """h between and beyond the knots: straight lines; through the origin below the first, in proportion above the last."""
    inside = np.interp(ratio, knots, found)
    below, above = found[0] / knots[0], found[-1] / knots[-1]
    return np.where(ratio < knots[0], ratio * below, np.where(ratio > knots[-1], ratio * above, inside))


def _shrink(quotient: Float[np.ndarray, "N"], doubt: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Draw noisy quotients towards 1: their true spread is what the measured one leaves after its own error
    (method of moments, DerSimonian & Laird 1986). Kept within a fifth and five."""
    weight = 1 / doubt**2
    spread = max(0.0, float((np.sum(weight * (quotient - 1) ** 2) - len(quotient)) / np.sum(weight)))
    share = spread / (spread + doubt**2)
    return np.clip(share * quotient + (1 - share), 0.2, 5.0)


class Fused(NamedTuple):
    """Regions after the frame itself has been heard (counts, counts²)."""

    mean: Float[np.ndarray, "T K N"]
    covariance: Float[np.ndarray, "T N K K"]


def fuse_regions(moments: Region, calibration: RoiCalibration) -> Fused:
    """`μ + S (S + n)⁻¹ (y − μ)` and `S − S (S + n)⁻¹ S` for each ROI with its ring, S as measured; blind where no row is real.

    At the level that is reported, S and n are both measured; the pixels' own fusion rests on the model of their correlation.
    """
    S = calibration.variance(moments.covariance, moments.noise_variance)
    n = np.where(np.isnan(moments.raw), 1e12, moments.noise_variance).transpose(0, 2, 1)
    residual = np.nan_to_num(moments.raw - moments.mean).transpose(0, 2, 1)
    gain = np.linalg.solve(S + n[..., None] * np.eye(S.shape[-1]), S).swapaxes(-1, -2)  # S (S + n)⁻¹
    mean = moments.mean + np.einsum("tnkl,tnl->tkn", gain, residual)
    return Fused(mean, S - gain @ S)


class Response(NamedTuple):
    """How the fused traces answered fresh noise on frames [start, start + t): the noise itself, and what it left."""

    start: int
    fresh: Float[np.ndarray, "t K N"]
    left: Float[np.ndarray, "t K N"]


def refine(
    moments: Region, fused: Fused, response: Response, segment: Int[np.ndarray, "T"]
) -> tuple[Fused, RoiCalibration, Response]:
    """Fused traces filtered in time (`smoothing`), and the error that remains measured once more.

    The squared error is estimated without ground truth by `(y − f)² − n + 2 n E[n f]/E[n²]` (Stein 1981).
    """
    kinds = range(moments.raw.shape[1])
    parts = [_refine(moments, fused, response, segment, k) for k in kinds]
    mean, left, measured = (list(part) for part in zip(*parts, strict=True))
    calibration = RoiCalibration(*(np.stack(part) for part in zip(*measured, strict=True)))
    covariance = calibration.variance(fused.covariance, moments.noise_variance)
    return Fused(np.stack(mean, 1), covariance), calibration, response._replace(left=np.stack(left, 1))


def _refine(
    moments: Region, fused: Fused, response: Response, segment: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    noise = np.maximum(moments.noise_variance[:, k], 1e-9)
    unit = np.sqrt(noise)
    span = slice(response.start, response.start + len(response.fresh))
    fresh, left = response.fresh[:, k] / unit[span], response.left[:, k] / unit[span]
    residual = (moments.raw[:, k] - fused.mean[:, k]) / unit
    about = (fused.mean[:, k] - fused.mean[:, k].mean(0)) / unit
    smoother = fit_smoother(residual, about, segment, fresh, left, segment[span])
    mean = fused.mean[:, k] + unit * smooth(smoother, residual, about, segment)
    left = left + smooth(smoother, fresh - left, left, segment[span])
    stated = fused.covariance[:, :, k, k]
    squared = ((moments.raw[:, k] - mean) / unit) ** 2 - 1 + 2 * influence(smoother, stated / noise)
    return mean, left * unit[span], _calibrate(squared, stated, noise)


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
