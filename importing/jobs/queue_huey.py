"""The queue on huey: on SQLite in the data folder, on Redis or on PostgreSQL. Messages name the work.

A queue that cannot be reached fails nothing: the work is in the database, where recovery finds it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING

from importing.queue import Queue

if TYPE_CHECKING:
    from huey import Huey

log = logging.getLogger("tillgate.queue")

# The names that queued messages have: a chunk's name is older than the word.
CHUNK, DELIVERY = "portion", "delivery"
Handler = Callable[..., object]


class HueyQueue(Queue):
    """The queue at a URL, opened when it is first used. Deliveries have a queue of their own: they wait for strangers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._hueys: dict[str, tuple[Huey, Handler]] = {}
        self._handlers: dict[str, Handler] = {}

    def put_chunk(self, batch_id: str, chunk: int) -> None:
        """Ask for a chunk of a job, at the end of the queue."""
        self._put(CHUNK, batch_id, chunk)

    def put_deliveries(self, delivery_ids: Iterable[str]) -> None:
        """Ask for webhook deliveries."""
        for delivery_id in delivery_ids:
            self._put(DELIVERY, delivery_id)

    def consume(self, name: str, handler: Handler) -> Huey:
        """The huey that calls `handler` with the messages of a name. Raises huey_connection.UNREACHABLE."""
        self._handlers[name] = handler
        return self._open(name)[0]

    def count_waiting(self) -> int:
        """How many messages wait. Raises huey_connection.UNREACHABLE."""
        return sum(self._open(name)[0].storage.queue_size() for name in (CHUNK, DELIVERY))

    def close(self) -> None:
        """Close the connections; the next message opens new ones."""
        for huey, _ in self._hueys.values():
            huey.storage.close()

    def _open(self, name: str) -> tuple[Huey, Handler]:
        with self._lock:
            if name not in self._hueys:
                huey = _huey_connection().open_huey(self._url, f"tillgate-{name}")

                def handle(*arguments: object) -> None:
                    self._handlers[name](*arguments)

                self._hueys[name] = (huey, huey.task(name=name)(handle))
            return self._hueys[name]

    def _put(self, name: str, *arguments: object) -> None:
        try:
            _, put_message = self._open(name)
            put_message(*arguments)
        except _huey_connection().UNREACHABLE as error:
            log.warning("cannot ask for a %s: %s; recovery will", name, type(error).__qualname__)


def _huey_connection() -> ModuleType:
    """Imported when first used: huey imports the drivers of all its backends, 200 ms and 25 MB."""
    from importing.jobs import huey_connection

    return huey_connection
