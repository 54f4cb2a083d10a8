"""Rows to Markdown, Markdown into a README, and what it was measured on."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, object]


def markdown(rows: Sequence[Row], formats: Mapping[str, str]) -> str:
    """A Markdown table; `formats` names the columns and how each is printed, in order. What is missing is a dash."""
    return grid([list(formats), *([_cell(row.get(name), form) for name, form in formats.items()] for row in rows)])


def grid(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of text; the first row is the head."""
    lines = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object, form: str) -> str:
    if value is None or value != value:
        return "–"
    return form.format(value)


def fill(readme: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->`. ValueError where a README has no such place."""
    before, mark, rest = readme.read_text().partition(f"<!-- {name} -->")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not (mark and end):
        raise ValueError(f"{readme} has no <!-- {name} --> … <!-- /{name} -->; add both lines")
    readme.write_text(f"{before}{mark}\n\n{text}\n\n{end}{after}")


def measured(seconds: float, seed: int = 0) -> str:
    """When, where, how long."""
    return (
        f"Measured on {time.strftime('%Y-%m-%d')}: {_cores()} ({_processor()}), seed {seed}, "
        f"{seconds / 60:.0f} minutes of computing."
    )


def _cores() -> str:
    """Those this process may use."""
    used = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "one CPU core" if used == 1 else f"{used} CPU cores"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
