"""Statements on one connection, by the driver's own cursor.

SQLAlchemy's compiled statements cost three to five times the driver's on three rows. Here statements are plain text (see
sql_dialect.py), which the driver keeps prepared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from storage.sql_dialect import Dialect

ROWS_FETCHED_AT_ONCE = 1000


@dataclass(slots=True)
class Result:
    """The result of a statement: how many rows it touched, and the rows of a query that has few."""

    count: int
    rows: list[tuple[Any, ...]]


class PendingResult(Protocol):
    """The result of a statement that may not have run yet. Reading it runs the statement."""

    @property
    def count(self) -> int: ...

    @property
    def rows(self) -> list[tuple[Any, ...]]: ...


class SqlConnection(ABC):
    """One connection of either database. Not shared between threads."""

    dialect: ClassVar[Dialect]

    def send(self, statement: str, /, **values: object) -> PendingResult:
        """Run one statement whose result is not needed yet.

        PostgreSQL gets it together with the next one whose result is needed, in one exchange. Its error is raised then.
        """
        return self._send(statement, values)

    @abstractmethod
    def clock_ms(self) -> int:
        """Now, in milliseconds, by the clock that all hosts share: the database's, on SQLite this machine's."""

    @abstractmethod
    def flush(self) -> None:
        """Run what was sent. Raises the first error."""

    def execute(self, statement: str, /, **values: object) -> int:
        """Run one statement; returns how many rows it touched."""
        return self._run(statement, values).count

    def one(self, statement: str, /, **values: object) -> tuple[Any, ...]:
        """The one row of a query."""
        [row] = self._run(statement, values).rows
        return row

    def number(self, statement: str, /, **values: object) -> int:
        """The one number of a query; none and null are 0."""
        rows = self._run(statement, values).rows
        return int(rows[0][0]) if rows and rows[0][0] is not None else 0

    def all(self, statement: str, /, **values: object) -> list[tuple[Any, ...]]:
        """All rows of a query that has few."""
        return self._run(statement, values).rows

    def rows(self, statement: str, /, **values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, streamed, on a cursor of their own (other statements may run meanwhile)."""
        self.flush()
        cursor = self._open_cursor(statement, values)
        try:
            while chunk := cursor.fetchmany(ROWS_FETCHED_AT_ONCE):
                yield from chunk
        finally:
            cursor.close()

    def many(self, statement: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Run one statement for each of a few rows."""
        for row in rows:
            self.send(statement, **row)

    def _run(self, statement: str, values: Mapping[str, object]) -> Result:
        return self._execute(statement, values)

    @abstractmethod
    def _execute(self, statement: str, values: Mapping[str, object]) -> Result: ...

    @abstractmethod
    def _send(self, statement: str, values: Mapping[str, object]) -> PendingResult: ...

    @abstractmethod
    def _open_cursor(self, statement: str, values: Mapping[str, object]) -> Any:
        """A cursor that has begun to stream a query."""
