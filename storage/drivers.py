"""The databases' drivers: their connections out of SQLAlchemy's pools, and their errors.

No driver is loaded here: psycopg costs 150 ms of processor time and 15 MB.
"""

from __future__ import annotations

import sqlite3
import sys

import sqlalchemy.exc
from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

from storage.fair_locks import Busy


def driver_errors() -> tuple[type[Exception], ...]:
    """The errors of SQLite's driver, and of PostgreSQL's where it is loaded: else it raised nothing. For `except`."""
    psycopg = sys.modules.get("psycopg")
    return (sqlite3.Error,) if psycopg is None else (sqlite3.Error, psycopg.Error)


def operational_errors() -> tuple[type[Exception], ...]:
    """Likewise, those about the database or the way to it."""
    psycopg = sys.modules.get("psycopg")
    return (sqlite3.OperationalError,) if psycopg is None else (sqlite3.OperationalError, psycopg.OperationalError)


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
