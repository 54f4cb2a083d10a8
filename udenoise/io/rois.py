"""Regions of interest as weights: ImageJ, Suite2p, Cellpose and other label images, weight arrays, Neurofinder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32, Shaped

from udenoise.errors import InputError
from udenoise.io.formats import HDF5_SUFFIXES, TIFF_SUFFIXES, is_zarr, open_file, split_inside
from udenoise.io.unpickle import load_npy


class Rois(NamedTuple):
    """N regions of a frame of Y x X pixels; a region's fluorescence is the weighted mean of its pixels."""

    names: tuple[str, ...]
    """N unique names."""
    index: Int32[np.ndarray, "N P"]  # pyright: ignore[reportIncompatibleMethodOverride]
    """Flat pixel index y * X + x, padded with 0."""
    weight: Float32[np.ndarray, "N P"]
    """Weights, padded with 0; each row sums to 1."""
    shape: tuple[int, int]
    """Y X."""


class _Region(NamedTuple):
    name: str
    pixels: np.ndarray
    """(P, 2) row, column."""
    weight: np.ndarray
    """(P,) not yet normalised."""


def load_rois(path: str | Path, shape: tuple[int, int]) -> Rois:
    """Regions for frames of `shape` (Y, X).

    path: ImageJ .roi or RoiSet .zip; Suite2p plane folder or stat.npy (iscell.npy beside it is respected); label image
    (Cellpose masks) as .npy, TIFF or _seg.npy; weights (N, Y, X) as .npy, .npz, TIFF, `x.zarr:array` or `x.h5:/array`;
    Neurofinder .json.
    Raises: InputError naming the region, what came and what is needed.
    """
    file, inside = split_inside(path)
    file, inside = (Path(path), None) if Path(path).exists() else (file, inside)
    if not file.exists():
        raise InputError(f"{file} does not exist; pass a file of regions")
    suffix = file.suffix.lower()
    if file.is_dir() and not is_zarr(file):
        return _suite2p(_plane(file), shape)
    if suffix in (".roi", ".zip"):
        return _imagej(file, shape)
    if suffix == ".json":
        return _neurofinder(file, shape)
    if suffix == ".npy":
        return _numpy(file, shape)
    if suffix == ".npz":
        return _from_array(_archived(file), str(file), shape)
    if suffix in (*TIFF_SUFFIXES, *HDF5_SUFFIXES) or is_zarr(file):
        return _from_array(_stored(file, inside), str(path), shape)
    raise InputError(
        f"{file} is no file of regions that udenoise can read; pass ImageJ .roi or .zip, "
        "a Suite2p folder, labels or weights as .npy or TIFF, or Neurofinder .json"
    )


def rois_from_masks(masks: Shaped[np.ndarray, "N Y X"], names: Sequence[str] | None = None) -> Rois:
    """Regions from masks or weights; each is normalised to sum 1.

    Raises: InputError naming a region that is empty or has negative or non-finite weights.
    """
    names = [str(i) for i in range(len(masks))] if names is None else list(names)
    return _assemble(_weights(masks, names), "the masks", (masks.shape[1], masks.shape[2]))


def rois_dense(rois: Rois) -> Float[np.ndarray, "N Y X"]:
    """The weights as images, float32."""
    dense = np.zeros((len(rois.names), rois.shape[0] * rois.shape[1]), np.float32)
    np.add.at(dense, (np.arange(len(rois.names))[:, None], rois.index), rois.weight)
    return dense.reshape(-1, *rois.shape)


def _assemble(regions: Sequence[_Region], source: str, shape: tuple[int, int]) -> Rois:
    if not regions:
        raise InputError(f"{source} holds no regions; pass a file with at least one, or leave --rois out")
    normalised = [_normalise(region, source, shape) for region in regions]
    longest = max(len(flat) for flat, _ in normalised)
    index = np.zeros((len(regions), longest), np.int32)
    weight = np.zeros((len(regions), longest), np.float32)
    for i, (flat, w) in enumerate(normalised):
        index[i, : len(flat)], weight[i, : len(flat)] = flat, w
    return Rois(_unique([region.name for region in regions]), index, weight, shape)


