"""Does a flag mean what it says, and what does it find?

    python -m experiments.flags.run [--out FOLDER]

Errors of known size are planted in the residuals of finished runs of the three movies of the table (events that the picture lacks,
events that only the picture has, cells drawn beside where they are), and sought by flags at a false discovery rate of 5 % and by
two maps at as many false alarms. Then errors that happen: a network on a movie that it was not trained on, and planted rare
events. And movies without any activity, in which nothing should be found. About half an hour on one CPU core where the table has
been measured before, 20 minutes of training more where not.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tyro

import udenoise
from experiments import bench, tables
from experiments.flags import nulls, planted, real
from experiments.flags.sight import Sight, look
from experiments.movies import reported

SEED = 0
VERSION = 3
PERCENT = "{:.0%}"
FOUND = {"planted": "{}", "size": "{:g}", "events": "{}", "swallowed": PERCENT, "invented": PERCENT, "both": PERCENT,
         "without it": PERCENT, **dict.fromkeys(planted.MAPS, PERCENT), "z of pixels, BH 5 %": PERCENT}  # fmt: skip
AREA = {"planted": "{}", "size": "{:g}", "flags": "{:.3f}", **dict.fromkeys(planted.MAPS, "{:.3f}")}
FALSE = {
    "planted": "{}", "movie": "{}", "flags": "{}", "about planted": "{}", "false": "{}", "FDR": "{:.1%}",
    "beyond the movie's own": "{}", "false of the prediction": "{}", "its FDR": "{:.1%}", "false of z of pixels, BH 5 %": "{}",
}  # fmt: skip
BORDERS = {"movie": "{}", "shift (px)": "{:g}", "cells": "{}", "found": PERCENT, "contrast above 0.1": PERCENT, "below": PERCENT,
           "largest possible z": "{:.1f}", "found of z ≥ 6": PERCENT}  # fmt: skip
STRANGE = {
    "movie": "{}", "network of": "{}", "flags": "{}", "picture wrong": "{}", "of prediction": "{}", "wrong blocks": "{}",
    "flagged": PERCENT, **dict.fromkeys(planted.MAPS, PERCENT), "of the prediction": "{}", "flagged ": PERCENT,
    **{f"{name} ": PERCENT for name in planted.MAPS}, "unfamiliar": "{}", "the report says": "{}",
}  # fmt: skip
RARE = {
    "SNR": "{}",
    "events": "{}",
    "kept": PERCENT,
    "flagged": PERCENT,
    "kept or flagged": PERCENT,
    "share left": "{:.2f}",
}


def main(out: Path = Path("experiments-out")) -> None:
    """Measure what is not measured yet, and write the tables into README.md beside this file."""
    scenes = [bench.prepare(movie, out) for movie in reported(False)]
    own = [measure(scene, out) for scene in scenes]
    strangers = real.foreign(scenes, out)
    quiet = nulls.measure(out)
    seconds = sum(part["seconds"] for part in [*own, *strangers, quiet])
    text = "\n\n".join([
        *planted_tables(own, scenes), border_table(own, scenes), foreign_table(strangers), rare_table(own),
        nulls.report(quiet["rows"]), tables.measured(seconds, SEED),
    ])  # fmt: skip
    print(text)
    tables.fill(Path(__file__).with_name("README.md"), "result", text)


def measure(scene: bench.Scene, out: Path) -> dict[str, Any]:
    """Planted errors, displaced borders and rare events of one movie."""

    def compute() -> dict[str, Any]:
        folder = bench.ran(scene, udenoise.Config(), out)
        done = bench.timed(lambda: _measure(scene, look(scene, folder), folder, out))
        return done.value | {"seconds": done.seconds}

    return bench.cached(out / "rows" / f"flags-{bench.key_of(scene.folder.parent.name, VERSION)}.json", compute)


def _measure(scene: bench.Scene, sight: Sight, folder: Path, out: Path) -> dict[str, Any]:
    return {"rows": planted.measure(sight, SEED), "borders": planted.borders(sight, SEED),
            "rare": real.rare(scene, sight, folder, out)}  # fmt: skip


def planted_tables(own: list[dict[str, Any]], scenes: list[bench.Scene]) -> list[str]:
    """Power, area under the curve, realised FDR."""
    every = [row for result in own for row in result["rows"]]
    found, area = [], []
    for kind, (_, sizes) in planted.KINDS.items():
        for size in sizes:
            rows = [row for row in every if row["kind"] == kind and row.get("size") == size]
            found.append({"planted": kind, "size": size} | power(rows))
            area.append({"planted": kind, "size": size} | areas(rows))
    false = []
    groups = [*(([result["rows"]], scene.name) for result, scene in zip(own, scenes, strict=True)),
              ([result["rows"] for result in own], "all")]  # fmt: skip
    for kind in ("nothing", *planted.KINDS):
        false += [{"planted": kind, "movie": name} | realised(movies, kind) for movies, name in groups]
    return [
        "Planted errors found at an FDR of 5 %; `size` is z of the matched filter (of somata against noise and stated error, else "
        "against noise); `without it`: something is flagged there before anything is planted. The maps have as many false alarms "
        "as the flags (one at least); BH 5 % takes each pixel for normal",
        tables.markdown(found, FOUND), "Area under the ROC curve, each event against its own place and time without it",
        tables.markdown(area, AREA),
        "Flags that are about nothing planted, where the truth lies inside the stated corridor: of the picture, and of the blind "
        "prediction that the flags are made of",
        tables.markdown(false, FALSE),
    ]  # fmt: skip


def power(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares that are found."""
    signs = {
        name: [row["flagged"] for row in rows if row["sign"] == s] for name, s in (("swallowed", 1), ("invented", -1))
    }
    maps = dict(zip(planted.MAPS, np.mean([row["maps"] for row in rows], 0), strict=True))
    return {
        "events": len(rows), **{name: float(np.mean(part)) for name, part in signs.items()},
        "both": float(np.mean([row["flagged"] for row in rows])),
        "without it": float(np.mean([row["flagged_without"] for row in rows])), **maps,
        "z of pixels, BH 5 %": float(np.mean([row["pixel_bh"] for row in rows])),
    }  # fmt: skip


