"""The two NAOMi movies: `movie_low.tif`, `movie_mid.tif` (600×136×136) and `truth.npz` in a folder."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

NAOMI = {"NAOMi, 0.5 photons": "low", "NAOMi, 2 photons": "mid"}
"""Name in the tables, and level in the names of the files."""


class Naomi(NamedTuple):
    """What is true of one of the movies, in counts."""

    rois: Float32[np.ndarray, "N Y X"]
    clean: Float32[np.ndarray, "T Y X"]
    traces: Float32[np.ndarray, "N T"]
    offset: float
    frame_rate_hz: float

    @property
    def weights(self) -> Float32[np.ndarray, "N Y X"]:
        """The ROIs as weights that sum to 1."""
        return self.rois / self.rois.sum((1, 2), keepdims=True)


def load_naomi(folder: Path, level: str) -> Naomi:
    """The truth of the movie of a light level."""
    with np.load(folder / "truth.npz", allow_pickle=False) as truth:
        rois = truth["rois"].astype(np.float32)
        clean = truth["clean_photons"].astype(np.float32) * truth[f"counts_per_photon_{level}"]
        offset, rate = truth[f"offset_{level}"], float(truth["frame_rate_hz"])
    clean = (clean + offset).astype(np.float32)
    known = Naomi(rois, clean, np.empty((len(rois), 0), np.float32), float(offset), rate)
    return known._replace(traces=np.einsum("nyx,tyx->nt", known.weights, clean))
