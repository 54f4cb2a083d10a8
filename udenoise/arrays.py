"""Shape names used in every signature, and their units.

T frames · Y rows (slow scan axis) · X columns (fast scan axis) · N regions of interest · L levels · S draws
Movies and traces are in counts of the input unless a name says otherwise; times are in seconds (`_s`) or frames.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

RawFrames = Shaped[np.ndarray, "frames Y X"]
Frames = Float[np.ndarray, "frames Y X"]
Image = Float[np.ndarray, "Y X"]
Rows = Bool[np.ndarray, "frames Y"]
Json = dict[str, Any]


def as_floats(values: Any) -> Float[np.ndarray, "n"]:
    """1-D float64; None becomes NaN, and nothing at all becomes empty."""
    return np.array([], np.float64) if values is None else np.array(list(values), np.float64)
