"""Locks of a process's threads that are given first come, first served."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Busy(Exception):
    """A lock did not come within the wait."""


def held_lock() -> threading.Lock:
    """A lock that is held until somebody releases it: whoever waits for that, acquires it."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class FairLocks:
    """One lock for each key. So many threads hold a key at once, and the others wait in line for it."""

    def __init__(self, holders: int = 1) -> None:
        self._guard = threading.Lock()
        self._holders = holders
        self._held: dict[Hashable, int] = defaultdict(int)
        # Each waits for a lock of its own to be released: an event costs ten times as much.
        self._waiting: dict[Hashable, deque[threading.Lock]] = defaultdict(deque)

    @contextmanager
    def held(self, key: Hashable, wait: float) -> Iterator[None]:
        """Hold the key. Waits at most `wait` seconds for it, then raises Busy."""
        self.acquire(key, wait)
        try:
            yield
        finally:
            self.release(key)

    def acquire(self, key: Hashable, wait: float) -> None:
        """Hold the key until somebody releases it. Waits at most `wait` seconds for it, then raises Busy."""
        with self._guard:
            if self._held[key] < self._holders:
                self._held[key] += 1
                return
            called = held_lock()
            self._waiting[key].append(called)
        if called.acquire(timeout=max(wait, 0)):
            return
        with self._guard:
            if called in self._waiting[key]:
                self._waiting[key].remove(called)
                raise Busy
        # The call came between the end of the wait and the guard: the key is ours.

    def release(self, key: Hashable) -> None:
        """Hold the key no longer."""
        with self._guard:
            if self._call_next(key):
                return
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key], self._waiting[key]

    def hand_over(self, key: Hashable) -> bool:
        """Have whoever waits longest hold the key instead. False where nobody waits: it is still held."""
        with self._guard:
            return self._call_next(key)

    def _call_next(self, key: Hashable) -> bool:
        if not self._waiting[key]:
            return False
        # As many hold it as before.
        self._waiting[key].popleft().release()
        return True
