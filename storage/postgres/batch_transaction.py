"""A batch on PostgreSQL: staged and written in one transaction, with the account's row as the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from typing import Any

import psycopg
from sqlalchemy.pool import PoolProxiedConnection

from storage.batch_transaction import (
    SHORTEST_WAIT,
    Answer,
    BatchTransaction,
    Chunk,
    KeyTaken,
    flattened,
    insert_start,
    inserted_into,
    quoted,
)
from storage.fair_locks import Busy
from storage.postgres.connection import PostgresConnection
from storage.postgres.pipeline import PipelinedResult
from storage.sql_connection import Result

# Up to so many rows go by INSERT, which needs no exchange of its own; more by COPY.
INSERTED_ROWS = 64
# Deleted rows keep their place in temporary tables, which nothing vacuums; with more than so many, the tables are truncated.
DELETED_ROWS_KEPT = 5000
_DELETED_ROWS = "tillgate_deleted_rows"

# One writer an account at a time. The settings are made before the row is locked, which comes last.
LOCK_ACCOUNT = (
    "SELECT a.id FROM (SELECT set_config('lock_timeout', :wait, true), set_config('plan_cache_mode', :plans, true), "
    "set_config('enable_seqscan', :sets, true), set_config('enable_hashjoin', :sets, true), "
    "set_config('enable_mergejoin', :sets, true)) s "
    "CROSS JOIN account a WHERE a.id = :account FOR NO KEY UPDATE OF a"
)


class PostgresBatchTransaction(BatchTransaction, PostgresConnection):
    """The account's row is locked when the staging is done, and until the commit."""

    def __init__(self, pooled: PoolProxiedConnection, seconds_waited: float = 0.0) -> None:
        PostgresConnection.__init__(self, pooled)
        BatchTransaction.__init__(self, seconds_waited)
        # Tables into which a statement inserts that has not run yet.
        self._perhaps_filled: set[str] = set()

    def begin(self, temporary: Iterable[str], connection_info: MutableMapping[Any, Any]) -> None:
        """The tables were emptied before the last commit."""
        self.send("BEGIN")
        self._temporary = frozenset(temporary)
        self._info = connection_info

    @contextmanager
    def writing(self, account: int, wait: float) -> Iterator[None]:
        """The same transaction goes on."""
        wait_ms = round(max(wait - self._seconds_waited, SHORTEST_WAIT) * 1000)
        try:
            self.send(LOCK_ACCOUNT, account=account, wait=f"{wait_ms}ms", **self._planning())
            yield
            self._empty_tables()
            self.execute("COMMIT")
        except psycopg.errors.LockNotAvailable as error:
            raise Busy from error

    def _planning(self) -> dict[str, object]:
        # Small batches share one plan, a large one gets its own. PostgreSQL assumes a thousand rows in an empty table, and
        # would read all customers to join them with three; and a plan that was made for three batches, and is kept, would
        # read all of them when there are thousands.
        if self.is_large or not (self._filled or self._perhaps_filled):
            return {"plans": "force_custom_plan", "sets": "on"}
        return {"plans": "force_generic_plan", "sets": "off"}

    def lock_request(self, key: int, query: Callable[[], Answer]) -> Answer:
        """By an advisory lock."""
        # The query is planned for many batches, however few there are by now.
        attempt = self.send(
            "SELECT pg_try_advisory_xact_lock(:key), set_config('enable_seqscan', 'off', true)", key=key
        )
        answer = query()
        if not attempt.rows[0][0]:
            self.execute("SELECT pg_advisory_xact_lock(:key)", key=key)
            answer = query()
        self.send("SELECT set_config('enable_seqscan', 'on', true)")
        return answer

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Behind a savepoint."""
        self.send("SAVEPOINT attempt")
        try:
            yield
            self.flush()
        except BaseException as error:
            if isinstance(error, psycopg.errors.LockNotAvailable):
                # It comes from the account's lock, sent before: there is no savepoint.
                raise
            with suppress(psycopg.Error):
                self.flush()
            self.execute("ROLLBACK TO attempt")
            self.execute("RELEASE attempt")
            if isinstance(error, psycopg.errors.UniqueViolation):
                raise KeyTaken from error
            raise
        self.send("RELEASE attempt")

    def lock_rows(self, query: str, /, **values: object) -> None:
        self.execute(f"{query} FOR UPDATE", **values)

    def limit_idle_time(self, milliseconds: int) -> None:
        self.execute(f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}")

    def close(self) -> None:
        """Roll back, unless the connection is lost."""
        with suppress(psycopg.Error):
            self.flush()
        if not self._driver.closed:
            self._driver.rollback()

    def filled(self, table: str) -> bool:
        return table in self._filled or table in self._perhaps_filled

    def _send(self, statement: str, values: Mapping[str, object]) -> PipelinedResult:
        table = inserted_into(statement)
        if table not in self._temporary or table in self._filled:
            return self._queue(statement, values)
        self._perhaps_filled.add(table)
        return self._queue(statement, values, partial(self._note_result, table))

    def _note_result(self, table: str, result: Result) -> None:
        self._perhaps_filled.discard(table)
        if result.count:
            self._filled.add(table)

    def _fill(self, table: str, columns: Sequence[str], first: Chunk, rest: Iterator[Chunk]) -> None:
        second = next(rest, None)
        if second is None and len(first) <= INSERTED_ROWS:
            self._pipeline.send(_insert(table, columns, len(first)), flattened(first))
            self.expect(len(first))
            return
        self.flush()
        row_count = 0
        with (
            psycopg.RawCursor(self._driver) as cursor,
            cursor.copy(f"COPY {table} ({quoted(columns)}) FROM STDIN".encode()) as copy,
        ):
            for chunk in chain([first], [second] if second else (), rest):
                row_count += len(chunk)
                for row in chunk:
                    copy.write_row(row)
        self.expect(row_count)

    def _analyze(self, tables: Iterable[str]) -> None:
        for table in tables:
            self.send(f"ANALYZE {table}")

    def _empty_tables(self) -> None:
        # Emptying them at each commit by itself, PostgreSQL would truncate all of them, filled or not: 3 ms.
        tables = sorted(self._filled | self._perhaps_filled)
        if not tables:
            return
        deleted = self._info.get(_DELETED_ROWS, 0) + self._rows
        if deleted > DELETED_ROWS_KEPT:
            self.send(f"TRUNCATE {', '.join(tables)}")
            deleted = 0
        else:
            deletes = ", ".join(f"{table}_ AS (DELETE FROM {table})" for table in tables)
            self.send(f"WITH {deletes} SELECT")
        self._info[_DELETED_ROWS] = deleted


def _insert(table: str, columns: Sequence[str], rows: int) -> bytes:
    width = len(columns)
    placeholders = (", ".join(f"${first + n}" for n in range(width)) for first in range(1, width * rows + 1, width))
    return f"{insert_start(table, columns)}({'), ('.join(placeholders)})".encode()
