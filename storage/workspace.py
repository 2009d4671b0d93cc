"""A batch's own connection: its temporary tables, and the transactions of a batch as each database has them."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar

import psycopg

from storage.statements import Statements
from storage.wire import Wire

LEAST_WAIT = 0.1

Answer = TypeVar("Answer")


class KeyTaken(Exception):
    """A unique key would have been there twice."""


class Workspace(Statements):
    """One connection at work on one batch (see storage.workspaces for the two kinds).

    `waited`: the seconds that it was waited for, a part of what the batch waits to write.
    """

    def __init__(self, driver: Any, wire: Wire | None, waited: float = 0.0) -> None:
        super().__init__(driver, wire)
        self._waited = waited

    @abstractmethod
    def begin(self, temporary: Sequence[str], memory: MutableMapping[Any, Any]) -> None:
        """Begin the staging transaction with these tables empty. `memory` lives as long as the connection."""

    @abstractmethod
    def writing(self, account: int, wait: float) -> AbstractContextManager[None]:
        """The write transaction, for one account's writer at a time; what was staged before is kept.

        Commits at the end, rolls back on an error. Nothing more can be done with the workspace then. Raises Busy when the
        turn does not come within `wait` seconds, of which those are a part that were waited for the workspace.
        """

    @abstractmethod
    def alone(self, place: int, ask: Callable[[], Answer]) -> AbstractContextManager[Answer]:
        """Hold a place (see Database.alone) until the transaction ends; wait for whoever holds it. Yields what is `ask`ed
        then.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the connection back; whatever was not committed is rolled back."""

    @abstractmethod
    def rest(self) -> None:
        """End what was only asked, outside of any transaction; others may ask later on."""

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """The first writes of a transaction, taken back on an error, so that others can be tried instead.

        Raises KeyTaken for a unique key twice.
        """
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
            if isinstance(error, sqlite3.IntegrityError | psycopg.errors.UniqueViolation):
                raise KeyTaken from error
            raise
        self.send("RELEASE part")

    def commit(self) -> None:
        """End the transaction under way, keeping what it did."""
        self._driver.commit()
