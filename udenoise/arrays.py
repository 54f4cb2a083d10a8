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
