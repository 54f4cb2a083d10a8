"""What do denoisers swallow? Amplitude and detection of planted one-off events against their SNR in the raw movie.

    python -m experiments.rare_events.run [--out FOLDER] [--full]

Reads what `python -m experiments.table` measured (and measures what is missing): small flashes of 1 to 3 frames, dendritic events,
cells that fire once, pairs that come apart. Nothing to compute beyond the table.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments import bench, figures, table, tables
from experiments.movies import reported

BINS = ((3.0, 5.0), (5.0, 8.0), (8.0, 13.0), (13.0, 100.0))
FALSE_ALARM = 1e-3
SHOWN = ("raw", "temporal-gaussian", "pmd", "deepinterpolation-small", table.OURS, table.WITHOUT)
KEPT = {"method": "{}", **{f"SNR {a:g}–{b:g}": "{:.2f}" for a, b in BINS}, "dendritic": "{:.2f}", "cell fires once": "{:.2f}",
        "pair comes apart": "{:.2f}"}  # fmt: skip
FOUND = {"method": "{}", **{f"SNR {a:g}–{b:g}": "{:.0%}" for a, b in BINS}}


def main(out: Path = Path("experiments-out"), full: bool = False) -> None:
    """Pool the planted events of all movies, and write tables and figure."""
    scenes = [bench.prepare(movie, out) for movie in reported(full)]
    results = [table.measure(scene, out, full) for scene in scenes]
    names = [name for name in results[0] if results[0][name]["rare"] is not None]
    kept = [{"method": name} | kept_by(pooled(results, name)) for name in names]
    found = [{"method": name} | found_by(pooled(results, name)) for name in names]
    count = {f"SNR {a:g}–{b:g}": int(_between(pooled(results, "raw"), a, b).sum()) for a, b in BINS}
    here = Path(__file__).parent
    curves = {name: _points(pooled(results, name)) for name in SHOWN}
    figures.scatter(
        here / "kept.svg",
        curves,
        "matched-filter SNR in the raw movie",
        "share of the amplitude that is left",
        (3, 60),
        (-0.3, 1.5),
    )
    text = "\n\n".join([
        "Median share of the amplitude that is left (1: kept, 0: swallowed), flashes by their SNR; events: "
        + ", ".join(f"{name} {n}" for name, n in count.items()),
        tables.markdown(kept, KEPT), "![share left against SNR](kept.svg)",
        f"Share of flashes and dendritic events found by a matched filter at one false alarm in {1 / FALSE_ALARM:g} places",
        tables.markdown(found, FOUND), tables.measured(sum(r["seconds"] for one in results for r in one.values())),
    ])  # fmt: skip
    print(text)
    tables.fill(here / "README.md", "result", text)


def pooled(results: list[dict[str, Any]], name: str) -> dict[str, np.ndarray]:
    """The events of all movies of one method; `found` at the false-alarm rate, movie by movie."""
    parts = [one[name]["rare"] for one in results]
    joined = {key: np.concatenate([np.array(p[key]) for p in parts]) for key in ("kind", "snr", "recovered")}
    found = [np.array(p["z"]) > threshold(p) for p in parts]
    local = [np.array(p["snr"])[np.isin(p["kind"], bench.LOCAL)] for p in parts]
    return joined | {"found": np.concatenate(found), "local_snr": np.concatenate(local)}


def threshold(rare: dict[str, Any]) -> float:
    """The z-score that one quiet place in a thousand exceeds."""
    allowed = max(round(FALSE_ALARM * rare["quiet_places"]), 1)
    return sorted(rare["quiet"])[-min(allowed, len(rare["quiet"]))]


def kept_by(events: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Median shares by SNR (flashes) and by kind."""
    shares = {f"SNR {a:g}–{b:g}": events["recovered"][_between(events, a, b)] for a, b in BINS}
    kinds = {"dendritic": "dendritic", "cell fires once": "lone", "pair comes apart": "decoupled"}
    shares |= {title: events["recovered"][events["kind"] == kind] for title, kind in kinds.items()}
    return {name: float(np.median(values)) if len(values) else None for name, values in shares.items()}


def found_by(events: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Share found by SNR."""
    inside = {f"SNR {a:g}–{b:g}": (events["local_snr"] >= a) & (events["local_snr"] < b) for a, b in BINS}
    return {name: float(events["found"][where].mean()) if where.any() else None for name, where in inside.items()}


def _between(events: dict[str, np.ndarray], low: float, high: float) -> np.ndarray:
    return (events["kind"] == "flash") & (events["snr"] >= low) & (events["snr"] < high)


def _points(events: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    flash = events["kind"] == "flash"
    return events["snr"][flash], events["recovered"][flash]


if __name__ == "__main__":
    tyro.cli(main)
