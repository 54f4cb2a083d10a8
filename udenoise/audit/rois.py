"""Errors of ROI traces without ground truth: how large, at which brightness changes, at which frequencies."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import fft

from udenoise.arrays import Json
from udenoise.audit.doubt import Figure, ratio, widened
from udenoise.audit.regions import Series

MODEL_DOUBT = 0.01
"""Standard error of the ratio between the noise of sums over pixels and what the model says, beside that of its level."""
SHARES = (0.5, 0.8, 0.95, 0.99)
"""Frames by the size of the shown change: between these quantiles."""
GROUPS = ("least half", "50–80 %", "80–95 %", "95–99 %", "largest 1 %")
OCTAVES = 8
"""Bands of the spectrum; each is half as wide as the one above it."""
AT_ONCE = 32
"""Traces transformed at once."""


class RoiError(NamedTuple):
    """Mean squared errors (counts²)."""

    pooled: Figure
    """Of all ROIs and frames."""
    constant: float
    """The part of it that is constant in time: a mean brightness that is off."""
    value: Float[np.ndarray, "N"]
    se: Float[np.ndarray, "N"]
    noise: Float[np.ndarray, "N"]
    """Noise variance of what judges."""
    successive: Figure
    """Σ e_t e_{t+1}: the part of the error that lasts from frame to frame; it needs no noise model."""
    correlation: float
    """Lag-1 correlation of the residual y − D; 0 if nothing but noise is left."""
    correlation_se: float


def roi_error(series: Series, level: Figure) -> RoiError:
    """`E (wᵀ(y − D))² − wᵀNw`, each with its standard error; that of the noise model counts in all of them alike."""
    e, variance = series.residual.astype(np.float64), series.variance.astype(np.float64)
    count = series.whole.sum(1)
    noise = variance.sum(1) / np.maximum(count, 1)
    own = (e**2 - variance).sum(1) / np.maximum(count, 1)
    # Var (d + n)² = 4 d² N + 2 N² for Gaussian noise, and d² = E e² − N
    least = 2 * noise**2 * count
    own_se = np.sqrt(np.maximum(4 * noise * (e**2).sum(1) - least, least)) / np.maximum(count, 1)
    doubt = float(np.hypot(level.se / level.value, MODEL_DOUBT))
    pooled = ratio((e**2 - variance).sum(0), series.whole.sum(0), other=doubt * float(np.average(noise, weights=count)))
    pairs = series.whole[:, 1:] & series.whole[:, :-1]
    successive = ratio((e[:, 1:] * e[:, :-1] * pairs).sum(0), pairs.sum(0), block=4)
    whole = max(float((e**2).sum() / count.sum()), 1e-300)
    each = np.maximum(count, 1)
    constant = float(np.average((e.sum(1) ** 2 - variance.sum(1)) / each**2, weights=count))
    return RoiError(
        pooled,
        constant,
        own,
        np.hypot(own_se, doubt * noise),
        noise,
        successive,
        successive.value / whole,
        successive.se / whole,
    )


class Changes(NamedTuple):
    """Shown changes of each ROI (N T), in units of its noise: of the estimate, what y says beyond it, and noise variance."""

    shown: Float[np.ndarray, "N T"]
    residual: Float[np.ndarray, "N T"]
    variance: Float[np.ndarray, "N T"]
    unit: Float[np.ndarray, "N"]
    """Standard deviation of the noise of what judges, counts."""


def changes(series: Series) -> Changes:
    """Deviations from each ROI's mean over the frames in which it is whole; 0 in the others."""
    count = np.maximum(series.whole.sum(1, keepdims=True), 1)
    unit = np.sqrt(np.maximum(series.variance.sum(1, keepdims=True, dtype=np.float64) / count, 1e-12))

    def centred(traces: np.ndarray) -> np.ndarray:
        values = np.where(series.whole, traces, 0).astype(np.float64)
        return np.where(series.whole, values - values.sum(1, keepdims=True) / count, 0)

    return Changes(
        centred(series.estimate) / unit, centred(series.residual) / unit, series.variance / unit**2, unit[:, 0]
    )


def amplitude_table(series: Series) -> list[Json]:
    """By the size of the shown change: slope of the measured change on the shown one, and the mean residual in its direction.

    1: shown at its true size; above 1: shown too small; below 1: part of what is shown is not there. Groups are made of the
    denoised trace alone, whose noise is not that of what judges.
    """
    parts = changes(series)
    size = np.abs(parts.shown)
    edges = np.quantile(size[series.whole], SHARES)
    group = np.where(series.whole, np.searchsorted(edges, size), -1)
    rows = [_amplitude(name, parts, group == g) for g, name in enumerate(GROUPS)]
    return [*rows, _amplitude("all", parts, group >= 0)]


