"""Checkpoints move what large batches wrote from SQLite's write-ahead log into the file in the background, after the reply.

The log is on disk when a batch is acknowledged, so that nothing depends on a checkpoint: the next small write makes it
otherwise. At the commit it would cost a large batch a twentieth of its time.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

# With so many pages in the log, SQLite makes a checkpoint of its own at the commit.
CHECKPOINT_PAGES = 1000


class Checkpoints:
    """Checkpoints of one database file, one at a time, in a thread that lives for as long as there is one to do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_due = False

    def soon(self) -> None:
        """Start one in the background."""
        with self._guard:
            self._is_due = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="checkpoint")
                self._thread.start()

    def finish(self) -> None:
        """Wait for the one under way."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._guard:
                if not self._is_due:
                    self._thread = None
                    return
                self._is_due = False
            # Busy, full disk: the next write's own checkpoint fails likewise, and its caller gets the error.
            with suppress(sqlite3.Error), closing(sqlite3.connect(self._path)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


@contextmanager
def checkpointing(connection: sqlite3.Connection, later: Checkpoints | None) -> Iterator[None]:
    """Commit in here without a checkpoint, and make one `later`; None: as SQLite does it."""
    if later is None:
        yield
        return
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    later.soon()
