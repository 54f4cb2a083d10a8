"""Would another learning rate help the networks that the table compares with? Asked on movies that no table reports.

    python -m experiments.choose [--out FOLDER] [--names NETWORK …]

The table uses the published rates (5e-4 for DeepInterpolation, 4e-4 for Noise2Void) and the steps that two cores can afford; this
shows what others give on the movies for choosing. About 5 minutes a network, movie and rate on two CPU cores.
"""

from pathlib import Path

import tyro

from experiments import bench, tables
from experiments.movies import CHOOSING
from experiments.table import NETWORKS

RATES = (2e-4, 5e-4, 1.5e-3)
COLUMNS = {
    "movie": "{}", "network": "{}", "learning rate": "{:g}", "ROI error / raw": "{:.3f}", "levelled / raw": "{:.3f}",
    "bias": "{:+.1%}", "seconds": "{:.0f}",
}  # fmt: skip


def main(
    out: Path = Path("experiments-out"), names: tuple[str, ...] = ("deepinterpolation-small", "noise2void")
) -> None:
    """Print one row per movie, network and learning rate."""
    rows = []
    for movie in CHOOSING:
        scene = bench.prepare(movie, out)
        raw = bench.measure_baseline(scene, "raw", out)["row"]
        for name in names:
            for rate in RATES:
                result = bench.measure_baseline(scene, name, out, **NETWORKS[name] | {"learning_rate": rate})
                row = result["row"]
                rows.append({
                    "movie": scene.name, "network": name, "learning rate": rate, "bias": row["bias"],
                    "ROI error / raw": row["roi_error"] / raw["roi_error"], "seconds": result["seconds"],
                    "levelled / raw": row["levelled_error"] / raw["levelled_error"],
                })  # fmt: skip
                print(tables.markdown(rows, COLUMNS), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
