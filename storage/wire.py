"""PostgreSQL by libpq itself: prepared statements, and several of them in one exchange.

What psycopg's cursors do for each statement costs a batch of three rows more of the processor than all of its own work;
of them a batch needs none. psycopg makes the connection, reads the answers and names the errors.
"""

from __future__ import annotations

import select
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

from storage.statements import Found, Waiting

# Statements that stay prepared on a connection. A batch has some sixty, and an undo as many.
KEPT = 300
TEXT, BINARY = 0, 1
# Types as PostgreSQL numbers them. A text is of whatever type its place wants.
UNKNOWN, BOOL, BYTES, INTEGER, FLOAT = 0, 16, 17, 20, 701
GOOD = frozenset((pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK))

Dump = Callable[[Any], bytes | None]
Kinds = tuple[type, ...]


class Wire:
    """One connection. Not shared between threads.

    Statements begin a transaction where the driver would. Any error of an exchange takes the others behind it along, and
    is raised when it has ended.
    """

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver
        self._libpq = driver.pgconn
        self._reader = Transformer(driver)
        self._queue: deque[Waiting] = deque()
        self._names: OrderedDict[tuple[bytes, Kinds | None], bytes] = OrderedDict()
        self._number = 0
        self._poll = select.poll()
        self._poll.register(self._libpq.socket, select.POLLIN)

    def ask(self, text: bytes, values: Sequence[object]) -> Found:
        """Run one statement, after those that were sent; what it found."""
        kinds = tuple(map(type, values))
        name = self._names.get((text, kinds))
        if name is None or self._queue or self._must_begin():
            waiting = self.send(text, values)
            return self.answer(waiting)
        self._names.move_to_end((text, kinds))
        _, dumps, formats = _dumped(kinds)
        raw: Any = _raw(dumps, values)
        result = self._libpq.exec_prepared(name, raw, formats, TEXT)
        if result.status not in GOOD:
            raise self._error(result)
        return self._found(result)

    def send(self, text: bytes, values: Sequence[object], *, fits: bool = False) -> Waiting:
        """Run one statement with the next exchange. `fits`: every value's place says what type it is of (VALUES of an
        INSERT), so that the same statement serves whichever of them are null."""
        kinds = tuple(map(type, values))
        oids, dumps, formats = _dumped(kinds)
        raw = _raw(dumps, values)
        if not self._queue:
            self._begin()
        name = self._prepared(text, None if fits else kinds, [UNKNOWN] * len(oids) if fits else oids)
        self._libpq.send_query_prepared(name, raw, formats, TEXT)
        return self._queued(Waiting())

    def settle(self) -> None:
        """Wait for the answers to what was sent. Raises the first error."""
        if not self._queue:
            return
        queue, self._queue = self._queue, deque()
        try:
            error = self._answers(queue)
            self._libpq.exit_pipeline_mode()
        except BaseException:
            # Where the exchange stands nobody knows: nothing more can be said on this connection.
            self._libpq.finish()
            raise
        if error is not None:
            raise self._error(error)

    def answer(self, waiting: Waiting) -> Found:
        """What a statement that was sent has found; waits for that."""
        if not waiting.over:
            self.settle()
        if waiting.found is None:
            raise psycopg.errors.PipelineAborted("the statement was not run")
        return waiting.found

    def _found(self, result: Any) -> Found:
        rows: list[tuple[Any, ...]] = []
        if result.ntuples:
            self._reader.set_pgresult(result)
            rows = self._reader.load_rows(0, result.ntuples, tuple)
        return Found(result.command_tuples or 0, rows)

    def _must_begin(self) -> bool:
        return not self._driver.autocommit and self._libpq.transaction_status == pq.TransactionStatus.IDLE

    def _begin(self) -> None:
        begins = self._must_begin()
        self._libpq.enter_pipeline_mode()
        if begins:
            self._libpq.send_query_params(b"BEGIN", None)
            self._queued(Waiting())

    def _queued(self, waiting: Waiting) -> Waiting:
        self._queue.append(waiting)
        return waiting

    def _prepared(self, text: bytes, kinds: Kinds | None, oids: Sequence[int]) -> bytes:
        key = (text, kinds)
        name = self._names.get(key)
        if name is not None:
            self._names.move_to_end(key)
            return name
        # An aborted transaction takes no DEALLOCATE; a few too many do no harm.
        while len(self._names) >= KEPT and self._libpq.transaction_status != pq.TransactionStatus.INERROR:
            self._forget_oldest()
        self._number += 1
        name = self._names[key] = b"tillgate_%d" % self._number
        self._libpq.send_prepare(name, text, oids)
        self._queued(Waiting(lambda: self._names.pop(key, None)))
        return name

    def _forget_oldest(self) -> None:
        key, name = self._names.popitem(last=False)
        self._libpq.send_query_params(b"DEALLOCATE " + name, None)
        self._queued(Waiting(lambda: self._names.setdefault(key, name)))

    def _answers(self, queue: deque[Waiting]) -> Any:
        """Read all of an exchange's answers; the first that is an error."""
        self._libpq.pipeline_sync()
        while self._libpq.flush():
            self._wait(select.POLLIN | select.POLLOUT)
        error = None
        for waiting in queue:
            result = self._result()
            self._result()  # each ends with none
            waiting.over = True
            if result.status in GOOD:
                waiting.found = self._found(result)
                continue
            if waiting.otherwise is not None:
                waiting.otherwise()
            if error is None:
                error = result
        self._result()  # of the end itself
        return error

    def _result(self) -> Any:
        while self._libpq.is_busy():
            self._wait(select.POLLIN)
        return self._libpq.get_result()

    def _wait(self, event: int) -> None:
        if event != select.POLLIN:
            self._poll.modify(self._libpq.socket, event)
        self._poll.poll()
        if event != select.POLLIN:
            self._poll.modify(self._libpq.socket, select.POLLIN)
        self._libpq.consume_input()

    def _error(self, result: Any) -> psycopg.Error:
        if self._libpq.status == pq.ConnStatus.BAD:
            return psycopg.OperationalError(result.get_error_message() or "the connection is lost")
        return error_from_result(result, self._driver.info.encoding)


