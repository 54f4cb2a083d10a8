"""Is it calibrated? Predicted against measured errors of this movie, without ground truth, and what follows from it in words."""

from typing import Any

import numpy as np

from udenoise.arrays import Json, as_floats

ENOUGH = 0.35
"""Relative standard error of the measured error variance above which a movie cannot be judged."""
TRUE_WITHIN = 0.2
"""Measured over predicted error variance this far from 1 moves the coverage of a 95 % corridor by two per cent."""
SIGNIFICANT = 2.5
"""Standard errors beyond that before a difference counts."""
REGION_DOUBT = 0.02
"""Doubt about each region's noise variance, which looks like error (`roi_error.OWN_DOUBT`)."""
MISFIT = 4.0
"""Factor between what the network states and what is measured beyond which it does not fit the movie."""
LOUDER = 0.1
"""Relative difference between the noise of ROIs and the noise model's that calls for an explanation."""
LITTLE_GAIN = 0.5
"""Share of the noise variance above which little was gained."""
WHITE = -0.5
"""Lag-1 correlation of the frame differences of white noise."""
WHITE_WITHIN = 0.02
GROUPS = ("least half", "50–80 %", "80–90 %", "90–97 %", "97–99 %", "largest 1 %")
SHARES = (0.5, 0.3, 0.1, 0.07, 0.02, 0.01)
"""Frames by their expected error (`roi_error.GROUPS`), and their shares."""
NAMED = 5
"""ROIs that are named before the rest is counted."""


def trust(calibration: Json | None, noise: Json | None, names: list[str]) -> Json | None:
    """Tables by activity and by lag, reasons for doubt, and one sentence; None without ROIs."""
    roi = (calibration or {}).get("roi")
    if not roi:
        return None
    activity, lags = _activity(roi), _lags(roi.get("lags"))
    whole = _whole(activity)
    off = [name for name, far in zip(names, _deviating(roi), strict=False) if far]
    grave = [*_misfit(calibration), *_white(noise), *_louder(roi), *_level(whole)]
    reasons = [*grave, *_action(activity), *_gain(activity), *_regions(off, len(names))]
    return {
        "verdict": _verdict(whole, grave, reasons),
        "reasons": reasons,
        "ratio": whole[0],
        "ratio_se": whole[1],
        "activity": activity,
        "lags": lags,
        "rois_off": off,
    }


def _heard(ratio: Any) -> Any:
    """Error variance over the noise's after the frame itself has been heard, from that of the blind prediction: v/(1 + v). Where a
    blind prediction errs by more than the noise, it does not matter by how much."""
    return np.maximum(ratio, 0) / (1 + np.maximum(ratio, 0))


def _whole(activity: list[Json]) -> tuple[float, float]:
    """Measured over predicted error variance of all frames, once they are heard, and its standard error."""
    share = _shares(activity)
    parts = (np.array([row[name] for row in activity]) for name in ("predicted", "measured", "se"))
    predicted, measured, se = parts
    total = share @ _heard(predicted) if len(activity) else np.nan
    doubt = se / (1 + np.maximum(measured, 0)) ** 2
    return float(share @ _heard(measured) / total), float(np.sqrt(np.sum((share * doubt) ** 2)) / total)


def _shares(activity: list[Json]) -> np.ndarray:
    return np.array([SHARES[GROUPS.index(row["frames"])] for row in activity])


def _activity(roi: Json) -> list[Json]:
    groups = roi.get("groups") or {}
    parts = [as_floats(groups.get(name)) for name in ("predicted", "measured", "measured_se")]
    return [
        {"frames": name, "predicted": p, "measured": m, "se": s}
        for name, p, m, s in zip(GROUPS, *parts, strict=False)
        if np.isfinite([p, m, s]).all()
    ]


def _lags(lags: Json | None) -> list[Json]:
    return (
        [
            dict(zip(("lag", "predicted", "measured", "se"), row, strict=True))
            for row in zip(*lags.values(), strict=True)
        ]
        if lags
        else []
    )