def _normalise(region: _Region, source: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Flat index and weights that sum to 1; a pixel listed twice counts once, with its weights added."""
    weight = np.asarray(region.weight, np.float64)
    what = f"{source}: region {region.name}"
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise InputError(f"{what} has negative or non-finite weights; weights must be zero or more")
    if not len(weight) or weight.sum() == 0:
        raise InputError(f"{what} is empty; delete it")
    rows, columns = region.pixels.T
    if rows.min() < 0 or columns.min() < 0 or rows.max() >= shape[0] or columns.max() >= shape[1]:
        raise InputError(
            f"{what} reaches rows {rows.min()} to {rows.max()}, columns {columns.min()} to "
            f"{columns.max()}, outside the frame of {shape[0]} x {shape[1]}; "
            "move or delete it, or pass its own movie"
        )
    flat, inverse = np.unique(rows * shape[1] + columns, return_inverse=True)
    return flat, np.bincount(inverse, weight / weight.sum())


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """A second `cell` becomes `cell_2`."""
    taken: dict[str, None] = {}
    for name in names:
        fresh, number = name, 2
        while fresh in taken:
            fresh, number = f"{name}_{number}", number + 1
        taken[fresh] = None
    return tuple(taken)


def _imagej(path: Path, shape: tuple[int, int]) -> Rois:
    from udenoise.io import imagej

    regions = [_Region(name, pixels, np.ones(len(pixels))) for name, pixels in imagej.read_regions(path, shape)]
    return _assemble(regions, str(path), shape)


def _neurofinder(path: Path, shape: tuple[int, int]) -> Rois:
    """A list of {id, coordinates: [[row, column], ...]}; a pixel listed twice counts once."""
    try:
        found = json.loads(path.read_text())
        coordinates = [
            np.array([(float(row), float(column)) for row, column in region["coordinates"]]).reshape(-1, 2)
            for region in found
        ]
        names = [str(region.get("id", i)) for i, region in enumerate(found)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is no Neurofinder file ({type(error).__name__}: {error}); a list of "
            '{"id": 1, "coordinates": [[row, column], ...]} is needed'
        ) from error
    regions = []
    for name, points in zip(names, coordinates, strict=True):
        if not (np.isfinite(points).all() and (points == np.round(points)).all()):
            raise InputError(f"{path}: region {name} has coordinates that are no whole pixels; [row, column] is needed")
        pixels = np.unique(points.astype(np.int64), axis=0)
        regions.append(_Region(name, pixels, np.ones(len(pixels))))
    return _assemble(regions, str(path), shape)


def _numpy(path: Path, shape: tuple[int, int]) -> Rois:
    found = load_npy(path)
    if isinstance(found, list):
        return _suite2p(path, shape)
    if isinstance(found, dict):
        if not isinstance(found.get("masks"), np.ndarray):
            raise InputError(
                f"{path} holds no `masks`; pass Cellpose's _seg.npy, Suite2p's stat.npy, labels or weights"
            )
        found = found["masks"]
    return _from_array(found, str(path), shape)


def _plane(folder: Path) -> Path:
    """stat.npy of a Suite2p plane folder, or of the only plane below it."""
    found = [folder / "stat.npy"] if (folder / "stat.npy").exists() else sorted(folder.glob("**/plane*/stat.npy"))
    if len(found) != 1:
        listed = ", ".join(str(stat.parent) for stat in found)
        raise InputError(
            f"{folder} holds {len(found)} Suite2p planes; "
            + (f"pass one of: {listed}" if found else "pass the folder with stat.npy")
        )
    return found[0]


def _suite2p(stat: Path, shape: tuple[int, int]) -> Rois:
    """Cells by iscell, weights lam over pixels that do not overlap (suite2p/extraction/masks.py)."""
    found = load_npy(stat)
    if not isinstance(found, list) or not all(isinstance(s, dict) for s in found):
        raise InputError(f"{stat} is no Suite2p stat.npy; a list of dictionaries with ypix, xpix, lam is needed")
    keep = _iscell(stat.parent / "iscell.npy", len(found))
    if not keep.any():
        raise InputError(
            f"{stat}: none of {len(found)} regions is a cell in iscell.npy; mark cells in Suite2p, "
            "or move iscell.npy away to use all"
        )
    return _assemble([_stat(stat, i, found[i]) for i in np.flatnonzero(keep).tolist()], str(stat), shape)


def _iscell(path: Path, count: int) -> np.ndarray:
    if not path.exists():
        return np.ones(count, bool)
    iscell = np.asarray(load_npy(path))
    if iscell.dtype.kind not in "biuf" or iscell.ndim not in (1, 2) or len(iscell) != count:
        raise InputError(
            f"{path} has shape {iscell.shape}, but stat.npy {count} regions; use the two of one Suite2p run"
        )
    return (iscell if iscell.ndim == 1 else iscell[:, 0]) > 0.5


def _stat(path: Path, number: int, stat: dict[str, Any]) -> _Region:
    try:
        pixels = np.stack([np.asarray(stat["ypix"]), np.asarray(stat["xpix"])], 1).astype(np.int64)
        lam = np.asarray(stat["lam"], float)
        own = ~np.asarray(stat.get("overlap", np.zeros(len(lam))), bool)
        own = own if own.any() else np.ones(len(lam), bool)
        return _Region(str(number), pixels[own], lam[own])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"{path}: region {number} has no usable ypix, xpix, lam ({error}); run Suite2p again"
        ) from error


def _archived(path: Path) -> np.ndarray:
    """The only array of an .npz file, or the one named rois or masks."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            named = [name for name in ("rois", "masks") if name in archive.files]
            names = archive.files if len(archive.files) == 1 else named
            if len(names) != 1:
                raise InputError(
                    f"{path} holds arrays {', '.join(archive.files[:8])}; name the weights (N, Y, X) `rois`"
                )
            return archive[names[0]]
    except InputError:
        raise
    except Exception as error:  # a damaged zip, or pickled objects
        raise InputError(f"{path} cannot be read as .npz ({error}); save it again with numpy.savez") from error


def _stored(path: Path, inside: str | None) -> np.ndarray:
    stored = open_file(path, inside)
    array = stored.take(tuple(slice(None) for _ in stored.shape))
    return array[0] if path.suffix.lower() in TIFF_SUFFIXES and stored.shape[0] == 1 and array.ndim == 3 else array


def _from_array(array: np.ndarray, source: str, shape: tuple[int, int]) -> Rois:
    """Two dimensions are labels (0 is background), three are weights (N, Y, X)."""
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3):
        raise InputError(f"{source} holds {array.ndim}-D {array.dtype}; labels (Y, X) or weights (N, Y, X) are needed")
    if array.shape[-2:] != shape:
        raise InputError(
            f"{source} has frames of {array.shape[-2]} x {array.shape[-1]}, but the movie {shape[0]} x "
            f"{shape[1]}; pass the regions of this movie"
        )
    regions = _labels(array, source) if array.ndim == 2 else _weights(array, [str(i) for i in range(len(array))])
    return _assemble(regions, source, shape)


def _weights(masks: np.ndarray, names: Sequence[str]) -> list[_Region]:
    regions = []
    for name, mask in zip(names, masks, strict=True):
        pixels = np.argwhere(mask != 0)
        regions.append(_Region(name, pixels, mask[pixels[:, 0], pixels[:, 1]]))
    return regions


def _labels(image: np.ndarray, source: str) -> list[_Region]:
    """One region per label, in the order of the labels."""
    if not np.isfinite(image).all() or (image < 0).any() or (image != np.round(image)).any():
        raise InputError(f"{source} is 2-D but holds no labels (whole numbers from 0); pass weights as (N, Y, X)")
    pixels = np.argwhere(image)
    label = image[pixels[:, 0], pixels[:, 1]].astype(np.int64)
    order = np.argsort(label, kind="stable")
    names, starts = np.unique(label[order], return_index=True)
    groups = np.split(pixels[order], starts[1:])
    return [_Region(str(n), group, np.ones(len(group))) for n, group in zip(names, groups, strict=False)]
