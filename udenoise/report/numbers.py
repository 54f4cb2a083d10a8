"""report.json: the run's numbers, machine-readable; null where they cannot be known."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from udenoise.arrays import Json, as_floats
from udenoise.io import Movie
from udenoise.report.flagged import flag_numbers
from udenoise.report.pictures import Moments
from udenoise.report.series import blocks, chosen_levels
from udenoise.report.sources import Sources, roi_names
from udenoise.report.trust import trust

_NOISE = (
    "gain",
    "intercept",
    "kernel",
    "difference_lag1",
    "photons",
    "saturated_at",
    "saturated_fraction",
    "clipped_at",
    "clipped_fraction",
    "ramp",
)
NORMAL_MAD = 1.4826
"""Standard deviation of a normal variable over the median of its absolute value."""


def report_numbers(sources: Sources, movie: Movie, moments: Moments) -> Json:
    """The content of report.json."""
    config = sources.config
    stated = config.get("movie", {})
    T, Y, X = movie.shape
    rate = stated.get("frame_rate_hz", movie.frame_rate_hz)
    rois = roi_table(sources)
    return plain(
        {
            "movie": {
                "source": stated.get("source", movie.source),
                "frames": T,
                "rows": Y,
                "columns": X,
                "dtype": str(movie.dtype),
                "frame_rate_hz": rate,
                "seconds": T / rate if rate else None,
            },
            "rois": config.get("rois"),
            "noise": noise_summary(sources.noise),
            "warnings": list((sources.noise or {}).get("warnings") or ()),
            "missing": list(sources.missing),
            "pixel_error": pixel_error(sources, moments),
            "training": training_summary(sources.training),
            "calibration": calibration_summary(sources.calibration),
            "trust": trust(
                sources.calibration, sources.noise, list(roi_names(sources)) if sources.traces is not None else []
            ),
            "flags": flag_numbers(sources),
            "traces": trace_summary(rois, sources),
            "per_roi": rois,
            "timing_s": sources.timing,
            "settings": config.get("config"),
            "seed": config.get("seed"),
            "versions": config.get("versions"),
            "device": config.get("device"),
        }
    )


def noise_summary(noise: Json | None) -> Json | None:
    """The noise model without its long arrays, and how many frames and rows are masked."""
    if noise is None:
        return None
    counts = {f"{name}_count": len(noise.get(name) or ()) for name in ("bad_rows", "bad_frames")}
    return {
        **{name: noise.get(name) for name in _NOISE},
        **counts,
        "bad_frames": noise.get("bad_frames") or [],
        "breaks": noise.get("breaks") or [],
    }


def pixel_error(sources: Sources, moments: Moments) -> Json | None:
    """Noise of one raw pixel at the field's median brightness, and the stated error of a denoised one, counts."""
    noise, brightness = sources.noise, sources.anatomy.get("mean")
    raw = None
    if noise and brightness is not None and noise.get("gain") is not None:
        variance = noise["gain"] * float(np.nanmedian(brightness)) + noise["intercept"]
        raw = math.sqrt(variance) if variance > 0 else None
    stated = moments.pixel_sd
    if raw is None and stated is None:
        return None
    return {"raw_noise_sd": raw, "stated_sd": stated, "ratio": raw / stated if raw and stated else None}


def training_summary(training: Json | None) -> Json | None:
    """How training went, in a few numbers."""
    if training is None:
        return None
    steps, validation = training.get("steps") or [], training.get("validation_loss") or []
    return {
        "steps": steps[-1] if steps else None,
        "best_step": training.get("best_step"),
        "best_validation_loss": min((v for v in validation if v is not None), default=None),
        "seconds": training.get("seconds"),
    }


def calibration_summary(calibration: Json | None) -> Json | None:
    """Error variances as measured and predicted, and their ratio over all ROIs (1: the stated errors are true)."""
    if calibration is None:
        return None
    roi = calibration.get("roi") or {}
    predicted, measured, se = (as_floats(roi.get(name)) for name in ("predicted", "measured", "measured_se"))
    agree = float((np.abs(measured - predicted) <= 2 * se).mean()) if len(se) and len(se) == len(measured) else None
    return {
        **{name: calibration.get(name) for name in ("scales", "factor_shared", "factor_pixel")},
        "scale_ratio": _ratios(as_floats(calibration.get("measured")), as_floats(calibration.get("predicted"))),
        "rois": len(predicted),
        "roi_ratio": _ratio(measured, predicted),
        "roi_ratio_se": _ratio(np.sqrt((se**2).sum(keepdims=True)), predicted.sum(keepdims=True)),
        "roi_within_2_se": agree,
        "roi_factor_median": _median(as_floats(roi.get("factor"))),
        "rois_measured_not_positive": int((measured <= 0).sum()),
        **_active_frames(roi.get("groups")),
    }


