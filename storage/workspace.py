"""A batch's own connection: its temporary tables, and the transactions of a batch as each database has them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from storage.statements import Statements

if TYPE_CHECKING:
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
    def alone(self, place: int, ask: Callable[[], Answer]) -> Answer:
        """Hold a place (see Database.alone) until the transaction ends; wait for whoever holds it. What is `ask`ed then."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back; whatever was not committed is rolled back."""

    @abstractmethod
    def rest(self) -> None:
        """End what was only asked, outside of any transaction; others may ask later on."""

    @abstractmethod
    def attempt(self) -> AbstractContextManager[None]:
        """The first writes of a transaction, taken back on an error, so that others can be tried instead.

        Raises KeyTaken for a unique key twice.
        """

    def commit(self) -> None:
        """End the transaction under way, keeping what it did."""
        self._driver.commit()
