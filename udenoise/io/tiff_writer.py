"""Movies out as TIFF: what every other program of the field reads."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Shaped

from udenoise.files import whole_file


def write_tiff(path: str | Path, frames: Shaped[np.ndarray, "T Y X"], frame_rate_hz: float | None) -> None:
    """Write an ImageJ-readable stack (BigTIFF beyond 4 GB), T Y X in its own dtype, with the frame rate; whole or not at all."""
    with whole_file(Path(path)) as part:
        tifffile.imwrite(part, frames, **_kind(frames.nbytes, frame_rate_hz))


@contextmanager
def tiff_file(
    path: str | Path, shape: tuple[int, int, int], dtype: Any, frame_rate_hz: float | None
) -> Iterator[Callable[[int, np.ndarray], object]]:
    """The same stack, written piece by piece: yields `write(start, frames)`; memory is what one call is given.

    The file appears under its name when the block ends without an error, and vanishes otherwise.
    """
    frame_bytes = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    with whole_file(Path(path)) as part:
        empty = tifffile.memmap(part, shape=shape, dtype=dtype, **_kind(shape[0] * frame_bytes, frame_rate_hz))
        offset, stored = empty.offset, empty.dtype
        del empty  # a mapped file cannot be renamed on every system
        with part.open("r+b") as file:

            def write(start: int, frames: np.ndarray) -> None:
                file.seek(offset + start * frame_bytes)
                file.write(np.ascontiguousarray(frames, stored).data)

            yield write


def map_tiff(path: str | Path) -> Shaped[np.ndarray, "T Y X"]:
    """A stack that one of these wrote, read-only; it stays on disk until its values are used."""
    return tifffile.memmap(Path(path), mode="r")


def _kind(size: int, frame_rate_hz: float | None) -> dict[str, Any]:
    metadata = {"axes": "TYX"} | ({"fps": frame_rate_hz, "finterval": 1 / frame_rate_hz} if frame_rate_hz else {})
    return {"imagej": size < 2**32 - 2**25, "metadata": metadata}
