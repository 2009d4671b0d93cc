"""The workspace on PostgreSQL: how it stages a batch, waits for the account's row, and writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from storage.statements import DEAD
from storage.turn import Busy, Lines
from storage.wire import Wire
from storage.workspace import LEAST_WAIT, Answer, KeyTaken, Workspace

# Deleted rows keep their place in PostgreSQL's temporary tables, which nothing vacuums; from so many on they go for good.
MOST_DEAD = 5000

# PostgreSQL's way to one writer an account at a time. The settings are made before the row is locked, for it is locked
# last of all.
LOCK = (
    "SELECT a.id FROM (SELECT set_config('lock_timeout', :wait, true), set_config('plan_cache_mode', :plans, true), "
    "set_config('enable_seqscan', :sets, true), set_config('enable_hashjoin', :sets, true), "
    "set_config('enable_mergejoin', :sets, true)) s "
    "CROSS JOIN account a WHERE a.id = :account FOR NO KEY UPDATE OF a"
)


class PostgresqlWorkspace(Workspace):
    """Stages and writes in one transaction; the account's row is the lock, taken when the staging is done.

    `lines`: where the threads of a process wait for an account's row.
    """

    def __init__(self, driver: Any, wire: Wire, lines: Lines, waited: float = 0.0) -> None:
        super().__init__(driver, wire, waited)
        self._lines = lines

    def begin(self, temporary: Sequence[str], memory: MutableMapping[Any, Any]) -> None:
        """The tables were emptied before the last commit."""
        self._temporary = frozenset(temporary)
        self._memory = memory

    @contextmanager
    def writing(self, account: int, wait: float) -> Iterator[None]:
        """The same transaction goes on."""
        wait = max(wait - self._waited, LEAST_WAIT)
        deadline = time.monotonic() + wait
        # Many waiting for one row would each have to find its newest version; of a process only one does.
        with self._lines.held(account, wait):
            try:
                patience = max(1, int((deadline - time.monotonic()) * 1000))
                self.send(LOCK, account=account, wait=f"{patience}ms", **self._planning())
                yield
                self._empty_and_commit()
            except psycopg.errors.LockNotAvailable as error:
                raise Busy from error

    def _planning(self) -> dict[str, object]:
        # A few rows are worth one plan for all such batches, many a plan of their own. PostgreSQL takes an empty table
        # for one of a thousand rows, and would read all customers to join them with three; and a plan that was made when
        # there were three batches, and is kept, would read all of them when there are thousands.
        if self._large or not self._filled:
            return {"plans": "force_custom_plan", "sets": "on"}
        return {"plans": "force_generic_plan", "sets": "off"}

    def alone(self, place: int, ask: Callable[[], Answer]) -> Answer:
        """By an advisory lock."""
        # And what is asked next is planned for many batches, however few there are by now.
        tried = self.send(
            "SELECT pg_try_advisory_xact_lock(:place), set_config('enable_seqscan', 'off', true)", place=place
        )
        answer = ask()
        if not tried.rows[0][0]:
            self.execute("SELECT pg_advisory_xact_lock(:place)", place=place)
            answer = ask()
        self.send("SELECT set_config('enable_seqscan', 'on', true)")
        return answer

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Behind a savepoint."""
        self.send("SAVEPOINT part")
        try:
            yield
            self.settle()
        except BaseException as error:
            if isinstance(error, psycopg.errors.LockNotAvailable):
                # Of the lock that was asked for before: there is no savepoint.
                raise
            with suppress(psycopg.Error):
                self.settle()
            self.execute("ROLLBACK TO part")
            self.execute("RELEASE part")
            if isinstance(error, psycopg.errors.UniqueViolation):
                raise KeyTaken from error
            raise
        self.send("RELEASE part")

    def _empty_and_commit(self) -> None:
        # Emptying them at each commit by itself, PostgreSQL would truncate all of them, filled or not: 3 ms.
        statements = [f"DELETE FROM {table}" for table in sorted(self._filled)]
        dead = self._memory.get(DEAD, 0) + self._rows
        if dead > MOST_DEAD and statements:
            statements = [f"TRUNCATE {', '.join(sorted(self._filled))}"]
            dead = 0
        self._memory[DEAD] = dead
        for statement in statements:
            self.send(statement)
        self.execute("COMMIT")
        self._filled.clear()

    def rest(self) -> None:
        """Wait for what is on its way."""
        self.settle()

    def close(self) -> None:
        """Roll back, unless the connection is lost."""
        with suppress(psycopg.Error):
            self.settle()
        if not self._driver.closed:
            self._driver.rollback()
