"""Settings of the networks that the table compares with, chosen on movies that no table reports.

    python -m experiments.choose [--out FOLDER]

Each network at several learning rates on the movies for choosing; what came out best stands in `experiments.table.NETWORKS`.
About 40 minutes on two CPU cores.
"""

from pathlib import Path

import tyro

from experiments import bench, tables
from experiments.movies import CHOOSING
from experiments.table import NETWORKS

RATES = (2e-4, 5e-4, 1.5e-3)
COLUMNS = {"movie": "{}", "network": "{}", "learning rate": "{:g}", "ROI error / raw": "{:.3f}", "seconds": "{:.0f}"}


def main(
    out: Path = Path("experiments-out"), names: tuple[str, ...] = ("deepinterpolation-small", "noise2void")
) -> None:
    """Print one row per movie, network and learning rate."""
    rows = []
    for movie in CHOOSING:
        scene = bench.prepare(movie, out)
        for name in names:
            for rate in RATES:
                result = bench.measure_baseline(scene, name, out, **NETWORKS[name] | {"learning_rate": rate})
                error = result["row"]["relative_error"]
                rows.append({"movie": scene.name, "network": name, "learning rate": rate, "ROI error / raw": error,
                             "seconds": result["seconds"]})  # fmt: skip
                print(tables.markdown(rows, COLUMNS), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
