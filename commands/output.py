"""How commands print: tables for people, tab-separated lines for pipes, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

# What a terminal would obey, and what would break a line in two.
_CONTROL = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160))}


def json_option(function: Function) -> Function:
    """The option that prints data as JSON."""
    decorate = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return decorate(function)


def say(text: str) -> None:
    """A sentence to the person, on standard error, so that standard output holds data only."""
    click.echo(text, err=True)


def print_json(value: Mapping[str, object] | Iterable[object]) -> None:
    """Print one JSON document. Iterators in it become arrays and are written as they are read."""
    for piece in _json(value, "\n"):
        sys.stdout.write(piece)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], none: str = "None.") -> None:
    """Print a table on a terminal, else a line of names and tab-separated lines; `none` where there is no row."""
    found = [[printable(cell) for cell in row] for row in rows]
    if not found:
        say(none)
    elif sys.stdout.isatty():
        # Here, because pipes need none of it: rich takes 50 ms of processor time to load.
        from commands.terminal_table import show_table

        show_table(columns, found)
    else:
        for line in (columns, *found):
            click.echo("\t".join(line))


def printable(cell: object) -> str:
    """A value as a cell of a table: on one line, with nothing in it that a terminal would obey."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return "" if cell is None else str(cell).translate(_CONTROL)


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "row"), plural(2, "row")
    ('1 row', '2 rows')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _json(value: object, line: str) -> Iterator[str]:
    inner = line + "  "
    if isinstance(value, Mapping):
        members = ((f"{json.dumps(str(name))}: ", member) for name, member in value.items())
        yield from _wrapped("{", "}", members, line, inner)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        yield from _wrapped("[", "]", (("", member) for member in value), line, inner)
    else:
        yield json.dumps(value, ensure_ascii=False)


def _wrapped(start: str, end: str, members: Iterable[tuple[str, object]], line: str, inner: str) -> Iterator[str]:
    yield start
    first = True
    for label, member in members:
        yield ("" if first else ",") + inner + label
        yield from _json(member, inner)
        first = False
    yield end if first else line + end
