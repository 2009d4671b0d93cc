"""Group commit: small batches of a process that wait for SQLite's one writer share a transaction, and one wait for the disk.

They take seats, one after another, on one connection. The first that writes takes the turn and begins the transaction;
each writes behind a savepoint of its own; and who finds nobody waiting behind it commits for all. Nobody is told that it
has written before that. An error takes back what its own batch wrote; when the commit fails, all of them have failed.
"""

from __future__ import annotations

import copy
import sqlite3
import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from sqlalchemy.pool import PoolProxiedConnection

from storage import staging
from storage.turn import Lines, WriteTurn, begin_writing, latch
from storage.workspace import Workspace
from storage.workspaces import SqliteWorkspace

# A group ends with so many members or after so many seconds, for other processes wait for its turn.
MOST = 16
LONGEST = 0.05
_SEAT = "seat"


class _Group:
    """The members of one write transaction."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._members: list[threading.Lock] = []
        self._error: BaseException | None = None

    @property
    def is_full(self) -> bool:
        return len(self._members) >= MOST or time.monotonic() - self._began >= LONGEST

    def joined(self) -> threading.Lock:
        """What one more member waits for."""
        self._members.append(member := latch())
        return member

    def wait(self, member: threading.Lock) -> None:
        """Wait for the commit; raises what it raised."""
        member.acquire()
        if self._error is not None:
            # One for each thread, which adds its own traceback.
            raise copy.copy(self._error) from self._error

    def end(self, error: BaseException | None = None) -> None:
        self._error = error
        for member in self._members:
            member.release()


class Seats:
    """The seats of a process on its one connection for small batches, which `connect` makes. One is taken at a time."""

    def __init__(self, connect: Callable[[], PoolProxiedConnection], turn: WriteTurn) -> None:
        self._connect = connect
        self._turn = turn
        self._line = Lines()
        self._connection: PoolProxiedConnection | None = None
        self._group: _Group | None = None

    def take(self, wait: float) -> Seat:
        """A seat, first come, first served, to be left. Waits at most `wait` seconds for it, then raises Busy."""
        self._line.enter(_SEAT, wait)
        try:
            if self._connection is None:
                self._connection = self._connect()
            return Seat(self, self._connection)
        except BaseException:
            self.leave()
            raise

    def close(self) -> None:
        """Close the connection, which nobody uses."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def group(self) -> _Group | None:
        """The members of the transaction that is under way."""
        return self._group

    def begin(self, driver: sqlite3.Connection, wait: float) -> _Group:
        """Begin a transaction with a group of its own. Raises Busy."""
        deadline = time.monotonic() + wait
        self._turn.take(wait)
        try:
            begin_writing(driver, deadline - time.monotonic())
        except BaseException:
            self._turn.give_back()
            raise
        self._group = _Group()
        return self._group

    def fail(self, driver: sqlite3.Connection, error: BaseException) -> None:
        """Take everything back that the group has written."""
        try:
            driver.rollback()
        finally:
            self._end(error)

    def leave(self) -> None:
        """Let the next one have the seat; where nobody waits for it, or the group is full, commit first."""
        group = self._group
        if group is not None and not group.is_full and self._line.hand_over(_SEAT):
            return
        try:
            if group is not None:
                self._commit()
        finally:
            self._line.leave(_SEAT)

    def _commit(self) -> None:
        assert self._connection is not None
        driver: Any = self._connection.driver_connection
        try:
            driver.execute("COMMIT")
        except sqlite3.Error as error:
            # The members tell it. Who commits for them need not be one.
            self.fail(driver, error)
        except BaseException as error:
            self.fail(driver, error)
            raise
        else:
            self._end()

    def _end(self, error: BaseException | None = None) -> None:
        group, self._group = self._group, None
        assert group is not None
        try:
            self._turn.give_back()
        finally:
            group.end(error)


class Seat:
    """A small batch's way to write (see storage.workspaces.Writer)."""

    alone = False

    def __init__(self, seats: Seats, connection: PoolProxiedConnection) -> None:
        self._seats = seats
        self._driver: Any = connection.driver_connection
        self.is_left = False
        self.info: MutableMapping[Any, Any] = connection.info

    @property
    def driver(self) -> Any:
        """The connection that the seats are on."""
        return self._driver

    @property
    def under_way(self) -> bool:
        """Whether others have written in the transaction that is open."""
        return self._seats.group is not None

    def writing(self, cursor: sqlite3.Cursor, wait: float, _large: Callable[[], bool]) -> AbstractContextManager[None]:
        """Write as a member of the group. Ends when that is committed, with the seat left."""
        return _Writing(self, cursor, wait)

    def begin(self, cursor: sqlite3.Cursor, wait: float) -> None:
        """Become a member of the group, or begin one. Raises Busy."""
        self._group = self._seats.group or self._seats.begin(self._driver, wait)
        cursor.execute("SAVEPOINT seat")

    def leave(self, cursor: sqlite3.Cursor) -> None:
        """Leave the seat, and wait for the commit; raises what it raised."""
        try:
            cursor.execute("RELEASE seat")
        except BaseException as error:
            self.take_back(cursor, error)
            raise
        # Statements that are read to no end would keep the transaction open.
        cursor.close()
        member = self._group.joined()
        self.is_left = True
        self._seats.leave()
        self._group.wait(member)

    def begin_again(self) -> None:
        """What others have written in the same transaction stays."""
        self._driver.execute("ROLLBACK TO seat")

    def end(self) -> None:
        """Forget what was staged, unless somebody else has the seat by now."""
        if not self.is_left and not self.under_way and self._driver.in_transaction:
            self._driver.rollback()

    def take_back(self, cursor: sqlite3.Cursor, cause: BaseException) -> None:
        """Take back what was written on this seat; where that cannot be done, what the group has written."""
        try:
            cursor.execute("ROLLBACK TO seat")
            cursor.execute("RELEASE seat")
        except sqlite3.Error as error:
            # On some errors, such as a full disk, SQLite has rolled back all of it by itself.
            self._seats.fail(self._driver, cause if isinstance(cause, sqlite3.Error) else error)


class _Writing:
    """See Seat.writing."""

    def __init__(self, seat: Seat, cursor: sqlite3.Cursor, wait: float) -> None:
        self._seat, self._cursor, self._wait = seat, cursor, wait

    def __enter__(self) -> None:
        self._seat.begin(self._cursor, self._wait)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self._seat.leave(self._cursor)
        else:
            self._seat.take_back(self._cursor, error)


class Seated:
    """A context that yields a workspace on a seat (see Database.workspace). Every small post has one, so it is kept short."""

    def __init__(self, seats: Seats, wait: float) -> None:
        self._seats, self._wait = seats, wait

    def __enter__(self) -> Workspace:
        """Waits in line for the seat. Raises Busy."""
        started = time.monotonic()
        self._seat = seat = self._seats.take(self._wait)
        self._work = work = SqliteWorkspace(seat.driver, seat, time.monotonic() - started)
        try:
            staging.prepare_tables(work, seat.info)
        except BaseException:
            self._leave()
            raise
        return work

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leaves the seat, unless that was done when its batch was written."""
        self._leave()

    def _leave(self) -> None:
        try:
            self._work.close()
        finally:
            if not self._seat.is_left:
                self._seats.leave()
