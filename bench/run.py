"""`make bench`: Tillgate over HTTP and the raw database (yardstick.py), alternately in one run, on the same files.

    python -m bench.run [--rows 1000,10000,100000] [--pairs 5] [--databases sqlite,postgresql] [--output bench/RESULTS.md]

A pair is one run of the yardstick and one post of the same rows to a fresh copy of the same customers, with default
settings: undo state on, one campaign, auto_add 25 on every row, half of the rows updates. Times are medians in
seconds, ratios are medians of the pairs'. Memory is the server processes' peak above what they held when idle.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench.gateway import Gateway, Posted
from bench.stores import PostgresStore, SqliteStore, Store

YARDSTICK = Path(__file__).with_name("yardstick.py")


@dataclass(frozen=True, slots=True)
class Way:
    """One way of posting a batch, measured beside the yardstick. `most` is the ratio that it may reach."""

    name: str
    post: Callable[[Gateway, Path], Posted]
    most: Callable[[int], float]


@dataclass(slots=True)
class Measured:
    """The pairs of one way: seconds of the floor and of the post, memory in MB, processor seconds of the server."""

    floor: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(ours / floor for ours, floor in zip(self.seconds, self.floor, strict=True))


def import_most(rows: int) -> float:
    """The most that an import may take, in times of the yardstick."""
    return 3.0 if rows <= 1_000 else 1.6 if rows <= 10_000 else 1.5


WAYS = (
    Way("urlencoded", lambda gateway, file: gateway.import_file(file, "urlencoded"), import_most),
    Way("multipart", lambda gateway, file: gateway.import_file(file, "multipart"), import_most),
    Way("dry run", lambda gateway, file: gateway.import_file(file, "urlencoded", dry_run="yes"), lambda _: 0.7),
    Way("undo", lambda gateway, file: gateway.undo_after(file), lambda _: 0.75),
    Way("undo preview", lambda gateway, file: gateway.undo_after(file, dry_run="yes"), lambda _: 0.375),
)


@click.command()
@click.option("--rows", default="1000,10000,100000", show_default=True, help="How many rows, one after another.")
@click.option("--pairs", default=5, show_default=True, help="How many pairs; the median counts.")
@click.option("--databases", default="sqlite,postgresql", show_default=True)
@click.option("--ways", default=",".join(way.name for way in WAYS), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("bench/RESULTS.md"), show_default=True)
def main(rows: str, pairs: int, databases: str, ways: str, output: Path) -> None:
    """Measure, print a table and write it."""
    chosen = [way for way in WAYS if way.name in ways.split(",")]
    lines = list(HEAD)
    click.echo("\n".join(HEAD))
    with TemporaryDirectory(prefix="tillgate-bench-") as name:
        folder = Path(name)
        for database in databases.split(","):
            with _store(database, folder) as store:
                for count in (int(number) for number in rows.split(",")):
                    for line in measure(store, folder, count, pairs, chosen):
                        click.echo(line)
                        lines.append(line)
    output.write_text("\n".join([*INTRODUCTION, *lines, ""]), encoding="utf-8")


def measure(store: Store, folder: Path, rows: int, pairs: int, ways: list[Way]) -> Iterator[str]:
    """The lines of one size on one database."""
    _run(sys.executable, str(YARDSTICK), "generate", str(rows), str(folder))
    store.preload(folder / f"first_{rows}.psv")
    found = {way.name: Measured() for way in ways}
    for _ in range(pairs):
        for way in ways:
            measured = found[way.name]
            measured.floor.append(store.yardstick(YARDSTICK, rows, folder))
            with store.fresh() as settings, Gateway.started(settings) as gateway:
                posted = way.post(gateway, folder / f"second_{rows}.psv")
            measured.seconds.append(posted.seconds)
            measured.memory.append(posted.memory)
            measured.processor.append(posted.processor)
    for way in ways:
        measured = found[way.name]
        yield (
            f"| {store.name} | {rows:,} | {way.name} | {statistics.median(measured.floor):.3f} "
            f"| {statistics.median(measured.seconds):.3f} | **{measured.ratio:.2f}** | {way.most(rows)} "
            f"| {max(measured.memory):.0f} | {statistics.median(measured.processor):.2f} |"
        )


def _store(name: str, folder: Path) -> Store:
    return SqliteStore(folder) if name == "sqlite" else PostgresStore(folder)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def yardstick_seconds(output: str) -> float:
    """The seconds in the yardstick's line of JSON."""
    return float(json.loads(output.splitlines()[-1])["seconds"])


INTRODUCTION = (
    "# Results",
    "",
    "Written by `make bench`. Medians; the ratio is the median of the pairs' ratios, each pair measured back to back.",
    "`floor` is the raw database doing the import's work (`bench/yardstick.py`), `most` the ratio aimed at; for an undo",
    "and its preview half and a quarter of an import's 1.5. Memory: the server processes' peak above idle, in MB.",
    "",
)
HEAD = (
    "| database | rows | way | floor s | Tillgate s | ratio | most | memory MB | CPU s |",
    "|---|---|---|---|---|---|---|---|---|",
)

if __name__ == "__main__":
    main()
