"""SQLite as the database: one file, one writer at a time, fairly among all processes of the machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, text
from sqlalchemy.pool import PoolProxiedConnection

from storage import staging
from storage.batch_transaction import BatchTransaction
from storage.drivers import connect
from storage.engine import Database, Expected, Kind
from storage.sql_connection import SqlConnection
from storage.sqlite.batch_transaction import OwnBatchTransaction
from storage.sqlite.checkpoints import Checkpoints, checkpointing
from storage.sqlite.connection import DEADLINE, SqliteConnection, open_batch_engine, open_read_engine
from storage.sqlite.file_locks import RequestLocks, WriteLock
from storage.sqlite.group_commit import CommitGroups, grouped

# Batches of up to so many bytes share transactions, in which SQLite keeps all that they change twice, in memory, until each
# of them is done.
GROUPED_BYTES = 16 * 1024


_STATISTICS_TABLES = text(
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('sqlite_stat1', 'sqlite_stat4')"
)


class SqliteDatabase(Database):
    """A file, by default in `data_dir`."""

    kind = Kind.SQLITE

    def __init__(self, url: URL, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.path = path = Path(url.database or data_dir / "tillgate.db")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.engine = open_batch_engine(url)
        self.read_engine = open_read_engine(url)
        self._write_lock = WriteLock(path)
        self._request_locks = RequestLocks(data_dir / "inflight.lock")
        self._checkpoints = Checkpoints(path)
        self._groups = CommitGroups(self._connect_for_groups, self._write_lock)

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction sees one state anyway."""
        return self.engine.begin()

    @contextmanager
    def writing(self, wait: float = 4.0, *, large: bool = False) -> Iterator[Connection]:
        """With the write lock."""
        deadline = time.monotonic() + wait
        with self._write_lock.held(wait), self.engine.connect() as connection:
            connection = connection.execution_options(**{DEADLINE: deadline})
            driver: Any = connection.connection.driver_connection
            with checkpointing(driver, self._checkpoints if large else None), connection.begin():
                yield connection

    def batch_transaction(self, expected: Expected | None = None) -> AbstractContextManager[BatchTransaction]:
        """Small batches share their commit."""
        if expected is not None and expected.size <= GROUPED_BYTES:
            return grouped(self._groups, expected.wait)
        return self._own_transaction()

    @contextmanager
    def _own_transaction(self) -> Iterator[BatchTransaction]:
        with closing(connect(self.engine)) as pooled:
            work = OwnBatchTransaction(pooled, self._write_lock, self._checkpoints)
            with staging.prepared(work, pooled.info):
                yield work

    @contextmanager
    def read_connection(self) -> Iterator[SqlConnection]:
        """Without a transaction."""
        with closing(connect(self.read_engine)) as pooled:
            yield SqliteConnection(pooled)

    def lock_request(self, key: int) -> AbstractContextManager[None]:
        """By a file."""
        return self._request_locks.held(key)

    def drop_statistics(self, wait: float) -> bool:
        """No statement here needs them, since each says in which order to join.

        An ANALYZE by an operator or a tool does harm: a table that had one row then is assumed to have one for ever, and
        is read whole for each row of a batch when it has a million.
        """
        with self.reading() as connection:
            if connection.execute(_STATISTICS_TABLES).first() is None:
                return False
        with self.writing(wait) as connection:
            for name in connection.execute(_STATISTICS_TABLES).scalars().all():
                # Dropped, not emptied: other connections notice a change of the schema only.
                connection.execute(text(f"DROP TABLE {name}"))
        return True

    def dispose(self) -> None:
        self._groups.close()
        self._checkpoints.finish()
        self.read_engine.dispose()
        self.engine.dispose()

    def _connect_for_groups(self) -> PoolProxiedConnection:
        pooled = connect(self.engine)
        driver: Any = pooled.driver_connection
        # A quarter less of the processor for a post of three rows. Temporary tables that the connection has had are gone.
        driver.execute("PRAGMA temp_store = MEMORY")
        pooled.info.clear()
        return pooled
