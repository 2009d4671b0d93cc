"""The two kinds of workspaces: how SQLite and PostgreSQL stage a batch, wait for their turn, and write."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import Any, Protocol

import psycopg

from storage.checkpoint import Checkpoints, checkpointing
from storage.spelling import ALONE, SEATED
from storage.statements import DEAD, LARGE, USED
from storage.turn import Busy, Lines, WriteTurn, begin_writing
from storage.wire import Wire
from storage.workspace import LEAST_WAIT, Answer, KeyTaken, Workspace

# Deleted rows keep their place in PostgreSQL's temporary tables, which nothing vacuums; from so many on they go for good.
MOST_DEAD = 5000

# PostgreSQL's way to one writer an account at a time. The settings are made before the row is locked, for it is locked
# last of all.
LOCK = (
    "SELECT a.id FROM (SELECT set_config('lock_timeout', :wait, true), set_config('plan_cache_mode', :plans, true), "
    "set_config('enable_seqscan', :sets, true), set_config('enable_hashjoin', :sets, true), "
    "set_config('enable_mergejoin', :sets, true)) s "
    "CROSS JOIN account a WHERE a.id = :account FOR NO KEY UPDATE OF a"
)


class Writer(Protocol):
    """How a workspace comes to write on SQLite: by itself (`Turns`), or as one of several (`storage.seats.Seat`)."""

    @property
    def under_way(self) -> bool:
        """Whether a write transaction is open, which the workspace then is a part of from its beginning."""

    @property
    def alone(self) -> bool:
        """Whether the transaction is this batch's own."""

    def writing(self, cursor: sqlite3.Cursor, wait: float, large: Callable[[], bool]) -> AbstractContextManager[None]:
        """Write: committed at the end, taken back on an error. Raises Busy. `large`: whether many rows were written."""

    def begin_again(self) -> None:
        """Take back all that the batch has written so far, and begin once more. Raises Busy."""

    def end(self) -> None:
        """Roll back what was staged and not written."""


class Turns:
    """A transaction for one batch alone, with the machine-wide turn to write."""

    under_way = False
    alone = True

    def __init__(self, driver: sqlite3.Connection, turn: WriteTurn, checkpoints: Checkpoints) -> None:
        self._driver = driver
        self._turn = turn
        self._checkpoints = checkpoints

    @contextmanager
    def writing(self, cursor: sqlite3.Cursor, wait: float, large: Callable[[], bool]) -> Iterator[None]:
        """The transaction. What a large batch wrote is moved into the file after its reply, not before."""
        deadline = time.monotonic() + wait
        with self._turn.held(wait):
            begin_writing(self._driver, deadline - time.monotonic())
            try:
                yield
                with checkpointing(self._driver, self._checkpoints if large() else None):
                    cursor.execute("COMMIT")
            except BaseException:
                self._driver.rollback()
                raise

    def begin_again(self) -> None:
        """The turn is still held, so nobody comes in between but other programs."""
        self._driver.rollback()
        begin_writing(self._driver, LEAST_WAIT)

    def end(self) -> None:
        """Roll back."""
        if self._driver.in_transaction:
            self._driver.rollback()


