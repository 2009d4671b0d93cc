"""The errors of the databases' drivers, named without loading a driver: psycopg costs 150 ms of processor time and 15 MB."""

from __future__ import annotations

import sqlite3
import sys


def driver_errors() -> tuple[type[Exception], ...]:
    """What SQLite's driver raises, and PostgreSQL's where it is loaded: else it raised nothing. To be named in `except`."""
    psycopg = sys.modules.get("psycopg")
    return (sqlite3.Error,) if psycopg is None else (sqlite3.Error, psycopg.Error)


def operational_errors() -> tuple[type[Exception], ...]:
    """Likewise, those about the database or the way to it."""
    psycopg = sys.modules.get("psycopg")
    return (sqlite3.OperationalError,) if psycopg is None else (sqlite3.OperationalError, psycopg.OperationalError)
