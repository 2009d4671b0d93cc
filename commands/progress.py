"""Shows the progress of long work on standard error: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from commands.output import say

# Bytes. Without a terminal, a smaller file gets only a first line.
QUARTERS_FROM = 4_000_000


@contextmanager
def reading(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that shows the position in `size` bytes that are read, and at their end that they are written."""
    if sys.stderr.isatty():
        with _bar(what, size) as show:
            yield show
    else:
        say(what)
        yield _lines(size)


@contextmanager
def _bar(what: str, size: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=max(size, 1))

        def show(position: int) -> None:
            if position < size:
                progress.update(task, completed=position)
            else:
                progress.update(task, completed=size, total=None, description="Writing")

        yield show


def _lines(size: int) -> Callable[[int], None]:
    quarter = 0

    def show(position: int) -> None:
        nonlocal quarter
        if size >= QUARTERS_FROM and position * 4 // size > quarter:
            quarter = position * 4 // size
            say(f"{quarter * 25} % read" if quarter < 4 else "All rows are read; writing.")

    return show
