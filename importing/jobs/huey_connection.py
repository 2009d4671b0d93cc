"""The huey at a URL, on SQLite, Redis or PostgreSQL, with messages in JSON."""

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

# How long a message waits for SQLite's lock, or for another host's answer.
TIMEOUT_SECONDS = 5

# What the backends raise when the queue cannot be reached or used.
UNREACHABLE = (sqlite3.Error, psycopg.Error, redis.RedisError, HueyException, OSError)


class JsonSerializer(Serializer):  # type: ignore[misc]
    """Messages as JSON. Huey's default is pickle, which would let whoever writes to the queue run any code."""

    def _serialize(self, data: object) -> bytes:
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> object:
        return Message(*json.loads(bytes(data)))


def open_huey(url: str, name: str) -> Huey:
    """The huey of that name at the URL."""
    options: dict[str, Any] = {"name": name, "results": False, "serializer": JsonSerializer(), "utc": True}
    parsed_url = make_url(url)
    backend = parsed_url.get_backend_name()
    if backend == "sqlite":
        file = Path(parsed_url.database or "queue.db")
        file.parent.mkdir(parents=True, exist_ok=True)
        return SqliteHuey(filename=str(file), strict_fifo=True, timeout=TIMEOUT_SECONDS, **options)
    if backend == "postgresql":
        query = {"connect_timeout": str(TIMEOUT_SECONDS), **parsed_url.query}
        dsn = parsed_url.set(drivername="postgresql", query=query).render_as_string(hide_password=False)
        return PostgresHuey(dsn=dsn, **options)
    # A blocking read lasts one second; an answer that takes longer than the timeout will not come.
    timeouts = {"socket_connect_timeout": TIMEOUT_SECONDS, "socket_timeout": TIMEOUT_SECONDS}
    return RedisHuey(connection_pool=redis.ConnectionPool.from_url(url, **timeouts), **options)
