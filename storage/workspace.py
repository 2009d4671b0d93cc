"""A batch's own connection: the transactions of a batch, its turn to write, and its temporary tables."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from storage import inflight
from storage.checkpoint import Checkpoints, checkpointing
from storage.statements import DEAD, LARGE, USED, Statements
from storage.turn import Busy, Lines, WriteTurn

# Deleted rows keep their place in PostgreSQL's temporary tables, which nothing vacuums; from so many on they go for good.
MOST_DEAD = 5000
# Seconds.
TIMEOUT_STEP = 0.25
LEAST_WAIT = 0.1
_numbers = itertools.count()

# PostgreSQL's way to one writer an account at a time. The settings are made before the row is locked, for it is locked
# last of all.
LOCK = (
    "SELECT a.id FROM (SELECT set_config('lock_timeout', :wait, true), set_config('plan_cache_mode', :plans, true), "
    "set_config('enable_hashjoin', :sets, true), set_config('enable_mergejoin', :sets, true)) s "
    "CROSS JOIN account a WHERE a.id = :account FOR NO KEY UPDATE OF a"
)


Answer = TypeVar("Answer")


class KeyTaken(Exception):
    """A unique key would have been there twice."""


class Workspace(Statements):
    """One connection at work on one batch."""

    def __init__(
        self,
        driver: Any,
        kind: str,
        turn: WriteTurn | Lines,
        lock_file: Path,
        checkpoints: Checkpoints | None = None,
        waited: float = 0.0,
    ) -> None:
        super().__init__(driver, kind)
        self._turn = turn
        self._checkpoints = checkpoints
        self._waited = waited
        self._inflight = lock_file

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

    @contextmanager
    def writing(self, account: int, wait: float) -> Iterator[None]:
        """The write transaction, for one account's writer at a time; what was staged before is kept.

        Commits at the end, rolls back on an error. Raises Busy when the turn does not come within `wait` seconds, of which
        those are a part that were waited for the workspace.
        SQLite: the staging transaction, which touched temporary tables only, ends first, so that no lock was held.
        PostgreSQL: the same transaction goes on, and the account's row is the lock, taken now.
        """
        wait = max(wait - self._waited, LEAST_WAIT)
        deadline = time.monotonic() + wait
        if isinstance(self._turn, Lines):
            # Many waiting for one row would each have to find its newest version; of a process only one does.
            with self._turn.held(account, wait):
                try:
                    patience = max(1, int((deadline - time.monotonic()) * 1000))
                    self.send(LOCK, account=account, wait=f"{patience}ms", **self._planning())
                    yield
                    self._empty_and_commit()
                except psycopg.errors.LockNotAvailable as error:
                    raise Busy from error
            return
        self._cursor.execute("COMMIT")
        self._memory[USED] &= self._filled
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
        # What a large batch wrote is moved into the file after its reply, not before.
        with checkpointing(self._driver, self._checkpoints if self._large else None):
            self._cursor.execute("COMMIT")

    @contextmanager
    def alone(self, place: int, ask: Callable[[], Answer]) -> Iterator[Answer]:
        """Hold a place (a 62-bit number) that equal requests share; wait for whoever holds it. Yields what is `ask`ed then.

        PostgreSQL: until the transaction ends, which the write transaction is a part of.
        """
        if self.sqlite:
            with inflight.alone(self._inflight, place):
                yield ask()
            return
        tried = self.send("SELECT pg_try_advisory_xact_lock(:place)", place=place)
        answer = ask()
        if not tried.rows[0][0]:
            self.execute("SELECT pg_advisory_xact_lock(:place)", place=place)
            answer = ask()
        yield answer

    def look_again(self) -> None:
        """See what others have committed since the staging transaction first read something."""
        if self.sqlite:
            self._cursor.execute("COMMIT")
            self._cursor.execute("BEGIN")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that is taken back alone on an error. Raises KeyTaken for a unique key twice."""
        self.send("SAVEPOINT part")
        try:
            yield
            self.settle()
        except BaseException as error:
            if isinstance(error, psycopg.errors.LockNotAvailable):
                # Of the lock that was asked for before: there is no savepoint.
                raise
            with suppress(psycopg.Error):
                self.settle()
            # Worded anew each time, psycopg looks at what it was, and forgets all that it prepared: what an aborted
            # pipeline should have prepared is not there.
            self._cursor.execute(f"ROLLBACK TO part -- {next(_numbers)}")
            self._cursor.execute("RELEASE part")
            if isinstance(error, sqlite3.IntegrityError | psycopg.errors.UniqueViolation):
                raise KeyTaken from error
            raise
        self.send("RELEASE part")

    def commit(self) -> None:
        """End the transaction under way, keeping what it did."""
        self._driver.commit()

    def _empty_and_commit(self) -> None:
        # Emptying them at each commit by itself, PostgreSQL would truncate all of them, filled or not: 3 ms.
        statements = [f"DELETE FROM {table}" for table in sorted(self._filled)]
        dead = self._memory.get(DEAD, 0) + self._rows
        if dead > MOST_DEAD and statements:
            statements = [f"TRUNCATE {', '.join(sorted(self._filled))}"]
            dead = 0
        self._memory[DEAD] = dead
        for statement in statements:
            self.send(statement)
        self.execute("COMMIT")
        self._filled.clear()

    def close(self) -> None:
        """Give the connection back; whatever was not committed is rolled back."""
        with suppress(psycopg.Error):
            self.settle()
        self._cursor.close()
        if self._driver.in_transaction if self.sqlite else not self._driver.closed:
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
