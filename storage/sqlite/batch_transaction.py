"""A batch on SQLite: a staging transaction that touches temporary tables only, then the write transaction."""

from __future__ import annotations

import sqlite3
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, islice
from typing import Any, ClassVar

from sqlalchemy.pool import PoolProxiedConnection

from storage.batch_transaction import SHORTEST_WAIT, Answer, BatchTransaction, Chunk, KeyTaken, insert_start
from storage.sqlite.checkpoints import Checkpoints, checkpointing
from storage.sqlite.connection import SqliteConnection
from storage.sqlite.dialect import sqlite_sql
from storage.sqlite.file_locks import WriteLock, begin_writing

# Rows of one INSERT: a step of the driver for each costs a sixth of the whole filling.
ROWS_AN_INSERT = 64


class SqliteBatchTransaction(BatchTransaction, SqliteConnection):
    """While it stages, no lock is held. It writes alone (OwnBatchTransaction) or as a member of a group (group_commit.py)."""

    # Whether the write transaction is this batch's alone.
    owns_transaction: ClassVar[bool]

    def __init__(self, pooled: PoolProxiedConnection, seconds_waited: float = 0.0) -> None:
        SqliteConnection.__init__(self, pooled)
        BatchTransaction.__init__(self, seconds_waited)

    @property
    @abstractmethod
    def is_under_way(self) -> bool:
        """Whether a write transaction is open, which the batch is a part of from its beginning."""

    @abstractmethod
    def _write(self, wait: float) -> AbstractContextManager[None]:
        """The write transaction, committed at the end and taken back on an error. Raises Busy."""

    @abstractmethod
    def _begin_again(self) -> None:
        """Take back all that the batch has written so far, and begin once more. Raises Busy."""

    def begin(self, temporary: Iterable[str], connection_info: MutableMapping[Any, Any]) -> None:  # noqa: ARG002
        """Empties the tables. A preview's rollback must not bring back what a large batch had in them, so that is committed."""
        self._temporary = frozenset(temporary)
        joins = self.is_under_way
        if not joins:
            self._cursor.execute("BEGIN")
        for table in temporary:
            self._cursor.execute(f"DELETE FROM {table}")
        if not joins:
            self._cursor.execute("COMMIT")
            self._cursor.execute("BEGIN")

    def writing(self, account: int, wait: float) -> AbstractContextManager[None]:  # noqa: ARG002
        """Whatever the account: the file has one writer."""
        if not self.is_under_way:
            self._cursor.execute("COMMIT")
        return self._write(max(wait - self._seconds_waited, SHORTEST_WAIT))

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Without a savepoint of its own: behind one, SQLite copies every page first, and a member of a group has one."""
        try:
            yield
        except Exception as error:
            self._begin_again()
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

    def _translated(self, statement: str) -> str:
        return sqlite_sql(statement, or_rollback=self.owns_transaction)

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


class OwnBatchTransaction(SqliteBatchTransaction):
    """A write transaction for one batch alone, with the machine-wide write lock."""

    is_under_way = False
    owns_transaction = True

    def __init__(self, pooled: PoolProxiedConnection, lock: WriteLock, checkpoints: Checkpoints) -> None:
        super().__init__(pooled)
        self._lock = lock
        self._checkpoints = checkpoints

    @contextmanager
    def _write(self, wait: float) -> Iterator[None]:
        """What a large batch wrote is moved into the file after its reply, not before."""
        deadline = time.monotonic() + wait
        with self._lock.held(wait):
            begin_writing(self._driver, deadline - time.monotonic())
            try:
                yield
                with checkpointing(self._driver, self._checkpoints if self.is_large else None):
                    self._cursor.execute("COMMIT")
            except BaseException:
                self._driver.rollback()
                raise

    def _begin_again(self) -> None:
        """The lock is still held, so no other process comes in between but foreign programs."""
        self._driver.rollback()
        begin_writing(self._driver, SHORTEST_WAIT)

    def close(self) -> None:
        self._cursor.close()
        if self._driver.in_transaction:
            self._driver.rollback()
