"""One bounded budget of spooled bytes for everybody who has not authenticated yet. Source: docs/protocol.md, Transport."""

from __future__ import annotations

import threading

from importing.errors import ApiError

RETRY_AFTER = 5


class Budget:
    """Bytes that are lent out to requests, of all threads of this process together."""

    def __init__(self) -> None:
        self._lent = 0
        self._lock = threading.Lock()

    @property
    def lent(self) -> int:
        return self._lent

    def lend(self, size: int, total: int) -> None:
        """Lend `size` bytes if no more than `total` are lent out then; raises the fault `spool_full` otherwise."""
        with self._lock:
            if self._lent + size > total:
                raise ApiError("spool_full", retry_after=RETRY_AFTER)
            self._lent += size

    def give_back(self, size: int) -> None:
        with self._lock:
            self._lent -= size


class Loan:
    """What one request holds of a budget; grows, and is given back at once."""

    def __init__(self, budget: Budget, total: int) -> None:
        self._budget = budget
        self._total = total
        self._size = 0

    def grow(self, size: int) -> None:
        """Raises the fault `spool_full` when the budget is exhausted; what is held already stays held."""
        self._budget.lend(size, self._total)
        self._size += size

    def give_back(self) -> None:
        size, self._size = self._size, 0
        if size:
            self._budget.give_back(size)


UNAUTHENTICATED = Budget()