def _deviating(roi: Json) -> np.ndarray:
    """ROIs whose measured error is not what is stated, by more than chance, and by more than a corridor can bear."""
    measured, se, noise, stated = (as_floats(roi.get(name)) for name in ("measured", "measured_se", "noise", "stated"))
    if not len(stated) == len(measured) == len(noise):
        return np.zeros(0, bool)
    beyond_chance = np.abs(measured - stated) > (SIGNIFICANT + 0.5) * np.hypot(se, REGION_DOUBT * noise)
    return beyond_chance & (np.abs(_heard(measured / noise) / _heard(stated / noise) - 1) > 1.5 * TRUE_WITHIN)


def _misfit(calibration: Json) -> list[str]:
    factor = calibration.get("factor_shared") or 1.0
    if 1 / MISFIT <= factor <= MISFIT:
        return []
    size = f"{factor:.2g} times larger" if factor > 1 else f"{1 / factor:.2g} times smaller"
    return [
        f"The network does not fit this movie: its errors are {size} than it states; it was probably trained on another kind."
    ]


def _gain(activity: list[Json]) -> list[str]:
    share = _shares(activity) @ _heard(np.array([row["measured"] for row in activity]))
    return [f"Little was gained: {share:.0%} of the raw noise variance is left."] if share > LITTLE_GAIN else []


def _white(noise: Json | None) -> list[str]:
    lag1 = (noise or {}).get("difference_lag1")
    if lag1 is None or abs(lag1 - WHITE) <= WHITE_WITHIN:
        return []
    return [
        "The noise of successive frames is not independent, on which every error bar here rests: they may be too narrow."
    ]


def _louder(roi: Json) -> list[str]:
    factor = roi.get("noise_factor") or 1.0
    if abs(factor - 1) <= LOUDER:
        return []
    return [f"The noise of the ROIs' raw traces is {factor:.2f} times what the noise model says: flicker, or motion from frame to "
            "frame, counts as noise here, and is not in the error bar."]  # fmt: skip


def _level(whole: tuple[float, float]) -> list[str]:
    ratio, se = whole
    if abs(ratio - 1) <= max(TRUE_WITHIN, SIGNIFICANT * se):
        return []
    return [
        f"Errors are {'larger' if ratio > 1 else 'smaller'} than predicted: corridors are too {'narrow' if ratio > 1 else 'wide'}."
    ]


def _action(activity: list[Json]) -> list[str]:
    """The frames with the largest expected errors, those of fast events."""
    found = []
    for row in activity[-2:]:
        expected = _heard(row["predicted"])
        ratio, se = _heard(row["measured"]) / expected, row["se"] / (1 + max(row["measured"], 0)) ** 2 / expected
        if abs(ratio - 1) > max(1.5 * TRUE_WITHIN, SIGNIFICANT * se):
            word = "narrow" if ratio > 1 else "wide"
            found.append(
                f"In the frames with the largest expected errors ({row['frames']}) corridors are too {word}: measured over "
                f"predicted variance is {ratio:.2g} ± {se:.1g}."
            )
    return found


def _regions(off: list[str], count: int) -> list[str]:
    if not off:
        return []
    named = ", ".join(off[:NAMED]) + (f" and {len(off) - NAMED} more" if len(off) > NAMED else "")
    return [f"{len(off)} of {count} ROIs err otherwise than stated: {named}."]


def _verdict(whole: tuple[float, float], grave: list[str], reasons: list[str]) -> str:
    if not np.isfinite(whole[1]) or whole[1] > ENOUGH:
        return (
            "Too few frames and ROIs to tell whether the corridors of this movie are true; they rest on what is usual."
        )
    if grave:
        return "Do not trust the corridors of this movie without a look at the reasons named here."
    if reasons:
        return "The corridors of this movie can be trusted with the exceptions named here."
    return (
        f"The corridors of this movie can be trusted, as far as it tells itself (error variances to ± {whole[1]:.0%})."
    )
