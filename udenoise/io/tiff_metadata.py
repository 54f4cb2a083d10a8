"""What a TIFF's texts say about order and frame rate: ImageJ, ScanImage, OME, and tifffile's own JSON."""

import json
import math
import re
from math import prod
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from udenoise.errors import InputError

SECONDS = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "millisecond": 1e-3,
    "milliseconds": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "microsecond": 1e-6,
    "microseconds": 1e-6,
    "ns": 1e-9,
    "nanosecond": 1e-9,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
}
"""Units of time in seconds, as ImageJ, OME and OME-Zarr spell them."""
_SCANIMAGE = re.compile(r"^(?:scanimage\.)?(SI\d?\.[\w.]+|state\.[\w.]+)\s*=\s*(.*?)\s*$", re.MULTILINE)


class Tags(NamedTuple):
    """The texts of the first page."""

    description: str
    software: str
    imagej: dict[str, Any] | None
    scanimage: dict[str, Any]
    """Header of newer ScanImage files, already parsed."""


def layout(source: str, tags: Tags, pages: int) -> tuple[str, tuple[int, ...]]:
    """Axes before Y X and their lengths, for a file of `pages` pages; `I` is one axis that nobody named.

    Raises: InputError where several channels or planes are announced and the number of pages does not fit.
    """
    for axes, lengths in filter(None, (_shaped_layout(tags), _imagej_layout(tags))):
        if prod(lengths) == pages:
            return axes, lengths
        if prod(n for axis, n in zip(axes, lengths, strict=True) if axis in "CZ") > 1:
            size = " ".join(f"{axis} {n}" for axis, n in zip(axes, lengths, strict=True))
            raise InputError(
                f"{source} announces {size} but holds {pages} pages; it is truncated or was cut: save it again"
            )
    return _scanimage_layout(source, tags, pages) or ("I", (pages,))


def frame_rate_hz(tags: Tags, volumes: bool) -> float | None:
    """Frames per second of one plane, or None; `volumes`: the file holds several planes."""
    if tags.imagej is not None:
        return _imagej_rate(tags.imagej)
    if tags.description.lstrip().startswith(("<?xml", "<OME")) or "<OME" in tags.description[:2000]:
        return _ome_rate(tags.description)
    return _scanimage_rate(tags, volumes) or _imagej_rate(_shaped(tags))


def _shaped(tags: Tags) -> dict[str, Any]:
    """tifffile's own description: {"shape": [600, 64, 64], "axes": "TYX"}."""
    if not tags.description.startswith("{"):
        return {}
    try:
        found = json.loads(tags.description)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _shaped_layout(tags: Tags) -> tuple[str, tuple[int, ...]] | None:
    found = _shaped(tags)
    shape, axes = found.get("shape"), found.get("axes")
    if not isinstance(shape, list) or not all(isinstance(n, int) for n in shape) or len(shape) < 3:
        return None
    if not isinstance(axes, str) or len(axes) != len(shape):
        axes = "QPONMLKJ"[: len(shape) - 2] + "YX"
    return (axes[:-2], tuple(shape[:-2])) if axes.endswith("YX") else None


def _imagej_layout(tags: Tags) -> tuple[str, tuple[int, ...]] | None:
    if tags.imagej is None:
        return None
    lengths = {axis: tags.imagej.get(name, 1) for axis, name in (("T", "frames"), ("Z", "slices"), ("C", "channels"))}
    order = str(tags.imagej.get("order", "czt")).lower()
    axes = order[::-1].upper() if sorted(order) == ["c", "t", "z"] else "TZC"  # the first letter runs fastest
    return axes, tuple(int(lengths[axis]) for axis in axes)


def _scanimage(tags: Tags) -> dict[str, str]:
    """`SI.hRoiManager.scanFrameRate = 30.01` and the like, from wherever this version wrote them."""
    found = {name: str(value) for name, value in tags.scanimage.items()}
    for text in (tags.description, tags.software):
        found.update(_SCANIMAGE.findall(text))
    return found


def _scanimage_layout(source: str, tags: Tags, pages: int) -> tuple[str, tuple[int, ...]] | None:
    """Channels run fastest, then planes; a volume that was cut short at the end is left out."""
    found = _scanimage(tags)
    saved = found.get("SI.hChannels.channelSave", found.get("SI5.channelsSave", found.get("SI4.channelsSave")))
    if saved is None:
        return None
    channels, planes = max(len(re.findall(r"\d+", saved)), 1), _planes(found)
    repeats = int(_number(found.get("SI.hStackManager.framesPerSlice")) or 1)
    if planes > 1 and repeats > 1 and not _is_on(found, "SI.hFastZ.enable"):  # a slow stack: repeats at every plane
        axes, lengths = "ZTC", (pages // (channels * repeats), repeats, channels)
    else:
        axes, lengths = "TZC", (pages // (channels * planes), planes, channels)
    if 0 in lengths:
        raise InputError(
            f"{source} holds {pages} pages, less than one volume of {planes} planes and {channels} "
            "channels; it is truncated: copy it again"
        )
    return axes, lengths


def _planes(found: dict[str, str]) -> int:
    """Pages of one channel per volume, flyback included."""
    slices = int(_number(found.get("SI.hStackManager.numSlices")) or 1)
    if _is_on(found, "SI.hFastZ.enable"):
        names = ("SI.hStackManager.numFramesPerVolumeWithFlyback", "SI.hFastZ.numFramesPerVolume")
        return int(next((n for n in (_number(found.get(name)) for name in names) if n), slices))
    return slices if _is_on(found, "SI.hStackManager.enable", default="true") else 1


def _is_on(found: dict[str, str], name: str, default: str = "false") -> bool:
    return found.get(name, default).lower() in ("true", "1")


def _scanimage_rate(tags: Tags, volumes: bool) -> float | None:
    found = _scanimage(tags)
    names = (
        ["SI.hRoiManager.scanVolumeRate"]
        if volumes
        else ["SI.hRoiManager.scanFrameRate", "SI5.scanFrameRate", "SI4.scanFrameRate", "state.acq.frameRate"]
    )
    return next((rate for rate in (_number(found.get(name)) for name in names) if rate), None)


def _imagej_rate(found: dict[str, Any]) -> float | None:
    """The interval between frames if it is stated, else `fps`."""
    interval, unit = _number(found.get("finterval")), str(found.get("tunit", "s")).strip().lower()
    if interval and unit in SECONDS:
        return 1 / (interval * SECONDS[unit])
    return _number(found.get("fps"))


def _ome_rate(text: str) -> float | None:
    """TimeIncrement, or else the median step of DeltaT between frames of the first channel and plane."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    pixels = next((element for element in root.iter() if element.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None
    step = _number(pixels.get("TimeIncrement"))
    unit = pixels.get("TimeIncrementUnit", "s")
    if not step:
        step, unit = _ome_steps(pixels)
    return 1 / (step * SECONDS[unit]) if step and step > 0 and unit in SECONDS else None


def _ome_steps(pixels: ElementTree.Element) -> tuple[float, str]:
    planes = [p for p in pixels if p.tag.endswith("}Plane") and p.get("TheC", "0") == p.get("TheZ", "0") == "0"]
    times = {int(p.get("TheT", "0")): _number(p.get("DeltaT")) for p in planes}
    known = [t for _, t in sorted(times.items()) if t is not None]
    unit = planes[0].get("DeltaTUnit", "s") if planes else "s"
    return (float(np.median(np.diff(known))) if len(known) > 1 else 0.0), unit


def _number(text: Any) -> float | None:
    """A positive or zero finite number, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None
