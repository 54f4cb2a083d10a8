"""Settings as plain data and back."""

from dataclasses import asdict, fields
from typing import Any

from udenoise.errors import InputError


def to_json(config: Any) -> dict[str, Any]:
    """The settings as plain data."""
    return asdict(config)


def from_json(kind: type, data: dict[str, Any]) -> Any:
    """Settings of `kind` from plain data. Raises InputError for a name that it does not have."""
    known = {f.name: f.type for f in fields(kind)}
    if strange := sorted(data.keys() - known.keys()):
        raise InputError(f"settings of another version: {', '.join(strange)} unknown here; run anew elsewhere")
    return kind(**{name: _restore(known[name], value) for name, value in data.items()})


def _restore(kind: Any, value: Any) -> Any:
    plain = tuple(value) if isinstance(value, list) else value
    return from_json(kind, value) if isinstance(value, dict) else plain
