"""What a run of the benchmarks was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class Setting:
    """Sizes in rows; `seconds` is how long each load lasts, `workers` the server processes to try under load.

    `quick`: sizes so small that a run only shows that the benchmarks work.
    """

    folder: Path
    databases: tuple[str, ...]
    rows: tuple[int, ...]
    pairs: int
    seconds: float
    workers: tuple[int, ...]
    clients: tuple[int, ...]
    quick: bool

    @property
    def largest(self) -> int:
        return max(self.rows)
