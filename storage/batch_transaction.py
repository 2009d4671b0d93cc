"""One batch on one connection: its temporary tables, its staging transaction and its write transaction.

Each database has its own kind: storage/sqlite/batch_transaction.py and storage/postgres/batch_transaction.py.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from itertools import chain, islice
from typing import Any, TypeVar

from storage.sql_connection import Result, SqlConnection

# Seconds that a batch may wait to write, however long it has waited before.
SHORTEST_WAIT = 0.1
# A batch with more rows is a large one: PostgreSQL analyzes its temporary tables, and SQLite makes its checkpoint in the
# background instead of at the commit.
SMALL_BATCH_ROWS = 500
ROWS_PER_CHUNK = 500
# SQLite's page cache while many rows are sorted.
SORTING_CACHE_KB = 16_384
# The same while few rows go into temporary tables. More would save a little, but the temporary tables of the batch before
# still have their cache: 84 MB above idle.
UNDO_CACHE_KB = 53_248

Answer = TypeVar("Answer")
Chunk = Sequence[Sequence[object]]


class KeyTaken(Exception):
    """Two customers would have had the same unique key."""


class BatchTransaction(SqlConnection):
    """`seconds_waited`: how long the batch has waited for the connection, a part of its wait to write."""

    def __init__(self, seconds_waited: float = 0.0) -> None:
        self._seconds_waited = seconds_waited
        self._rows = 0
        self._temporary: frozenset[str] = frozenset()
        self._filled: set[str] = set()

    @abstractmethod
    def begin(self, temporary: Iterable[str], connection_info: MutableMapping[Any, Any]) -> None:
        """Begin the staging transaction with these tables empty. `connection_info` lives as long as the connection."""

    @abstractmethod
    def writing(self, account: int, wait: float) -> AbstractContextManager[None]:
        """The write transaction, for one account's writer at a time; what was staged before is kept.

        It is committed at the end, and rolled back on an error. The batch transaction cannot be used afterwards. Raises
        Busy when it does not get the lock within `wait` seconds, the wait for the connection included.
        """

    @abstractmethod
    def lock_request(self, key: int, query: Callable[[], Answer]) -> Answer:
        """Hold the lock of a request (see Database.lock_request) until the transaction ends, and wait for its holder.

        Returns what `query` returns then.
        """

    @abstractmethod
    def attempt(self) -> AbstractContextManager[None]:
        """The first writes of a transaction, taken back on an error, so that others can be tried instead.

        Raises KeyTaken for a unique key twice.
        """

    @abstractmethod
    def close(self) -> None:
        """Roll back whatever was not committed."""

    def fill(self, table: str, columns: Sequence[str], chunks: Iterable[Chunk]) -> None:
        """Insert chunks of rows into a table, by the fastest way. No chunk: no statement."""
        rest = iter(chunks)
        first = next(rest, None)
        if not first:
            return
        self._note_filled(table)
        self._fill(table, columns, first, rest)

    def fill_rows(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """The same for single rows."""
        remaining = iter(rows)
        self.fill(table, columns, iter(lambda: list(islice(remaining, ROWS_PER_CHUNK)), []))

    @abstractmethod
    def _fill(self, table: str, columns: Sequence[str], first: Chunk, rest: Iterator[Chunk]) -> None: ...

    def filled(self, table: str) -> bool:
        """Whether this batch has put a row into a temporary table, as far as is known.

        A small post needs half of the statements only, because this is checked before them.
        """
        return table in self._filled

    def expect(self, rows: int) -> None:
        """Count so many rows as put into temporary tables."""
        self._rows += rows

    @property
    def is_large(self) -> bool:
        """Whether many rows were put into temporary tables."""
        return self._rows > SMALL_BATCH_ROWS

    @contextmanager
    def sorting(self) -> Iterator[None]:
        """Sort many rows in here, with a small page cache: SQLite takes as much memory again to sort."""
        with self._page_cache(SORTING_CACHE_KB) if self.is_large else nullcontext():
            yield

    def roomy(self) -> AbstractContextManager[None]:
        """Write in here with a larger page cache, where few rows go into temporary tables."""
        return self._page_cache(UNDO_CACHE_KB)

    def _page_cache(self, kilobytes: int) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def analyze(self, *tables: str) -> None:
        """Have PostgreSQL analyze temporary tables of a large batch; SQLite joins in the order written.

        For a few rows any plan will do, and this costs more than the batch.
        """
        if self.is_large:
            self._analyze(tables)

    def _analyze(self, tables: Iterable[str]) -> None: ...

    def expect_few_rows(self, tables: Iterable[str]) -> None:
        """Declare these temporary tables, which were just created, as small for SQLite's planner."""

    @abstractmethod
    def lock_rows(self, query: str, /, **values: object) -> None:
        """Lock the rows of a query until the write transaction ends. SQLite has one writer at a time as it is."""

    @abstractmethod
    def limit_idle_time(self, milliseconds: int) -> None:
        """End the transaction of a process that is paused for so long, so that it does not hold the account for ever."""

    def _run(self, statement: str, values: Mapping[str, object]) -> Result:
        result = super()._run(statement, values)
        if result.count and (table := inserted_into(statement)):
            self._note_filled(table)
        return result

    def _note_filled(self, table: str) -> None:
        if table in self._temporary:
            self._filled.add(table)


_INSERTED = re.compile(r"INSERT (?:\{\w+\})?INTO (\w+)")


@lru_cache(maxsize=2000)
def inserted_into(statement: str) -> str | None:
    """The table that a statement inserts into."""
    match = _INSERTED.match(statement)
    return match[1] if match else None


def insert_start(table: str, columns: Sequence[str]) -> str:
    """An INSERT up to its values."""
    return f"INSERT INTO {table} ({quoted(columns)}) VALUES "


def quoted(columns: Sequence[str]) -> str:
    """A list of columns."""
    return ", ".join(f'"{name}"' for name in columns)


def flattened(rows: Chunk) -> tuple[object, ...]:
    """The values of rows, one after another."""
    return tuple(chain.from_iterable(rows))
