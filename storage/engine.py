"""The database: SQLite by default, PostgreSQL when outgrown; how to read, to write, and to import a batch."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, NamedTuple

from sqlalchemy import Connection, Engine, make_url

from storage.batch_transaction import BatchTransaction
from storage.fair_locks import Busy
from storage.sql_connection import SqlConnection

__all__ = ["Busy", "Database", "Expected", "Kind", "now_ms", "open_database"]


class Kind(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Expected(NamedTuple):
    """A batch that will be written: its account, its size in bytes, and the seconds that it waits to be written."""

    account: int
    size: int
    wait: float


class Database(ABC):
    """One database, shared by all threads of a process. `engine` has SQLAlchemy's own connections."""

    kind: ClassVar[Kind]
    engine: Engine
    data_dir: Path
    # SQLite's file.
    path: Path

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """A read transaction: every query in it sees the same state."""

    @abstractmethod
    def writing(self, wait: float = 4.0, *, large: bool = False) -> AbstractContextManager[Connection]:
        """A write transaction: committed at the end, rolled back on an error. Raises Busy after `wait` seconds.

        `large`: megabytes are written, which SQLite moves into its file in the background.
        """

    @abstractmethod
    def batch_transaction(self, expected: Expected | None = None) -> AbstractContextManager[BatchTransaction]:
        """A connection of its own for a batch, with its temporary tables empty. Rolled back when left unfinished.

        `expected`: the batch that will be written, so that small ones may wait for one another. Then Busy is raised.
        """

    @abstractmethod
    def read_connection(self) -> AbstractContextManager[SqlConnection]:
        """A connection for reads of a few rows, each of which sees the state at its own time."""

    @abstractmethod
    def lock_request(self, key: int) -> AbstractContextManager[None]:
        """Hold the lock of a request (0 … 2^62), which equal requests share; wait for its holder.

        It is taken before a batch transaction. On PostgreSQL that takes the lock: see `BatchTransaction.lock_request`.
        """

    def drop_statistics(self, wait: float) -> bool:  # noqa: ARG002
        """Drop SQLite's statistics, for open connections too. Returns whether there were any. Raises Busy."""
        return False

    @abstractmethod
    def dispose(self) -> None:
        """Close all connections."""


def open_database(url: str, data_dir: Path) -> Database:
    """The database of a URL, `sqlite:///…` or `postgresql://…`."""
    parsed = make_url(url)
    if Kind(parsed.get_backend_name()) is Kind.SQLITE:
        from storage.sqlite.database import SqliteDatabase

        return SqliteDatabase(parsed, data_dir)
    # psycopg costs 150 ms of processor time and 15 MB to load.
    from storage.postgres.database import PostgresDatabase

    return PostgresDatabase(parsed, data_dir)


def now_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000
