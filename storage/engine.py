"""The database: SQLite by default, PostgreSQL when outgrown; how to read, to write, and to work on a batch in bulk."""

from __future__ import annotations

import re
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

from storage import staging
from storage.checkpoint import Checkpoints, checkpointing
from storage.driver_errors import is_lock_timeout, operational_errors
from storage.inflight import InFlight
from storage.seats import Seated, Seats
from storage.turn import Busy, Lines, WriteTurn, begin_writing
from storage.workspace import Workspace
from storage.workspaces import SqliteWorkspace, Turns

__all__ = ["Busy", "Database", "Expected", "Kind", "now_ms"]

# At once, of a process: small batches that wait for the same writer (on PostgreSQL those of an account). More would take
# the processor from each other, and each needs a connection with tables and a cache of its own.
BATCHES = {"sqlite": 4, "postgresql": 3}
# Bytes. Batches up to the first size stand in line; on SQLite those up to the second share transactions, in which all that
# they change is kept twice, in memory, until each of them is done.
SMALL = 64 * 1024
SEATED = 16 * 1024
# Looks at a few rows, likewise, and where many wait for one. A database that shares the processors has the next one begin
# sooner than it answers two at once; on another host an answer takes longer than all that is done with it here.
LOOKS, MOST_LOOKS, FAR_LOOKS = 1, {"sqlite": 1, "postgresql": 5}, 8
# Connections that stay at hand.
KEPT = 8
# Seconds that a look waits: far longer than all before it take.
LOOK_WAIT = 30.0
# Page caches of a connection, of the file and of the temporary tables. Together with what Python takes they stay below
# 96 MB however large a batch is; 100,000 rows find room in them, and at 1,000,000 larger ones are no faster.
SQLITE_CACHE_KB = 45_056
TEMPORARY_CACHE_KB = 24_576
# How PostgreSQL reads whole tables, where it takes them for short.
WIDE_WAYS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
# Hosts that are this machine.
LOCAL = re.compile(r"localhost|127\.[0-9.]+|::1")
# Under which name a connection to PostgreSQL remembers what is prepared on it.
WIRE = "tillgate_wire"


