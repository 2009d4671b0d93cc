"""How commands print: tables for people, tab-separated lines for pipes, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, TypeVar

import click

from importing.batch import Conflict
from importing.errors import Problem

if TYPE_CHECKING:
    from rich.table import Table

Function = TypeVar("Function", bound=Callable[..., Any])

# People read so many items of a long list; --json has all of it.
LISTED = 20
# Control characters, which a terminal would obey, and line breaks.
_CONTROL = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160))}


def json_option(function: Function) -> Function:
    """The option that prints data as JSON."""
    decorate = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return decorate(function)


def examples(*lines: str) -> Callable[[Function], Function]:
    """Adds examples to the help of a command. Stands below the other decorators."""

    def decorate(function: Function) -> Function:
        title = "Examples:" if len(lines) > 1 else "Example:"
        function.__doc__ = "\n".join((cleandoc(function.__doc__ or ""), "", "\b", title, *(f"  {x}" for x in lines)))
        return function

    return decorate


def say(text: str) -> None:
    """Print a sentence on standard error, so that standard output holds data only."""
    click.echo(text, err=True)


def report(as_json: bool, document: Mapping[str, object], sentence: str, secret: str = "") -> None:
    """Print what a command has done: the document as JSON, or the sentence and, on standard output, the secret."""
    if as_json:
        print_json(document)
        return
    say(sentence)
    if secret:
        click.echo(secret)


def print_rows(as_json: bool, rows: Sequence[Mapping[str, object]], columns: Sequence[str], none: str) -> None:
    """Print rows as JSON, or as a table with these column names."""
    if as_json:
        print_json(rows)
    else:
        print_table(columns, (row.values() for row in rows), none)


def print_json(value: Mapping[str, object] | Iterable[object]) -> None:
    """Print one JSON document. Iterators in it become arrays and are written as they are read."""
    for piece in _json(value, "\n"):
        sys.stdout.write(piece)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Iterable[Iterable[object]], none: str = "None.") -> None:
    """Print a table on a terminal, else a line of names and tab-separated lines; `none` if there is no row."""
    lines = [[printable(cell) for cell in row] for row in rows]
    if not lines:
        say(none)
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(rich_table(columns, lines))
    else:
        for line in (columns, *lines):
            click.echo("\t".join(line))


def print_more(count: int, noun: str) -> None:
    """Say that there are more items than those listed, if `count` says so."""
    if count > LISTED:
        say(f"There are more {noun} than these {LISTED}: --json has all.")


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table for a terminal; numbers are aligned to the right."""
    # Imported where it is used: it costs 50 ms of processor time, and pipes need none of it.
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        numeric = bool(rows) and all(row[number].isdecimal() for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def printable(cell: object) -> str:
    """A value as a cell of a table: on one line and without control characters."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, list):
        return ", ".join(map(printable, cell))
    if isinstance(cell, dict):  # an item of a campaign
        return f"{cell['id']}={cell['name']}"
    return "" if cell is None else str(cell).translate(_CONTROL)


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "row"), plural(2, "row")
    ('1 row', '2 rows')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def problem_objects(problems: Iterable[Problem]) -> Iterator[dict[str, object]]:
    """Row problems as JSON has them."""
    return ({"row": p.row, "field": p.field, "code": p.code, "message": p.message} for p in problems)


def conflict_objects(conflicts: Iterable[Conflict]) -> Iterator[dict[str, str]]:
    """The conflicts of an undo as JSON has them."""
    return ({"code": c.code, "field": c.field, "written": c.written, "current": c.current} for c in conflicts)


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
    separator = ""
    for label, member in members:
        yield separator + inner + label
        yield from _json(member, inner)
        separator = ","
    yield line + end if separator else end
