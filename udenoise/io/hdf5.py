"""Movies in HDF5, NWB and MATLAB v7.3 files."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from udenoise.errors import InputError
from udenoise.io.axes import Stored, describe
from udenoise.io.names import axes_from_names


def open_hdf5(path: Path, inside: str | None) -> Stored:
    """The dataset `inside` (or the only one of three or more dimensions); read in slices.

    MATLAB arrays are stored with their dimensions reversed: Y X T in MATLAB is T X Y here.
    Raises: InputError listing the datasets if the choice is not clear, or if the file is damaged.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read as HDF5 ({' '.join(str(error).split())[:150]}); "
            "it is damaged, truncated or of another kind: copy it again"
        ) from error
    data = _dataset(file, path, inside)
    if data.external or data.file.filename != file.filename:
        raise InputError(f"{path}:{data.name} refers to another file; pass that file itself")
    source = f"{path}:{data.name}"
    return Stored(data.shape, data.dtype, _axes(data), _frame_rate_hz(data), source, lambda key: np.asarray(data[key]))


def _dataset(file: h5py.File, path: Path, inside: str | None) -> h5py.Dataset:
    if inside and inside.strip("/"):
        found = file.get(inside)
        if not isinstance(found, h5py.Dataset) or not found.shape:
            raise InputError(f"{path} holds no dataset {inside}; pass one of: {_listed(path, _datasets(file))}")
        return found
    datasets = _datasets(file)
    if len(datasets) != 1:
        raise InputError(
            f"{path} holds {len(datasets)} datasets of three or more dimensions; "
            + (f"pass one of: {_listed(path, datasets)}" if datasets else "a movie T Y X is needed")
        )
    return datasets[0]


def _datasets(file: h5py.File) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []

    def visit(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and len(item.shape or ()) >= 3 and not name.startswith("#refs#"):
            found.append(item)

    file.visititems(visit)
    return found


def _listed(path: Path, datasets: list[h5py.Dataset]) -> str:
    return ", ".join(f"{path}:{data.name} ({describe(None, data.shape)})" for data in datasets[:8]) or "(none)"


def _axes(data: h5py.Dataset) -> str | None:
    if "MATLAB_class" in data.attrs:
        return {3: "TXY"}.get(data.ndim)
    names = [dim.label for dim in data.dims]
    return axes_from_names(names) if any(names) else None


def _frame_rate_hz(data: h5py.Dataset) -> float | None:
    """NWB: attribute `rate` of `starting_time`, beside the data, Hz."""
    parent: Any = data.parent
    start = parent.get("starting_time")
    rate = start.attrs.get("rate") if isinstance(start, h5py.Dataset) else None
    return float(rate) if rate is not None else None
