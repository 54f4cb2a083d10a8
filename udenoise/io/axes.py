"""What a file format hands over (Stored), and how its axes become T Y X: by the user's choice, or else the file's."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from udenoise.config import MovieConfig
from udenoise.errors import InputError

Key = tuple[Any, ...]
Take = Callable[[Key], np.ndarray]


class Stored(NamedTuple):
    """An array as it lies in a file, before one channel and one plane of it become a movie."""

    shape: tuple[int, ...]
    """Length of every stored axis."""
    dtype: np.dtype
    """Type of the stored numbers."""
    axes: str | None
    """One letter per axis (T C Z Y X; S colour; any other: unnamed), or None if the file does not say."""
    frame_rate_hz: float | None
    """Frames per second of one plane, or None if the file does not say."""
    source: str
    """Name for messages."""
    take: Take
    """Basic indexing, one slice or integer per axis; reads no more than it is asked for."""


class Selection(NamedTuple):
    """One channel and one plane of a stored array, as T Y X."""

    shape: tuple[int, int, int]
    """T Y X."""
    read: Callable[[int, int], np.ndarray]
    """frames[start:stop], (n, Y, X)."""


def select(stored: Stored, config: MovieConfig) -> Selection:
    """The T Y X movie in `stored`; InputError if a channel, a plane or the axes must be named first."""
    axes = _axes(stored, config)
    fixed = _fixed(stored, axes, config)
    lengths = dict(zip(axes, stored.shape, strict=True))
    kept = [letter for letter in axes if letter in "TYX"]
    order = [kept.index(letter) for letter in "TYX" if letter in kept]

    def read(start: int, stop: int) -> np.ndarray:
        key = tuple(_index(letter, start, stop, fixed) for letter in axes)
        frames = np.transpose(stored.take(key), order)
        return frames if "T" in axes else frames[None]

    return Selection((lengths.get("T", 1), lengths["Y"], lengths["X"]), read)


def describe(axes: str | None, shape: tuple[int, ...]) -> str:
    """For messages: `T 600 Y 64 X 64`, or `600 x 64 x 64` where the axes have no names."""
    if axes is None:
        return " x ".join(map(str, shape))
    return " ".join(f"{letter} {length}" for letter, length in zip(axes, shape, strict=True))


def _index(letter: str, start: int, stop: int, fixed: dict[str, int]) -> Any:
    return slice(start, stop) if letter == "T" else slice(None) if letter in "YX" else fixed.get(letter, 0)


def _axes(stored: Stored, config: MovieConfig) -> str:
    """Letters of all stored axes, T among them; axes of length 1 that mean nothing become `-`."""
    if config.axes is not None:
        return _axes_by_user(stored, config.axes.upper())
    if stored.axes is None:
        return _axes_by_convention(stored)
    axes = "".join("-" if n == 1 and a not in "CZYX" else a for a, n in zip(stored.axes, stored.shape, strict=True))
    if "S" in axes:
        raise InputError(
            f"{stored.source} holds colour frames ({describe(stored.axes, stored.shape)}); "
            "save the one channel to denoise as a single-channel movie"
        )
    return _with_time(stored, axes, config)


def _axes_by_user(stored: Stored, axes: str) -> str:
    wrong = set(axes) - set("TCZYX")
    if wrong or len(set(axes)) != len(axes) or not set("TYX") <= set(axes):
        raise InputError(
            f"--axes {axes} is not understood; use each of T, Y, X once, and C and Z where they exist, e.g. --axes TYX"
        )
    long = [i for i, n in enumerate(stored.shape) if n > 1]
    if len(axes) == len(stored.shape):
        return axes
    if len(axes) == len(long):
        letters = dict(zip(long, axes, strict=True))
        return "".join(letters.get(i, "-") for i in range(len(stored.shape)))
    raise InputError(
        f"--axes {axes} names {len(axes)} axes, but {stored.source} has {len(stored.shape)} "
        f"({describe(stored.axes, stored.shape)}); pass one letter for each"
    )


def _axes_by_convention(stored: Stored) -> str:
    if len(stored.shape) == 3:
        return "TYX"  # the order of the whole field
    size = describe(None, stored.shape)
    if len(stored.shape) < 3:
        raise InputError(f"{stored.source} is {len(stored.shape)}-D ({size}); a movie is needed, T Y X")
    raise InputError(
        f"movie is {len(stored.shape)}-D ({size}) and the file does not name its axes; pass them: --axes TCYX"
    )


def _with_time(stored: Stored, axes: str, config: MovieConfig) -> str:
    """`axes` with T: the file's, or the one unnamed axis, or Z where no plane was asked for; without T, one frame."""
    lengths = dict(zip(axes, stored.shape, strict=True))
    size = describe(stored.axes, stored.shape)
    if not {"Y", "X"} <= set(axes):
        raise InputError(f"{stored.source} does not name its rows and columns ({size}); pass its axes: --axes TYX")
    unnamed = [a for a in axes if a not in "TCZYX-"]
    if "T" in axes and not unnamed:
        return axes
    planes = ["Z"] if lengths.get("Z", 1) > 1 and config.plane is None else []
    if "T" in axes or len(unnamed + planes) > 1:
        raise InputError(f"movie is {len(axes)}-D ({size}) and its axes are not clear; pass them: --axes TCYX")
    if not unnamed + planes and lengths.get("C", 1) > 1:
        raise InputError(f"{stored.source} has no time axis ({size}); if C is time, pass --axes TYX")
    return axes.replace((unnamed + planes)[0], "T") if unnamed + planes else axes


def _fixed(stored: Stored, axes: str, config: MovieConfig) -> dict[str, int]:
    """The chosen index along C and Z."""
    lengths = dict(zip(axes, stored.shape, strict=True))
    wanted = {"C": ("channel", config.channel), "Z": ("plane", config.plane)}
    missing = [name for a, (name, index) in wanted.items() if index is None and lengths.get(a, 1) > 1]
    if missing:
        long = [(a, n) for a, n in zip(axes, stored.shape, strict=True) if a in "TYX" or n > 1]
        size = " ".join(a if a in "TYX" else str(n) for a, n in long)
        raise InputError(
            f"movie is {len(long)}-D ({size}); pass one {' and one '.join(missing)}: "
            + " ".join(f"--{name} 0" for name in missing)
        )
    return {a: _chosen(stored, name, index, lengths.get(a)) for a, (name, index) in wanted.items() if index is not None}


def _chosen(stored: Stored, name: str, index: int, length: int | None) -> int:
    if length is None:
        raise InputError(
            f"--{name} {index} was given, but {stored.source} has no {name} axis "
            f"({describe(stored.axes, stored.shape)}); leave it out"
        )
    if not 0 <= index < length:
        raise InputError(
            f"--{name} {index} does not exist: {stored.source} has {length} {name}s, "
            f"--{name} 0 to --{name} {length - 1}"
        )
    return index