def _active_frames(groups: Json | None) -> Json:
    """Measured over predicted error variance in the 3 % of frames where it is expected to be largest (97–99, 99–100 %)."""
    if groups is None:
        return {}
    predicted, measured, se = (as_floats(groups[name])[-2:] for name in ("predicted", "measured", "measured_se"))
    size = np.array([2.0, 1.0])
    doubt = float(np.sqrt((size**2 * se**2).sum()) / (size * predicted).sum())
    return {"active_ratio": _ratio(size * measured, size * predicted), "active_ratio_se": doubt}


def roi_table(sources: Sources) -> list[Json]:
    """One record per ROI: ν (%/√Hz), medians and errors in counts, calibration."""
    traces = sources.traces
    if traces is None:
        return []
    names = roi_names(sources)
    nu = as_floats(traces["nu"][...]) if "nu" in traces else np.full(len(names), np.nan)
    roi = (sources.calibration or {}).get("roi") or {}
    columns = {name: as_floats(roi.get(name)) for name in ("predicted", "measured", "measured_se", "factor")}
    columns = {name: values for name, values in columns.items() if len(values) == len(names)}
    columns |= {"nu": nu, **_trace_columns(traces)}
    return [{"name": name, **{key: values[i] for key, values in columns.items()}} for i, name in enumerate(names)]


def _trace_columns(traces: Any) -> dict[str, np.ndarray]:
    """Numbers of every trace, each (N,), read in blocks."""
    parts = [_block_columns(traces, span) for span in blocks(traces)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _block_columns(traces: Any, span: slice) -> dict[str, np.ndarray]:
    mean, raw, sd = (np.asarray(traces[name][span], np.float64) for name in ("mean", "raw", "sd"))
    columns = {
        "median": np.nanmedian(mean, 1),
        "raw_noise_sd": difference_sd(raw),
        "median_sd": np.nanmedian(sd, 1),
        "mean_sd": np.nanmean(sd, 1),
    }
    if "dff" in traces and "mean" in traces["dff"]:
        dff = np.asarray(traces["dff"]["mean"][span], np.float64)
        peak = np.max(np.where(np.isnan(dff), -np.inf, dff), axis=1)
        columns["dff_undefined"] = np.isnan(dff).mean(1)
        columns["peak_dff"] = np.where(np.isfinite(peak), peak, np.nan)  # NaN where F₀ is not positive throughout
    return columns


def difference_sd(traces: Float[np.ndarray, "N T"]) -> Float[np.ndarray, "N"]:
    """Noise of each trace from its frame-to-frame differences, robust to activity: 1.4826 · median|Δ| / √2."""
    return NORMAL_MAD * np.nanmedian(np.abs(np.diff(traces, axis=1)), axis=1) / math.sqrt(2)


def trace_summary(rois: list[Json], sources: Sources) -> Json | None:
    """Medians over ROIs."""
    if not rois:
        return None

    def median(name: str) -> float | None:
        return _median(as_floats([roi.get(name) for roi in rois]))

    ratios = as_floats([roi["raw_noise_sd"] / roi["median_sd"] if roi["median_sd"] else None for roi in rois])
    levels = [float(level) for level in sources.traces.attrs["levels"]]
    return {
        "rois": len(rois),
        "nu_median": median("nu"),
        "raw_noise_sd_median": median("raw_noise_sd"),
        "sd_median": median("median_sd"),
        "ratio_median": _median(ratios),
        "levels": levels,
        "without_dff": [roi["name"] for roi in rois if roi.get("dff_undefined")],
        "shown_levels": [levels[i] for i in chosen_levels(sources)],
    }


def plain(value: Any) -> Any:
    """JSON's own types; what is not finite becomes null, and bytes in a path that are no text become `?`."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _median(values: np.ndarray) -> float | None:
    """Of the finite ones."""
    return float(np.median(values[np.isfinite(values)])) if np.isfinite(values).any() else None


def _ratio(measured: np.ndarray, predicted: np.ndarray) -> float | None:
    total = float(np.nansum(predicted))
    return float(np.nansum(measured)) / total if total > 0 and len(measured) == len(predicted) else None


def _ratios(measured: np.ndarray, predicted: np.ndarray) -> list[float | None]:
    return [m / p if p > 0 else None for m, p in zip(measured.tolist(), predicted.tolist(), strict=False)]
