"""Who is at work on which request, on one machine: byte-range locks on one file, dropped by the kernel at a process's end.

PostgreSQL has advisory locks for this (storage/workspaces.py); SQLite has nothing, and a row would cost a write.
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


@contextmanager
def alone(path: Path, place: int) -> Iterator[bool]:
    """Hold the byte at `place` (0 … 2^62) of a lock file; wait for whoever holds it. Yields whether there was a wait."""
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        lock = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
        waited = False
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        except (BlockingIOError, PermissionError):
            waited = True
            fcntl.fcntl(file, fcntl.F_OFD_SETLKW, lock)
        yield waited
    finally:
        os.close(file)