class SqliteWorkspace(Workspace):
    """Stages in a transaction that touches temporary tables only, so that no lock is held; the writer has the other one."""

    def __init__(self, driver: sqlite3.Connection, writer: Writer, waited: float = 0.0) -> None:
        super().__init__(driver, None, waited)
        self._writer = writer
        self._spelling = ALONE if writer.alone else SEATED

    def begin(self, temporary: Sequence[str], memory: MutableMapping[Any, Any]) -> None:
        """Empties here what batches before have filled."""
        self._temporary = frozenset(temporary)
        self._memory = memory
        used: set[str] = memory.setdefault(USED, set())
        joins = self._writer.under_way
        if not joins:
            self._cursor.execute("BEGIN")
        for table in sorted(used):
            self._cursor.execute(f"DELETE FROM {table}")
        if memory.get(DEAD, 0) > LARGE and not joins:
            # A preview, which is rolled back, would leave many rows to be deleted again.
            self._cursor.execute("COMMIT")
            self._cursor.execute("BEGIN")
            used.clear()
            memory[DEAD] = 0

    def writing(self, account: int, wait: float) -> AbstractContextManager[None]:  # noqa: ARG002
        """Whatever the account: the file has one writer."""
        if not self._writer.under_way:
            self._cursor.execute("COMMIT")
            self._memory[USED] &= self._filled
        return self._writer.writing(self._cursor, max(wait - self._waited, LEAST_WAIT), lambda: self._large)

    def attempt(self) -> AbstractContextManager[None]:
        """Without a savepoint of its own: behind one, SQLite copies every page first, and a seat has one anyway."""
        return _Attempt(self._writer)

    def alone(self, place: int, ask: Callable[[], Answer]) -> Answer:  # noqa: ARG002
        """The place is held already."""
        return ask()

    def rest(self) -> None:
        """A query that was not read to its end would keep its snapshot."""
        self._cursor.close()
        self._cursor = self._driver.cursor()

    def close(self) -> None:
        """Roll back what was staged."""
        self._cursor.close()
        self._writer.end()


class _Attempt:
    """See Workspace.attempt. As a generator it would cost a small post 60 steps of the interpreter more."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not isinstance(error, Exception):
            return
        self._writer.begin_again()
        if isinstance(error, sqlite3.IntegrityError):
            raise KeyTaken from error


class PostgresqlWorkspace(Workspace):
    """Stages and writes in one transaction; the account's row is the lock, taken when the staging is done.

    `lines`: where the threads of a process wait for an account's row.
    """

    def __init__(self, driver: Any, wire: Wire, lines: Lines, waited: float = 0.0) -> None:
        super().__init__(driver, wire, waited)
        self._lines = lines

    def begin(self, temporary: Sequence[str], memory: MutableMapping[Any, Any]) -> None:
        """The tables were emptied before the last commit."""
        self._temporary = frozenset(temporary)
        self._memory = memory

    @contextmanager
    def writing(self, account: int, wait: float) -> Iterator[None]:
        """The same transaction goes on."""
        wait = max(wait - self._waited, LEAST_WAIT)
        deadline = time.monotonic() + wait
        # Many waiting for one row would each have to find its newest version; of a process only one does.
        with self._lines.held(account, wait):
            try:
                patience = max(1, int((deadline - time.monotonic()) * 1000))
                self.send(LOCK, account=account, wait=f"{patience}ms", **self._planning())
                yield
                self._empty_and_commit()
            except psycopg.errors.LockNotAvailable as error:
                raise Busy from error

    def _planning(self) -> dict[str, object]:
        # A few rows are worth one plan for all such batches, many a plan of their own. PostgreSQL takes an empty table
        # for one of a thousand rows, and would read all customers to join them with three; and a plan that was made when
        # there were three batches, and is kept, would read all of them when there are thousands.
        if self._large or not self._filled:
            return {"plans": "force_custom_plan", "sets": "on"}
        return {"plans": "force_generic_plan", "sets": "off"}

    def alone(self, place: int, ask: Callable[[], Answer]) -> Answer:
        """By an advisory lock."""
        # And what is asked next is planned for many batches, however few there are by now.
        tried = self.send(
            "SELECT pg_try_advisory_xact_lock(:place), set_config('enable_seqscan', 'off', true)", place=place
        )
        answer = ask()
        if not tried.rows[0][0]:
            self.execute("SELECT pg_advisory_xact_lock(:place)", place=place)
            answer = ask()
        self.send("SELECT set_config('enable_seqscan', 'on', true)")
        return answer

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Behind a savepoint."""
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
            self.execute("ROLLBACK TO part")
            self.execute("RELEASE part")
            if isinstance(error, psycopg.errors.UniqueViolation):
                raise KeyTaken from error
            raise
        self.send("RELEASE part")

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

    def rest(self) -> None:
        """Wait for what is on its way."""
        self.settle()

    def close(self) -> None:
        """Roll back, unless the connection is lost."""
        with suppress(psycopg.Error):
            self.settle()
        if not self._driver.closed:
            self._driver.rollback()
