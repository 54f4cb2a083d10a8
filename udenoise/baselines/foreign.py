"""Movies that another program denoised, frame by frame beside the raw one."""

import numpy as np
from jaxtyping import Float32

from udenoise.errors import InputError
from udenoise.io import Movie, open_movie
from udenoise.io.formats import Source

CHUNK = 256
"""Frames read at once."""


def load_foreign(path: Source, shape: tuple[int, int, int], missing_ends: int = 0) -> Float32[np.ndarray, "T Y X"]:
    """A denoised movie (any file `open_movie` reads, counts of the raw movie) aligned with a raw movie of `shape` (T Y X).

    `missing_ends` frames that it lacks at either end (30 in DeepInterpolation's output) are NaN.
    Raises InputError when frames differ in size or number.
    """
    movie, (T, Y, X) = open_movie(path), shape
    if movie.shape[1:] != (Y, X):
        raise InputError(
            f"{movie.source} has frames of {movie.shape[1]} x {movie.shape[2]}, the raw movie {Y} x {X}; "
            "denoise the whole field of view"
        )
    if missing_ends < 0 or len(movie) != T - 2 * missing_ends:
        raise InputError(
            f"{movie.source} has {len(movie)} frames, needed are {T} less {missing_ends} at either end{_advice(T, movie)}"
        )
    out = np.full(shape, np.nan, np.float32)
    for start, frames in movie.chunks(CHUNK):
        first = start + missing_ends
        out[first : first + len(frames)] = frames
    return out


def _advice(T: int, movie: Movie) -> str:
    lost = T - len(movie)
    return f": missing_ends={lost // 2}" if lost > 0 and lost % 2 == 0 else "; denoise the whole movie"