def _amplitude(name: str, parts: Changes, where: np.ndarray) -> Json:
    d, e, v = (np.where(where, part, 0) for part in parts[:3])
    power, count = (d * d).sum(), where.sum()
    sign, unit = np.sign(d), parts.unit[:, None]
    return {
        "frames": name,
        "count": int(count),
        "shown": float(np.sqrt(power / max(count, 1))),
        "slope": float(1 + (d * e).sum() / power) if power > 0 else None,
        "se": float(np.sqrt(max((d * d * v).sum(), 0)) / power) if power > 0 else None,
        "missing": float((sign * e * unit).sum() / max(count, 1)),
        "missing_se": float(np.sqrt(max((where * v * unit**2).sum(), 0)) / max(count, 1)),
    }


def spectrum_table(series: Series, level: Figure, frame_rate_hz: float | None) -> list[Json]:
    """By frequency band: power of the shown trace, of what it has lost and of what it has invented, with standard errors.

    In cosine transforms (orthonormal, type II), which know no seam between the ends. Invented: `⟨D (D − F)⟩`, shown power
    that is not in the truth; lost: `⟨F (F − D)⟩`, true power that is not shown; their sum is the error's. Densities in
    counts² per Hz (per cycle and frame without a frame rate); `noise` is that of the recording's ROIs as they judge.
    """
    T, doubt = series.residual.shape[1], float(np.hypot(level.se / level.value, MODEL_DOUBT))
    edges = np.unique(np.concatenate([[1], np.rint(T * 2.0 ** -np.arange(OCTAVES - 1, -1, -1)).astype(int)]))
    edges = edges[edges >= 1]
    some = (slice(n, n + AT_ONCE) for n in range(0, len(series.residual), AT_ONCE))
    sums = np.sum([_power(series, part, edges[:-1]) for part in some], axis=0)
    count = np.diff(edges) * len(series.residual)
    density = 2 / (frame_rate_hz or 1.0)
    shown, invented, error, noise, invented_v, error_v, lost_v = sums[:, : len(count)] / count
    rows = []
    for k in range(len(count)):
        floor, scale = doubt * noise[k], density
        row = {
            "from_hz": float(edges[k] / T / density), "to_hz": float(edges[k + 1] / T / density), "shown": shown[k] * scale,
            "noise": noise[k] * scale,
        }  # fmt: skip
        for name, value, variance, other in (
            ("error", error[k], error_v[k], floor),
            ("invented", invented[k], invented_v[k], 0.0),
            ("lost", error[k] - invented[k], lost_v[k], floor),
        ):
            figure = widened(Figure(value, np.sqrt(max(variance, 0) / count[k])), other)
            row |= {name: float(figure.value * scale), f"{name}_se": float(figure.se * scale)}
        rows.append(row)
    return rows


def _power(series: Series, some: slice, starts: np.ndarray) -> Float[np.ndarray, "7 K"]:
    """Sums over bands and traces: shown, invented, error, noise, and the noise variance of invented, error and lost."""
    part = Series(series.residual[some], series.estimate[some], series.variance[some], series.whole[some], None)
    parts = changes(part)
    c, e = (np.asarray(fft.dct(p * parts.unit[:, None], norm="ortho", axis=1)) for p in parts[:2])
    N = part.variance.mean(1, keepdims=True, dtype=np.float64)
    values = np.stack([
        c * c, -c * e, e * e - N, np.broadcast_to(N, c.shape), c * c * N, 4 * N * e * e - 2 * N * N,
        N * (2 * e + c) ** 2 - 2 * N * N, np.broadcast_to(2 * N * N, c.shape),
    ])  # fmt: skip
    *sums, least = np.add.reduceat(values.sum(1), starts, axis=1)
    return np.stack([*sums[:5], np.maximum(sums[5], least), np.maximum(sums[6], least)])


def noise_check(series: Series) -> Figure:
    """Noise of the ROI traces of what judges over what the model says: `2 D₁ − D₂` where the denoised trace is quiet."""
    y, d = (part.astype(np.float64) for part in (series.residual + series.estimate, series.estimate))
    v = series.variance.astype(np.float64)
    unit = np.sqrt(np.maximum(v.mean(1, keepdims=True), 1e-12))
    moved = np.abs(d[:, 2:] - d[:, :-2]) / unit
    whole = series.whole[:, 2:] & series.whole[:, 1:-1] & series.whole[:, :-2]
    quiet = whole & (moved <= np.median(moved))
    noise = ((y[:, 1:-1] - y[:, :-2]) ** 2 + (y[:, 2:] - y[:, 1:-1]) ** 2 - (y[:, 2:] - y[:, :-2]) ** 2) / 2
    model = (v[:, 2:] + v[:, 1:-1] + v[:, :-2]) / 3
    scaled = (np.where(quiet, part / unit**2, 0).sum(0) for part in (noise, model))
    return ratio(*scaled, block=8)
