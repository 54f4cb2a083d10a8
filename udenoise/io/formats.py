"""Which reader opens what: files by suffix, folders, globs, lists, and arrays in memory."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from udenoise.errors import InputError
from udenoise.io.axes import Stored

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".stk", ".lsm")
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nwb", ".mat")
_INSIDE = re.compile(r"^(?P<file>.+?\.(?:h5|hdf5|hdf|nwb|mat|zarr))(?::(?P<inside>[^:]*))?$", re.IGNORECASE)

Source = str | Path | Sequence[str | Path] | np.ndarray


def open_stored(source: Source) -> list[Stored]:
    """The stored arrays that, joined in time, are the movie; InputError if there are none."""
    if isinstance(source, np.ndarray):
        from udenoise.io import npy

        return [npy.from_array(source)]
    if not isinstance(source, (str, Path)):
        return _open_files([Path(path) for path in source], "the list of files")
    path = Path(source)
    if path.is_file() or is_zarr(path):
        return [open_file(path)]
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in TIFF_SUFFIXES and not p.name.startswith(".")]
        return _open_files(natural_order(found), f"folder {source}")
    file, inside = split_inside(source)
    if inside is not None and file.exists():
        return [open_file(file, inside)]
    if any(letter in str(source) for letter in "*?["):
        found = [Path(p) for p in glob.glob(str(source), recursive=True)]  # noqa: PTH207 (the pattern may be absolute)
        return _open_files(natural_order(found), str(source))
    raise InputError(f"{file} does not exist; pass a movie file, a folder or a glob")


def _open_files(paths: list[Path], what: str) -> list[Stored]:
    if not paths:
        raise InputError(f"no movie files in {what}; pass TIFF files ({' '.join(TIFF_SUFFIXES[:2])})")
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise InputError(f"{missing[0]} does not exist; pass a movie file, a folder or a glob")
    if all(path.suffix.lower() in TIFF_SUFFIXES for path in paths):
        from udenoise.io import tiff

        return tiff.open_files(paths)
    return [open_file(path) for path in paths]


def open_file(path: Path, inside: str | None = None) -> Stored:
    """The array in one file, or at `inside` in it; the format's library is imported here, when it is needed."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        from udenoise.io import tiff

        return tiff.open_files([path])[0]
    if is_zarr(path):
        from udenoise.io import zarr_

        return zarr_.open_zarr(path, inside)
    if suffix in HDF5_SUFFIXES:
        from udenoise.io import hdf5

        return hdf5.open_hdf5(path, inside)
    if suffix == ".npy":
        from udenoise.io import npy

        return npy.open_npy(path)
    raise InputError(f"{path} is not a movie that udenoise can read; pass TIFF, HDF5 (movie.h5:/data), Zarr or .npy")


def is_zarr(path: Path) -> bool:
    marks = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
    return path.is_dir() and (path.suffix.lower() == ".zarr" or any((path / mark).exists() for mark in marks))


def split_inside(source: str | Path) -> tuple[Path, str | None]:
    """`movie.h5:/data` as movie.h5 and /data."""
    found = _INSIDE.match(str(source))
    return (Path(found["file"]), found["inside"]) if found else (Path(source), None)


def natural_order(paths: Sequence[Path]) -> list[Path]:
    """file2 before file10."""
    return sorted(
        paths,
        key=lambda path: [
            (not part.isdigit(), int(part) if part.isdigit() else 0, part.lower())
            for part in re.split(r"(\d+)", str(path))
        ],
    )
