"""Where not to believe it: the run's flags in order of strength, as numbers, as words, and by ROI."""

import re
from collections import Counter
from collections.abc import Sequence

from udenoise.arrays import Json
from udenoise.report.sources import Sources, roi_names

KINDS = ("contradicted", "unconstrained", "unfamiliar", "assumption broken")
"""In the order of the page."""
STRONGEST = 20
"""Events in report.json."""
SHOWN = 500
"""Events in the page."""
SHARE = 8
"""Every kind may have one part in so many of the places, however strong the others are."""
WAYS = {1: "swallowed", -1: "invented", 0: "displaced"}
"""What a contradiction is, by its sign."""
MEANING = {
    "swallowed": "The raw frames hold something that the denoised ones lack.",
    "invented": "The denoised frames show something that the raw ones deny.",
    "displaced": "Raw and denoised frames show the same thing in two places.",
    "unconstrained": "The picture shows structure inside its own error bar: the data do not say whether it is there.",
    "unfamiliar": "The network has seen nothing like it, so its error bar is a guess there.",
    "assumption broken": "Something that every error bar here rests on does not hold there.",
}


def flag_numbers(sources: Sources) -> Json | None:
    """What report.json says of the flags; None where the run has none to tell of."""
    if sources.flags is None:
        return None
    events, about = sources.flags.events, sources.flags.about
    order = strongest(events, STRONGEST)
    return {
        "fdr": about.get("fdr"),
        "events": len(events),
        "counts": about.get("counts") or dict(Counter(event["kind"] for event in events)),
        **{name: sum(side(event) == name for event in events) for name in WAYS.values()},
        "tested": about.get("tested"),
        "note": about.get("note") or [],
        "strongest": [events[i] for i in order],
        "rois": about.get("rois") or [],
        "wobble": about.get("wobble"),
        "null": about.get("null"),
    }


def side(event: Json) -> str:
    """The kind of an event; of a contradiction, which way."""
    return WAYS.get(event["sign"], "contradicted") if event["kind"] == "contradicted" else event["kind"]


def strongest(events: Sequence[Json], most: int) -> list[int]:
    """Positions of at most `most` events: kind by kind, contradictions first, each in order of |score|, each with a share."""
    kinds = sorted({event["kind"] for event in events}, key=lambda kind: (_rank(kind), kind))
    order = sorted(range(len(events)), key=lambda i: -abs(events[i]["score"] or 0.0))
    own = {kind: [i for i in order if events[i]["kind"] == kind] for kind in kinds[:most]}
    counts = {kind: min(len(own[kind]), max(most // SHARE, 1)) for kind in own}
    for kind in own:
        counts[kind] += min(len(own[kind]) - counts[kind], max(most - sum(counts.values()), 0))
    return [i for kind in own for i in own[kind][: counts[kind]]][:most]


def _rank(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def flag_rows(sources: Sources) -> list[Json]:
    """The events of the page, each with its side and the positions of its ROIs."""
    flags = sources.flags
    if flags is None:
        return []
    known: dict[str, list[int]] = {}
    for n, name in enumerate(roi_names(sources)):
        known.setdefault(name, []).append(n)
    shown = (flags.events[i] for i in strongest(flags.events, SHOWN))
    return [{**event, "side": side(event), "rois": named(event["roi"], known)} for event in shown]


def named(cell: str, known: dict[str, list[int]]) -> list[int]:
    """Positions of the ROIs that a cell names: one name, or several with semicolons or commas between."""
    for names in ([cell], re.split(r"\s*;\s*", cell), re.split(r"\s*[;,]\s*", cell)):
        found = [n for name in names for n in known.get(name, [])]
        if found:
            return found
    return []


def flag_sentence(flags: Json) -> str:
    """What was found, without a full stop."""
    rate = f"At a false discovery rate of {100 * flags['fdr']:.3g} %, " if flags["fdr"] is not None else ""
    found = flags["counts"].get("contradicted", 0)
    rest = {kind: count for kind, count in flags["counts"].items() if count and kind != "contradicted"}
    others = sum(rest.values())
    first = _contradictions(flags, found) if found else "nothing in the recording contradicts the denoised movie"
    also = "and nothing else was flagged" if not found else ""
    if others:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in rest.items())
        also = f"and {others:,} event{' is' if others == 1 else 's are'} flagged for other reasons ({kinds})"
    return f"{rate}{first}{', ' if also else ''}{also}"


def _contradictions(flags: Json, found: int) -> str:
    ways = ", ".join(f"{flags[name]:,} {name}" for name in WAYS.values() if flags[name])
    return f"{found:,} place{' contradicts' if found == 1 else 's contradict'} the denoised movie{f' ({ways})' if ways else ''}"


def found_any(flags: Json | None) -> bool:
    """Whether there is something to look at."""
    return bool(flags) and (flags["events"] > 0 or sum(flags["counts"].values()) > 0)