def _raw(dumps: Sequence[Dump], values: Sequence[object]) -> list[bytes | None]:
    return [dump(value) for dump, value in zip(dumps, values, strict=True)]


@lru_cache(maxsize=2000)
def _dumped(kinds: Kinds) -> tuple[list[int], list[Dump], list[int] | None]:
    """Of values of such types: PostgreSQL's types, how each is written, and the formats, None where all are text."""
    found = [_dump(kind) for kind in kinds]
    formats = [BINARY if oid == BYTES else TEXT for oid, _ in found]
    return [oid for oid, _ in found], [dump for _, dump in found], formats if any(formats) else None


def _dump(kind: type) -> tuple[int, Dump]:
    if kind is type(None):
        return UNKNOWN, _null
    if issubclass(kind, bool):
        return BOOL, _truth
    if issubclass(kind, int):
        return INTEGER, b"%d".__mod__
    if issubclass(kind, str):
        return UNKNOWN, _text
    if issubclass(kind, float):
        return FLOAT, _number
    if issubclass(kind, bytes):
        return BYTES, bytes
    raise TypeError(f"no value of a statement: {kind.__qualname__}")


def _null(_value: object) -> None:
    return None


def _truth(value: bool) -> bytes:
    return b"t" if value else b"f"


def _number(value: float) -> bytes:
    return repr(value).encode()


def _text(value: str) -> bytes:
    raw = value.encode()
    if b"\0" in raw:
        # libpq would take it for the text's end.
        raise psycopg.DataError("a text has a NUL, which PostgreSQL cannot store")
    return raw
