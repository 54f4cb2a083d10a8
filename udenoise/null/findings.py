"""What a denoised null movie shows though nothing is there: flags, events in traces, changes, and whether corridors hold."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from udenoise import metrics
from udenoise.flags import KINDS, Flag, read_flags
from udenoise.io import Rois, open_movie
from udenoise.io.store import open_movie_store, read_group, read_json
from udenoise.metrics.detection import peaks_of_runs
from udenoise.progress import progress_bar
from udenoise.scan import SIGMAS_PX
from udenoise.traces import filled

FRAMES_AT_ONCE = 64
EVENT_Z = 5.0
"""An event stands this many times above the trace's own spread."""
LEVEL = 0.95
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
UNLIKELY = 0.05
"""Probability below which so many families with an event are no chance."""
FALSE = ("contradicted", "unconstrained")
"""Kinds of flags whose labels make the false area."""


class Peaks(NamedTuple):
    """Where events of traces have their peaks."""

    roi: Int[np.ndarray, "E"]
    frame: Int[np.ndarray, "E"]


def flag_findings(run: Path) -> dict[str, Any]:
    """Flags of the denoised null movie, and whether the false discovery rate allows them."""
    flags, about = read_flags(run / "flags.csv"), read_json(run / "flags.json")
    against = [flag for flag in flags if flag.kind == "contradicted"]
    families = {"places": 0} | ({"traces of ROIs": 0, "borders of ROIs": 0} if about["tested"]["rois"] else {})
    for flag in against:
        families[_family(flag)] += 1
    hit = sum(count > 0 for count in families.values())
    fdr, n = about["fdr"], len(families)
    counts = {kind: sum(flag.kind == kind for flag in flags) for kind in KINDS}
    sides = {"swallowed": 1, "invented": -1, "displaced": 0}
    return {
        "fdr": fdr, "events": len(flags), "counts": counts,
        **{name: sum(flag.sign == sign for flag in against) for name, sign in sides.items()},
        "families": families, "families_with_events": hit, "any_by_chance": 1 - (1 - fdr) ** n,
        "p": float(stats.binom.sf(hit - 1, n, fdr)), "false_area": _false_area(run, flags),
    }  # fmt: skip


def _family(flag: Flag) -> str:
    """The family in which the false discovery rate of a contradiction was controlled: a place was found by one of the scan's
    spots, a ROI is as large as it is; only borders have no sign."""
    if np.isclose(flag.sigma_px, SIGMAS_PX, rtol=1e-4).any():
        return "places"
    return "traces of ROIs" if flag.sign else "borders of ROIs"


def chance_sentence(found: dict[str, Any]) -> str:
    """What the false discovery rate says of a movie in which every contradiction is false."""
    n, hit, p = len(found["families"]), found["families_with_events"], found["p"]
    families = "family of contradictions" if n == 1 else f"of the {n} families of contradictions"
    rule = (
        f"Nothing happens here, so every contradiction is false, and at a false discovery rate of {100 * found['fdr']:.3g} % "
        f"{'the' if n == 1 else 'each'} {families} ({', '.join(found['families'])}) may hold any in at most "
        f"{100 * found['fdr']:.3g} % of such movies"
    )
    if not hit:
        return f"{rule}; here none does, as it should be."
    verdict = "which is no more than chance allows" if p >= UNLIKELY else "which is more than chance allows"
    return (
        f"{rule}; here {hit} of {n} {'does' if hit == 1 else 'do'}, {verdict} "
        f"(binomial: {hit} or more of {n} with probability {p:.2g})."
    )


def _false_area(run: Path, flags: list[Flag]) -> dict[str, float]:
    """Share of the movie's pixels, all frames counted, inside labels of false kinds."""
    kinds = {kind: [flag for flag in flags if flag.kind == kind and flag.label] for kind in FALSE}
    pixels = dict.fromkeys(FALSE, 0)
    labels = open_movie(f"{run / 'flags.zarr'}:labels/flags/0")
    for start in range(0, len(labels), FRAMES_AT_ONCE):
        stop = min(start + FRAMES_AT_ONCE, len(labels))
        here = [one for own in kinds.values() for one in own if one.frame_start < stop and one.frame_stop > start]
        frames = labels[start:stop] if here else np.zeros(0, np.uint32)
        for kind, own in kinds.items():
            pixels[kind] += int(np.isin(frames, [flag.label for flag in own]).sum())
    whole = float(np.prod(labels.shape))
    return {kind: count / whole for kind, count in pixels.items()} | {"all": sum(pixels.values()) / whole}


