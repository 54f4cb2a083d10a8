"""The lazy movie: T Y X frames that are read when asked for, checked as they are read, whatever file they lie in."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from udenoise.arrays import RawFrames
from udenoise.config import MovieConfig
from udenoise.errors import InputError
from udenoise.io.axes import Stored, select
from udenoise.io.formats import Source, open_stored

MINIMUM_FRAMES = 10
EXACT = 2**24
"""Integers beyond this are not exact as float32."""


@dataclass(frozen=True)
class Movie:
    """A recording of one plane and one channel; nothing is in memory until it is read."""

    shape: tuple[int, int, int]
    """T Y X."""
    dtype: np.dtype
    """Type of the counts, in this machine's byte order."""
    frame_rate_hz: float | None
    """Frames per second, or None if neither the file nor the user says."""
    source: str
    """Where it came from, for messages."""
    reader: Callable[[int, int], np.ndarray]
    """frames[start:stop] as stored, unchecked; use `read`."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frames: slice) -> RawFrames:
        """movie[start:stop]; only contiguous slices."""
        if not isinstance(frames, slice) or frames.step not in (None, 1):
            raise TypeError("a movie is indexed by contiguous slices: movie[start:stop]")
        start, stop, _ = frames.indices(len(self))
        return self.read(start, max(start, stop))

    def read(self, start: int, stop: int) -> RawFrames:
        """Frames start ... stop-1 as (n, Y, X), counts.

        Raises: IndexError outside 0 ... T; InputError where the file is damaged or holds NaN, infinities or numbers
        that float32 cannot hold.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"frames {start} to {stop} of a movie of {len(self)}")
        if start == stop:
            return np.empty((0, *self.shape[1:]), self.dtype)
        frames = self._frames(start, stop)
        _check_values(frames, start)
        return frames

    def chunks(self, size: int) -> Iterator[tuple[int, RawFrames]]:
        """(start, frames) of the whole movie, `size` frames at a time."""
        for start in range(0, len(self), size):
            yield start, self.read(start, min(start + size, len(self)))

    def _frames(self, start: int, stop: int) -> np.ndarray:
        try:
            frames = np.asarray(self.reader(start, stop)).astype(self.dtype, copy=False)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # whatever a codec makes of a damaged file
            raise InputError(
                f"{self.source}: frames {start} to {stop - 1} cannot be read "
                f"({_one_line(error)}); the file is damaged or truncated: copy it again"
            ) from error
        if frames.shape != (stop - start, *self.shape[1:]):
            raise InputError(
                f"{self.source}: frames {start} to {stop - 1} came as {frames.shape}, "
                f"needed {(stop - start, *self.shape[1:])}; the file is damaged: copy it again"
            )
        return frames


def open_movie(source: Source, config: MovieConfig = MovieConfig()) -> Movie:  # noqa: B008 (frozen)
    """Open a movie without reading it.

    source: a TIFF file, a folder, glob or list of files (joined in natural order), `movie.h5:/data`, `x.zarr`,
    `x.zarr:group/array`, a `.npy` file, or an array (T, Y, X) in memory.
    config: axes, channel, plane and frame rate, where the user chooses them.
    Raises: InputError with what came, what is needed and what to type.
    """
    rate = config.frame_rate_hz
    if rate is not None and not _is_rate(rate):
        raise InputError(f"--frame-rate-hz {rate} is not a frame rate; pass frames per second, e.g. --frame-rate-hz 30")
    movie = _join([_movie(stored, config) for stored in open_stored(source)])
    _check_movie(movie)
    return replace(movie, frame_rate_hz=rate) if rate is not None else movie


def _movie(stored: Stored, config: MovieConfig) -> Movie:
    if stored.dtype.kind not in "iuf":
        raise InputError(f"{stored.source} holds {stored.dtype} numbers; a movie of integers or floats is needed")
    shape, read = select(stored, config)
    rate = stored.frame_rate_hz if stored.frame_rate_hz is not None and _is_rate(stored.frame_rate_hz) else None
    return Movie(shape, stored.dtype.newbyteorder("="), rate, stored.source, read)


def _join(movies: list[Movie]) -> Movie:
    """One movie after the other in time."""
    first = movies[0]
    if len(movies) == 1:
        return first
    for movie in movies:
        if movie.shape[1:] != first.shape[1:] or movie.dtype != first.dtype:
            raise InputError(
                f"{movie.source} holds {_kind(movie)}, but {first.source} holds {_kind(first)}; "
                "all files of a movie must have the same frames"
            )
    ends = np.cumsum([len(movie) for movie in movies])

    def read(start: int, stop: int) -> np.ndarray:
        parts = []
        for i in range(int(np.searchsorted(ends, start, "right")), len(movies)):
            begin = int(ends[i]) - len(movies[i])
            if begin >= stop:
                break
            parts.append(movies[i]._frames(max(start - begin, 0), min(stop - begin, len(movies[i]))))
        return np.concatenate(parts)

    source = f"{first.source} and {len(movies) - 1} more files"
    return Movie((int(ends[-1]), *first.shape[1:]), first.dtype, first.frame_rate_hz, source, read)


def _kind(movie: Movie) -> str:
    return f"frames of {movie.shape[1]} x {movie.shape[2]} {movie.dtype}"


def _check_movie(movie: Movie) -> None:
    T, Y, X = movie.shape
    if not (Y and X):
        raise InputError(f"{movie.source} has empty frames ({Y} x {X}); a movie with pixels is needed")
    if T < MINIMUM_FRAMES:
        raise InputError(
            f"movie has {T} frame{'s' * (T != 1)}; udenoise needs at least {MINIMUM_FRAMES}: "
            f"check {movie.source}, or name its axes, e.g. --axes TYX"
        )


def _check_values(frames: np.ndarray, start: int) -> None:
    """InputError naming the first frame that holds what float32 arithmetic cannot use."""
    if frames.dtype.kind == "f":
        _check_finite(frames, start)
    elif frames.dtype.itemsize > 2:
        large = np.flatnonzero((frames.max((1, 2)) > EXACT) | (frames.min((1, 2)) < -EXACT))
        if large.size:
            raise InputError(
                f"frame {start + large[0]} holds counts beyond {EXACT}, which 32-bit floats cannot hold "
                "exactly; subtract an offset or divide the movie first"
            )


def _check_finite(frames: np.ndarray, start: int) -> None:
    # a sum is finite only if all its terms are; one pass, and no array of flags
    sums = frames.sum((1, 2), dtype=np.float64)
    if np.isfinite(sums).all() and (frames.dtype.itemsize <= 4 or np.abs(frames).max() < np.finfo(np.float32).max):
        return
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite(frames.astype(np.float32)).all((1, 2)))
    if bad.size:
        name = "NaN" if np.isnan(frames[bad[0]]).any() else "infinite values"
        raise InputError(
            f"frame {start + bad[0]} holds {name}; udenoise needs finite counts: replace or cut out such frames first"
        )


def _is_rate(rate: float) -> bool:
    return math.isfinite(rate) and rate > 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
