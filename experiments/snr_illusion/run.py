"""How much of the gain in single-pixel SNR is left at the ROI?

    python -m experiments.snr_illusion.run [--out FOLDER] [--full]

DeepInterpolation reported a 15-fold gain of single-pixel SNR (Lecoq et al. 2021). Neighbouring denoised pixels are wrong
together, so averaging over a cell gains little more. Reads what `python -m experiments.table` measured; nothing to compute
beyond that.
"""

from pathlib import Path
from typing import Any

import tyro

from experiments import bench, figures, table, tables
from experiments.movies import reported

COLUMNS = {
    "movie": "{}", "method": "{}", "pixel SNR": "{:.1f}×", "same without truth": "{:.1f}×", "corrected pixel SNR": "{:.1f}×",
    "ROI SNR": "{:.1f}×", "neighbour correlation": "{:.2f}", "independent pixels": "{:.1%}", "ROI error": "{:.2f}",
}  # fmt: skip


def main(out: Path = Path("experiments-out"), full: bool = False) -> None:
    """Write table and figure."""
    rows, seconds = [], 0.0
    for movie in reported(full):
        scene = bench.prepare(movie, out)
        results = {n: r for n, r in table.measure(scene, out, full).items() if "pixel_snr" in r["row"]}
        seconds += sum(r["seconds"] for r in results.values())
        rows += [line(scene.name, name, r["row"], results) for name, r in results.items() if name != "raw"]
    here = Path(__file__).parent
    points = {name: ([r["pixel SNR"] for r in rows if r["method"] == name], [r["ROI SNR"] for r in rows if r["method"] == name])
              for name in dict.fromkeys(r["method"] for r in rows)}  # fmt: skip
    figures.scatter(
        here / "gain.svg", points, "gain of single-pixel SNR", "gain of ROI SNR", (0.9, 40), (0.5, 40), both_log=True
    )
    text = "\n\n".join([
        "Gains over the raw movie; ROI error of the best temporal Gaussian's.", tables.markdown(rows, COLUMNS),
        "![gain at pixels against gain at ROIs](gain.svg)", tables.measured(seconds),
    ])  # fmt: skip
    print(text)
    tables.fill(here / "README.md", "result", text)


def line(movie: str, method: str, row: dict[str, float], results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One row of the table."""
    raw, gaussian = results["raw"]["row"], results["temporal-gaussian"]["row"]
    gain = {name: row[name] / raw[name] for name in ("pixel_snr", "untrue_pixel_snr", "corrected_pixel_snr", "roi_snr")}
    return {
        "movie": movie, "method": method, "pixel SNR": gain["pixel_snr"], "same without truth": gain["untrue_pixel_snr"],
        "corrected pixel SNR": gain["corrected_pixel_snr"], "ROI SNR": gain["roi_snr"],
        "neighbour correlation": (row["correlation_down"] + row["correlation_across"]) / 2,
        "independent pixels": row["independent_share"], "ROI error": row["roi_error"] / gaussian["roi_error"],
    }  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
