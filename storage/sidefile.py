"""A small SQLite file beside the database, for what must never wait behind the importers' lock and may be lost."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Nanoseconds: far longer than a tick of the clock by which files are dated.
SETTLED = 100_000_000


class SideFile:
    """One connection of a process, for its threads in turn; made when it is first needed, and anew after a fork.

    `schema` is run at each opening. `patience`: seconds that a statement waits for another process.
    """

    def __init__(self, path: Path, schema: str, patience: float) -> None:
        self._path = path
        self._schema = schema
        self._patience = patience
        self._log = Path(f"{path}-wal")
        self._guard = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def __del__(self) -> None:
        if self._connection is not None and self._process == os.getpid():
            self._connection.close()

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The connection, in autocommit. Raises sqlite3.Error."""
        with self._guard:
            # A connection must not be carried over a fork.
            if self._connection is None or self._process != os.getpid():
                self._connection = self._connected()
                self._process = os.getpid()
            yield self._connection

    def written(self) -> tuple[int, int, int] | None:
        """What tells whether anybody, in whatever process, has written since it was the same; None: it cannot be told.

        Every write is appended to the log, with the time. Two within a tick of the clock have the same, so a log that
        was just written tells nothing yet.
        """
        try:
            log = self._log.stat()
        except OSError:
            return None
        if abs(time.time_ns() - log.st_mtime_ns) < SETTLED:
            return None
        return log.st_mtime_ns, log.st_size, log.st_ino

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._patience, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-256"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(self._schema)
        return connection
