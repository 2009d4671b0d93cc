"""Statements on one connection of the driver's: one spelling for both databases, and PostgreSQL's in few exchanges.

SQLAlchemy's compiled path costs three to five times the driver's on three rows; here statements are plain text, and kept
prepared. They are written with `:name` for values and `{…}` for the few words that the databases spell
differently (see spelling.py).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from storage.spelling import numbered, spelled

if TYPE_CHECKING:
    from storage.wire import Wire

FETCH = 1000
# Rows of one INSERT on SQLite: a step of the driver for each costs a sixth of the whole filling.
AT_ONCE = 64
# From how many rows on a batch is a large one: PostgreSQL's planner is told the sizes of temporary tables, and SQLite
# checkpoints in the background, instead of at the first commit that finds so many pages in the log.
LARGE = 500
# SQLite's page cache while many rows are sorted.
SORTING_KB = 16_384
# The same while little is put into temporary tables. More would save a little, but those of the batch before still hold
# on to their cache: 84 MB above idle.
ROOMY_KB = 53_248
# What a connection remembers: the temporary tables that were ever filled, and how many deleted rows they may hold.
USED, DEAD = "tillgate_used", "tillgate_dead"
_numbers = itertools.count()


class Found:
    """What a statement found: how many rows it touched, and the rows of a query that has few."""

    __slots__ = ("count", "rows")

    def __init__(self, count: int, rows: list[tuple[Any, ...]]) -> None:
        self.count = count
        self.rows = rows


@dataclass(slots=True)
class Waiting:
    """A statement on its way. When its exchange is `over`, `found` is there, or what to do if it was not run is done.

    Whoever looks later than that needs no connection, which may be somebody else's by then.
    """

    otherwise: Callable[[], object] | None = None
    over: bool = False
    found: Found | None = None


class OnItsWay:
    """The same of a statement that PostgreSQL has not been asked yet. The first look at it waits for the answer."""

    def __init__(self, work: Statements, wire: Wire, waiting: Waiting, table: str | None) -> None:
        self._work = work
        self._wire = wire
        self._waiting = waiting
        self._table = table
        self._found: Found | None = None

    @property
    def count(self) -> int:
        return self._answer.count

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        return self._answer.rows

    @property
    def _answer(self) -> Found:
        if self._found is None:
            self._found = self._wire.answer(self._waiting)
            if self._table and not self._found.count:
                self._work.unnote(self._table)
        return self._found


Sent = Found | OnItsWay


class Statements:
    """One connection's statements. Not shared between threads.

    Statements that are sent go to PostgreSQL together with the next one whose answer is waited for, in one exchange; an
    error of theirs is raised then. `wire` is PostgreSQL's connection, None on SQLite.
    """

    def __init__(self, driver: Any, wire: Wire | None) -> None:
        self._driver = driver
        self._wire = wire
        self.sqlite = wire is None
        self.kind = "sqlite" if self.sqlite else "postgresql"
        # How statements are spelled (see spelling.py).
        self._spelling = self.kind
        self._cursor: Any = driver.cursor() if self.sqlite else None
        self._rows = 0
        self._large = False
        self._temporary: frozenset[str] = frozenset()
        self._filled: set[str] = set()
        self._memory: MutableMapping[Any, Any] = {}

    def filled(self, table: str) -> bool:
        """Whether a row was put into a temporary table by this batch."""
        return table in self._filled

    def _note(self, table: str) -> bool:
        if table not in self._temporary or table in self._filled:
            return False
        self._filled.add(table)
        self._memory.setdefault(USED, set()).add(table)
        return True

    def unnote(self, table: str) -> None:
        """A temporary table was not filled after all."""
        self._filled.discard(table)

    def send(self, statement: str, /, **values: object) -> Sent:
        """Run one statement whose answer nobody waits for yet."""
        if self._wire is None:
            # SQLite has answered by now.
            return self._run(statement, values)
        text, names = numbered(statement)
        waiting = self._wire.send(text, [values[name] for name in names])
        table = _inserted_into(statement)
        return OnItsWay(self, self._wire, waiting, table if table and self._note(table) else None)

    def settle(self) -> None:
        """Wait for the answers to what was sent."""
        if self._wire is not None:
            self._wire.settle()

    def execute(self, statement: str, /, **values: object) -> int:
        """Run one statement; returns how many rows it touched."""
        return self._run(statement, values).count

    def one(self, statement: str, /, **values: object) -> tuple[Any, ...]:
        """The one row of a query."""
        [row] = self._run(statement, values).rows
        return row

    def number(self, statement: str, /, **values: object) -> int:
        """The one number of a query; none and null are 0."""
        rows = self._run(statement, values).rows
        return int(rows[0][0]) if rows and rows[0][0] is not None else 0

    def all(self, statement: str, /, **values: object) -> list[tuple[Any, ...]]:
        """All rows of a query that has few."""
        return self._run(statement, values).rows

    def rows(self, statement: str, /, **values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, streamed, on a cursor of their own (other statements may run meanwhile)."""
        self.settle()
        # A plain cursor of PostgreSQL's driver would hold the whole result in memory.
        cursor = self._driver.cursor() if self.sqlite else self._driver.cursor(name=f"rows_{next(_numbers)}")
        try:
            cursor.execute(spelled(statement, self._spelling), values)
            while chunk := cursor.fetchmany(FETCH):
                yield from chunk
        finally:
            cursor.close()

    def fill(self, table: str, columns: Sequence[str], chunks: Iterable[Sequence[Sequence[object]]]) -> None:
        """Write chunks of tuples into a table: by INSERT, many by COPY on PostgreSQL. No chunk: no statement."""
        waiting = iter(chunks)
        first = next(waiting, None)
        if not first:
            return
        self._note(table)
        names = _quoted(tuple(columns))
        second = next(waiting, None)
        every = chain([first], [second] if second else (), waiting)
        if self.sqlite or (second is None and len(first) <= AT_ONCE):
            self._insert(table, names, len(columns), every)
            return
        filled = 0
        self.settle()
        with self._driver.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for chunk in every:
                filled += len(chunk)
                for row in chunk:
                    copy.write_row(row)
        self.expect(filled)

    def _insert(self, table: str, names: str, width: int, chunks: Iterable[Sequence[Sequence[object]]]) -> None:
        insert = f"INSERT INTO {table} ({names}) VALUES "
        for chunk in chunks:
            if self._wire is not None:
                # Few rows here, so that all of them go at once.
                text = _several_numbered(insert, width, len(chunk))
                self._wire.send(text, tuple(chain.from_iterable(chunk)), fits=True)
            else:
                whole = len(chunk) - len(chunk) % AT_ONCE
                values = chain.from_iterable(chunk)
                for _ in range(0, whole, AT_ONCE):
                    self._cursor.execute(_several(insert, width, AT_ONCE), tuple(islice(values, AT_ONCE * width)))
                if whole < len(chunk):
                    self._cursor.executemany(_several(insert, width, 1), chunk[whole:] if whole else chunk)
            self.expect(len(chunk))

    def _run(self, statement: str, values: Mapping[str, object]) -> Found:
        if self._wire is None:
            cursor = self._cursor.execute(spelled(statement, self._spelling), values)
            found = Found(cursor.rowcount, cursor.fetchall())
        else:
            text, names = numbered(statement)
            found = self._wire.ask(text, [values[name] for name in names])
        if found.count and (table := _inserted_into(statement)):
            self._note(table)
        return found

    def many(self, statement: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Run one statement for each of a few rows."""
        for row in rows:
            self.send(statement, **row)

    def expect(self, rows: int) -> None:
        """Say that so many rows were put into temporary tables now."""
        self._rows += rows
        self._large = self._rows > LARGE
        if self.sqlite:
            self._memory[DEAD] = self._memory.get(DEAD, 0) + rows

    @contextmanager
    def sorting(self) -> Iterator[None]:
        """Sort many rows in here: beside its page cache SQLite takes as much again for that, so the cache is a small one."""
        with self._page_cache(SORTING_KB) if self._large else nullcontext():
            yield

    @contextmanager
    def roomy(self) -> Iterator[None]:
        """Write in here what puts little into temporary tables: the file's page cache may take some of the room of theirs."""
        with self._page_cache(ROOMY_KB):
            yield

    @contextmanager
    def _page_cache(self, kilobytes: int) -> Iterator[None]:
        if not self.sqlite:
            yield
            return
        size = self.one("PRAGMA cache_size")[0]
        self._cursor.execute(f"PRAGMA cache_size = -{kilobytes}")
        try:
            yield
        finally:
            self._cursor.execute(f"PRAGMA cache_size = {size}")

    def analyze(self, *tables: str) -> None:
        """Tell PostgreSQL's planner how large temporary tables are; SQLite joins in the order written.

        Only once many rows were filled in: for a few, any plan will do, and this costs more than the batch.
        """
        if self._large and not self.sqlite:
            for table in tables:
                self.send(f"ANALYZE {table}")


_INSERTED = re.compile(r"INSERT (?:OR \w+ )?INTO (\w+)")


@lru_cache(maxsize=100)
def _quoted(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


@lru_cache(maxsize=100)
def _several(insert: str, width: int, rows: int) -> str:
    return insert + ", ".join([f"({', '.join(['?'] * width)})"] * rows)


@lru_cache(maxsize=200)
def _several_numbered(insert: str, width: int, rows: int) -> bytes:
    marks = (", ".join(f"${first + n}" for n in range(width)) for first in range(1, width * rows + 1, width))
    return f"{insert}({'), ('.join(marks)})".encode()


@lru_cache(maxsize=2000)
def _inserted_into(statement: str) -> str | None:
    found = _INSERTED.match(statement)
    return found[1] if found else None
