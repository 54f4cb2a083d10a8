"""How fast: one JSON line per measurement, through the public interface.

    python benchmarks/throughput.py [SIDE]

Trains 20 steps on a simulated movie of SIDE×SIDE pixels (128) and denoises 128 frames; ratios to reading the movie and to
a temporal Gaussian filter in the same run, absolute times beside them. About a minute on two CPU cores.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import jax
from scipy.ndimage import gaussian_filter1d

import udenoise
from udenoise.simulate import simulate


def main(side: int) -> None:
    """Measure and print."""
    movie = simulate(udenoise.SimulationConfig(frames=128, height=side, width=side)).movie
    began = time.perf_counter()
    gaussian_filter1d(movie.astype("float32"), 3, axis=0)
    gaussian = time.perf_counter() - began
    config = udenoise.Config(train=udenoise.TrainConfig(steps=20, validate_every=20))
    with tempfile.TemporaryDirectory() as folder:
        udenoise.run(movie, Path(folder) / "run", config=config, quiet=True)
        seconds = json.loads((Path(folder) / "run" / "timing.json").read_text())
    pixels = movie.size
    for stage in ("noise", "anatomy", "denoise"):
        show(stage, side, seconds[stage], seconds[stage] / pixels * 1e9, seconds[stage] / gaussian)
    show("train step (compilation included)", side, seconds["train"] / 20, None, None)


def show(what: str, side: int, seconds: float, nanoseconds: float | None, ratio: float | None) -> None:
    """One line of JSON."""
    device = jax.devices()[0].device_kind
    line = {"what": what, "side": side, "seconds": round(seconds, 4), "ns_per_pixel_frame": nanoseconds,
            "times_gaussian_filter": ratio, "device": device}  # fmt: skip
    print(json.dumps(line))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
