"""What udenoise writes: streamed OME-Zarr movies, groups of named arrays, JSON. Complete or absent, never half."""

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from jaxtyping import Float32
from zarr.codecs import BloscCodec

from udenoise.errors import InputError
from udenoise.files import whole_file

CHUNK = (16, 128, 128)
"""About the inner chunk, T Y X: what a viewer reads at once."""
SHARD_BYTES = 2**26
"""About one file: whole frames, and the unit of writing."""


class MovieStore(NamedTuple):
    """OME-Zarr images of one shape in one zarr v3 group; zarr.open(path)["mean"]["0"] is an array T Y X."""

    path: Path
    names: tuple[str, ...]
    """Images, e.g. mean and sd."""
    shape: tuple[int, int, int]
    """T Y X."""
    frames_per_shard: int
    """Write this many frames at a time, from multiples of it, and every file is written once."""

    def shards(self) -> Iterator[tuple[int, int]]:
        """(start, stop) of every shard, in frames."""
        for start in range(0, self.shape[0], self.frames_per_shard):
            yield start, min(start + self.frames_per_shard, self.shape[0])

    def write(self, start: int, images: Mapping[str, Float32[np.ndarray, "frames Y X"]]) -> None:
        """Write whole shards from frame `start` on; safe to repeat, and from several processes on different shards.

        Raises: ValueError if the frames are no whole shards or an image is missing; InputError if the disk is full.
        """
        if set(images) != set(self.names):
            raise ValueError(f"images {sorted(images)} given, {sorted(self.names)} needed")
        for name, frames in images.items():
            stop = start + len(frames)
            if start % self.frames_per_shard or (stop % self.frames_per_shard and stop != self.shape[0]):
                raise ValueError(f"frames {start} to {stop} are no whole shards of {self.frames_per_shard}")
            with _disk(self.path):
                zarr.open_array(str(self.path / name / "0"), mode="r+")[start:stop] = frames

    def read(self, name: str, start: int, stop: int) -> Float32[np.ndarray, "frames Y X"]:
        """Frames of one image; NaN where nothing has been written."""
        return np.asarray(zarr.open_array(str(self.path / name / "0"), mode="r")[start:stop])


class Group(NamedTuple):
    """Arrays by name (`mean`, `dff/mean`) and the attributes of the group."""

    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any]


def create_movie_store(
    path: str | Path,
    names: Sequence[str],
    shape: tuple[int, int, int],
    frame_rate_hz: float | None,
    attributes: Mapping[str, Any] | None = None,
) -> MovieStore:
    """A new, empty store at `path` with one OME-Zarr 0.5 image, T Y X float32, for each name.

    Sharded (whole frames, about 64 MB before compression), lossless. Raises: InputError if `path` exists.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists already; pass --overwrite or another place")
    chunk, shard = _layout(shape)
    with _replacing(path) as part:
        group = zarr.create_group(str(part), zarr_format=3, attributes=_plain(attributes or {}))
        for name in names:
            image = group.create_group(name, attributes={"ome": _ome(name, frame_rate_hz)})
            image.create_array(
                "0",
                shape=shape,
                dtype="float32",
                chunks=chunk,
                shards=shard,
                fill_value=np.nan,
                compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
                dimension_names=("t", "y", "x"),
            )
    return MovieStore(path, tuple(names), shape, shard[0])


def write_labels(
    path: str | Path,
    name: str,
    shape: tuple[int, int, int],
    frame_rate_hz: float | None,
    frames: Callable[[int, int], np.ndarray | None],
) -> None:
    """A movie of labels (T Y X, uint32, 0: nothing) at `path`/labels/`name`, as OME-Zarr 0.5 has it; written in whole shards.

    `frames(start, stop)` gives some of it; None where there is nothing, which takes no space. What was at `path` is replaced.
    """
    chunk, shard = _layout(shape)
    with _replacing(Path(path)) as part:
        zarr.create_group(str(part), zarr_format=3)
        labels = zarr.create_group(
            str(part / "labels"), zarr_format=3, attributes={"ome": {"version": "0.5", "labels": [name]}}
        )
        about = _ome(name, frame_rate_hz) | {"image-label": {"version": "0.5"}}
        array = labels.create_group(name, attributes={"ome": about}).create_array(
            "0", shape=shape, dtype="uint32", chunks=chunk, shards=shard, fill_value=0, dimension_names=("t", "y", "x"),
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
        )  # fmt: skip
        for start in range(0, shape[0], shard[0]):
            stop = min(start + shard[0], shape[0])
            if (block := frames(start, stop)) is not None:
                array[start:stop] = block


def open_movie_store(path: str | Path) -> MovieStore:
    """A store that create_movie_store made, to go on writing or to read. InputError if it is none."""
    path = Path(path)
    try:
        group = zarr.open_group(str(path), mode="r")
        names = tuple(sorted(name for name, _ in group.groups()))
        arrays: list[Any] = [group[f"{name}/0"] for name in names]
        return MovieStore(path, names, arrays[0].shape, arrays[0].shards[0])
    except Exception as error:  # whatever is missing or damaged
        raise InputError(
            f"{path} is no store that udenoise wrote ({_reason(error)}); run again with --overwrite"
        ) from error


def write_group(
    path: str | Path,
    arrays: Mapping[str, tuple[np.ndarray, Sequence[str]]],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a zarr v3 group of arrays with named dimensions: {"dff/mean": (array, ("roi", "time"))}.

    Written beside `path` and renamed when complete; a group that was there is replaced.
    Raises: InputError if the disk is full, or if something else than a zarr group is at `path`.
    """
    path = Path(path)
    if path.exists() and not (path / "zarr.json").exists():
        raise InputError(f"{path} exists and is no zarr group; move it away or pass another place")
    with _replacing(path) as part:
        group = zarr.create_group(str(part), zarr_format=3, attributes=_plain(attributes or {}))
        for name, (array, dimensions) in arrays.items():
            parent, _, leaf = name.rpartition("/")
            owner = group.require_group(parent) if parent else group
            owner.create_array(
                leaf, data=np.ascontiguousarray(array).reshape(np.shape(array)), dimension_names=tuple(dimensions)
            )


