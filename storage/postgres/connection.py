"""Connections to PostgreSQL: how they are set up, and statements on one of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.types.numeric import Int8Dumper
from sqlalchemy import URL, Engine
from sqlalchemy.pool import PoolProxiedConnection

from storage.drivers import open_engine
from storage.postgres.dialect import PostgresDialect, postgres_sql
from storage.postgres.pipeline import Pipeline, PipelinedResult
from storage.sql_connection import Result, SqlConnection
from storage.sql_dialect import SELECT_CLOCK_MS

# Reads of a few rows at once in a process; the others wait in the pool's line.
READ_CONNECTIONS = 5
# Statements that stay prepared on a connection. A batch has some sixty, and an undo as many.
PREPARED_STATEMENTS_KEPT = 300
# How PostgreSQL reads whole tables, where it takes them for short.
WHOLE_TABLE_PLANS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
_cursor_numbers = itertools.count()


class PostgresConnection(SqlConnection):
    """One connection to PostgreSQL, whose statements go by a pipeline."""

    dialect = PostgresDialect()

    def __init__(self, pooled: PoolProxiedConnection) -> None:
        driver: Any = pooled.driver_connection
        self._driver: psycopg.Connection[Any] = driver
        self._pipeline = Pipeline(driver)

    def clock_ms(self) -> int:
        return self.number(SELECT_CLOCK_MS)

    def flush(self) -> None:
        self._pipeline.flush()

    def _execute(self, statement: str, values: Mapping[str, object]) -> Result:
        return self._queue(statement, values).get()

    def _send(self, statement: str, values: Mapping[str, object]) -> PipelinedResult:
        return self._queue(statement, values)

    def _queue(
        self, statement: str, values: Mapping[str, object], then: Callable[[Result], None] | None = None
    ) -> PipelinedResult:
        text, names = postgres_sql(statement)
        return self._pipeline.send(text, [values[name] for name in names], then)

    def _open_cursor(self, statement: str, values: Mapping[str, object]) -> psycopg.RawServerCursor[Any]:
        # A cursor of the client's would hold the whole result in memory.
        cursor = psycopg.RawServerCursor(self._driver, f"rows_{next(_cursor_numbers)}")
        text, names = postgres_sql(statement)
        return cursor.execute(text, [values[name] for name in names])


def open_engines(url: URL) -> tuple[Engine, Engine, Engine]:
    """The engines of SQLAlchemy's own connections, of batches, and of reads of a few rows, which need no transaction.

    Batches begin their transactions themselves: psycopg's BEGIN is an exchange of its own.
    """
    url = url.set(drivername="postgresql+psycopg")
    return (
        open_engine(url, _set_up),
        open_engine(url, _set_up_for_batches),
        open_engine(url, _set_up_for_reads, READ_CONNECTIONS, READ_CONNECTIONS),
    )


def _set_up(driver: psycopg.Connection[Any], _record: object) -> None:
    driver.prepared_max = PREPARED_STATEMENTS_KEPT
    # Of one type whatever the size, so that a statement is prepared once.
    driver.adapters.register_dumper(int, Int8Dumper)
    # Statements are planned by set, once: compiling each costs more than it saves.
    _execute_all(driver, ("SET jit = off", "SET TIME ZONE 'UTC'"))


def _set_up_for_batches(driver: psycopg.Connection[Any], record: object) -> None:
    _set_up(driver, record)
    driver.autocommit = True


def _set_up_for_reads(driver: psycopg.Connection[Any], record: object) -> None:
    _set_up_for_batches(driver, record)
    # A plan that was made when a table had one page, and is kept, would read all of it when it has thousands.
    _execute_all(driver, [f"SET {plan} = off" for plan in WHOLE_TABLE_PLANS])


def _execute_all(driver: psycopg.Connection[Any], statements: Sequence[str]) -> None:
    for statement in statements:
        driver.execute(statement.encode())
    driver.commit()
