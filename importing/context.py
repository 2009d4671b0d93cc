"""What an import works with: the database, the digests, the queue and a few settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto.digests import Digests
from importing.queue import Queue
from storage.engine import Database


@dataclass(frozen=True, slots=True)
class Context:
    """`write_wait` and `job_lease` are in seconds. `webhook_private`: webhooks may lead to private addresses.

    An account keeps the newest `undo_keep` undo states, and all of the last `undo_days` days.
    """

    database: Database
    digests: Digests
    write_wait: float = 4.0
    undo_keep: int = 50
    undo_days: int = 30
    job_lease: float = 60.0
    queue: Queue = field(default_factory=Queue)
    webhook_private: bool = False
