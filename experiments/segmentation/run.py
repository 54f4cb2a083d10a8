"""How many cells does Suite2p find in raw and in denoised movies, and how many that are not there?

    python -m experiments.segmentation.run --suite2p PYTHON [--out FOLDER] [--full]

Suite2p's detection (registration off) at its usual threshold and at twice it, on the raw movie, on the best temporal Gaussian, on
DeepInterpolation's network and on ours, after DeepInterpolation's Extended Data Fig. 4. PYTHON is that of an environment with
`pip install suite2p`. An ROI that Suite2p calls a cell is true if it holds half of a soma, or half of it lies in one. Reads the
movies of `python -m experiments.table`; about 10 minutes beyond them.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import udenoise
from experiments import bench, table, tables
from experiments.movies import reported
from udenoise.io.tiff_writer import write_tiff
from udenoise.null.cells import run_suite2p

METHODS = ("raw", "temporal-gaussian", "pmd", "deepinterpolation-small", "udenoise")
THRESHOLDS = (1.0, 2.0)
TAU_S = 1.0
COLUMNS = {
    "movie": "{}", "method": "{}", "threshold": "{:g}", "ROIs": "{}", "called cells": "{}", "true": "{}", "false": "{}",
    "somata found": "{}", "precision": "{:.0%}", "recall": "{:.0%}",
}  # fmt: skip


def main(suite2p: Path, out: Path = Path("experiments-out"), full: bool = False) -> None:
    """Measure what is not measured yet, and write the table into README.md beside this file."""
    rows, seconds = [], 0.0
    for movie in reported(full):
        scene = bench.prepare(movie, out)
        for method in METHODS:
            result = measure(scene, method, suite2p, out, full)
            seconds += result["seconds"]
            rows += [{"movie": scene.name, "method": method} | row for row in result["rows"]]
    text = f"{tables.markdown(rows, COLUMNS)}\n\n{tables.measured(seconds)}"
    print(text)
    tables.fill(Path(__file__).with_name("README.md"), "result", text)


def measure(scene: bench.Scene, method: str, suite2p: Path, out: Path, full: bool) -> dict[str, Any]:
    """Suite2p's ROIs against the somata, at every threshold."""
    key = bench.key_of(scene.folder.parent.name, method, full)

    def compute() -> dict[str, Any]:
        place = out / "suite2p" / key
        place.mkdir(parents=True, exist_ok=True)
        counts = np.clip(np.round(denoised(scene, method, out, full)), 0, 2**15 - 1).astype(np.int16)
        write_tiff(place / "movie.tif", counts, scene.frame_rate_hz)
        found = [bench.timed(lambda t=t: detect(place, t, scene.frame_rate_hz, suite2p)) for t in THRESHOLDS]
        judged = [judge(part.value, scene.weights > 0) for part in found]
        rows = [{"threshold": t} | row for t, row in zip(THRESHOLDS, judged, strict=True)]
        return {"rows": rows, "seconds": sum(part.seconds for part in found)}

    result = bench.cached(out / "rows" / f"suite2p-{key}.json", compute)
    return result | {"rows": list(result["rows"])}


def denoised(scene: bench.Scene, method: str, out: Path, full: bool) -> np.ndarray:
    """The movie a method made."""
    if method == "udenoise":
        return bench.ours(scene, udenoise.Config(), out)[0]
    return bench.denoised(scene, method, out, **({} if full else table.NETWORKS.get(method, {})))


def detect(place: Path, threshold: float, rate: float, suite2p: Path) -> list[dict[str, Any]]:
    """What Suite2p finds, by its own program in its own environment."""
    try:
        return run_suite2p(str(suite2p), place, threshold, rate, TAU_S)
    except RuntimeError as error:
        sys.exit(f"Suite2p failed: {error}")


def judge(found: list[dict[str, Any]], somata: np.ndarray) -> dict[str, Any]:
    """True and false cells; each soma counts once."""
    flat = somata.reshape(len(somata), -1)
    cells = [np.array(roi["pixels"], int) for roi in found if roi["cell"]]
    inside = np.array([flat[:, pixels].sum(1) for pixels in cells]).reshape(len(cells), len(flat))
    size = np.array([len(pixels) for pixels in cells]).reshape(-1, 1)
    match = (inside >= 0.5 * flat.sum(1)) | (inside >= 0.5 * size)
    right, hit = int(match.any(1).sum()), int(match.any(0).sum())
    return {
        "ROIs": len(found), "called cells": len(cells), "true": right, "false": len(cells) - right,
        "somata found": f"{hit} of {len(flat)}", "precision": right / len(cells) if cells else None,
        "recall": hit / len(flat),
    }  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
