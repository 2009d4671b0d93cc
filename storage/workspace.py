"""A batch's own connection: the driver's cursor, one spelling of SQL for both databases, and the temporary tables.

SQLAlchemy's compiled path costs three to five times the driver's on three rows; here statements are plain text, kept
prepared by the driver. They are written with `:name` for values and `{…}` for the few words that the databases spell
differently (see WORDS).
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import psycopg

from storage import inflight
from storage.turn import Busy, WriteTurn

FETCH = 1000
# From how many rows on PostgreSQL's planner is told the sizes of temporary tables.
ANALYZED = 500
_cursor_numbers = itertools.count()


class KeyTaken(Exception):
    """A unique key would have been there twice."""


class Workspace:
    """One connection at work on one batch. Not shared between threads."""

    def __init__(self, driver: Any, kind: str, turn: WriteTurn | None, lock_file: Path) -> None:
        self._driver = driver
        self._cursor = driver.cursor()
        self._turn = turn
        self._inflight = lock_file
        self.kind = kind
        self.sqlite = kind == "sqlite"
        self._large = False

    @contextmanager
    def writing(self, account: int, wait: float) -> Iterator[None]:
        """The write transaction, for one account's writer at a time; what was staged before is kept.

        Commits at the end, rolls back on an error. Raises Busy when the turn does not come within `wait` seconds.
        SQLite: the staging transaction, which touched temporary tables only, ends first, so that no lock was held.
        PostgreSQL: the same transaction goes on, and the account's row is the lock, taken now.
        """
        if self._turn is None:
            self._cursor.execute(f"SET LOCAL lock_timeout = {max(1, int(wait * 1000))}")
            try:
                self.execute("SELECT id FROM account WHERE id = :account FOR NO KEY UPDATE", account=account)
            except psycopg.errors.LockNotAvailable as error:
                raise Busy from error
            yield
            self._driver.commit()
            return
        self._cursor.execute("COMMIT")
        deadline = time.monotonic() + wait
        with self._turn.held(wait):
            begin_writing(self._driver, deadline - time.monotonic())
            try:
                yield
                self._cursor.execute("COMMIT")
            except BaseException:
                self._driver.rollback()
                raise

    @contextmanager
    def alone(self, place: int) -> Iterator[bool]:
        """Hold a place (a 62-bit number) that equal requests share; wait for whoever holds it. Yields whether it waited."""
        if self.sqlite:
            with inflight.alone(self._inflight, place) as waited:
                yield waited
            return
        free = self.one("SELECT pg_try_advisory_lock(:place)", place=place)[0]
        if not free:
            self.execute("SELECT pg_advisory_lock(:place)", place=place)
        self.commit()
        try:
            yield not free
        finally:
            self._driver.rollback()
            self.execute("SELECT pg_advisory_unlock(:place)", place=place)
            self.commit()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that is taken back alone on an error. Raises KeyTaken for a unique key twice."""
        self._cursor.execute("SAVEPOINT part")
        try:
            yield
        except BaseException as error:
            self._cursor.execute("ROLLBACK TO part")
            self._cursor.execute("RELEASE part")
            if isinstance(error, sqlite3.IntegrityError | psycopg.errors.UniqueViolation):
                raise KeyTaken from error
            raise
        self._cursor.execute("RELEASE part")

    def commit(self) -> None:
        """End the transaction under way, keeping what it did."""
        self._driver.commit()

    def execute(self, statement: str, /, **values: object) -> int:
        """Run one statement; returns how many rows it touched."""
        return int(self._run(statement, values).rowcount)

    def one(self, statement: str, /, **values: object) -> tuple[Any, ...]:
        """The one row of a query."""
        row = self._run(statement, values).fetchone()
        assert row is not None
        return tuple(row)

    def number(self, statement: str, /, **values: object) -> int:
        """The one number of a query; none and null are 0."""
        row = self._run(statement, values).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def rows(self, statement: str, /, **values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, streamed, on a cursor of their own (other statements may run meanwhile)."""
        # A plain cursor of PostgreSQL's driver would hold the whole result in memory.
        cursor = self._driver.cursor() if self.sqlite else self._driver.cursor(name=f"rows_{next(_cursor_numbers)}")
        try:
            cursor.execute(spelled(statement, self.kind), values)
            while chunk := cursor.fetchmany(FETCH):
                yield from chunk
        finally:
            cursor.close()

    def fill(self, table: str, columns: Sequence[str], chunks: Iterable[Sequence[Sequence[object]]]) -> None:
        """Write chunks of tuples into a table: by executemany on SQLite, by COPY on PostgreSQL. No chunk: no statement."""
        waiting = iter(chunks)
        first = next(waiting, None)
        if not first:
            return
        names = ", ".join(f'"{name}"' for name in columns)
        if self.sqlite:
            statement = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"
            for chunk in chain([first], waiting):
                self._cursor.executemany(statement, chunk)
            return
        filled = 0
        with self._cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for chunk in chain([first], waiting):
                filled += len(chunk)
                for row in chunk:
                    copy.write_row(row)
        self.expect(filled)

    def _run(self, statement: str, values: Mapping[str, object]) -> Any:
        return self._cursor.execute(spelled(statement, self.kind), values)

    def many(self, statement: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Run one statement for each of a few rows."""
        if rows:
            self._cursor.executemany(spelled(statement, self.kind), rows)

    def expect(self, rows: int) -> None:
        """Say that temporary tables have so many rows now: from many on, `analyze` is worth its time."""
        self._large = self._large or (rows > ANALYZED and not self.sqlite)

    def analyze(self, *tables: str) -> None:
        """Tell PostgreSQL's planner how large temporary tables are; SQLite joins in the order written.

        Only once many rows were filled in: for a few, any plan will do, and this costs more than the batch.
        """
        if self._large:
            for table in tables:
                self._cursor.execute(f"ANALYZE {table}")

    def close(self) -> None:
        """Give the connection back; whatever was not committed is rolled back."""
        self._cursor.close()
        self._driver.rollback()


def begin_writing(connection: sqlite3.Connection, wait: float) -> None:
    """Begin SQLite's write transaction. Raises Busy when another program has the file locked for `wait` seconds."""
    connection.execute(f"PRAGMA busy_timeout = {max(1, int(wait * 1000))}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        raise Busy from error


# What the two databases spell differently.
WORDS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "then": "CROSS JOIN",  # SQLite joins in the order written when told so
        "differs": "IS NOT",
        "same": "IS",
        "json": "text",
    },
    "postgresql": {
        "then": "JOIN",
        "differs": "IS DISTINCT FROM",
        "same": "IS NOT DISTINCT FROM",
        "json": "jsonb",
    },
}

_VALUE = re.compile(r"(?<![:\w]):([a-z_]+)")
_WORD = re.compile(r"\{([a-z_]+)\}")


@lru_cache(maxsize=2000)
def spelled(statement: str, kind: str) -> str:
    """The statement as the database spells it."""
    words = WORDS[kind]
    statement = _WORD.sub(lambda match: words[match.group(1)], statement)
    if kind == "postgresql":
        statement = _VALUE.sub(r"%(\1)s", statement.replace("%", "%%"))
    return statement
