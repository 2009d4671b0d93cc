"""A connection of SQLAlchemy's pool, for statements by the driver's own cursor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy.exc
from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

from storage.driver_errors import operational_errors
from storage.fair_locks import Busy

# libpq's PQTRANS_IDLE.
IDLE = 0


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
    except operational_errors() as error:
        raise sqlalchemy.exc.OperationalError("connect", None, error) from error


def _give_back(engine: Engine, pooled: PoolProxiedConnection) -> None:
    driver: Any = pooled.driver_connection
    if engine.dialect.name == "sqlite" or driver.info.transaction_status == IDLE:
        pooled.close()
        return
    was_lost = driver.closed
    pooled.invalidate()
    if was_lost:
        # PostgreSQL has gone, and the pool's other connections with it.
        engine.dispose()
