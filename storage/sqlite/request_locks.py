"""Locks of requests, for all processes of a machine: byte-range locks on one file, dropped by the kernel at a process's end.

PostgreSQL has advisory locks for this; SQLite has nothing, and a row would cost a write.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# struct flock of 64-bit Linux: type, whence, start, length, process.
FLOCK = "hhqqi4x"


class RequestLocks:
    """A lock file. Whoever holds a byte of it does so by opening the file once more."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def held(self, key: int) -> Iterator[None]:
        """Hold the byte number `key` (0 … 2^62) of the file; wait for whoever holds it."""
        file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLKW, struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, key, 1, 0))
            yield
        finally:
            os.close(file)
