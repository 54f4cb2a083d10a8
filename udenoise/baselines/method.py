"""What every baseline is: a movie in, a movie of as many frames out."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Float32

Counts = Float32[np.ndarray, "T Y X"]


class Denoised(NamedTuple):
    """A denoised movie and how it came about."""

    movie: Float32[np.ndarray, "T Y X"]
    """Counts, as many frames as went in."""
    about: dict[str, Any]
    """Facts for the reader of a table: samples seen in training, losses, ranks."""


class Denoise(Protocol):
    """The one signature of all methods; the result depends on nothing else (`quiet`: no progress bar)."""

    def __call__(self, movie: Counts, settings: Any, seed: int = 0, quiet: bool = False) -> Denoised: ...


class Method(NamedTuple):
    """A baseline: its name in tables, what it does, its usual settings, and what is tried when it is tuned."""

    name: str
    denoise: Denoise
    settings: Any
    grid: Mapping[str, tuple[Any, ...]]
    """Candidates of each setting that is tuned."""


def roi_traces(movie: Counts, weights: Float[np.ndarray, "N Y X"]) -> Float[np.ndarray, "N T"]:
    """Weighted sum of each ROI's pixels in every frame: counts for weights that sum to 1; NaN in frames that hold NaN."""
    return weights.reshape(len(weights), -1).astype(np.float32) @ movie.reshape(len(movie), -1).T
