"""Messages that ask for background work on any host. A lost message delays work only: recovery finds it in the database."""

from __future__ import annotations

from collections.abc import Iterable


class Queue:
    """The queue of a process without one: its messages go nowhere. `HueyQueue` sends them. No call raises."""

    def put_chunk(self, batch_id: str, chunk: int) -> None:
        """Ask for a chunk of a job, at the end of the queue."""

    def put_deliveries(self, delivery_ids: Iterable[str]) -> None:
        """Ask for webhook deliveries that a committed transaction has inserted (`webhooks.add_deliveries`)."""

    def close(self) -> None:
        """Close the connections; the next message opens new ones."""
