"""The queue: huey, on SQLite in the data folder, on Redis or on PostgreSQL. Messages name work that the core does.

A queue that cannot be reached fails nothing: what was asked for stands in the database, where recovery finds it.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import redis
from huey import Huey, PostgresHuey, RedisHuey, SqliteHuey
from huey.exceptions import HueyException
from huey.registry import Message
from huey.serializer import Serializer
from sqlalchemy import make_url

log = logging.getLogger("tillgate.queue")

PORTION, DELIVERY = "portion", "delivery"
# Seconds that a message waits for SQLite's lock, or for a queue on another host to answer.
PATIENCE = 5

# What the kinds of queue raise when they cannot be reached or used.
UNREACHABLE = (sqlite3.Error, psycopg.Error, redis.RedisError, HueyException, OSError)

Handler = Callable[..., object]


class JsonSerializer(Serializer):  # type: ignore[misc]
    """Messages as JSON, for huey's own way is pickle: who can write to the queue can ask for work, and for nothing else."""

    def _serialize(self, data: object) -> bytes:
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> object:
        return Message(*json.loads(bytes(data)))


class HueyQueue:
    """The queue at a URL, reached when it is first needed. Deliveries have one of their own: they wait for strangers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._guard = threading.Lock()
        self._hueys: dict[str, tuple[Huey, Handler]] = {}
        self._handlers: dict[str, Handler] = {}

    def put_chunk(self, batch_id: str, portion: int) -> None:
        """Ask for one portion of a job, at the end of the queue."""
        self._put(PORTION, batch_id, portion)

    def put_delivery(self, delivery_id: str) -> None:
        """Ask for one delivery to a webhook."""
        self._put(DELIVERY, delivery_id)

    def consume(self, name: str, handler: Handler) -> Huey:
        """The huey whose messages of one kind `handler` is called with. Raises UNREACHABLE."""
        self._handlers[name] = handler
        return self._opened(name)[0]

    def waiting(self) -> int:
        """How many messages wait. Raises UNREACHABLE."""
        return sum(self._opened(name)[0].storage.queue_size() for name in (PORTION, DELIVERY))

    def close(self) -> None:
        """Let go of the connections; the next message makes new ones."""
        for huey, _ in self._hueys.values():
            huey.storage.close()

    def _opened(self, name: str) -> tuple[Huey, Handler]:
        with self._guard:
            if name not in self._hueys:
                huey = _huey(self._url, f"tillgate-{name}")

                def handle(*arguments: object) -> None:
                    self._handlers[name](*arguments)

                self._hueys[name] = (huey, huey.task(name=name)(handle))
            return self._hueys[name]

    def _put(self, name: str, *arguments: object) -> None:
        try:
            _, ask = self._opened(name)
            ask(*arguments)
        except UNREACHABLE as error:
            log.warning("cannot ask for a %s: %s; recovery will", name, type(error).__qualname__)


def _huey(url: str, name: str) -> Huey:
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
