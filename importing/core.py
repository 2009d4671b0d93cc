"""What the core works with: the database, the digests, and the few settings that concern it."""

from __future__ import annotations

from dataclasses import dataclass

from importing.secrets import Digests
from storage.engine import Database


@dataclass(frozen=True, slots=True)
class Core:
    """`write_wait` is in seconds. Undo states kept: the newest `undo_keep` of an account, and all of `undo_days` days."""

    database: Database
    digests: Digests
    write_wait: float = 4.0
    undo_keep: int = 50
    undo_days: int = 30
