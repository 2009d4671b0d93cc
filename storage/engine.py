"""The database: SQLite by default, PostgreSQL when outgrown; how to read, to write, and to import a batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, Engine, make_url

from storage.batch_transaction import BatchTransaction
from storage.fair_locks import Busy
from storage.sql_connection import SqlConnection
from storage.sqlite.backend import SqliteBackend

__all__ = ["Busy", "Database", "Expected", "Kind", "now_ms"]


class Kind(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Expected(NamedTuple):
    """A batch that will be written: its account, its size in bytes, and the seconds that it waits to be written."""

    account: int
    size: int
    wait: float


class Backend(Protocol):
    """What the two databases do differently. The methods are those of Database."""

    engine: Engine

    def reading(self) -> AbstractContextManager[Connection]: ...

    def writing(self, wait: float, large: bool) -> AbstractContextManager[Connection]: ...

    def batch_transaction(self, expected: Expected | None) -> AbstractContextManager[BatchTransaction]: ...

    def read_connection(self) -> AbstractContextManager[SqlConnection]: ...

    def lock_request(self, key: int) -> AbstractContextManager[None]: ...

    def close(self) -> None: ...


class Database:
    """One database, shared by all threads of a process. `url` is `sqlite:///…` or `postgresql://…`."""

    def __init__(self, url: str, data_dir: Path) -> None:
        parsed = make_url(url)
        self.kind = Kind(parsed.get_backend_name())
        self.data_dir = data_dir
        self._backend: Backend
        if self.kind is Kind.SQLITE:
            self.path = Path(parsed.database or data_dir / "tillgate.db")
            self._backend = SqliteBackend(parsed, self.path, data_dir)
        else:
            # Here, because psycopg costs 150 ms of processor time and 15 MB to load.
            from storage.postgres.backend import PostgresBackend

            self._backend = PostgresBackend(parsed)
        self.engine = self._backend.engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction: every query in it sees the same state."""
        with self._backend.reading() as connection, connection.begin():
            yield connection

    def writing(self, wait: float = 4.0, *, large: bool = False) -> AbstractContextManager[Connection]:
        """A write transaction: committed at the end, rolled back on an error. Raises Busy after `wait` seconds.

        `large`: megabytes are written, which SQLite moves into its file in the background.
        """
        return self._backend.writing(wait, large)

    def batch_transaction(self, expected: Expected | None = None) -> AbstractContextManager[BatchTransaction]:
        """A connection of one's own for a batch, with its temporary tables empty. Rolled back when left unfinished.

        `expected`: the batch that will be written, so that small ones may wait for one another. Then Busy is raised.
        """
        return self._backend.batch_transaction(expected)

    def read_connection(self) -> AbstractContextManager[SqlConnection]:
        """A connection for reads of a few rows, each of which sees what stands by then."""
        return self._backend.read_connection()

    def lock_request(self, key: int) -> AbstractContextManager[None]:
        """Hold the lock of a request (0 … 2^62), which equal requests share; wait for whoever holds it.

        It is taken before a batch transaction. On PostgreSQL that has the lock: see `BatchTransaction.lock_request`.
        """
        return self._backend.lock_request(key)

    def dispose(self) -> None:
        """Close all connections."""
        self._backend.close()


def now_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000
