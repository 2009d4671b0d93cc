"""What the core asks of a queue: to call back later, on whatever host. A lost message loses nothing (see jobs.recover)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Queue(Protocol):
    """Where messages go. Neither call raises: a message that cannot be sent is made up for by recovery."""

    def put_chunk(self, batch_id: str, portion: int) -> None:
        """Ask for one portion of a job, at the end of the queue."""

    def put_delivery(self, delivery_id: str) -> None:
        """Ask for one delivery to a webhook."""

    def close(self) -> None:
        """Let go of what is open; it may be used again."""


class NullQueue:
    """Nobody listens: what is asked for waits in the database until a consumer's recovery finds it."""

    def put_chunk(self, batch_id: str, portion: int) -> None:
        """Do nothing."""

    def put_delivery(self, delivery_id: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def put_deliveries(queue: Queue, deliveries: Iterable[str]) -> None:
    """Queue the deliveries that a transaction has inserted (`webhooks.add_deliveries`), once it has committed."""
    for delivery in deliveries:
        queue.put_delivery(delivery)
