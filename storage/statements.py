"""Statements on one connection of the driver's: one spelling for both databases, and PostgreSQL's in few exchanges.

SQLAlchemy's compiled path costs three to five times the driver's on three rows; here statements are plain text, kept
prepared by the driver. They are written with `:name` for values and `{…}` for the few words that the databases spell
differently (see spelling.py).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import Any

from storage.spelling import spelled

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


class Sent:
    """What a statement that was sent found. The first look at it waits for the answer."""

    def __init__(self, work: Statements, cursor: Any, table: str | None) -> None:
        self._work = work
        self._cursor = cursor
        self._table = table
        # SQLite has answered by now, with a cursor that the next statement takes over.
        self._found: tuple[int, list[tuple[Any, ...]]] | None = None
        if work.sqlite:
            self._found = (cursor.rowcount, cursor.fetchall() if cursor.description else [])

    @property
    def count(self) -> int:
        """How many rows it touched."""
        return self._answer[0]

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows of a query that has few."""
        return self._answer[1]

    @property
    def _answer(self) -> tuple[int, list[tuple[Any, ...]]]:
        if self._found is None:
            self._work.settle()
            # `description` would say it too, and describe every column for that.
            told = self._cursor.rownumber is not None
            self._found = (self._cursor.rowcount, self._cursor.fetchall() if told else [])
            self._cursor.close()
            if self._table and not self._found[0]:
                self._work.unnote(self._table)
        return self._found


class Statements:
    """One connection's statements. Not shared between threads.

    Statements that are sent go to PostgreSQL together with the next one whose answer is waited for, in one exchange; an
    error of theirs is raised then.
    """

    def __init__(self, driver: Any, kind: str) -> None:
        self._driver = driver
        self._cursor = driver.cursor()
        self.kind = kind
        self.sqlite = kind == "sqlite"
        self._rows = 0
        self._large = False
        self._temporary: frozenset[str] = frozenset()
        self._filled: set[str] = set()
        self._memory: MutableMapping[Any, Any] = {}
        # PostgreSQL's pipeline, while statements are on their way.
        self._pipeline: Any = None

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
        cursor = self._sending()
        cursor.execute(spelled(statement, self.kind), values)
        table = _inserted_into(statement)
        new = table is not None and cursor.rowcount != 0 and self._note(table)
        return Sent(self, cursor, table if new else None)

    def _sending(self) -> Any:
        """A cursor whose answers nobody waits for."""
        if self.sqlite:
            return self._cursor
        if self._pipeline is None:
            self._pipeline = self._driver.pipeline()
            self._pipeline.__enter__()
        return self._driver.cursor()

    def settle(self) -> None:
        """Wait for the answers to what was sent."""
        if self._pipeline is not None:
            pipeline, self._pipeline = self._pipeline, None
            pipeline.__exit__(None, None, None)

    def execute(self, statement: str, /, **values: object) -> int:
        """Run one statement; returns how many rows it touched."""
        count = int(self._run(statement, values).rowcount)
        if count and (table := _inserted_into(statement)):
            self._note(table)
        return count

    def one(self, statement: str, /, **values: object) -> tuple[Any, ...]:
        """The one row of a query."""
        row = self._run(statement, values).fetchone()
        assert row is not None
        return tuple(row)

    def number(self, statement: str, /, **values: object) -> int:
        """The one number of a query; none and null are 0."""
        row = self._run(statement, values).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def all(self, statement: str, /, **values: object) -> list[tuple[Any, ...]]:
        """All rows of a query that has few."""
        found: list[tuple[Any, ...]] = self._run(statement, values).fetchall()
        return found

    def rows(self, statement: str, /, **values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, streamed, on a cursor of their own (other statements may run meanwhile)."""
        self.settle()
        # A plain cursor of PostgreSQL's driver would hold the whole result in memory.
        cursor = self._driver.cursor() if self.sqlite else self._driver.cursor(name=f"rows_{next(_numbers)}")
        try:
            cursor.execute(spelled(statement, self.kind), values)
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
        names = ", ".join(f'"{name}"' for name in columns)
        second = next(waiting, None)
        every = chain([first], [second] if second else (), waiting)
        if self.sqlite or (second is None and len(first) <= AT_ONCE):
            self._insert(table, names, len(columns), every)
            return
        filled = 0
        self.settle()
        with self._cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for chunk in every:
                filled += len(chunk)
                for row in chunk:
                    copy.write_row(row)
        self.expect(filled)

    def _insert(self, table: str, names: str, width: int, chunks: Iterable[Sequence[Sequence[object]]]) -> None:
        marks = f"({', '.join(['?' if self.sqlite else '%s'] * width)})"
        insert = f"INSERT INTO {table} ({names}) VALUES "
        cursor = self._sending()
        for chunk in chunks:
            # On PostgreSQL, which has few rows here, all of them go at once.
            size = AT_ONCE if self.sqlite else len(chunk)
            whole = len(chunk) - len(chunk) % size
            for start in range(0, whole, size):
                cursor.execute(_several(insert, marks, size), tuple(chain.from_iterable(chunk[start : start + size])))
            if whole < len(chunk):
                cursor.executemany(insert + marks, chunk[whole:])
            self.expect(len(chunk))

    def _run(self, statement: str, values: Mapping[str, object]) -> Any:
        cursor = self._cursor.execute(spelled(statement, self.kind), values)
        self.settle()
        return cursor

    def many(self, statement: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Run one statement for each of a few rows."""
        if rows:
            self.settle()
            self._cursor.executemany(spelled(statement, self.kind), rows)

    def expect(self, rows: int) -> None:
        """Say that so many rows were put into temporary tables now."""
        self._rows += rows
        self._large = self._rows > LARGE
        if self.sqlite:
            self._memory[DEAD] = self._memory.get(DEAD, 0) + rows

    @contextmanager
    def sorting(self) -> Iterator[None]:
        """Sort many rows in here: beside its page cache SQLite takes as much again for that, so the cache is a small one."""
        if not (self.sqlite and self._large):
            yield
            return
        size = self.one("PRAGMA cache_size")[0]
        self._cursor.execute(f"PRAGMA cache_size = -{SORTING_KB}")
        try:
            yield
        finally:
            self._cursor.execute(f"PRAGMA cache_size = {size}")

    @contextmanager
    def roomy(self) -> Iterator[None]:
        """Write in here what puts little into temporary tables: the file's page cache may take some of the room of theirs."""
        if not self.sqlite:
            yield
            return
        size = self.one("PRAGMA cache_size")[0]
        self._cursor.execute(f"PRAGMA cache_size = -{ROOMY_KB}")
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
def _several(insert: str, marks: str, rows: int) -> str:
    return insert + ", ".join([marks] * rows)


@lru_cache(maxsize=2000)
def _inserted_into(statement: str) -> str | None:
    found = _INSERTED.match(statement)
    return found[1] if found else None
