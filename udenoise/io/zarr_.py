"""Movies in Zarr v2 and v3 arrays, and in OME-Zarr 0.4 and 0.5 images (full resolution)."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr

from udenoise.errors import InputError
from udenoise.io.axes import Stored, describe
from udenoise.io.names import axes_from_names

# https://ngff.openmicroscopy.org/0.5/ : units of time are those of UDUNITS-2
_SECONDS = {"second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "nanosecond": 1e-9, "minute": 60.0, "hour": 3600.0}


def open_zarr(path: Path, inside: str | None) -> Stored:
    """The array or OME-Zarr image at `inside`, or the only one there is.

    Raises: InputError listing the arrays if the choice is not clear, or if the store is damaged.
    """
    try:
        node = zarr.open(str(path), mode="r")
        node = _inside(node, path, inside)
        return _open_node(node, path)
    except InputError:
        raise
    except Exception as error:  # whatever damaged metadata makes of the parser
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise InputError(f"{path} cannot be read as Zarr ({reason}); it is damaged or of another kind") from error


def _inside(node: Any, path: Path, inside: str | None) -> Any:
    name = (inside or "").strip("/")
    if not name:
        return node
    if ".." in PurePosixPath(name).parts:
        raise InputError(f"{path}:{name} leads out of the store; pass a name inside it")
    if isinstance(node, zarr.Array) or name not in node:
        listed = _listed(path, node) if isinstance(node, zarr.Group) else str(path)
        raise InputError(f"{path} holds no {name}; pass one of: {listed}")
    return node[name]


def _open_node(node: Any, path: Path) -> Stored:
    if isinstance(node, zarr.Array):
        return _stored(node, path, _named_axes(node), None)
    image = _multiscales(node)
    if image is not None:
        return _open_image(node, path, image)
    members = [item for _, item in node.members() if _is_movie(item)]
    if len(members) != 1:
        listed = _listed(path, node)
        raise InputError(
            f"{path} holds {len(members)} movies; "
            + (f"pass one of: {listed}" if listed else "an array T Y X is needed")
        )
    return _open_node(members[0], path)


def _is_movie(item: Any) -> bool:
    return item.ndim >= 3 if isinstance(item, zarr.Array) else _multiscales(item) is not None


def _open_image(node: zarr.Group, path: Path, image: Mapping[str, Any]) -> Stored:
    level = image["datasets"][0]
    if ".." in PurePosixPath(level["path"]).parts or level["path"].startswith("/"):
        raise InputError(f"{path} refers to {level['path']}, outside itself; pass the array itself")
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", "tczyx")]
    letters = axes_from_names([axis["name"] for axis in axes])
    return _stored(node[level["path"]], path, letters, _frame_rate_hz(axes, image, level))


def _frame_rate_hz(axes: list[dict[str, Any]], image: Mapping[str, Any], level: Mapping[str, Any]) -> float | None:
    """From the scale along t: the level's times the image's, in the unit of the axis; None without a unit."""
    time = next((i for i, axis in enumerate(axes) if axis["name"].lower() in ("t", "time")), None)
    if time is None or axes[time].get("unit") not in _SECONDS:
        return None
    steps = [
        step["scale"][time]
        for where in (level, image)
        for step in where.get("coordinateTransformations", [])
        if step.get("type") == "scale"
    ]
    interval_s = float(np.prod(steps)) * _SECONDS[axes[time]["unit"]]
    return 1 / interval_s if steps and interval_s > 0 else None


def _stored(array: Any, path: Path, axes: str | None, frame_rate_hz: float | None) -> Stored:
    if not isinstance(array, zarr.Array) or (axes is not None and len(axes) != array.ndim):
        raise InputError(f"{path}: the OME-Zarr metadata does not fit the array; pass the array itself and --axes")
    source = f"{path}:{array.path}" if array.path else str(path)
    return Stored(array.shape, np.dtype(array.dtype), axes, frame_rate_hz, source, lambda key: np.asarray(array[key]))


def _named_axes(array: zarr.Array) -> str | None:
    names: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return axes_from_names(list(names)) if names else None


def _multiscales(node: zarr.Group) -> Mapping[str, Any] | None:
    """OME-Zarr 0.5 keeps them under `ome`, 0.4 at the top."""
    attributes: dict[str, Any] = node.attrs.asdict()
    found = attributes.get("ome", attributes).get("multiscales")
    return found[0] if found else None


def _listed(path: Path, node: zarr.Group) -> str:
    found = [
        f"{path}:{name}" + (f" ({describe(None, item.shape)})" if isinstance(item, zarr.Array) else "")
        for name, item in node.members()
    ]
    return ", ".join(found[:8])
