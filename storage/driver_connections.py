"""A connection of SQLAlchemy's pool, for statements by the driver's own cursor."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy.exc
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

from storage.fair_locks import Busy


@contextmanager
def driver_connection(engine: Engine) -> Iterator[PoolProxiedConnection]:
    """A connection of the engine's pool, outside of any transaction. Whoever has it rolls back what it has begun.

    Raises Busy where the pool's wait was too short, and SQLAlchemy's OperationalError where there is no connection.
    """
    pooled = connect(engine)
    try:
        yield pooled
    finally:
        _give_back(engine, pooled)


def connect(engine: Engine) -> PoolProxiedConnection:
    """The same, to be closed."""
    try:
        return engine.raw_connection()
    except sqlalchemy.exc.TimeoutError as error:
        raise Busy from error
    except (sqlite3.OperationalError, psycopg.OperationalError) as error:
        raise sqlalchemy.exc.OperationalError("connect", None, error) from error


def _give_back(engine: Engine, pooled: PoolProxiedConnection) -> None:
    driver = pooled.driver_connection
    if not isinstance(driver, psycopg.Connection) or driver.info.transaction_status == TransactionStatus.IDLE:
        pooled.close()
        return
    was_lost = driver.closed
    pooled.invalidate()
    if was_lost:
        # PostgreSQL has gone, and the pool's other connections with it.
        engine.dispose()
