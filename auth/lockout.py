"""Who failed to log in too often waits. Kept in a small SQLite file of its own, never behind the importers' lock.

Shared by all processes of a machine. What is lost with the file is a lock of at most 15 minutes, so it is not synced.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from pathlib import Path

from storage.sqlite.side_file import SideFile

# Seconds. Who waits longer for the other processes is served without a lockout.
FILE_WAIT_SECONDS = 2.0
MINUTE_MS = 60_000
WINDOW_MS = 10 * MINUTE_MS
PAIR_LIMIT = 20
ADDRESS_LIMIT = 200
FIRST_LOCK_MS = MINUTE_MS
LONGEST_LOCK_MS = 15 * MINUTE_MS
# So long after a lock's end the next one is short again, and its row goes.
FORGET_MS = 60 * MINUTE_MS

log = logging.getLogger("tillgate.lockout")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS failure (
    who TEXT PRIMARY KEY,         -- a digest of user and address, or of the address alone
    times TEXT NOT NULL,          -- of the failures within the window, milliseconds, comma-separated
    locks INTEGER NOT NULL,       -- how many locks in a row
    locked_until INTEGER NOT NULL,
    touched INTEGER NOT NULL
) WITHOUT ROWID
"""


class Lockout:
    """The failures of (user, address) pairs and of addresses. All times are milliseconds since the epoch."""

    def __init__(self, path: Path) -> None:
        self._file = SideFile(path, _SCHEMA, FILE_WAIT_SECONDS)

    def locked(self, user: str, address: str, now: int) -> bool:
        """Whether the user at that address, or the address as a whole, has to wait."""
        return self.wait(user, address, now) > 0

    def wait(self, user: str, address: str, now: int) -> int:
        """How long they have to, in milliseconds."""
        query = "SELECT max(locked_until) FROM failure WHERE who IN (?, ?) AND locked_until > ?"
        try:
            with self._file.opened() as connection:
                row = connection.execute(query, (_pair_digest(user, address), _address_digest(address), now)).fetchone()
                return int(row[0]) - now if row[0] is not None else 0
        except sqlite3.Error as error:
            # Better to serve without a lockout than not to serve.
            log.warning("the lockout file cannot be read: %s", error)
            return 0

    def failed(self, user: str, address: str, now: int) -> None:
        """Count a failure of the pair and of the address."""
        try:
            with self._file.opened() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    _count_failure(connection, _pair_digest(user, address), PAIR_LIMIT, now)
                    _count_failure(connection, _address_digest(address), ADDRESS_LIMIT, now)
                    connection.execute("DELETE FROM failure WHERE touched < ?", (now - FORGET_MS - LONGEST_LOCK_MS,))
                finally:
                    connection.execute("COMMIT")
        except sqlite3.Error as error:
            log.warning("the lockout file cannot be written: %s", error)


def _count_failure(connection: sqlite3.Connection, who: str, limit: int, now: int) -> None:
    row = connection.execute("SELECT times, locks, locked_until FROM failure WHERE who = ?", (who,)).fetchone()
    times, locks, locked_until = row or ("", 0, 0)
    if locked_until > now:
        return
    recent = [time for time in times.split(",") if time and int(time) > now - WINDOW_MS] + [str(now)]
    if locked_until + FORGET_MS < now:
        locks = 0
    if len(recent) >= limit:
        locked_until = now + min(FIRST_LOCK_MS * 2 ** min(locks, 10), LONGEST_LOCK_MS)
        locks += 1
        recent = []
    connection.execute(
        "INSERT OR REPLACE INTO failure (who, times, locks, locked_until, touched) VALUES (?, ?, ?, ?, ?)",
        (who, ",".join(recent), locks, locked_until, now),
    )


def _pair_digest(user: str, address: str) -> str:
    return _digest(f"pair:{len(user)}:{user}{address}")


def _address_digest(address: str) -> str:
    return _digest(f"address:{address}")


def _digest(text: str) -> str:
    # A digest: people type keys and passwords into the user's field.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
