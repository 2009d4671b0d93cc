"""The lockout after too many failed logins, in a SQLite file of its own, which never waits for an import's lock.

All processes of a machine share the file. It is not synced: all that can be lost is a lock of at most 15 minutes.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from pathlib import Path

from storage.sqlite.side_file import SideFile

# A request that waits longer for other processes is served without a lockout.
FILE_WAIT_SECONDS = 2.0
MINUTE_MS = 60_000
WINDOW_MS = 10 * MINUTE_MS
PAIR_LIMIT = 20
ADDRESS_LIMIT = 200
FIRST_LOCK_MS = MINUTE_MS
LONGEST_LOCK_MS = 15 * MINUTE_MS
# So long after the end of a lock the next one is short again, and the row is deleted.
FORGET_MS = 60 * MINUTE_MS

log = logging.getLogger("tillgate.lockout")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS failure (
    who TEXT PRIMARY KEY,         -- digest of user and address, or of an address
    times TEXT NOT NULL,          -- of failures within the window, milliseconds, comma-separated
    locks INTEGER NOT NULL,       -- locks in succession
    locked_until INTEGER NOT NULL,
    touched INTEGER NOT NULL
) WITHOUT ROWID
"""


class Lockout:
    """The failures of (user, address) pairs and of addresses. All times are milliseconds since the epoch."""

    def __init__(self, path: Path) -> None:
        self._file = SideFile(path, _SCHEMA, FILE_WAIT_SECONDS)

    def wait(self, user: str, address: str, now: int) -> int:
        """Milliseconds for which the user at that address, or the whole address, is locked; 0: it is not."""
        query = "SELECT max(locked_until) FROM failure WHERE who IN (?, ?) AND locked_until > ?"
        try:
            with self._file.opened() as connection:
                [locked_until] = connection.execute(query, (*_digests(user, address), now)).fetchone()
                return 0 if locked_until is None else int(locked_until) - now
        except sqlite3.Error as error:
            # Serving without a lockout is better than not serving.
            log.warning("the lockout file cannot be read: %s", error)
            return 0

    def count_failure(self, user: str, address: str, now: int) -> None:
        """Count a failure of the pair and of the address."""
        try:
            with self._file.opened() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    for who, limit in zip(_digests(user, address), (PAIR_LIMIT, ADDRESS_LIMIT), strict=True):
                        _count_failure(connection, who, limit, now)
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


def _digests(user: str, address: str) -> list[str]:
    # The file holds digests because people type keys and passwords into the field of the user.
    names = (f"pair:{len(user)}:{user}{address}", f"address:{address}")
    return [hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32] for name in names]
