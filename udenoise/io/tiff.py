"""TIFF movies, page by page: plain, BigTIFF, OME, ImageJ (also over 4 GB in one directory), ScanImage, compressed."""

import mmap
import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from udenoise.errors import InputError
from udenoise.io import tiff_metadata
from udenoise.io.axes import Key, Stored, Take

OPEN_FILES = 16
"""Files kept open at once."""
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Of the TIFF 6.0 and BigTIFF field types."""


class Pages(NamedTuple):
    """Where the frames of a movie lie."""

    files: tuple[Path, ...]
    file: np.ndarray
    """(P,) which file."""
    offset: np.ndarray
    """(P,) int64 position of the page's directory in it, bytes."""


def open_files(paths: Sequence[Path]) -> list[Stored]:
    """One stored array per file; files that belong to one OME-TIFF count once. Raises InputError naming the file."""
    stored, covered = [], set()
    opened = _OpenFiles()
    for path in paths:
        if path.resolve() in covered:
            continue
        array, files = _open_one(path, opened)
        stored.append(array)
        covered |= files
    foreign = covered - {path.resolve() for path in paths}
    if foreign and len(paths) > 1:
        raise InputError(
            f"the OME-TIFF {stored[0].source} also spans {sorted(foreign)[0].name}; "
            "pass its first file alone, or all its files"
        )
    return stored


def _open_one(path: Path, opened: "_OpenFiles") -> tuple[Stored, set[Path]]:
    offsets = _directories(path)
    try:
        with tifffile.TiffFile(path) as tif:
            page: Any = tif.pages.first
            _check_page(path, page)
            single = len(offsets) == 1 and (tif.is_imagej or tif.is_shaped)
            if single or tif.is_ome or tif.is_stk or tif.is_lsm or tif.is_mmstack:
                return _open_series(path, tif, opened)
            axes, lead = tiff_metadata.layout(str(path), _tags(tif), len(offsets))
            rate = tiff_metadata.frame_rate_hz(_tags(tif), volumes=axes.startswith("TZ") and lead[1] > 1)
            shape, dtype = (*lead, *page.shape), page.dtype
    except InputError:
        raise
    except Exception as error:  # whatever a damaged directory makes of the parser
        raise InputError(
            f"{path} cannot be read as TIFF ({' '.join(str(error).split())[:150]}); "
            "the file is damaged or truncated: copy it again"
        ) from error
    count = prod(lead)
    pages = Pages((path,), np.zeros(count, np.int32), offsets[:count])
    opened.frame(path, int(offsets[-1]), len(offsets) - 1, page.shape, dtype)  # the end is there
    take = _take(opened, pages, lead, page.shape, dtype)
    return Stored(shape, dtype, axes + "YX", rate, str(path), take), {path.resolve()}


def _tags(tif: tifffile.TiffFile) -> tiff_metadata.Tags:
    page = tif.pages.first
    header = tif.scanimage_metadata if tif.is_scanimage else None
    return tiff_metadata.Tags(
        page.description,
        page.software,
        tif.imagej_metadata if tif.is_imagej else None,
        (header or {}).get("FrameData") or {},
    )


def _open_series(path: Path, tif: tifffile.TiffFile, opened: "_OpenFiles") -> tuple[Stored, set[Path]]:
    """Files whose order only their own metadata knows (OME, MetaMorph, LSM), and stacks under a single directory."""
    _check_stack(path, tif)
    if tif.is_ome and len(tif.series) > 1:
        raise InputError(f"{path} holds {len(tif.series)} images (positions); save the one to denoise alone")
    series = tif.series[0]
    page: Any = series.keyframe
    shape = tuple(int(n) for n in series.shape)
    lead = shape[: -len(page.shape)]
    axes = series.axes
    _check_page(path, page)
    rate = tiff_metadata.frame_rate_hz(_tags(tif), volumes=False)
    if len(series.pages) == 1 and prod(lead) > 1:
        take = _take_contiguous(path, page, shape)
        return Stored(shape, page.dtype, axes, rate, str(path), take), {path.resolve()}
    pages = _pages_of(path, series)
    files = {file.resolve() for file in pages.files}
    take = _take(opened, pages, lead, page.shape, page.dtype)
    return Stored(shape, page.dtype, axes, rate, str(path), take), files


def _pages_of(path: Path, series: tifffile.TiffPageSeries) -> Pages:
    listed: list[Any] = list(series.pages)
    lost = [i for i, page in enumerate(listed) if page is None]
    if lost:
        raise InputError(
            f"{path} lacks {len(lost)} of its {len(listed)} frames (the first is frame {lost[0]}); "
            "put all files of the OME-TIFF into one folder"
        )
    names = [Path(page.parent.filehandle.path) for page in listed]
    files = tuple(dict.fromkeys(names))
    outside = [file for file in files if file.resolve().parent != path.resolve().parent]
    if outside:
        raise InputError(f"{path} refers to {outside[0]}, outside its own folder; put its files into one folder")
    number = {file: i for i, file in enumerate(files)}
    return Pages(
        files,
        np.array([number[name] for name in names], np.int32),
        np.array([page.offset for page in listed], np.int64),
    )


def _check_page(path: Path, page: tifffile.TiffPage) -> None:
    if page.samplesperpixel > 1:
        raise InputError(
            f"{path} holds colour frames ({page.samplesperpixel} samples per pixel); "
            "save the one channel to denoise as a single-channel movie"
        )
    if len(page.shape) != 2 or page.dtype is None:
        raise InputError(f"{path} has pages of shape {page.shape}; two-dimensional numeric frames are needed")


