"""Locks of a process's threads, first come, first served."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Busy(Exception):
    """A lock was not acquired within the wait."""


def held_lock() -> threading.Lock:
    """A lock that is held: a thread waits for its release by acquiring it."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class FairLocks:
    """One lock for each key, which `holders` threads may hold at once; the others wait in line for it."""

    def __init__(self, holders: int = 1) -> None:
        self._guard = threading.Lock()
        self._holders = holders
        self._held: dict[Hashable, int] = defaultdict(int)
        # Each thread waits for the release of a lock of its own: an event costs ten times as much.
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
        """Hold the key until `release`. Waits at most `wait` seconds for it, then raises Busy."""
        with self._guard:
            if self._held[key] < self._holders:
                self._held[key] += 1
                return
            waiter = held_lock()
            self._waiting[key].append(waiter)
        if waiter.acquire(timeout=max(wait, 0)):
            return
        with self._guard:
            if waiter in self._waiting[key]:
                self._waiting[key].remove(waiter)
                raise Busy
        # The release came between the end of the wait and the guard: the key is ours.

    def release(self, key: Hashable) -> None:
        """Hold the key no longer."""
        with self._guard:
            if self._pass_on(key):
                return
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key], self._waiting[key]

    def hand_over(self, key: Hashable) -> bool:
        """Let the thread that waits longest hold the key instead. False where none waits: it is still held."""
        with self._guard:
            return self._pass_on(key)

    def _pass_on(self, key: Hashable) -> bool:
        if not self._waiting[key]:
            return False
        # As many hold it as before.
        self._waiting[key].popleft().release()
        return True
