"""What large batches wrote goes from SQLite's write-ahead log into the file in the background, after their reply.

The log itself is on disk when a batch is acknowledged, so nothing hangs on when this happens, or whether it does: the
next small write does it otherwise. It costs a large batch a twentieth of its time.
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
        self._wanted = False

    def soon(self) -> None:
        """Have one made. Returns at once."""
        with self._guard:
            self._wanted = True
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
                if not self._wanted:
                    self._thread = None
                    return
                self._wanted = False
            # Busy, full disk: the next write's own checkpoint will meet that too, and somebody is there to be told.
            with suppress(sqlite3.Error), closing(sqlite3.connect(self._path)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


@contextmanager
def checkpointing(connection: sqlite3.Connection, later: Checkpoints | None) -> Iterator[None]:
    """Commit in here without a checkpoint, and have one made `later`; None: as SQLite does it."""
    if later is None:
        yield
        return
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    later.soon()
