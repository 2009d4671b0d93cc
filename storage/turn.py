"""One fair write lock for all processes of a machine, so that nobody sleeps in SQLite's busy handler.

SQLite lets waiting writers poll and guess; with eight of them some wait for seconds while others pass twice. Here the
threads of a process queue first come, first served, and the process whose turn is next waits at a gate, so that a
process that has just written cannot push in again before it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Seconds. Each pause is a fifth longer than the one before, so that what is lost is a fifth of the wait.
FIRST_PAUSE = 0.0001
LONGEST_PAUSE = 0.002
TIMEOUT_STEP = 0.25
# So many who wait for a key may have one more hold it, where more may.
CROWD = 4


class Busy(Exception):
    """The turn to write did not come within the wait."""


def latch() -> threading.Lock:
    """A lock that is held until somebody releases it: whoever waits for that, acquires it."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Lines:
    """Waiting lines of a process's threads, one for each key, first come, first served. So many hold a key at once.

    `most`: where many wait, one more for each CROWD of them, up to so many.
    """

    def __init__(self, holders: int = 1, limit: int = 0) -> None:
        self._guard = threading.Lock()
        self._holders = holders
        self._limit = max(holders, limit)
        self._held: dict[Hashable, int] = defaultdict(int)
        # Each waits for a lock of its own to be released: an event costs ten times as much.
        self._waiting: dict[Hashable, deque[threading.Lock]] = defaultdict(deque)

    @contextmanager
    def held(self, key: Hashable, wait: float) -> Iterator[None]:
        """Hold the key. Waits at most `wait` seconds for it, then raises Busy."""
        self.enter(key, wait)
        try:
            yield
        finally:
            self.leave(key)

    def enter(self, key: Hashable, wait: float) -> None:
        """Hold the key until somebody leaves it. Waits at most `wait` seconds for it, then raises Busy."""
        with self._guard:
            if self._held[key] < self._holders:
                self._held[key] += 1
                return
            called = latch()
            self._waiting[key].append(called)
            if self._held[key] < self._room(key):
                self._held[key] += 1
                self._call_next(key)
        if called.acquire(timeout=max(wait, 0)):
            return
        with self._guard:
            if called in self._waiting[key]:
                self._waiting[key].remove(called)
                raise Busy
        # The call came between the end of the wait and the guard: the key is ours.

    def leave(self, key: Hashable) -> None:
        """Hold the key no longer."""
        with self._guard:
            if self._held[key] <= self._room(key) and self._call_next(key):
                return
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key], self._waiting[key]

    def hand_over(self, key: Hashable) -> bool:
        """Have whoever waits longest hold the key instead. False where nobody waits: it is held on."""
        with self._guard:
            return self._call_next(key)

    def _room(self, key: Hashable) -> int:
        return min(self._limit, self._holders + len(self._waiting[key]) // CROWD)

    def _call_next(self, key: Hashable) -> bool:
        if not self._waiting[key]:
            return False
        # As many hold it as before.
        self._waiting[key].popleft().release()
        return True


class WriteTurn:
    """The machine-wide turn to write, kept by file locks on `path`, which the kernel drops when a process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = Lines()
        self._files: tuple[int, int] | None = None
        self._process = 0

    @contextmanager
    def held(self, wait: float) -> Iterator[None]:
        """Hold the turn. Waits at most `wait` seconds for it, then raises Busy."""
        self.take(wait)
        try:
            yield
        finally:
            self.give_back()

    def take(self, wait: float) -> None:
        """Hold the turn until somebody gives it back. Waits at most `wait` seconds for it, then raises Busy."""
        deadline = time.monotonic() + wait
        self._lines.enter(None, wait)
        try:
            gate, turn = self._open_files()
            _lock(gate, deadline)
            try:
                _lock(turn, deadline)
            finally:
                fcntl.flock(gate, fcntl.LOCK_UN)
        except BaseException:
            self._lines.leave(None)
            raise

    def give_back(self) -> None:
        """Hold the turn no longer."""
        try:
            fcntl.flock(self._open_files()[1], fcntl.LOCK_UN)
        finally:
            self._lines.leave(None)

    def _open_files(self) -> tuple[int, int]:
        # A lock belongs to the open file, which a fork shares: a child opens its own.
        if self._files is None or self._process != os.getpid():
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
            self._files = (os.open(f"{self._path}-gate", flags, 0o600), os.open(f"{self._path}-turn", flags, 0o600))
            self._process = os.getpid()
        return self._files


def _lock(file: int, deadline: float) -> None:
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