def _check_stack(path: Path, tif: tifffile.TiffFile) -> None:
    """ImageJ writes stacks over 4 GB under one directory and says how many images follow."""
    page = tif.pages.first
    if not (tif.is_imagej and page.is_contiguous) or len(tif.pages) > 1 or tif.is_ome:
        return
    images = int((tif.imagej_metadata or {}).get("images", 1))
    have = (tif.filehandle.size - page.dataoffsets[0]) // max(page.nbytes, 1)
    if have < images:
        raise InputError(f"{path} is truncated: it says {images} frames and holds {have}; copy the file again")


def _take_contiguous(path: Path, page: Any, shape: tuple[int, ...]) -> Take:
    dtype = np.dtype(page.parent.byteorder + page.dtype.char)
    frames = np.memmap(path, dtype, "r", page.dataoffsets[0], shape)
    return lambda key: np.array(frames[key])


def _take(opened: "_OpenFiles", pages: Pages, lead: tuple[int, ...], frame: tuple[int, ...], dtype: np.dtype) -> Take:
    """Decode only the pages of the key."""
    numbers = np.arange(prod(lead)).reshape(lead)

    def take(key: Key) -> np.ndarray:
        wanted = numbers[key[:-2]]
        frames = np.empty((wanted.size, *frame), dtype.newbyteorder("="))
        for i, number in enumerate(wanted.flat):
            path, offset = pages.files[pages.file[number]], int(pages.offset[number])
            frames[i] = opened.frame(path, offset, int(number), frame, dtype)
        return frames.reshape(*wanted.shape, *frame)[(..., *key[-2:])]

    return take


class _OpenFiles:
    """The few files of a movie that were read last, kept open; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tifs: OrderedDict[Path, tifffile.TiffFile] = OrderedDict()

    def frame(self, path: Path, offset: int, number: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The page at `offset`, decoded; `number` is for messages."""
        with self._lock:
            tif = self._tif(path)
            tif.filehandle.seek(offset)
            page = tifffile.TiffPage(tif, index=number)
            _check_frame(path, number, page, tif.filehandle.size, shape, dtype)
            return page.asarray()

    def _tif(self, path: Path) -> tifffile.TiffFile:
        if path not in self._tifs:
            self._tifs[path] = tifffile.TiffFile(path)
        self._tifs.move_to_end(path)
        while len(self._tifs) > OPEN_FILES:
            self._tifs.popitem(last=False)[1].close()
        return self._tifs[path]


def _check_frame(
    path: Path, number: int, page: tifffile.TiffPage, size: int, shape: tuple[int, ...], dtype: np.dtype
) -> None:
    if page.shape != shape or page.dtype != dtype:
        raise InputError(
            f"{path}: frame {number} is {page.shape} {page.dtype}, but the first is {shape} {dtype}; "
            "all frames of a movie must be alike"
        )
    end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    if end > size:
        raise _truncated(path, f"frame {number} ends at byte {end}", size)


def _directories(path: Path) -> np.ndarray:
    """(P,) byte positions of all directories, following the chain; InputError if it leaves the file."""
    if path.stat().st_size < 16:
        raise InputError(f"{path} is no TIFF file: it holds {path.stat().st_size} bytes; pass a movie")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        order, big = _header(path, data)
        count, entry, link = ("Q", 20, "Q") if big else ("H", 12, "I")
        counts, links = struct.Struct(order + count), struct.Struct(order + link)
        offsets: dict[int, None] = {}
        position = links.unpack_from(data, 8 if big else 4)[0]
        while position:
            if position in offsets:
                raise InputError(f"{path} is damaged: its pages form a circle; copy the file again")
            inside = position + counts.size <= len(data)
            end = position + counts.size + (counts.unpack_from(data, position)[0] * entry if inside else 0)
            if end + links.size > len(data):
                raise _truncated(path, f"frame {len(offsets)} begins at byte {position}", len(data))
            if not offsets:
                _check_tags(path, data, order, range(position + counts.size, end, entry))
            offsets[position] = None
            position = links.unpack_from(data, end)[0]
    if not offsets:
        raise InputError(f"{path} holds no frames; pass a movie")
    return np.fromiter(offsets, np.int64, len(offsets))


def _check_tags(path: Path, data: mmap.mmap, order: str, entries: range) -> None:
    """The texts of the first page (which hold the axes) must not be cut off."""
    link = struct.Struct(order + ("Q" if entries.step == 20 else "I"))
    for entry in entries:
        kind = struct.unpack_from(order + "H", data, entry + 2)[0]
        size = link.unpack_from(data, entry + 4)[0] * TYPE_BYTES.get(kind, 0)
        value = link.unpack_from(data, entry + 4 + link.size)[0]
        if size > link.size and value + size > len(data):
            raise _truncated(path, f"its description ends at byte {value + size}", len(data))


def _truncated(path: Path, what: str, size: int) -> InputError:
    return InputError(f"{path} is truncated: {what}, the file ends at byte {size}; copy the file again")


def _header(path: Path, data: mmap.mmap) -> tuple[str, bool]:
    """Byte order, and whether it is a BigTIFF."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    version = struct.unpack(order + "H", data[2:4])[0] if order else 0
    if version not in (42, 43):
        raise InputError(f"{path} is no TIFF file, whatever its name says; pass TIFF, HDF5, Zarr or .npy")
    return str(order), version == 43
