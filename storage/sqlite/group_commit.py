"""Group commit: small batches of a process that wait for SQLite's one writer share a transaction, and one wait for the disk.

They use one connection, one after another, each as a member of the group. The first that writes takes the write lock and
begins the transaction. Each writes behind a savepoint of its own. The last in line commits for all, and none of them replies
before that. An error takes back what its own batch wrote; when the commit fails, all of them have failed.

With eight clients a process writes a quarter more batches a second, with 64 half as many again.
"""

from __future__ import annotations

import copy
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.pool import PoolProxiedConnection

from storage import staging
from storage.batch_transaction import BatchTransaction
from storage.fair_locks import FairLocks, held_lock
from storage.sqlite.batch_transaction import SqliteBatchTransaction
from storage.sqlite.file_locks import WriteLock, begin_writing

# A group ends with so many members or after so many seconds, for other processes wait for the write lock.
MEMBERS_AT_MOST = 16
SECONDS_AT_MOST = 0.05
CONNECTION = "connection"


class CommitGroup:
    """The members of one write transaction."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._members: list[threading.Lock] = []
        self._error: BaseException | None = None

    @property
    def is_full(self) -> bool:
        return len(self._members) >= MEMBERS_AT_MOST or time.monotonic() - self._began >= SECONDS_AT_MOST

    def join(self) -> threading.Lock:
        """Add a member; the lock that it waits for."""
        self._members.append(member := held_lock())
        return member

    def wait(self, member: threading.Lock) -> None:
        """Wait for the commit; raises what it raised."""
        member.acquire()
        if self._error is not None:
            # One for each thread, which adds its own traceback.
            raise copy.copy(self._error) from self._error

    def end(self, error: BaseException | None = None) -> None:
        """Let the members go on. `error`: what their commit raised."""
        self._error = error
        for member in self._members:
            member.release()


class CommitGroups:
    """The groups of a process, one after another, on its one connection for small batches, which `connect` makes."""

    def __init__(self, connect: Callable[[], PoolProxiedConnection], lock: WriteLock) -> None:
        self._connect = connect
        self._lock = lock
        self._line = FairLocks()
        self._connection: PoolProxiedConnection | None = None
        self._group: CommitGroup | None = None

    def take_connection(self, wait: float) -> PoolProxiedConnection:
        """Take the connection, first come, first served. Waits at most `wait` seconds for it, then raises Busy."""
        self._line.acquire(CONNECTION, wait)
        try:
            if self._connection is None:
                self._connection = self._connect()
        except BaseException:
            self.leave_connection()
            raise
        return self._connection

    def close(self) -> None:
        """Close the connection, which is not in use."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def group(self) -> CommitGroup | None:
        """The members of the transaction that is under way."""
        return self._group

    def begin(self, driver: sqlite3.Connection, wait: float) -> CommitGroup:
        """Begin a transaction with a group of its own. Raises Busy."""
        deadline = time.monotonic() + wait
        self._lock.acquire(wait)
        try:
            begin_writing(driver, deadline - time.monotonic())
        except BaseException:
            self._lock.release()
            raise
        self._group = CommitGroup()
        return self._group

    def fail(self, driver: sqlite3.Connection, error: BaseException) -> None:
        """Take back everything that the group has written."""
        try:
            driver.rollback()
        finally:
            self._end(error)

    def leave_connection(self) -> None:
        """Hand the connection to the next one; where none waits for it, or the group is full, commit first."""
        group = self._group
        if group is not None and not group.is_full and self._line.hand_over(CONNECTION):
            return
        try:
            if group is not None:
                self._commit()
        finally:
            self._line.release(CONNECTION)

    def _commit(self) -> None:
        assert self._connection is not None
        driver: Any = self._connection.driver_connection
        try:
            driver.execute("COMMIT")
        except sqlite3.Error as error:
            # The members raise it. The one that commits for them need not be a member.
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
            self._lock.release()
        finally:
            group.end(error)


class GroupedBatchTransaction(SqliteBatchTransaction):
    """A small batch, a member of a group."""

    owns_transaction = False

    def __init__(self, pooled: PoolProxiedConnection, groups: CommitGroups, seconds_waited: float) -> None:
        super().__init__(pooled, seconds_waited)
        self._groups = groups
        self.has_left = False

    @property
    def is_under_way(self) -> bool:
        """Whether others have written in the transaction that is open."""
        return self._groups.group is not None

    @contextmanager
    def _write(self, wait: float) -> Iterator[None]:
        """Write as a member of the group, or begin one. Ends when that is committed; others have the connection then."""
        group = self._groups.group or self._groups.begin(self._driver, wait)
        self._cursor.execute("SAVEPOINT member")
        try:
            yield
            self._cursor.execute("RELEASE member")
        except BaseException as error:
            self._take_back(error)
            raise
        # A statement that was not read to its end would keep the transaction open.
        self._cursor.close()
        commit = group.join()
        self.has_left = True
        self._groups.leave_connection()
        group.wait(commit)

    def _begin_again(self) -> None:
        """What others have written in the same transaction stays."""
        self._driver.execute("ROLLBACK TO member")

    def close(self) -> None:
        """Roll back what was staged, unless another batch has the connection by now."""
        self._cursor.close()
        if not self.has_left and not self.is_under_way and self._driver.in_transaction:
            self._driver.rollback()

    def _take_back(self, cause: BaseException) -> None:
        """Take back what this member wrote; where that cannot be done, what the group has written."""
        try:
            self._cursor.execute("ROLLBACK TO member")
            self._cursor.execute("RELEASE member")
        except sqlite3.Error as error:
            # On some errors, such as a full disk, SQLite has rolled back all of it by itself.
            self._groups.fail(self._driver, cause if isinstance(cause, sqlite3.Error) else error)


@contextmanager
def grouped(groups: CommitGroups, wait: float) -> Iterator[BatchTransaction]:
    """A batch transaction that shares its commit. Waits at most `wait` seconds for the connection, then raises Busy."""
    started = time.monotonic()
    pooled = groups.take_connection(wait)
    has_left = False
    try:
        work = GroupedBatchTransaction(pooled, groups, time.monotonic() - started)
        try:
            with staging.prepared(work, pooled.info):
                yield work
        finally:
            has_left = work.has_left
    finally:
        if not has_left:
            groups.leave_connection()
