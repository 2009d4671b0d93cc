"""Who is at work on which request, on one machine: byte-range locks on one file, dropped by the kernel at a process's end.

PostgreSQL has advisory locks for this (storage/workspaces.py); SQLite has nothing, and a row would cost a write.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections import deque
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

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

    def alone(self, place: int) -> AbstractContextManager[bool]:
        """Hold the byte at `place` (0 … 2^62) of the file; wait for whoever holds it. Yields whether there was a wait."""
        return _Alone(self, place)

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


class _Alone:
    def __init__(self, files: InFlight, place: int) -> None:
        self._files, self._place = files, place

    def __enter__(self) -> bool:
        self._file = file = self._files._taken()
        try:
            try:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, _lock(fcntl.F_WRLCK, self._place))
            except (BlockingIOError, PermissionError):
                fcntl.fcntl(file, fcntl.F_OFD_SETLKW, _lock(fcntl.F_WRLCK, self._place))
                return True
        except BaseException:
            self._files._give_back(file, self._place)
            raise
        return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._files._give_back(self._file, self._place)


def _lock(kind: int, place: int) -> bytes:
    return struct.pack(FLOCK, kind, os.SEEK_SET, place, 1, 0)
