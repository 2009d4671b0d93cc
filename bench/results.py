"""The tables of bench/RESULTS.md: one section a part, so that a part that was measured alone replaces only its own."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

HEAD = (
    "# Results",
    "",
    "Written by `make bench`, which measures all of it; `python -m bench.run --only PART` measures a part and replaces",
    "its section. Medians; a ratio is the median of the pairs' ratios, each pair measured back to back. The floor is the",
    "raw database doing the same work (`bench/yardstick.py`, `bench/raw.py`) where a section says nothing else. Memory is",
    "the server processes' peak above what they held when idle, CPU their processor time (not PostgreSQL's own).",
    "",
)
COSTS = ("database", "rows", "what", "floor s", "ours s", "ratio", "at most", "memory MB", "CPU s", "pairs")
PACKAGES = ("Flask", "gunicorn", "SQLAlchemy", "psycopg", "lxml")


@dataclass(slots=True)
class Section:
    """A table under a heading. What is added is printed at once, so that a long run can be watched."""

    title: str
    note: str
    columns: Sequence[str]
    lines: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Print the heading."""
        click.echo("\n".join([f"\n## {self.title}", "", *self._header()]))

    def add(self, *cells: object) -> None:
        """Add a row: floats with three digits, whole numbers with thousands, None as a dash."""
        assert len(cells) == len(self.columns), cells
        self.lines.append("| " + " | ".join(map(_text, cells)) + " |")
        click.echo(self.lines[-1])

    def text(self) -> str:
        """The section as it is written."""
        measured = f"Measured {datetime.now(UTC):%Y-%m-%d}. {self.note}"
        return "\n".join([f"## {self.title}", "", measured, "", *self._header(), *self.lines, ""])

    def _header(self) -> list[str]:
        return ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]


@dataclass(slots=True)
class Pairs:
    """What was measured pair by pair: seconds of the floor and of ours, memory in MB, processor seconds."""

    floor: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def add(self, floor: float, ours: float, memory: float, processor: float) -> None:
        """One pair."""
        for values, value in zip(
            (self.floor, self.ours, self.memory, self.processor), (floor, ours, memory, processor), strict=True
        ):
            values.append(value)

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(ours / floor for ours, floor in zip(self.ours, self.floor, strict=True))

    def cells(self, limit: float | None) -> tuple[object, ...]:
        """From `floor s` to the end of a row of COSTS."""
        return (
            statistics.median(self.floor),
            statistics.median(self.ours),
            f"**{self.ratio:.2f}**",
            "–" if limit is None else f"{limit:g}",
            round(max(self.memory)),
            statistics.median(self.processor),
            len(self.ours),
        )


def write(output: Path, sections: Sequence[Section], postgresql: str = "") -> None:
    """Write the sections; those of the file that were not measured now stay, in their places."""
    stored = _stored(output)
    for section in sections:
        stored[section.title] = section.text()
    body = "\n".join(text.rstrip() + "\n" for text in stored.values())
    output.write_text("\n".join([*HEAD, machine(postgresql), "", body]), encoding="utf-8")


def machine(postgresql: str = "") -> str:
    """A sentence about the machine and the versions; `postgresql` is that server's version, where one was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    versions = [
        f"Python {platform.python_version()}",
        f"SQLite {sqlite3.sqlite_version}",
        *([f"PostgreSQL {postgresql}"] if postgresql else []),
        *(f"{name} {version(name)}" for name in PACKAGES),
    ]
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"Machine: {_processor()}, {cores} cores, {memory:.0f} GB, {system}. Versions: {', '.join(versions)}."


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _stored(output: Path) -> dict[str, str]:
    if not output.exists():
        return {}
    pieces = re.split(r"^## ", output.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {piece.partition("\n")[0]: f"## {piece}" for piece in pieces}


def _text(cell: object) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.3f}" if cell < 100 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def warn(sentence: str) -> None:
    """Say something that does not belong in a table."""
    click.echo(sentence, err=True)
    sys.stderr.flush()
