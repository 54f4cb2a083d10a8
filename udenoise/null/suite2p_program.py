"""Suite2p's detection on `movie.tif` of a folder, without registration; run by the Python that has Suite2p, as a program.

    PYTHON suite2p_program.py FOLDER THRESHOLD_SCALING FRAME_RATE_HZ TAU_S

Writes `rois.json`: for every ROI its flat pixel indices, and whether Suite2p's classifier calls it a cell.
"""

import json
import sys
from pathlib import Path

import numpy as np


def main(folder: Path, threshold: float, rate: float, tau: float) -> None:
    """Detect, and write what was found."""
    from suite2p import default_settings, run_s2p

    settings = default_settings()
    settings |= {"torch_device": "cpu", "fs": rate, "tau": tau}
    settings["run"] |= {"do_registration": 0, "do_regmetrics": False, "do_deconvolution": False}
    settings["detection"]["threshold_scaling"] = threshold
    save = folder / f"threshold-{threshold:g}"
    run_s2p(db={"data_path": [str(folder)], "save_path0": str(save), "fast_disk": str(save)}, settings=settings)
    plane = save / "suite2p" / "plane0"
    width = int(np.load(plane / "ops.npy", allow_pickle=True).item()["Lx"])  # this program wrote it a moment ago
    stat, cell = np.load(plane / "stat.npy", allow_pickle=True), np.load(plane / "iscell.npy")[:, 0] > 0
    rois = [
        {"pixels": (s["ypix"] * width + s["xpix"]).tolist(), "cell": bool(c)} for s, c in zip(stat, cell, strict=True)
    ]
    (folder / "rois.json").write_text(json.dumps(rois))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(float(argument) for argument in sys.argv[2:]))
