"""What the core works with: the database, the digests, the queue, and the few settings that concern it."""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto.digests import Digests
from importing.queue import NullQueue, Queue
from storage.engine import Database


@dataclass(frozen=True, slots=True)
class Context:
    """`write_wait` and `job_lease` are in seconds. `webhook_private`: webhooks may lead to private addresses.

    Undo states kept: the newest `undo_keep` of an account, and all of `undo_days` days.
    """

    database: Database
    digests: Digests
    write_wait: float = 4.0
    undo_keep: int = 50
    undo_days: int = 30
    job_lease: float = 60.0
    queue: Queue = field(default_factory=NullQueue)
    webhook_private: bool = False
