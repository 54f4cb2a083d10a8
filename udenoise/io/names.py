"""Names that files give to their axes, as one letter each."""

from collections.abc import Sequence

_LETTERS = {
    "t": "T",
    "time": "T",
    "frame": "T",
    "frames": "T",
    "c": "C",
    "channel": "C",
    "channels": "C",
    "z": "Z",
    "plane": "Z",
    "depth": "Z",
    "y": "Y",
    "row": "Y",
    "height": "Y",
    "x": "X",
    "col": "X",
    "column": "X",
    "width": "X",
}


def axes_from_names(names: Sequence[str | None]) -> str | None:
    """One letter per axis, `Q` for a name that means nothing here; None if rows and columns are not among them."""
    axes = "".join(_LETTERS.get((name or "").lower(), "Q") for name in names)
    unique = all(axes.count(letter) <= 1 for letter in "TCZYX")
    return axes if unique and {"Y", "X"} <= set(axes) else None