def areas(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of flags' scores and of both maps."""
    pairs = {"flags": ([row["score"] for row in rows], [row["score_without"] for row in rows])}
    for k, name in enumerate(planted.MAPS):
        pairs[name] = [row["map_scores"][k] for row in rows], [row["map_scores_without"][k] for row in rows]
    return {name: area(np.array(there), np.array(absent)) for name, (there, absent) in pairs.items()}


def area(there: np.ndarray, absent: np.ndarray) -> float:
    """Probability that a score with the event is above one without (ties count half; Hanley & McNeil 1982)."""
    difference = there[:, None] - absent
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def realised(movies: list[list[dict[str, Any]]], kind: str) -> dict[str, Any]:
    """Flags by what they are about. Those of the movie itself are in every residual: false ones beyond them are told apart."""
    rows = [row for movie in movies for row in movie if "flags" in row and row["kind"] == kind]
    flags, beside, false = (sum(row[name] for row in rows) for name in ("flags", "beside", "false"))
    prediction, new = beside - sum(row["wrong_blind"] for row in rows), false
    for movie in movies:
        bare = next(row for row in movie if row["kind"] == "nothing")
        new -= bare["false"] * sum("flags" in row and row["kind"] == kind for row in movie)
    return {
        "flags": flags, "about planted": sum(row["about"] for row in rows), "false": false, "FDR": false / max(flags, 1),
        "beyond the movie's own": new, "false of the prediction": prediction, "its FDR": prediction / max(flags, 1),
        "false of z of pixels, BH 5 %": sum(row["pixel_bh_false"] for row in rows),
    }  # fmt: skip


def border_table(own: list[dict[str, Any]], scenes: list[bench.Scene]) -> str:
    """By movie and shift."""
    rows = []
    for result, scene in zip(own, scenes, strict=True):
        for pixels in planted.SHIFTS_PX:
            some = [row for row in result["borders"] if row["pixels"] == pixels]
            clear = np.array([row["contrast"] > 0.1 for row in some])
            found, ideal = np.array([row["found"] for row in some]), np.array([row["ideal"] for row in some])
            rows.append({
                "movie": scene.name, "shift (px)": pixels, "cells": len(some), "found": found.mean(),
                "contrast above 0.1": _mean(found[clear]), "below": _mean(found[~clear]),
                "largest possible z": float(np.median(ideal)), "found of z ≥ 6": _mean(found[ideal >= 6]),
            })  # fmt: skip
    title = (
        f"Cells whose picture is displaced for {planted.SHIFT_FRAMES} frames: found at an FDR of 5 %, by the contrast of the cell "
        "to its surroundings; the largest possible z is that of a filter that knows the very difference (median)"
    )
    return f"{title}\n\n{tables.markdown(rows, BORDERS)}"


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def foreign_table(strangers: list[dict[str, Any]]) -> str:
    """Errors that a network of another movie makes."""
    rows = []
    for result in strangers:
        row, shares = result["row"], {}
        for of, blank in (("picture", ""), ("prediction", " ")):
            wrong = row[f"{of} wrong"]
            marked = {"flagged": f"{of} flagged"} | {name: f"{of} map {k}" for k, name in enumerate(planted.MAPS)}
            shares |= {f"{name}{blank}": row[key] / wrong if wrong else None for name, key in marked.items()}
        rows.append({
            "movie": result["movie"], "network of": result["network of"], "flags": row["flags"],
            "picture wrong": row["right"], "of prediction": row["right, blind"], "wrong blocks": row["picture wrong"],
            "of the prediction": row["prediction wrong"], **shares, "unfamiliar": row["unfamiliar"],
            "the report says": row["verdict"],
        })  # fmt: skip
    title = (
        "A network of another movie: contradicted flags, of these those whose place the picture gets wrong beyond its corridor "
        f"(and the blind prediction); blocks of {real.BLOCK_PX} px and {real.BLOCK_FRAMES} frames that are wrong beyond corridor "
        f"and {real.LEAST_Z:g} times the noise, and which share of them is flagged, or marked by the maps at as many false alarms"
    )
    return f"{title}\n\n{tables.markdown(rows, STRANGE)}"


def rare_table(own: list[dict[str, Any]]) -> str:
    """Events that were planted in the movies themselves, by their SNR in the raw movie."""
    every = [row for result in own for row in result["rare"]]
    rows = [
        {"SNR": f"{low:g}–{high:g}" if high < 100 else f"{low:g} and more"}
        | kept([row for row in every if low <= row["snr"] < high])
        for low, high in real.SNRS
    ]  # fmt: skip
    rows.append({"SNR": "all"} | kept(every))
    title = "Flashes and dendritic events of the movies: truth inside the corridor of their place, or flagged (as in the run)"
    return f"{title}\n\n{tables.markdown(rows, RARE)}"


def kept(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares."""
    inside, flagged = (np.array([row[name] for row in rows], bool) for name in ("kept", "flagged"))
    missing = [abs(1 - row["share"]) * row["snr"] for row in rows if not (row["kept"] or row["flagged"])]
    return {
        "events": len(rows), "kept": inside.mean(), "flagged": flagged.mean(), "kept or flagged": (inside | flagged).mean(),
        "share left": float(np.median([row["share"] for row in rows])),
        "SNR that the others miss": float(np.median(missing)) if missing else None,
    }  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
