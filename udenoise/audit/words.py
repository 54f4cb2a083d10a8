"""The audit in words: what a neuroscientist should take from the numbers, and which numbers are not to be had."""

from udenoise.arrays import Json

SIGNIFICANT = 2.5
"""Standard errors beyond which a difference is spoken of."""
KNOWN = 0.35
"""Relative standard error of an error variance up to which its size is given; beyond, only its bound."""
LITTLE_LEFT = 0.5
"""Share of a gain below which little of it is left."""
TRUE_SLOPE = 0.05
"""Amplitudes this far from true are as good as true."""
REAL = 0.8
"""Share of the shown pattern change from which it is called real."""
VISIBLE_PATTERN = 0.03
"""Pattern change, relative to the brightness, below which a cell stands still."""
TRUE_RATIO = 0.2
WHITE_WITHIN = 0.02
CHECK_WITHIN = 0.03
NEEDS_BLINDNESS = ("pixel", "roi", "amplitude", "steadiness", "coverage", "events")
"""Sections of `quick` that are right only where the program did not see the frame."""
NEEDS_HALVES = ("spectrum", "successive")
"""Sections that need the noise of other frames to be independent as well."""


def withheld(numbers: Json) -> Json:
    """The numbers without those that this evidence cannot give, and why, by section (`withheld`); what the rest needs (`needs`)."""
    if numbers["halved"]:
        return {**numbers, "withheld": {}, "needs": {}}
    seen, reasons = numbers["blindness"], {}
    for name in NEEDS_HALVES:
        reasons[name] = "needs noise that is independent in all frames: udenoise audit split"
    for name in NEEDS_BLINDNESS:
        sees = seen["sees_pixel"] if name == "pixel" else seen["sees_roi"]
        if sees and numbers.get(name) is not None:
            reasons[name] = "needs a program that does not see the frame itself, and this one did: udenoise audit split"
    if "roi" in reasons:
        reasons["rois"] = reasons["roi"]
    needs = {name: "right only if the program did not see the frame" for name in NEEDS_BLINDNESS if name not in reasons}
    kept = {name: None if name in reasons else value for name, value in numbers.items()}
    if "rois" in reasons:
        kept["rois"] = [{"name": row["name"]} for row in numbers["rois"]]
    return {**kept, "withheld": reasons, "needs": needs}


def warnings(numbers: Json) -> list[str]:
    """What the reader has to know before believing the numbers."""
    noise, found = numbers["noise"], []
    lag1 = noise["difference_lag1"]
    if lag1 is not None and abs(lag1 + 0.5) > WHITE_WITHIN:
        found.append(
            f"The noise of successive frames is not independent (correlation of differences {lag1:.3f}, white is −0.5), on which "
            "every number here rests."
        )
    check, se = noise["roi_check"], noise["roi_check_se"]
    if abs(check - 1) > max(CHECK_WITHIN, 3 * se):
        found.append(
            f"The noise of whole ROIs is {check:.2f} ± {se:.2f} times what the noise model says: flicker or motion from frame to "
            "frame counts as error of the denoised movie here."
        )
    if numbers["denoised"]["matched"]:
        found.append("The denoised movie was laid on the input by its mean image; its mean brightness says nothing.")
    return [*found, *map(str, noise["warnings"])]


def verdict(numbers: Json) -> list[str]:
    """One paragraph, as sentences."""
    parts = [
        _what(numbers), _blind(numbers), _gain(numbers), _amplitude(numbers["amplitude"]), _pattern(numbers["steadiness"]),
        _stated(numbers["coverage"]), _events(numbers["events"]),
    ]  # fmt: skip
    return [part for part in parts if part]


def _what(numbers: Json) -> str:
    if not numbers["halved"]:
        return "The denoised movie was judged by the raw movie it was made of."
    return (
        "The denoised movie was judged by a half of the recording whose noise it has not seen. It was made of the other half, "
        f"in which the signal-to-noise ratio is {numbers['snr_of_half']:.2f} times that of the recording: its errors are those "
        "for that input, and somewhat smaller for the recording itself."
    )


def _blind(numbers: Json) -> str:
    seen = numbers["blindness"]
    if seen is None:
        return ""
    if seen["sees_pixel"] or seen["sees_roi"]:
        what = "each pixel" if seen["sees_pixel"] else "the neighbouring pixels of the same frame"
        ratio = seen["pixel_residual" if seen["sees_pixel"] else "roi_residual"]["value"]
        return (
            f"The program has seen {what} that it denoised (what it took away has {ratio:.2f} times the variance of the noise), "
            "so the raw movie cannot judge it: errors, amplitudes, pattern and events are withheld. Split the movie, denoise the "
            "one half, and score it."
        )
    return (
        "Nothing in it says that the program has seen the frame it denoised (at most "
        f"{100 * max(seen['largest_leak']['value'], 0):.2g} % of a pixel's noise can have come through); if it has, the errors "
        "given here are too small."
    )


