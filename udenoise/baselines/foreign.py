"""Movies that another program denoised, frame by frame beside the raw one."""

import numpy as np
from jaxtyping import Float32

from udenoise.errors import InputError
from udenoise.io import Movie, open_movie
from udenoise.io.formats import Source

CHUNK = 256
"""Frames read at once."""


def load_foreign(
    path: Source, shape: tuple[int, int, int], missing_ends: tuple[int, int] = (0, 0)
) -> Float32[np.ndarray, "T Y X"]:
    """A denoised movie (any file `open_movie` reads, counts of the raw movie) aligned with a raw movie of `shape` (T Y X).

    `missing_ends`: frames that it lacks at the start and at the end, (30, 30) in DeepInterpolation's output; they are
    NaN. Raises InputError when frames differ in size or number.
    """
    movie = open_movie(path)
    check_aligned(movie, shape, missing_ends)
    out = np.full(shape, np.nan, np.float32)
    for start, frames in movie.chunks(CHUNK):
        out[missing_ends[0] + start :][: len(frames)] = frames
    return out


def check_aligned(
    movie: Movie, shape: tuple[int, int, int], missing_ends: tuple[int, int], typed: str = "missing_ends=({}, {})"
) -> None:
    """InputError unless a movie has the frames of `shape` (T Y X), less those that it lacks at its ends.

    `typed`: how the caller's user says how many these are.
    """
    T, Y, X = shape
    if movie.shape[1:] != (Y, X):
        came = f"{movie.shape[1]} x {movie.shape[2]}"
        raise InputError(
            f"{movie.source} has frames of {came}, the raw movie {Y} x {X}; denoise the whole field of view, without binning"
        )
    if min(missing_ends) < 0 or len(movie) != T - sum(missing_ends):
        lost = T - len(movie)
        advice = typed.format(lost // 2, lost - lost // 2) if lost > 0 else "pass the movie it was made of"
        needed = f"{T} less {missing_ends[0]} at the start and {missing_ends[1]} at the end"
        raise InputError(f"{movie.source} has {len(movie)} frames, needed are {needed}: {advice}")
