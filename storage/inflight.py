"""Who is at work on which request, on one machine: byte-range locks on one file, dropped by the kernel at a process's end.

PostgreSQL has advisory locks for this (storage/workspaces.py); SQLite has nothing, and a row would cost a write.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# struct flock of 64-bit Linux: type, whence, start, length, process.
FLOCK = "hhqqi4x"


# Open files that stay at hand: to open one costs as much as to lock it.
KEPT = 16


class InFlight:
    """A lock file. Whoever holds a place in it does so by an open file of his own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: deque[int] = deque()
        self._process = 0

    @contextmanager
    def alone(self, place: int) -> Iterator[bool]:
        """Hold the byte at `place` (0 … 2^62) of the file; wait for whoever holds it. Yields whether there was a wait."""
        file = self._taken()
        try:
            waited = False
            try:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, _lock(fcntl.F_WRLCK, place))
            except (BlockingIOError, PermissionError):
                waited = True
                fcntl.fcntl(file, fcntl.F_OFD_SETLKW, _lock(fcntl.F_WRLCK, place))
            yield waited
        finally:
            self._give_back(file, place)

    def close(self) -> None:
        """Close what is at hand."""
        with suppress(IndexError):
            while True:
                os.close(self._files.pop())

    def _taken(self) -> int:
        # A lock belongs to the open file, which a fork shares: a child opens its own.
        if self._process != os.getpid():
            self._files = deque()
            self._process = os.getpid()
        try:
            return self._files.pop()
        except IndexError:
            return os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def _give_back(self, file: int, place: int) -> None:
        if len(self._files) < KEPT:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _lock(fcntl.F_UNLCK, place))
            self._files.append(file)
        else:
            os.close(file)


def _lock(kind: int, place: int) -> bytes:
    return struct.pack(FLOCK, kind, os.SEEK_SET, place, 1, 0)
