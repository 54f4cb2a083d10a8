"""Movies in .npy files (memory-mapped) and in memory."""

from pathlib import Path

import numpy as np

from udenoise.errors import InputError
from udenoise.io.axes import Stored


def open_npy(path: Path) -> Stored:
    """A .npy file; never unpickled. InputError if it is truncated, pickled, or not an .npy file."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as a .npy array ({_reason(error)}); save it again with numpy.save, as numbers"
        ) from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of arrays; save the movie alone with numpy.save")
    stored = from_array(array, str(path))
    return stored._replace(take=lambda key: np.array(array[key]))  # a copy: the file may change under a view


def from_array(array: np.ndarray, source: str = "array") -> Stored:
    """An array in memory or memory-mapped; axes T Y X if it has three."""
    return Stored(array.shape, array.dtype, None, None, source, lambda key: np.asarray(array[key]))


def _reason(error: Exception) -> str:
    if "mmap length" in str(error) or "larger than file" in str(error):
        return "it is truncated"
    return "it holds Python objects" if "object" in str(error).lower() else " ".join(str(error).split())