def still_traces(rois: Rois, mean: Float[np.ndarray, "Y X"]) -> Float[np.ndarray, "N"]:
    """The ROIs' true values, which never change, counts."""
    return (mean.ravel().astype(np.float64)[rois.index] * rois.weight).sum(1)


def seen_events(traces: Float[np.ndarray, "N T"]) -> Peaks:
    """Peaks that stand EVENT_Z times above the trace's own spread; a run above half of that is one event."""
    return Peaks(*peaks_of_runs(metrics.z_scores(traces), EVENT_Z))


def trace_findings(run: Path, truth: Float[np.ndarray, "N"]) -> dict[str, Any]:
    """Events and changes of ROI traces, raw and denoised, and how often their corridors hold the truth.

    What concerns ΔF/F is None where no F₀ is positive.
    """
    arrays, about = read_group(run / "traces.zarr")
    levels = np.array(about["levels"])
    at = int(np.abs(levels - LEVEL).argmin())
    raw = np.stack([filled(trace) for trace in arrays["raw"].astype(float)])
    events = seen_events(arrays["mean"].astype(float))
    lower, upper = arrays["lower"], arrays["upper"]
    still = np.broadcast_to(truth[:, None], raw.shape)
    changed = lower[at][events.roi, events.frame] > truth[events.roi]
    known = np.isfinite(arrays["dff/mean"])
    held = [metrics.coverage(still, low, high) for low, high in zip(lower, upper, strict=True)]
    dff = zip(arrays["dff/lower"], arrays["dff/upper"], strict=True)
    dff_held = [metrics.coverage(np.zeros_like(still), low, high, known) for low, high in dff] if known.any() else None
    changes = _changes(arrays["dff/mean"][known], arrays["dff/sd"][known], arrays["dff/raw"]) if known.any() else None
    return {
        "rois": len(truth), "z": EVENT_Z, "raw_events": len(seen_events(raw).roi), "events": len(events.roi),
        "level": float(levels[at]), "certain_events": int(changed.sum()),
        "levels": levels.tolist(), "coverage": held,
        "held": held[at], "dff_coverage": dff_held, "dff_held": dff_held and dff_held[at], "dff": changes,
    }  # fmt: skip


def _changes(mean: Float[np.ndarray, "n"], sd: Float[np.ndarray, "n"], raw: Float[np.ndarray, "N T"]) -> dict[str, Any]:
    """|ΔF/F| of denoised traces, whose truth is 0, beside what they state."""
    rms = {"rms": mean, "stated_sd": sd, "raw_rms": raw[np.isfinite(raw)]}
    sizes, ratios = np.abs(mean.astype(float)), np.abs(mean / sd).astype(float)
    return {name: float(np.sqrt(np.mean(np.square(part, dtype=float)))) for name, part in rms.items()} | {
        "mean": float(np.mean(mean, dtype=float)),
        "quantiles": QUANTILES, "change": np.quantile(sizes, QUANTILES), "change_in_sd": np.quantile(ratios, QUANTILES),
        "normal": stats.halfnorm.ppf(QUANTILES[:-1]),
    }  # fmt: skip


def pixel_coverage(run: Path, mean: Float[np.ndarray, "Y X"], quiet: bool = False) -> float:
    """How often mean ± 1.96 sd of a pixel holds the mean image; the movie streams by."""
    store, reach, held = open_movie_store(run / "posterior.zarr"), stats.norm.isf((1 - LEVEL) / 2), 0
    with progress_bar("pixels", store.shape[0], quiet) as bar:
        for start in range(0, store.shape[0], FRAMES_AT_ONCE):
            stop = min(start + FRAMES_AT_ONCE, store.shape[0])
            away = np.abs(store.read("mean", start, stop) - mean)
            held += int((away <= reach * store.read("sd", start, stop)).sum())
            bar(stop)
    return held / float(np.prod(store.shape))
