"""How does everything depend on the photons, and where does denoising stop paying?

    python -m experiments.photon_flux.run [--out FOLDER] [--full]

One kind of field, a new one at each level, from 0.05 to 20 photons per pixel and frame. The best temporal Gaussian and low
rank (given the truth), a DeepInterpolation network trained with absolute and with squared error (the median against the mean
of few photons: its Extended Data Fig. 6), and udenoise. About 50 minutes on one CPU core.
"""

from pathlib import Path
from typing import Any

import tyro

import udenoise
from experiments import bench, figures, tables
from experiments.movies import ladder

PHOTONS = (0.05, 0.2, 0.5, 2.0, 8.0, 20.0)
STEPS = 1000
METHODS = {
    "temporal-gaussian": ("temporal-gaussian", {}), "pmd": ("pmd", {}),
    "deepinterpolation-small, absolute": ("deepinterpolation-small", {"loss": "absolute", "steps": STEPS}),
    "deepinterpolation-small, squared": ("deepinterpolation-small", {"loss": "squared", "steps": STEPS}),
}  # fmt: skip
COLUMNS = {
    "photons": "{:g}", "method": "{}", "ROI error": "{:.3f}", "of Wiener's": "{:.2f}", "bias": "{:+.1%}", "amplitude": "{:.2f}",
    "missed": "{:.0%}", "invented": "{:.0%}", "rare kept": "{:.2f}", "95 % holds": "{:.1%}", "95 % fast": "{:.1%}",
    "pixel SNR": "{:.1f}×",
}  # fmt: skip


def main(out: Path = Path("experiments-out"), full: bool = False) -> None:
    """Measure what is not measured yet, and write tables and figures."""
    rows, seconds = [], 0.0
    for movie, photons in zip(ladder(PHOTONS), PHOTONS, strict=True):
        scene = bench.prepare(movie, out)
        results = measure(scene, out, full)
        seconds += sum(r["seconds"] for r in results.values())
        rows += [
            line(photons, name, result, results) for name, result in results.items() if name not in ("raw", "wiener")
        ]
        print(tables.markdown(rows, COLUMNS), flush=True)
    here = Path(__file__).parent
    for name, title, log in (("ROI error", "ROI error / raw", True), ("amplitude", "amplitude of events", False)):
        figures.lines(
            here / f"{name.split()[-1]}.svg", curves(rows, name), "photons per pixel and frame", title, (True, log)
        )
    text = "\n\n".join([
        "ROI error: mean squared, of the raw traces'; bias: of the mean brightness of ROIs above the offset.",
        tables.markdown(rows, COLUMNS), "![error](error.svg) ![amplitude](amplitude.svg)", tables.measured(seconds),
    ])  # fmt: skip
    tables.fill(here / "README.md", "result", text)


def measure(scene: bench.Scene, out: Path, full: bool) -> dict[str, dict[str, Any]]:
    """Results by method."""
    found = {name: bench.measure_baseline(scene, method, out, **how) for name, (method, how) in METHODS.items()}
    ours = bench.measure_ours(scene, udenoise.Config(train=bench.training(full)), out)
    return (
        {"raw": bench.measure_baseline(scene, "raw", out), "wiener": bench.measure_wiener(scene, out)}
        | found
        | {"udenoise": ours}
    )


def line(photons: float, method: str, result: dict[str, Any], results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One row of the table."""
    row, raw, wiener = result["row"], results["raw"]["row"], results["wiener"]["row"]
    return {
        "photons": photons, "method": method, "ROI error": row["roi_error"] / raw["roi_error"],
        "of Wiener's": row["roi_error"] / wiener["roi_error"], "bias": row["bias"], "amplitude": row["amplitude"],
        "missed": 1 - row["z_recall"], "invented": 1 - row["z_precision"], "rare kept": bench.rare_kept(result),
        "95 % holds": row["coverage_95"], "95 % fast": row["fast_coverage_95"], "pixel SNR": row["pixel_snr"] / raw["pixel_snr"],
    }  # fmt: skip


def curves(rows: list[dict[str, Any]], column: str) -> dict[str, figures.Points]:
    """A curve of every method."""
    names = dict.fromkeys(row["method"] for row in rows)
    return {
        n: ([r["photons"] for r in rows if r["method"] == n], [r[column] for r in rows if r["method"] == n])
        for n in names
    }


if __name__ == "__main__":
    tyro.cli(main)
