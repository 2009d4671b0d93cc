"""A small SQLite file beside the database, for data that may be lost and must never wait for the write lock."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SideFile:
    """One connection of a process, used by one thread at a time; opened when it is first needed, and anew after a fork.

    `schema` is run at each opening. `wait`: seconds that a statement waits for another process.
    """

    def __init__(self, path: Path, schema: str, wait: float) -> None:
        self._path = path
        self._schema = schema
        self._wait = wait
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

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._wait, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-256"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(self._schema)
        return connection
