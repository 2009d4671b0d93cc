"""The databases' drivers: their connections out of SQLAlchemy's pools, and their errors.

No driver is loaded here: psycopg costs 150 ms of processor time and 15 MB.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy.exc
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.pool import PoolProxiedConnection

from storage.fair_locks import Busy

CONNECTIONS_KEPT, CONNECTIONS_AT_MOST = 8, 64
WAIT_FOR_CONNECTION = 30.0


def driver_errors() -> tuple[type[Exception], ...]:
    """The errors of SQLite's driver, and of PostgreSQL's where it is loaded: else it raised nothing. For `except`."""
    psycopg = sys.modules.get("psycopg")
    return (sqlite3.Error,) if psycopg is None else (sqlite3.Error, psycopg.Error)


def operational_errors() -> tuple[type[Exception], ...]:
    """Likewise, those about the database or the way to it."""
    psycopg = sys.modules.get("psycopg")
    return (sqlite3.OperationalError,) if psycopg is None else (sqlite3.OperationalError, psycopg.OperationalError)


def open_engine(
    url: URL, set_up: Callable[[Any, object], None], kept: int = CONNECTIONS_KEPT, at_most: int = CONNECTIONS_AT_MOST
) -> Engine:
    """An engine with a pool of connections, each set up by `set_up`. It rolls nothing back when a connection is returned."""
    engine = create_engine(
        url,
        pool_size=kept,
        max_overflow=at_most - kept,
        pool_timeout=WAIT_FOR_CONNECTION,
        pool_use_lifo=True,
        pool_reset_on_return=None,
    )
    event.listen(engine, "connect", set_up)
    return engine


def connect(engine: Engine) -> PoolProxiedConnection:
    """A connection of the engine's pool, outside of any transaction. The caller rolls back what it has begun, and closes it.

    Raises Busy where the pool's wait was too short, and SQLAlchemy's OperationalError where there is no connection.
    """
    try:
        return engine.raw_connection()
    except sqlalchemy.exc.TimeoutError as error:
        raise Busy from error
    except operational_errors() as error:
        raise sqlalchemy.exc.OperationalError("connect", None, error) from error
