"""Counters that all processes of a machine share, in a small SQLite file of their own: a storage of `limits`.

Never behind the importers' lock, and not synced: what is lost with the machine is a count of some seconds.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from limits.storage import Storage

from storage.sqlite.side_file import SideFile

# Seconds. Who waits longer for the other processes goes on without having been counted.
PATIENCE = 0.25
# Seconds between two looks for what has expired.
SWEEP = 60

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counter (
    key TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    expires INTEGER NOT NULL      -- seconds since the epoch
) WITHOUT ROWID
"""
_INCREASE = """
INSERT INTO counter (key, count, expires) VALUES (?1, ?2, ?4 + ?3)
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN expires <= ?4 THEN 0 ELSE count END + ?2,
    expires = CASE WHEN expires <= ?4 THEN excluded.expires ELSE expires END
RETURNING count
"""


class SqliteCounters(Storage):
    """The counters in a file, made when it is first needed."""

    STORAGE_SCHEME = None

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = SideFile(path, _SCHEMA, PATIENCE)
        self._swept = 0

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the methods raise where the file cannot be used."""
        return sqlite3.Error

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a counter, which lives for `expiry` seconds from its first time on; what it is then."""
        now = int(time.time())
        with self._file.opened() as connection:
            count = int(connection.execute(_INCREASE, (key, amount, expiry, now)).fetchone()[0])
            if count == amount and now >= self._swept + SWEEP:
                self._swept = now
                connection.execute("DELETE FROM counter WHERE expires <= ?", (now,))
        return count

    def get(self, key: str) -> int:
        """What a counter is."""
        return self._found("count", key) or 0

    def get_expiry(self, key: str) -> float:
        """When a counter ends, in seconds since the epoch; now where there is none."""
        return float(self._found("expires", key) or time.time())

    def check(self) -> bool:
        """Whether the file can be used."""
        try:
            self._found("count", "")
        except sqlite3.Error:
            return False
        return True

    def reset(self) -> int:
        """Drop all counters. Returns how many there were."""
        with self._file.opened() as connection:
            return connection.execute("DELETE FROM counter").rowcount

    def clear(self, key: str) -> None:
        """Drop a counter."""
        with self._file.opened() as connection:
            connection.execute("DELETE FROM counter WHERE key = ?", (key,))

    def _found(self, column: str, key: str) -> int | None:
        query = f"SELECT {column} FROM counter WHERE key = ? AND expires > ?"
        with self._file.opened() as connection:
            row = connection.execute(query, (key, int(time.time()))).fetchone()
        return int(row[0]) if row is not None else None