def read_group(path: str | Path) -> Group:
    """What write_group wrote. InputError if it is missing or damaged."""
    try:
        group = zarr.open_group(str(path), mode="r")
        members = group.members(max_depth=None)
        arrays = {name: np.asarray(item[...]) for name, item in members if isinstance(item, zarr.Array)}
        return Group(arrays, group.attrs.asdict())
    except Exception as error:  # whatever is missing or damaged
        raise InputError(
            f"{path} cannot be read ({_reason(error)}); write it again: udenoise run --overwrite"
        ) from error


def write_json(path: str | Path, data: Any) -> None:
    """Write plain data, numpy values and dataclasses as JSON, complete or not at all; NaN becomes null."""
    path = Path(path)
    with _disk(path), whole_file(path) as part, part.open("w", encoding="utf-8") as file:
        json.dump(_plain(data), file, indent=1, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: str | Path) -> Any:
    """Read a JSON file. InputError if it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as JSON ({_reason(error)}); write it again: udenoise run --overwrite"
        ) from error


def _layout(shape: tuple[int, int, int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Chunk and shard: chunks that divide the frame almost evenly; shards of whole frames."""
    T, Y, X = shape
    counts = [math.ceil(size / most) for size, most in ((Y, CHUNK[1]), (X, CHUNK[2]))]
    chunk = (min(CHUNK[0], T), math.ceil(Y / counts[0]), math.ceil(X / counts[1]))
    frame = (counts[0] * chunk[1], counts[1] * chunk[2])
    blocks = max(1, SHARD_BYTES // (4 * math.prod(frame) * chunk[0]))
    return chunk, (min(blocks, math.ceil(T / chunk[0])) * chunk[0], *frame)


def _ome(name: str, frame_rate_hz: float | None) -> dict[str, Any]:
    """https://ngff.openmicroscopy.org/0.5/ : axes and the one resolution level."""
    time = {"name": "t", "type": "time"} | ({"unit": "second"} if frame_rate_hz else {})
    space = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    scale = [1 / frame_rate_hz if frame_rate_hz else 1.0, 1.0, 1.0]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {"version": "0.5", "multiscales": [{"name": name, "axes": [time, *space], "datasets": [level]}]}


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A place beside `path` to write in; it takes the place of `path` when all went well, and vanishes otherwise."""
    part, old = path.with_name(path.name + ".part"), path.with_name(path.name + ".old")
    with _disk(path):
        shutil.rmtree(part, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            shutil.rmtree(old, ignore_errors=True)
            if path.exists():
                path.rename(old)
            part.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """A full or forbidden disk is the user's to mend."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"the disk is full: {path} could not be written; free some space and run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise InputError(f"{path} could not be written ({error.strerror}); pass another place with -o") from error
        raise


def _plain(data: Any) -> Any:
    """Values that JSON knows."""
    if is_dataclass(data) and not isinstance(data, type):
        return _plain(asdict(data))
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (np.ndarray, np.generic)):
        return _plain(data.tolist())
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    return str(data) if isinstance(data, Path) else data


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__
