"""One progress bar for everything that takes longer than two seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Report(Protocol):
    """Called with how far the work is, and a word on how it goes."""

    def __call__(self, done: int, note: str = "") -> None: ...


@contextmanager
def progress_bar(title: str, total: int, quiet: bool = False) -> Iterator[Report]:
    """A bar on standard error with the time left; `report(done, note)` moves it."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    last = TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}")
    with Progress(*columns, *last, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task(f"{title:<10}", total=total, note="")
        yield lambda done, note="": bar.update(task, completed=done, note=note)