def _gain(numbers: Json) -> str:
    pixel, roi = numbers["pixel"], numbers["roi"]
    if pixel is None or roi is None:
        return ""
    what = "ROIs" if roi["given"] else "tiles of 12 pixels (no ROIs were given)"
    words = f"The error of single pixels is {_times(pixel)}, that of {what} {_times(roi)}"
    left = roi["least_gain"] if not roi["gain"] > 0 else roi["gain"]
    full = pixel["least_gain"] if not pixel["gain"] > 0 else pixel["gain"]
    if not (full > 1.2 and _known(roi)):
        return words + "." + _constant(roi)
    share = left / full
    tail = "what looks clean pixel by pixel is wrong together" if share < LITTLE_LEFT else "most of it is kept"
    return f"{words}: {100 * share:.0f} % of the gain of single pixels is left in the traces; {tail}." + _constant(roi)


def _constant(roi: Json) -> str:
    share = roi["constant"] / roi["error"] if _known(roi) else 0.0
    return (
        f" {100 * min(share, 1):.0f} % of the error of traces is a mean brightness that is off." if share > 0.2 else ""
    )


def _known(part: Json) -> bool:
    return part["gain"] > 0 and part["error_se"] < KNOWN * part["error"]


def _times(part: Json) -> str:
    if _known(part):
        gain, se = part["gain"], part["gain_se"]
        if abs(gain - 1) < 0.05:
            return "as large as its input’s noise"
        if gain < 1:
            return f"{1 / gain:.2g} ± {se / gain**2:.1g} times larger than its input’s noise"
        return f"{gain:.3g} ± {se:.1g} times smaller than its input’s noise"
    return f"more than {part['least_gain']:.2g} times smaller than its input’s noise (too small to be measured here)"


def _amplitude(rows: list[Json] | None) -> str:
    if not rows:
        return ""
    top = rows[-2]
    slope, se = top["slope"], top["se"]
    if slope is None:
        return ""
    if abs(slope - 1) <= max(TRUE_SLOPE, SIGNIFICANT * se):
        return f"The largest changes it shows have their true size ({slope:.2f} ± {se:.2f})."
    if slope > 1:
        return f"It shows large changes too small: where it shows 1, the recording says {slope:.2f} ± {se:.2f}."
    return f"It shows changes larger than they are: where it shows 1, the recording says {slope:.2f} ± {se:.2f}."


def _pattern(steady: Json | None) -> str:
    if steady is None or not steady["shown"] >= 0:
        return ""
    shown, share, se = (steady[name] for name in ("shown", "real_share", "real_share_se"))
    if shown < VISIBLE_PATTERN:
        return f"Inside cells the picture stands still (its pattern changes by {100 * shown:.1f} % of the brightness)."
    real = f"{100 * share:.0f} ± {100 * se:.0f} %"
    if share + SIGNIFICANT * se < REAL:
        return (
            f"Inside cells the pattern changes by {100 * shown:.0f} % of the brightness, and only {real} of that is real: the rest "
            "is invented, borders included."
        )
    return f"Inside cells the pattern changes by {100 * shown:.0f} % of the brightness, and {real} of that is real."


def _stated(coverage: Json | None) -> str:
    if coverage is None or "ratio" not in coverage["pixel"][-1]:
        return ""
    ratio, se = coverage["pixel"][-1]["ratio"].values()
    if abs(ratio - 1) <= max(TRUE_RATIO, SIGNIFICANT * se):
        return (
            f"The stated standard deviations of pixels are true (measured over stated variance {ratio:.2f} ± {se:.2f})."
        )
    word = "small" if ratio > 1 else "large"
    return f"The stated standard deviations of pixels are too {word}: measured over stated variance is {ratio:.2g} ± {se:.1g}."


def _events(found: Json | None) -> str:
    if found is None:
        return ""
    swallowed, invented = found["swallowed"], found["invented"]
    if not swallowed and not invented:
        return "No single event stands out that it swallowed or invented."
    often = f" in {found['minutes']:.1f} minutes" if found["minutes"] else ""
    return (
        f"It swallowed {swallowed} event{'s' * (swallowed != 1)} and invented {invented}{often} that stand out of the noise (at "
        f"most {100 * found['fdr']:.0f} % of these by chance; see events.csv)."
    )
