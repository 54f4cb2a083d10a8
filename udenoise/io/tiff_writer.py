"""Movies out as TIFF: what every other program of the field reads."""

from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import Shaped


def write_tiff(path: str | Path, frames: Shaped[np.ndarray, "T Y X"], frame_rate_hz: float | None) -> None:
    """Write an ImageJ-readable stack (BigTIFF beyond 4 GB), T Y X in its own dtype, with the frame rate; whole or not at all."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    metadata = {"axes": "TYX"} | ({"fps": frame_rate_hz, "finterval": 1 / frame_rate_hz} if frame_rate_hz else {})
    tifffile.imwrite(part, frames, imagej=frames.nbytes < 2**32 - 2**25, metadata=metadata)
    part.replace(path)
