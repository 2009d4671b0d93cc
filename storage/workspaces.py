"""The workspace on SQLite: how it stages a batch, waits for its turn, and writes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Protocol

from storage.checkpoint import Checkpoints, checkpointing
from storage.spelling import ALONE, SEATED
from storage.statements import DEAD, LARGE, USED
from storage.turn import WriteTurn, begin_writing
from storage.workspace import LEAST_WAIT, Answer, KeyTaken, Workspace


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
