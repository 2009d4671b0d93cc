"""Limits the bytes that are spooled for all senders who have not authenticated yet. Source: docs/protocol.md, Transport."""

from __future__ import annotations

import threading

from importing.errors import ApiError

BUDGET_RETRY_AFTER = 5  # seconds


class SpoolBudget:
    """Counts the bytes that are lent to the requests of all threads of this process."""

    def __init__(self) -> None:
        self._lent = 0
        self._lock = threading.Lock()

    @property
    def lent(self) -> int:
        return self._lent

    def lend(self, size: int, total: int) -> None:
        """Lend `size` bytes. Raises `spool_full` if more than `total` would be lent."""
        with self._lock:
            if self._lent + size > total:
                raise ApiError("spool_full", retry_after=BUDGET_RETRY_AFTER)
            self._lent += size

    def give_back(self, size: int) -> None:
        with self._lock:
            self._lent -= size


class SpoolLoan:
    """The bytes that one request holds of a budget."""

    def __init__(self, budget: SpoolBudget, total: int) -> None:
        self._budget = budget
        self._total = total
        self._size = 0

    def grow(self, size: int) -> None:
        """Borrow `size` more bytes. Raises `spool_full`; the loan keeps the bytes that it has."""
        self._budget.lend(size, self._total)
        self._size += size

    def give_back(self) -> None:
        """Give back all bytes."""
        size, self._size = self._size, 0
        if size:
            self._budget.give_back(size)


UNAUTHENTICATED_SPOOL = SpoolBudget()
