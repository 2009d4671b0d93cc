"""The queue: huey, on SQLite in the data folder, on Redis or on PostgreSQL. Messages name work that the core does.

A queue that cannot be reached fails nothing: what was asked for stands in the database, where recovery finds it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huey import Huey

log = logging.getLogger("tillgate.queue")

PORTION, DELIVERY = "portion", "delivery"
Handler = Callable[..., object]


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
        """The huey whose messages of one kind `handler` is called with. Raises huey_connection.UNREACHABLE."""
        self._handlers[name] = handler
        return self._opened(name)[0]

    def waiting(self) -> int:
        """How many messages wait. Raises huey_connection.UNREACHABLE."""
        return sum(self._opened(name)[0].storage.queue_size() for name in (PORTION, DELIVERY))

    def close(self) -> None:
        """Let go of the connections; the next message makes new ones."""
        for huey, _ in self._hueys.values():
            huey.storage.close()

    def _opened(self, name: str) -> tuple[Huey, Handler]:
        with self._guard:
            if name not in self._hueys:
                huey = _huey_connection().open_huey(self._url, f"tillgate-{name}")

                def handle(*arguments: object) -> None:
                    self._handlers[name](*arguments)

                self._hueys[name] = (huey, huey.task(name=name)(handle))
            return self._hueys[name]

    def _put(self, name: str, *arguments: object) -> None:
        try:
            _, ask = self._opened(name)
            ask(*arguments)
        except _huey_connection().UNREACHABLE as error:
            log.warning("cannot ask for a %s: %s; recovery will", name, type(error).__qualname__)


def _huey_connection() -> ModuleType:
    """Loaded when a message is put or taken: huey loads the drivers of all its kinds of queue, 200 ms and 25 MB."""
    from importing.jobs import huey_connection

    return huey_connection
