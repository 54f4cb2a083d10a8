"""What a flag is, and its file."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from udenoise.errors import InputError
from udenoise.files import text_cell, write_table

Kind = Literal["contradicted", "unconstrained", "unfamiliar", "assumption broken"]
KINDS: tuple[Kind, ...] = ("contradicted", "unconstrained", "unfamiliar", "assumption broken")
NAN = float("nan")


class Flag(NamedTuple):
    """One event that is not to be believed, or that stands in the way of believing. NaN: not to be had; area in pixels."""

    kind: Kind
    frame_start: int
    frame_stop: int
    """The first frame after it."""
    y: float = NAN
    x: float = NAN
    """Centre, pixels; NaN where it is the whole field."""
    area: float = NAN
    size: float = NAN
    """How far the recording is above the denoised movie, or the picture above its median, at the centre, counts."""
    score: float = NAN
    """z: size in standard deviations of what was to be expected."""
    p: float = NAN
    """Of contradictions: that an event of chance is as large. Of what is unconstrained: that nothing is there."""
    q: float = NAN
    """Expected share of chance among the events of this kind that are at least as large."""
    roi: str = ""
    """Names of the ROIs that it touches, with semicolons between."""
    sign: int = 0
    """1: the recording shows more than the denoised movie (an event was swallowed); −1: less (structure was invented)."""
    start_s: float = NAN
    stop_s: float = NAN
    dff: float = NAN
    """`size` over the brightness of the mean image."""
    sigma_px: float = NAN
    frames: float = NAN
    """Template that found it: Gaussian spot and its length."""
    label: int = 0
    """Its number in flags.zarr; 0: it has no place."""
    reason: str = ""


class Footprint(NamedTuple):
    """Where a flag is: discs, each for some frames."""

    start: Int[np.ndarray, "D"]
    stop: Int[np.ndarray, "D"]
    y: Int[np.ndarray, "D"]
    x: Int[np.ndarray, "D"]
    radius: Float[np.ndarray, "D"]


def write_flags(path: Path, flags: Iterable[Flag]) -> None:
    """One row each, columns as `Flag`; what is not known is left empty."""
    write_table(path, Flag._fields, ([_cell(value) for value in flag] for flag in flags))


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        return text_cell(value)
    return "" if np.isnan(value) else f"{value:.6g}" if isinstance(value, float) else str(value)


def read_flags(path: Path) -> list[Flag]:
    """What `write_flags` wrote. InputError where there is no such file, or another one."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [Flag(*(_value(name, row[name]) for name in Flag._fields)) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"{path} is no list of flags ({reason}); write it again: udenoise flags {path.parent}"
        ) from error


def _value(name: str, text: str) -> str | int | float:
    kind = Flag.__annotations__[name]
    if kind in (int, float):
        return kind(text) if text else NAN
    return text.removeprefix("'") if name == "roi" else text
