"""Pickled .npy files without their danger: only arrays, numbers, texts and plain containers come out.

Suite2p and Cellpose save dictionaries this way. Python's own unpickler would run whatever the file names; this one
knows a handful of names, and builds arrays itself from plain bytes (numpy's own __setstate__ trusts its input).
"""

import pickle
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from udenoise.errors import InputError

_CODE = re.compile(r"[biu][1248]|f(?:2|4|8)|c(?:8|16)|[SU]\d{1,5}|O8?")


def load_npy(path: Path) -> Any:
    """The array in a .npy file; if it holds objects, plain containers of arrays and numbers.

    Raises: InputError if it is damaged, or names anything besides arrays and plain containers.
    """
    try:
        with path.open("rb") as file:
            shape, objects = _header(file)
            if not objects:
                file.seek(0)
                return np.load(file, allow_pickle=False)
            return _plain(_Unpickler(file, encoding="latin1").load(), shape)
    except (InputError, FileNotFoundError):
        raise
    except Exception as error:  # whatever a damaged or malicious file makes of it
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise InputError(
            f"{path} is not a file of arrays that udenoise can trust ({reason}); "
            "save it again as numbers, with numpy.save"
        ) from error


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool]:
    """Shape, and whether the numbers are pickled objects."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = read[np.lib.format.read_magic(file)](file)
    return shape, dtype.hasobject


class _Dtype:
    """A simple type of number, made without calling numpy on the file's word."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any) -> None:
        if not (isinstance(code, str) and _CODE.fullmatch(code)):
            raise pickle.UnpicklingError(f"type {str(code)[:40]!r} is not allowed")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _, order, subarray, names, fields, *_rest = state
        if subarray is not None or names is not None or fields is not None or order not in "<>|=":
            raise pickle.UnpicklingError("structured types are not allowed")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array that is being unpickled."""

    __slots__ = ("value",)

    def __init__(self, *_: Any) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.value = _array(data, kind, shape, "F" if fortran else "C")


class _Call:
    """An allowed name: it can be called, and nothing else."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a name cannot be changed")


def _array(data: Any, kind: Any, shape: Any, order: Any = "C") -> Any:
    if not isinstance(kind, _Dtype) or not all(type(n) is int and n >= 0 for n in shape) or order not in ("C", "F"):
        raise pickle.UnpicklingError("malformed array")
    if kind.dtype.hasobject:
        if type(data) is not list or len(data) != prod(shape):
            raise pickle.UnpicklingError("malformed array of objects")
        return data  # one dimension is all that Suite2p and Cellpose use
    data = data.encode("latin1") if isinstance(data, str) else data  # bytes from Python 2
    if not isinstance(data, (bytes, bytearray)):
        raise pickle.UnpicklingError("malformed array")
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order).astype(kind.dtype.newbyteorder("="))


def _scalar(kind: Any, data: Any = b"") -> Any:
    return _array(data, kind, ()).item()


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} is not allowed")
    return text.encode("latin1")


def _frombuffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = _array(data, kind, shape, order)
    return array


_ALLOWED: dict[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _Array,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _frombuffer,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "_codecs.encode": _latin1,
    "builtins.set": set,
    "__builtin__.set": set,
    "collections.OrderedDict": dict,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Only the names of _ALLOWED; numpy 1 and 2 keep them in different modules."""
        short = re.sub(r"^numpy\._?core\.", "", module)
        function = _ALLOWED.get(f"{short}.{name}")
        if function is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not an array")
        return _Call(function)


def _plain(item: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Arrays in place of what stood for them; an object array as a list, a 0-d one as its only item."""
    if isinstance(item, _Array):
        value = _plain(item.value)
        return value[0] if shape == () and isinstance(value, list) else value
    if isinstance(item, dict):
        return {key: _plain(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return type(item)(_plain(value) for value in item)
    if isinstance(item, (_Call, _Dtype)):
        return None
    return item
