"""Connections to an SQLite file: how they are set up, and statements on one of them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.pool import PoolProxiedConnection

from storage.drivers import open_engine
from storage.sql_connection import Result, SqlConnection
from storage.sqlite.dialect import SqliteDialect, sqlite_sql
from storage.sqlite.file_locks import begin_writing

# Reads of a few rows at once in a process; the others wait in the pool's line.
READ_CONNECTIONS = 2
# Page caches of a connection, of the file and of the temporary tables. Together with what Python takes they stay below
# 96 MB however large a batch is; 100,000 rows find room in them, and at 1,000,000 larger ones are no faster.
FILE_CACHE_KB = 45_056
TEMPORARY_CACHE_KB = 24_576
# With this execution option a transaction is a write transaction, begun before that time.
DEADLINE = "tillgate_deadline"


class SqliteConnection(SqlConnection):
    """One connection to the file. Every statement runs at once."""

    dialect = SqliteDialect()

    def __init__(self, pooled: PoolProxiedConnection) -> None:
        driver: Any = pooled.driver_connection
        self._driver: sqlite3.Connection = driver
        self._cursor = self._driver.cursor()

    def clock_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def flush(self) -> None:
        """Nothing waits."""

    def _execute(self, statement: str, values: Mapping[str, object]) -> Result:
        cursor = self._cursor.execute(self._translated(statement), values)
        return Result(cursor.rowcount, cursor.fetchall())

    def _send(self, statement: str, values: Mapping[str, object]) -> Result:
        return self._run(statement, values)

    def _open_cursor(self, statement: str, values: Mapping[str, object]) -> sqlite3.Cursor:
        return self._driver.cursor().execute(self._translated(statement), values)

    def _translated(self, statement: str) -> str:
        return sqlite_sql(statement)


def open_batch_engine(url: URL) -> Engine:
    """The engine of batches and of SQLAlchemy's own connections."""
    engine = open_engine(url, _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def open_read_engine(url: URL) -> Engine:
    """The engine of reads of a few rows, each statement of which sees the state at its own time."""
    return open_engine(url, _set_up, READ_CONNECTIONS, READ_CONNECTIONS)


def _set_up(driver: sqlite3.Connection, _record: object) -> None:
    # Transactions are begun by hand: the driver's own way begins them late and deferred.
    driver.isolation_level = None
    for pragma in (
        "busy_timeout=10000",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=FILE",
        f"cache_size=-{FILE_CACHE_KB}",
        f"temp.cache_size=-{TEMPORARY_CACHE_KB}",
    ):
        driver.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    deadline = connection.get_execution_options().get(DEADLINE)
    if deadline is None:
        connection.exec_driver_sql("BEGIN")
    else:
        driver: Any = connection.connection.driver_connection
        begin_writing(driver, deadline - time.monotonic())
