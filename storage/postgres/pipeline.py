"""Statements that go to PostgreSQL together with the next one whose result is needed.

This adds to psycopg's pipeline a result that is waited for only when it is read. With a pipeline a post of three rows takes
7 exchanges instead of 24.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import psycopg

from storage.sql_connection import Result


class PipelinedResult:
    """The result of a statement in a pipeline (see PendingResult). Once it has arrived, it is read without the connection."""

    def __init__(
        self, pipeline: Pipeline, statement: bytes, values: Sequence[object], then: Callable[[Result], None] | None
    ) -> None:
        self._pipeline = pipeline
        self._then = then
        self._result: Result | None = None
        self.statement = statement
        self.values = values
        self.is_over = False

    @property
    def count(self) -> int:
        return self.get().count

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        return self.get().rows

    def get(self) -> Result:
        """The result; runs the statement where it has not run. Raises the first error of its exchange."""
        if not self.is_over:
            self._pipeline.flush()
        if self._result is None:
            raise psycopg.errors.PipelineAborted("the statement was not run")
        return self._result

    def take(self, cursor: psycopg.RawCursor[tuple[Any, ...]]) -> None:
        """Take the result from the cursor, which has none after an error."""
        self.is_over = True
        if cursor.pgresult is None:
            return
        rows = cursor.fetchall() if cursor.pgresult.ntuples else []
        self._result = Result(max(cursor.rowcount, 0), rows)
        if self._then is not None:
            self._then(self._result)


class Pipeline:
    """Statements of one connection, written with `$1`, `$2` for their values. Each is prepared at its first use."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._queue: list[PipelinedResult] = []

    def send(
        self, statement: bytes, values: Sequence[object], then: Callable[[Result], None] | None = None
    ) -> PipelinedResult:
        """Run a statement with the next `flush`. `then` is called with its result as soon as that is there."""
        result = PipelinedResult(self, statement, values, then)
        self._queue.append(result)
        return result

    def flush(self) -> None:
        """Run what was sent. Raises the first error; the statements behind that one are not run."""
        queue, self._queue = self._queue, []
        if not queue:
            return
        cursors = [psycopg.RawCursor(self._connection) for _ in queue]
        error: psycopg.Error | None = None
        try:
            with self._connection.pipeline() if len(queue) > 1 else nullcontext():
                try:
                    for result, cursor in zip(queue, cursors, strict=True):
                        cursor.execute(result.statement, result.values, prepare=True)
                except psycopg.Error as first:
                    error = first
        except psycopg.Error as last:
            # At its end the pipeline raises what it has not raised before: an error, or that statements were not run.
            error = error or last
        for result, cursor in zip(queue, cursors, strict=True):
            result.take(cursor)
        if error is not None:
            raise error
