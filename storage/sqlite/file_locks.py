"""Locks for all processes of a machine, by files. The kernel releases them when a process ends.

PostgreSQL has row locks and advisory locks for these; in SQLite a row would cost a write.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.fair_locks import Busy, FairLocks

# Seconds. Each pause is a fifth longer than the one before, so that what is lost is a fifth of the wait.
FIRST_PAUSE = 0.0001
LONGEST_PAUSE = 0.002
TIMEOUT_STEP = 0.25


# struct flock of 64-bit Linux: type, whence, start, length, process.
FLOCK = "hhqqi4x"


class WriteLock:
    """One fair write lock, by two files beside `path`, so that no writer sleeps in SQLite's busy handler.

    SQLite lets waiting writers poll; with eight of them some wait for seconds while others write twice. Here the threads of
    a process wait first come, first served. The process that is next takes a second lock, the gate, while it waits for the
    first one, so that a process that has just written cannot write again before it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = FairLocks()
        self._files: tuple[int, int] | None = None
        self._process = 0

    @contextmanager
    def held(self, wait: float) -> Iterator[None]:
        """Hold the lock. Waits at most `wait` seconds for it, then raises Busy."""
        self.acquire(wait)
        try:
            yield
        finally:
            self.release()

    def acquire(self, wait: float) -> None:
        """Hold the lock until `release`. Waits at most `wait` seconds for it, then raises Busy."""
        deadline = time.monotonic() + wait
        self._threads.acquire(None, wait)
        try:
            gate, lock = self._open_files()
            _lock_file(gate, deadline)
            try:
                _lock_file(lock, deadline)
            finally:
                fcntl.flock(gate, fcntl.LOCK_UN)
        except BaseException:
            self._threads.release(None)
            raise

    def release(self) -> None:
        """Hold the lock no longer."""
        try:
            fcntl.flock(self._open_files()[1], fcntl.LOCK_UN)
        finally:
            self._threads.release(None)

    def _open_files(self) -> tuple[int, int]:
        # A lock belongs to the open file, which a fork shares: a child opens its own.
        if self._files is None or self._process != os.getpid():
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
            self._files = (os.open(f"{self._path}-gate", flags, 0o600), os.open(f"{self._path}-turn", flags, 0o600))
            self._process = os.getpid()
        return self._files


class RequestLocks:
    """Locks of requests: byte-range locks on one file, which each holder opens once more."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def held(self, key: int) -> Iterator[None]:
        """Hold the byte number `key` (0 … 2^62) of the file; wait for its holder."""
        file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLKW, struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, key, 1, 0))
            yield
        finally:
            os.close(file)


def _lock_file(file: int, deadline: float) -> None:
    pause = FIRST_PAUSE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() + pause > deadline:
                raise Busy from None
            time.sleep(pause)
            pause = min(pause * 1.2, LONGEST_PAUSE)
        else:
            return


def begin_writing(connection: sqlite3.Connection, wait: float) -> None:
    """Begin SQLite's write transaction. Raises Busy when another program has the file locked for `wait` seconds."""
    # In whole steps, so that the statement is seldom a new one.
    connection.execute(f"PRAGMA busy_timeout = {max(1, round(wait / TIMEOUT_STEP)) * round(TIMEOUT_STEP * 1000)}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        raise Busy from error