class Kind(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Expected(NamedTuple):
    """A batch that will be written: its account, its size in bytes, and the seconds that it waits for its turn."""

    account: int
    size: int
    wait: float


class Database:
    """One database, shared by all threads of a process. `url` is `sqlite:///…` or `postgresql://…`."""

    def __init__(self, url: str, data_dir: Path) -> None:
        parsed = make_url(url)
        self.kind = Kind(parsed.get_backend_name())
        self.data_dir = data_dir
        self._at_hand: deque[PoolProxiedConnection] = deque()
        self._looks_at_hand: deque[tuple[PoolProxiedConnection, Workspace]] = deque()
        self._lines = Lines()
        self._batches = Lines(BATCHES[self.kind.value])
        self._looks = Lines(LOOKS, MOST_LOOKS[self.kind.value]) if _is_near(parsed) else Lines(FAR_LOOKS)
        if self.kind is Kind.SQLITE:
            self.path = Path(parsed.database or data_dir / "tillgate.db")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._turn = WriteTurn(self.path)
            self._in_flight = InFlight(data_dir / "inflight.lock")
            self._checkpoints = Checkpoints(self.path)
            self._seats = Seats(self._seated, self._turn)
            self.engine = create_engine(parsed, poolclass=QueuePool, pool_size=8, max_overflow=56)
            _tune_sqlite(self.engine)
        else:
            self.engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"), pool_size=8, max_overflow=56, pool_pre_ping=False
            )
            _tune_postgresql(self.engine)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction: every query in it sees the same state."""
        with self.engine.connect() as connection:
            if self.kind is Kind.POSTGRESQL:
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self, wait: float = 4.0, *, large: bool = False) -> Iterator[Connection]:
        """A write transaction: committed at the end, rolled back on an error. Raises Busy after `wait` seconds.

        `large`: megabytes are written, which SQLite moves into its file in the background.
        """
        if self.kind is Kind.SQLITE:
            deadline = time.monotonic() + wait
            with self._turn.held(wait), self.engine.connect() as connection:
                connection = connection.execution_options(tillgate_deadline=deadline)
                driver: Any = connection.connection.driver_connection
                with checkpointing(driver, self._checkpoints if large else None), connection.begin():
                    yield connection
            return
        with self.engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = {int(wait * 1000)}"))
            try:
                yield connection
            except Exception as error:
                if is_lock_timeout(error):
                    raise Busy from error
                raise

    def workspace(self, expected: Expected | None = None) -> AbstractContextManager[Workspace]:
        """A connection of one's own for a batch, with its temporary tables empty. Rolled back when left unfinished.

        `expected`: what will be done in it, so that small batches may wait in line. Then Busy is raised.
        """
        if self.kind is Kind.SQLITE and expected is not None and expected.size <= SEATED:
            return Seated(self._seats, expected.wait)
        return self._own(expected)

    @contextmanager
    def _own(self, expected: Expected | None) -> Iterator[Workspace]:
        started = time.monotonic()
        line: AbstractContextManager[None] = nullcontext()
        if expected is not None and expected.size <= SMALL:
            line = self._batches.held(None if self.kind is Kind.SQLITE else expected.account, expected.wait)
        with line, self._borrowed() as fairy:
            work = self._workspace(fairy, time.monotonic() - started)
            try:
                staging.prepare_tables(work, fairy.info)
                yield work
            finally:
                work.close()

    def _workspace(self, fairy: PoolProxiedConnection, waited: float = 0.0) -> Workspace:
        driver: Any = fairy.driver_connection
        if self.kind is Kind.POSTGRESQL:
            from storage.postgres_workspace import PostgresqlWorkspace

            return PostgresqlWorkspace(driver, fairy.info[WIRE], self._lines, waited)
        return SqliteWorkspace(driver, Turns(driver, self._turn, self._checkpoints), waited)

    def alone(self, place: int) -> AbstractContextManager[object]:
        """Hold a place (0 … 2^62) that equal requests share; wait for whoever holds it. Held before a workspace is taken.

        PostgreSQL: not yet, see `Workspace.alone`.
        """
        return nullcontext() if self.kind is Kind.POSTGRESQL else self._in_flight.alone(place)

    def looking(self) -> Looking:
        """A connection for a few plain queries by the driver, each of which sees what stands by then."""
        return Looking(self)

    @contextmanager
    def _borrowed(self) -> Iterator[PoolProxiedConnection]:
        connection = self._taken()
        try:
            yield connection
        except BaseException:
            self._give_back(connection, failed=True)
            raise
        self._give_back(connection)

    def _taken(self) -> PoolProxiedConnection:
        # The pool's own giving and taking costs a small post as much as its statements. The one that was used last is
        # the next to be used: what it has read is still in its cache.
        try:
            return self._at_hand.pop()
        except IndexError:
            return self._connected()

    def _give_back(self, connection: PoolProxiedConnection, *, failed: bool = False) -> None:
        if not failed and len(self._at_hand) < KEPT:
            self._at_hand.append(connection)
            return
        if failed and getattr(connection.driver_connection, "closed", False):
            # PostgreSQL has gone, and the others' connections with it.
            connection.invalidate()
            self._let_go()
        connection.close()

    def _look(self) -> tuple[PoolProxiedConnection, Workspace]:
        try:
            return self._looks_at_hand.pop()
        except IndexError:
            connection = self._connected()
        try:
            if self.kind is Kind.POSTGRESQL:
                # No transaction, whose beginning and end would be two exchanges more. So it is for looks for good.
                driver: Any = connection.driver_connection
                driver.autocommit = True
                # A plan that was made when a table had one page, and is kept, would read all of it when it has thousands.
                for way in WIDE_WAYS:
                    driver.execute(f"SET {way} = off")
            return connection, self._workspace(connection)
        except BaseException:
            self._drop(connection)
            raise

    def _drop(self, connection: PoolProxiedConnection) -> None:
        # Not into the pool again: in which state it is nobody knows. If PostgreSQL has gone, the others' have with it.
        if getattr(connection.driver_connection, "closed", False):
            self._let_go()
        connection.invalidate()

    def _connected(self) -> PoolProxiedConnection:
        try:
            return self.engine.raw_connection()
        except operational_errors() as error:
            raise OperationalError("connect", None, error) from error

    def _seated(self) -> PoolProxiedConnection:
        # Only given back at the end, so it may be tuned. Temporary tables that it has had are gone with this.
        connection = self._connected()
        connection.info.clear()
        driver: Any = connection.driver_connection
        driver.execute("PRAGMA temp_store = MEMORY")
        return connection

    def dispose(self) -> None:
        """Close all connections."""
        self._let_go()
        if self.kind is Kind.SQLITE:
            self._seats.close()
            self._in_flight.close()
            self._checkpoints.finish()
        self.engine.dispose()

    def _let_go(self) -> None:
        with suppress(IndexError):
            while True:
                self._at_hand.pop().close()
        with suppress(IndexError):
            while True:
                self._looks_at_hand.pop()[0].invalidate()


class Looking:
    """A context that yields a workspace for queries (see Database.looking). A read has two, so it is kept short."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Workspace:
        """Waits in line where many look."""
        database = self._database
        database._looks.enter(None, LOOK_WAIT)
        try:
            self._taken = database._look()
        except BaseException:
            database._looks.leave(None)
            raise
        return self._taken[1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Gives everything back."""
        database, (connection, work) = self._database, self._taken
        rests = False
        try:
            if kind is None:
                work.rest()
                rests = True
        finally:
            # Never back into the pool, where nobody expects a connection without transactions.
            if rests:
                database._looks_at_hand.append(self._taken)
            else:
                database._drop(connection)
            database._looks.leave(None)


def _is_near(url: URL) -> bool:
    """Whether a database is on this machine: a file, or a server that is reached by a socket or by the loopback."""
    sent = url.host or url.query.get("host", "")
    hosts = sent.split(",") if isinstance(sent, str) else sent
    return all(not host or host.startswith("/") or LOCAL.fullmatch(host) for host in hosts)


def now_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


def _tune_sqlite(engine: Engine) -> None:
    # The driver looks for an adapter for None and takes longest not to find one: half a microsecond, five times a text's.
    sqlite3.register_adapter(type(None), {None: None}.get)

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _record: object) -> None:
        # Transactions are begun by hand: the driver's own way begins them late and deferred.
        connection.isolation_level = None
        for pragma in (
            "busy_timeout=10000",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=FILE",
            f"cache_size=-{SQLITE_CACHE_KB}",
            f"temp.cache_size=-{TEMPORARY_CACHE_KB}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        deadline = connection.get_execution_options().get("tillgate_deadline")
        if deadline is None:
            connection.exec_driver_sql("BEGIN")
        else:
            driver: Any = connection.connection.driver_connection
            begin_writing(driver, deadline - time.monotonic())


def _tune_postgresql(engine: Engine) -> None:
    from storage.wire import Wire

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: ConnectionPoolEntry) -> None:
        # What it prepares it forgets at every rollback, and what others have prepared with it.
        connection.prepare_threshold = None
        record.info[WIRE] = Wire(connection)
        # Planned by set, once: compiling each statement costs more than it saves.
        with connection.cursor() as cursor:
            cursor.execute("SET jit = off")
            cursor.execute("SET TIME ZONE 'UTC'")
        connection.commit()
