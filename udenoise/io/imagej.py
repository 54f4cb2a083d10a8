"""ImageJ regions: .roi files and RoiSet.zip, filled to pixels; nothing is extracted to disk."""

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import roifile

from udenoise.errors import InputError

MAXIMUM_BYTES = 2**24
"""Of one region; a larger one is no region."""
MAXIMUM_REGIONS = 100_000
_AREAS = {
    roifile.ROI_TYPE.POLYGON,
    roifile.ROI_TYPE.RECT,
    roifile.ROI_TYPE.OVAL,
    roifile.ROI_TYPE.FREEHAND,
    roifile.ROI_TYPE.TRACED,
}
_LABELS = {roifile.ROI_SUBTYPE.TEXT, roifile.ROI_SUBTYPE.ARROW, roifile.ROI_SUBTYPE.IMAGE}


class Region(NamedTuple):
    """One filled region."""

    name: str
    pixels: np.ndarray
    """(P, 2) row and column; some may lie outside the frame."""


def read_regions(path: Path, shape: tuple[int, int]) -> list[Region]:
    """The regions of a .roi or .zip file as pixels of a frame (Y, X).

    A pixel belongs to a region if its centre (column + 0.5, row + 0.5 in ImageJ's x, y) lies inside: ImageJ's own rule.
    Raises: InputError if the file is damaged or a region has no area (points, lines, texts).
    """
    files = _members(path) if path.suffix.lower() == ".zip" else [(path.stem, path.read_bytes())]
    return [_region(path, name, data, shape) for name, data in files]


def _members(path: Path) -> list[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                member
                for member in archive.infolist()
                if member.filename.lower().endswith(".roi") and "__MACOSX" not in member.filename
            ]
            if not 0 < len(members) <= MAXIMUM_REGIONS:
                raise InputError(f"{path} holds {len(members)} .roi files; save it from ImageJ's ROI Manager")
            return [(Path(member.filename).stem, _bounded(archive, member)) for member in members]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read as a zip of regions ({error}); save it again in ImageJ") from error


def _bounded(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        data = file.read(MAXIMUM_BYTES + 1)
    if len(data) > MAXIMUM_BYTES:
        raise InputError(
            f"{archive.filename}: {member.filename} is larger than any region ({MAXIMUM_BYTES} bytes); "
            "save the regions again in ImageJ"
        )
    return data


def _region(path: Path, name: str, data: bytes, shape: tuple[int, int]) -> Region:
    try:
        roi = roifile.ImagejRoi.frombytes(data)
        loops: Any = roi.coordinates(multi=True)
    except Exception as error:  # whatever a damaged file makes of the parser
        raise InputError(f"{path}: region {name} cannot be read ({error}); save it again in ImageJ") from error
    name = roi.name or name
    if roi.roitype not in _AREAS or roi.subtype in _LABELS:
        kind = (roi.subtype if roi.subtype in _LABELS else roi.roitype).name.lower()
        raise InputError(f"{path}: region {name} is a {kind} and has no area; draw its outline or delete it in ImageJ")
    if roi.subpixelrect:
        loops = [_box(roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd)]
    inside, top, left = _fill(path, name, loops, shape, oval=roi.roitype == roifile.ROI_TYPE.OVAL)
    return Region(name, np.argwhere(inside) + (top, left))


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [left, bottom], [right, bottom], [right, top]], float)


def _fill(
    path: Path, name: str, loops: list[np.ndarray], shape: tuple[int, int], oval: bool
) -> tuple[np.ndarray, int, int]:
    """Which pixels of the bounding box are inside, and its upper left corner (row, column)."""
    corners = np.concatenate([np.asarray(loop, float).reshape(-1, 2) for loop in loops])
    if not len(corners) or not np.isfinite(corners).all():
        raise InputError(f"{path}: region {name} is empty; delete it in ImageJ")
    low, high = corners.min(0), corners.max(0)
    if (low < -1).any() or high[0] > shape[1] + 1 or high[1] > shape[0] + 1:
        raise InputError(
            f"{path}: region {name} reaches x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}, "
            f"outside the frame of {shape[0]} x {shape[1]}; move or delete it, or pass its own movie"
        )
    left, top = np.floor(low).astype(int)
    right, bottom = np.ceil(high).astype(int)
    x, y = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5  # pixel centres
    inside = _in_oval(x, y, low, high) if oval else _in_loops(x, y, loops)
    return inside, int(top), int(left)


def _in_oval(x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    centre, radius = (low + high) / 2, np.maximum((high - low) / 2, 1e-9)
    return ((x - centre[0]) / radius[0])[None] ** 2 + ((y - centre[1]) / radius[1])[:, None] ** 2 <= 1


def _in_loops(x: np.ndarray, y: np.ndarray, loops: list[np.ndarray]) -> np.ndarray:
    """Even-odd rule over all loops: an edge turns over every pixel to its right, so holes stay open."""
    inside = np.zeros((len(y), len(x)), bool)
    for loop in loops:
        points = np.asarray(loop, float)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
            rows = (np.minimum(y0, y1) <= y) & (y < np.maximum(y0, y1))
            if rows.any():
                crossing = x0 + (y[rows] - y0) * (x1 - x0) / (y1 - y0)
                inside[rows] ^= x[None] > crossing[:, None]
    return inside
