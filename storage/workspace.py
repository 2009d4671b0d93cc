"""A batch's own connection: the driver's cursor, one spelling of SQL for both databases, and the temporary tables.

SQLAlchemy's compiled path costs three to five times the driver's on three rows; here statements are plain text, kept
prepared by the driver. They are written with `:name` for values and `{…}` for the few words that the databases spell
differently (see spelling.py).
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import psycopg

from storage import inflight
from storage.spelling import spelled
from storage.turn import Busy, WriteTurn

FETCH = 1000
# Rows of one INSERT on SQLite: a step of the driver for each costs a sixth of the whole filling.
AT_ONCE = 64
# From how many rows on a batch is a large one: PostgreSQL's planner is told the sizes of temporary tables, and SQLite
# checkpoints in the background, instead of at the first commit that finds so many pages in the log.
LARGE = 500
CHECKPOINT_PAGES = 1000
# Deleted rows keep their place in PostgreSQL's temporary tables, which nothing vacuums; from so many on they go for good.
MOST_DEAD = 5000
# What a connection remembers: the temporary tables that were ever filled, and how many deleted rows they may hold.
USED, DEAD = "tillgate_used", "tillgate_dead"
# Seconds.
TIMEOUT_STEP = 0.25
_numbers = itertools.count()

# PostgreSQL's way to one writer an account at a time. The settings are made before the row is locked, for it is locked
# last of all.
LOCK = (
    "SELECT a.id FROM (SELECT set_config('lock_timeout', :wait, true), set_config('plan_cache_mode', :plans, true), "
    "set_config('enable_hashjoin', :sets, true), set_config('enable_mergejoin', :sets, true)) s "
    "CROSS JOIN account a WHERE a.id = :account FOR NO KEY UPDATE OF a"
)


class KeyTaken(Exception):
    """A unique key would have been there twice."""


class Workspace:
    """One connection at work on one batch. Not shared between threads."""

    def __init__(
        self, driver: Any, kind: str, turn: WriteTurn | None, lock_file: Path, checkpoint: Callable[[], None] | None
    ) -> None:
        self._driver = driver
        self._cursor = driver.cursor()
        self._turn = turn
        self._checkpoint = checkpoint
        self._inflight = lock_file
        self.kind = kind
        self.sqlite = kind == "sqlite"
        self._rows = 0
        self._large = False
        self._temporary: frozenset[str] = frozenset()
        self._filled: set[str] = set()
        self._memory: MutableMapping[Any, Any] = {}

    def begin(self, temporary: Sequence[str], memory: MutableMapping[Any, Any]) -> None:
        """Begin the staging transaction with these tables empty. `memory` lives as long as the connection.

        SQLite empties here what batches before filled; PostgreSQL has done so before it committed.
        """
        self._temporary = frozenset(temporary)
        self._memory = memory
        if self.sqlite:
            used: set[str] = memory.setdefault(USED, set())
            self._cursor.execute("BEGIN")
            for table in sorted(used):
                self._cursor.execute(f"DELETE FROM {table}")
            if memory.get(DEAD, 0) > LARGE:
                # A preview, which is rolled back, would leave many rows to be deleted again.
                self._cursor.execute("COMMIT")
                self._cursor.execute("BEGIN")
                used.clear()
                memory[DEAD] = 0

    def filled(self, table: str) -> bool:
        """Whether a row was put into a temporary table by this batch."""
        return table in self._filled

    def _note(self, table: str) -> None:
        if table in self._temporary and table not in self._filled:
            self._filled.add(table)
            self._memory.setdefault(USED, set()).add(table)

    @contextmanager
    def writing(self, account: int, wait: float) -> Iterator[None]:
        """The write transaction, for one account's writer at a time; what was staged before is kept.

        Commits at the end, rolls back on an error. Raises Busy when the turn does not come within `wait` seconds.
        SQLite: the staging transaction, which touched temporary tables only, ends first, so that no lock was held.
        PostgreSQL: the same transaction goes on, and the account's row is the lock, taken now.
        """
        if self._turn is None:
            try:
                self.execute(LOCK, account=account, wait=f"{max(1, int(wait * 1000))}ms", **self._planning())
            except psycopg.errors.LockNotAvailable as error:
                raise Busy from error
            yield
            self._empty_and_commit()
            return
        self._cursor.execute("COMMIT")
        self._memory[USED] &= self._filled
        deadline = time.monotonic() + wait
        with self._turn.held(wait):
            begin_writing(self._driver, deadline - time.monotonic())
            try:
                yield
                self._commit_writing()
            except BaseException:
                self._driver.rollback()
                raise

    def _planning(self) -> dict[str, object]:
        # A few rows are worth one plan for all such batches, many a plan of their own. PostgreSQL takes an empty table
        # for one of a thousand rows, and would read all customers to join them with three.
        if self._large or not self._filled:
            return {"plans": "force_custom_plan" if self._large else "auto", "sets": "on"}
        return {"plans": "force_generic_plan", "sets": "off"}

    def _commit_writing(self) -> None:
        if self._checkpoint is None or not self._large:
            self._cursor.execute("COMMIT")
            return
        # What a large batch wrote is moved into the file after its reply, not before.
        self._cursor.execute("PRAGMA wal_autocheckpoint = 0")
        try:
            self._cursor.execute("COMMIT")
        finally:
            self._cursor.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._checkpoint()

    @contextmanager
    def alone(self, place: int) -> Iterator[bool]:
        """Hold a place (a 62-bit number) that equal requests share; wait for whoever holds it. Yields whether it waited.

        PostgreSQL: until the transaction ends, which the write transaction is a part of.
        """
        if self.sqlite:
            with inflight.alone(self._inflight, place) as waited:
                yield waited
            return
        free = self.one("SELECT pg_try_advisory_xact_lock(:place)", place=place)[0]
        if not free:
            self.execute("SELECT pg_advisory_xact_lock(:place)", place=place)
        yield not free

    def look_again(self) -> None:
        """See what others have committed since the staging transaction first read something."""
        if self.sqlite:
            self._cursor.execute("COMMIT")
            self._cursor.execute("BEGIN")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that is taken back alone on an error. Raises KeyTaken for a unique key twice."""
        self._cursor.execute("SAVEPOINT part")
        try:
            yield
        except BaseException as error:
            # Worded anew each time, psycopg looks at what it was, and forgets all that it prepared: what an aborted
            # pipeline should have prepared is not there.
            self._cursor.execute(f"ROLLBACK TO part -- {next(_numbers)}")
            self._cursor.execute("RELEASE part")
            if isinstance(error, sqlite3.IntegrityError | psycopg.errors.UniqueViolation):
                raise KeyTaken from error
            raise
        self._cursor.execute("RELEASE part")

    def commit(self) -> None:
        """End the transaction under way, keeping what it did."""
        self._driver.commit()

    @contextmanager
    def pipelined(self) -> Iterator[None]:
        """Statements that nobody waits for, PostgreSQL's answers to which come together; an error is raised at the end."""
        if self.sqlite:
            yield
            return
        with self._driver.pipeline():
            yield

    def execute(self, statement: str, /, **values: object) -> int:
        """Run one statement; returns how many rows it touched, which is not known yet where it is `pipelined`."""
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
        with self._cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for chunk in every:
                filled += len(chunk)
                for row in chunk:
                    copy.write_row(row)
        self.expect(filled)

    def _insert(self, table: str, names: str, width: int, chunks: Iterable[Sequence[Sequence[object]]]) -> None:
        marks = f"({', '.join(['?' if self.sqlite else '%s'] * width)})"
        insert = f"INSERT INTO {table} ({names}) VALUES "
        for chunk in chunks:
            # On PostgreSQL, which has few rows here, all of them go at once.
            size = AT_ONCE if self.sqlite else len(chunk)
            whole = len(chunk) - len(chunk) % size
            for start in range(0, whole, size):
                self._cursor.execute(
                    _several(insert, marks, size), tuple(chain.from_iterable(chunk[start : start + size]))
                )
            if whole < len(chunk):
                self._cursor.executemany(insert + marks, chunk[whole:])
            self.expect(len(chunk))

    def _run(self, statement: str, values: Mapping[str, object]) -> Any:
        return self._cursor.execute(spelled(statement, self.kind), values)

    def many(self, statement: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Run one statement for each of a few rows."""
        if rows:
            self._cursor.executemany(spelled(statement, self.kind), rows)

    def expect(self, rows: int) -> None:
        """Say that so many rows were put into temporary tables now."""
        self._rows += rows
        self._large = self._rows > LARGE
        if self.sqlite:
            self._memory[DEAD] = self._memory.get(DEAD, 0) + rows

    def analyze(self, *tables: str) -> None:
        """Tell PostgreSQL's planner how large temporary tables are; SQLite joins in the order written.

        Only once many rows were filled in: for a few, any plan will do, and this costs more than the batch.
        """
        if self._large and not self.sqlite:
            for table in tables:
                self._cursor.execute(f"ANALYZE {table}")

    def _empty_and_commit(self) -> None:
        # Emptying them at each commit by itself, PostgreSQL would truncate all of them, filled or not: 3 ms.
        statements = [f"DELETE FROM {table}" for table in sorted(self._filled)]
        dead = self._memory.get(DEAD, 0) + self._rows
        if dead > MOST_DEAD and statements:
            statements = [f"TRUNCATE {', '.join(sorted(self._filled))}"]
            dead = 0
        self._memory[DEAD] = dead
        # In one exchange.
        self._cursor.execute("; ".join((*statements, "COMMIT")))
        self._filled.clear()

    def close(self) -> None:
        """Give the connection back; whatever was not committed is rolled back."""
        self._cursor.close()
        if not self.sqlite or self._driver.in_transaction:
            self._driver.rollback()


def begin_writing(connection: sqlite3.Connection, wait: float) -> None:
    """Begin SQLite's write transaction. Raises Busy when another program has the file locked for `wait` seconds."""
    # In whole steps, so that the statement is seldom a new one.
    connection.execute(f"PRAGMA busy_timeout = {max(1, round(wait / TIMEOUT_STEP)) * round(TIMEOUT_STEP * 1000)}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        raise Busy from error


_INSERTED = re.compile(r"INSERT (?:OR \w+ )?INTO (\w+)")


@lru_cache(maxsize=100)
def _several(insert: str, marks: str, rows: int) -> str:
    return insert + ", ".join([marks] * rows)


@lru_cache(maxsize=2000)
def _inserted_into(statement: str) -> str | None:
    found = _INSERTED.match(statement)
    return found[1] if found else None
