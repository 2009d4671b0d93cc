"""PostgreSQL as the database: one writer an account at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.pool import PoolProxiedConnection

from storage import staging
from storage.batch_transaction import BatchTransaction
from storage.drivers import connect
from storage.engine import Database, Expected, Kind
from storage.fair_locks import Busy, FairLocks
from storage.postgres.batch_transaction import PostgresBatchTransaction
from storage.postgres.connection import PostgresConnection, open_engines
from storage.sql_connection import SqlConnection

# Of an account's batches of up to SMALL_BYTES, so many run at once in a process; the others wait in line before they take a
# connection. So one account's terminals cannot take all connections, and few connections have temporary tables.
SMALL_BYTES = 64 * 1024
SMALL_BATCHES_AN_ACCOUNT = 3


class PostgresDatabase(Database):
    kind = Kind.POSTGRESQL

    def __init__(self, url: URL, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.engine, self.batch_engine, self.read_engine = open_engines(url)
        self._accounts = FairLocks(SMALL_BATCHES_AN_ACCOUNT)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Every query sees the state of the first one."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self, wait: float = 4.0, *, large: bool = False) -> Iterator[Connection]:  # noqa: ARG002
        """Waits for each row lock."""
        with self.engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = {int(wait * 1000)}"))
            try:
                yield connection
            except Exception as error:
                if isinstance(getattr(error, "orig", None), psycopg.errors.LockNotAvailable):
                    raise Busy from error
                raise

    @contextmanager
    def batch_transaction(self, expected: Expected | None = None) -> Iterator[BatchTransaction]:
        """Small batches of an account wait in line."""
        started = time.monotonic()
        is_small = expected is not None and expected.size <= SMALL_BYTES
        line = self._accounts.held(expected.account, expected.wait) if expected and is_small else nullcontext()
        with line, _connection(self.batch_engine) as pooled:
            work = PostgresBatchTransaction(pooled, time.monotonic() - started)
            with staging.prepared(work, pooled.info):
                yield work

    @contextmanager
    def read_connection(self) -> Iterator[SqlConnection]:
        """In autocommit."""
        with _connection(self.read_engine) as pooled:
            connection = PostgresConnection(pooled)
            yield connection
            connection.flush()

    def lock_request(self, key: int) -> AbstractContextManager[None]:  # noqa: ARG002
        """Not yet: the batch transaction takes it."""
        return nullcontext()

    def dispose(self) -> None:
        for engine in (self.engine, self.batch_engine, self.read_engine):
            engine.dispose()


@contextmanager
def _connection(engine: Engine) -> Iterator[PoolProxiedConnection]:
    pooled = connect(engine)
    try:
        yield pooled
    finally:
        driver = pooled.driver_connection
        assert isinstance(driver, psycopg.Connection)
        if driver.info.transaction_status == TransactionStatus.IDLE:
            pooled.close()
        else:
            was_lost = driver.closed
            pooled.invalidate()
            if was_lost:
                # PostgreSQL has gone, and the pool's other connections with it.
                engine.dispose()
