"""The first paragraph of the page: what the numbers say, in words; a number that is not known is not mentioned."""

from udenoise.arrays import Json
from udenoise.report.flagged import flag_sentence, found_any

DIM_PHOTONS = 0.2
"""Below this many photons per pixel and frame a single pixel says next to nothing."""
TRUE_WITHIN = 0.1
"""Measured over predicted error variance may be this far from 1, or two standard errors, and is still agreement."""

NAMED = 5
"""ROIs that are named before the rest is counted."""


def verdict(numbers: Json) -> list[str]:
    """Plain sentences."""
    parts = [
        _movie(numbers["movie"]),
        _noise(numbers["noise"]),
        _pixels(numbers["pixel_error"]),
        _traces(numbers["traces"]),
        _undefined(numbers["traces"]),
        (numbers.get("trust") or {}).get("verdict", ""),
        _calibration(numbers["calibration"]),
        _flags(numbers["flags"]),
        _nu(numbers["traces"]),
        _warnings(numbers["warnings"]) if numbers["noise"] else "",
    ]
    return [part for part in parts if part]


def number(value: float | int | None, digits: int = 3) -> str:
    """Three significant digits, no exponent between 0.001 and 1,000,000."""
    if value is None:
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    text = f"{value:,.{digits}g}"
    return (f"{value:,.0f}" if "e" in text else text).replace("-", "−")


def _movie(movie: Json) -> str:
    length = f" ({_duration(movie['seconds'])} at {number(movie['frame_rate_hz'])} Hz)" if movie["seconds"] else ""
    return f"The movie has {movie['frames']:,} frames of {movie['rows']} × {movie['columns']} pixels{length}."


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _noise(noise: Json | None) -> str:
    if not noise or noise["photons"] is None or noise["gain"] is None:
        return ""
    dim = (
        "; single pixels say next to nothing at that level, sums over regions do"
        if noise["photons"] < DIM_PHOTONS
        else ""
    )
    return (
        f"A typical pixel receives about {number(noise['photons'], 2)} effective photons per frame{dim}; "
        f"one photon raises it by about {number(noise['gain'])} counts."
    )


def _pixels(error: Json | None) -> str:
    if not error or error["ratio"] is None:
        return ""
    return (
        f"The noise of a single raw pixel is about ±{number(error['raw_noise_sd'])} counts; the denoised pixel is "
        f"stated to ±{number(error['stated_sd'], 2)} counts, {number(error['ratio'], 2)} times less."
    )


def _traces(traces: Json | None) -> str:
    if not traces:
        return ""
    return (
        f"In the traces of {traces['rois']} ROI{'s' * (traces['rois'] != 1)}, the raw noise is typically "
        f"±{number(traces['raw_noise_sd_median'])} counts and the stated error of the denoised trace "
        f"±{number(traces['sd_median'], 2)} counts, {number(traces['ratio_median'], 2)} times less."
    )


def _undefined(traces: Json | None) -> str:
    names = (traces or {}).get("without_dff")
    if not names:
        return ""
    which = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return (
        f"ΔF/F of {which} is left out where F₀ is not above zero: a smaller --neuropil-coefficient or "
        "--offset-counts would give it one."
    )


def _calibration(calibration: Json | None) -> str:
    if not calibration or calibration["roi_ratio"] is None:
        return ""
    ratio, se, factor = (calibration[name] for name in ("roi_ratio", "roi_ratio_se", "roi_factor_median"))
    judged = (
        "agrees with"
        if abs(ratio - 1) <= max(TRUE_WITHIN, 2 * (se or 0))
        else "is larger than"
        if ratio > 1
        else "is smaller than"
    )
    return (
        f"Checked on this movie without ground truth, the measured error variance over all ROIs {judged} the "
        f"predicted one (measured / predicted = {number(ratio, 2)}{f' ± {number(se, 2)}' if se else ''})"
        f"{f'; the corridors contain a factor on it, {number(factor)} in the median' if factor else ''}"
        f"{_active(calibration)}."
    )


def _active(calibration: Json) -> str:
    ratio, se = calibration.get("active_ratio"), calibration.get("active_ratio_se")
    if ratio is None:
        return ""
    return f"; in the 3 % of frames with the largest expected error the ratio is {number(ratio, 2)} ± {number(se, 2)}"


def _flags(flags: Json | None) -> str:
    if flags is None:
        return ""
    return f"{flag_sentence(flags)}{'; see Where not to believe it' if found_any(flags) else ''}."


def _nu(traces: Json | None) -> str:
    if not traces or traces["nu_median"] is None:
        return ""
    return f"The standardised noise level of the raw traces is ν = {number(traces['nu_median'], 2)} %/√Hz (median)."


def _warnings(warnings: list[str]) -> str:
    if not warnings:
        return "Nothing unusual was found in the recording."
    return (
        f"{len(warnings)} thing{'s' * (len(warnings) != 1)} about the recording need{'s' * (len(warnings) == 1)} "
        "attention; see below."
    )
