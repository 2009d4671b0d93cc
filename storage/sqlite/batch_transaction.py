"""A batch on SQLite: a staging transaction that touches temporary tables only, then the write transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, islice
from typing import Any, Protocol

from sqlalchemy.pool import PoolProxiedConnection

from storage.batch_transaction import (
    SHORTEST_WAIT,
    Answer,
    BatchTransaction,
    Chunk,
    KeyTaken,
    insert_start,
)
from storage.sqlite.checkpoints import Checkpoints, checkpointing
from storage.sqlite.connection import SqliteConnection
from storage.sqlite.dialect import sqlite_sql
from storage.sqlite.write_lock import WriteLock, begin_writing

# Rows of one INSERT: a step of the driver for each costs a sixth of the whole filling.
ROWS_AN_INSERT = 64


class WriteAccess(Protocol):
    """How a batch comes to write: by itself (`OwnTransaction`), or as one of several (`storage.sqlite.group_commit.Member`)."""

    @property
    def is_under_way(self) -> bool:
        """Whether a write transaction is open, which the batch is a part of from its beginning."""

    @property
    def owns_transaction(self) -> bool:
        """Whether the transaction is this batch's alone."""

    def writing(
        self, cursor: sqlite3.Cursor, wait: float, is_large: Callable[[], bool]
    ) -> AbstractContextManager[None]:
        """Write: committed at the end, taken back on an error. Raises Busy. `is_large`: whether many rows were written."""

    def begin_again(self) -> None:
        """Take back all that the batch has written so far, and begin once more. Raises Busy."""

    def end(self) -> None:
        """Roll back what was staged and not written."""


class OwnTransaction:
    """A write transaction for one batch alone, with the machine-wide write lock."""

    is_under_way = False
    owns_transaction = True

    def __init__(self, driver: sqlite3.Connection, lock: WriteLock, checkpoints: Checkpoints) -> None:
        self._driver = driver
        self._lock = lock
        self._checkpoints = checkpoints

    @contextmanager
    def writing(self, cursor: sqlite3.Cursor, wait: float, is_large: Callable[[], bool]) -> Iterator[None]:
        """The transaction. What a large batch wrote is moved into the file after its reply, not before."""
        deadline = time.monotonic() + wait
        with self._lock.held(wait):
            begin_writing(self._driver, deadline - time.monotonic())
            try:
                yield
                with checkpointing(self._driver, self._checkpoints if is_large() else None):
                    cursor.execute("COMMIT")
            except BaseException:
                self._driver.rollback()
                raise

    def begin_again(self) -> None:
        """The lock is still held, so nobody comes in between but other programs."""
        self._driver.rollback()
        begin_writing(self._driver, SHORTEST_WAIT)

    def end(self) -> None:
        """Roll back."""
        if self._driver.in_transaction:
            self._driver.rollback()


class SqliteBatchTransaction(BatchTransaction, SqliteConnection):
    """While it stages, no lock is held."""

    def __init__(self, pooled: PoolProxiedConnection, access: WriteAccess, seconds_waited: float = 0.0) -> None:
        SqliteConnection.__init__(self, pooled)
        BatchTransaction.__init__(self, seconds_waited)
        self._access = access

    def begin(self, temporary: Iterable[str], connection_info: MutableMapping[Any, Any]) -> None:  # noqa: ARG002
        """Empties the tables. A preview's rollback must not bring back what a large batch had in them, so that is committed."""
        self._temporary = frozenset(temporary)
        joins = self._access.is_under_way
        if not joins:
            self._cursor.execute("BEGIN")
        for table in temporary:
            self._cursor.execute(f"DELETE FROM {table}")
        if not joins:
            self._cursor.execute("COMMIT")
            self._cursor.execute("BEGIN")

    def writing(self, account: int, wait: float) -> AbstractContextManager[None]:  # noqa: ARG002
        """Whatever the account: the file has one writer."""
        if not self._access.is_under_way:
            self._cursor.execute("COMMIT")
        wait = max(wait - self._seconds_waited, SHORTEST_WAIT)
        return self._access.writing(self._cursor, wait, lambda: self.is_large)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Without a savepoint of its own: behind one, SQLite copies every page first, and a member of a group has one."""
        try:
            yield
        except Exception as error:
            self._access.begin_again()
            if isinstance(error, sqlite3.IntegrityError):
                raise KeyTaken from error
            raise

    def lock_request(self, key: int, query: Callable[[], Answer]) -> Answer:  # noqa: ARG002
        """The lock is held already."""
        return query()

    def lock_rows(self, query: str, /, **values: object) -> None:
        """The write lock is enough."""

    def limit_idle_time(self, milliseconds: int) -> None:
        """The staging holds no lock."""

    def expect_few_rows(self, tables: Iterable[str]) -> None:
        """Otherwise SQLite expects a million rows, and reads all customers for a Bloom filter before it looks for three."""
        self._cursor.execute("ANALYZE temp")
        for table in tables:
            self._cursor.execute("INSERT INTO temp.sqlite_stat1(tbl, idx, stat) VALUES (?, NULL, '100')", (table,))
        self._cursor.execute("ANALYZE temp.sqlite_master")

    def close(self) -> None:
        """Roll back what was staged."""
        self._cursor.close()
        self._access.end()

    def _translated(self, statement: str) -> str:
        return sqlite_sql(statement, or_rollback=self._access.owns_transaction)

    def _fill(self, table: str, columns: Sequence[str], first: Chunk, rest: Iterator[Chunk]) -> None:
        start, width = insert_start(table, columns), len(columns)
        one = f"({', '.join(['?'] * width)})"
        many = start + ", ".join([one] * ROWS_AN_INSERT)
        for chunk in chain([first], rest):
            whole = len(chunk) - len(chunk) % ROWS_AN_INSERT
            values = chain.from_iterable(chunk)
            for _ in range(0, whole, ROWS_AN_INSERT):
                self._cursor.execute(many, tuple(islice(values, ROWS_AN_INSERT * width)))
            if whole < len(chunk):
                self._cursor.executemany(start + one, chunk[whole:] if whole else chunk)
            self.expect(len(chunk))

    @contextmanager
    def _page_cache(self, kilobytes: int) -> Iterator[None]:
        size = self.one("PRAGMA cache_size")[0]
        self._cursor.execute(f"PRAGMA cache_size = -{kilobytes}")
        try:
            yield
        finally:
            self._cursor.execute(f"PRAGMA cache_size = {size}")
