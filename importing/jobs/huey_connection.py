"""The huey at a URL: on SQLite, on Redis or on PostgreSQL; its messages are JSON."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import redis
from huey import Huey, PostgresHuey, RedisHuey, SqliteHuey
from huey.exceptions import HueyException
from huey.registry import Message
from huey.serializer import Serializer
from sqlalchemy import make_url

# Seconds that a message waits for SQLite's lock, or for a queue on another host to answer.
PATIENCE = 5

# What the kinds of queue raise when they cannot be reached or used.
UNREACHABLE = (sqlite3.Error, psycopg.Error, redis.RedisError, HueyException, OSError)


class JsonSerializer(Serializer):  # type: ignore[misc]
    """Messages as JSON, for huey's own way is pickle: who can write to the queue can ask for work, and for nothing else."""

    def _serialize(self, data: object) -> bytes:
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> object:
        return Message(*json.loads(bytes(data)))


def open_huey(url: str, name: str) -> Huey:
    """The huey of that name at the URL."""
    options: dict[str, Any] = {"name": name, "results": False, "serializer": JsonSerializer(), "utc": True}
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        file = Path(parsed.database or "queue.db")
        file.parent.mkdir(parents=True, exist_ok=True)
        return SqliteHuey(filename=str(file), strict_fifo=True, timeout=PATIENCE, **options)
    if backend == "postgresql":
        patient = {"connect_timeout": str(PATIENCE), **parsed.query}
        dsn = parsed.set(drivername="postgresql", query=patient).render_as_string(hide_password=False)
        return PostgresHuey(dsn=dsn, **options)
    # A blocking read takes a second of its own; an answer that takes longer than the rest will not come.
    pool = redis.ConnectionPool.from_url(url, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE)
    return RedisHuey(connection_pool=pool, **options)
