"""Whether values are all different, told from their hashes: exact where it says so, and memory is bounded."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

# Values whose hashes are kept: 1.6 MB, and ten times as much for the moment of the answer.
MOST = 200_000


class Distinct:
    """Values that come in chunks. Of more than `MOST` nothing is known."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._too_many = False

    def add(self, values: Iterable[object]) -> None:
        """Some more values; None is none."""
        if self._too_many:
            return
        self._hashes.extend(map(hash, filter(None, values)))
        if len(self._hashes) > MOST:
            self.forget()

    def forget(self) -> None:
        """Nobody will ask: nothing is kept from now on, and nothing known."""
        self._too_many = True
        self._hashes = array("q")

    def __bool__(self) -> bool:
        """Whether all are different. Two that merely share their hash, and too many of them, are not known to be."""
        return not self._too_many and len(set(self._hashes)) == len(self._hashes)
