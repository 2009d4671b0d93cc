"""gunicorn's threaded worker, with what real clients need and its settings cannot say.

Heads and bodies have a clock. Raw bytes in a target are encoded. A body is read as it arrives. A connection is closed when
its sender has stopped, because a sender that meets a reset never reads its refusal. gunicorn is pinned to its minor release:
docs/dependencies.md lists its private places that are used here.
"""

from __future__ import annotations

import io
import math
import re
import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders, LimitRequestLine, NoMoreData, ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import ThreadWorker

from importing.errors import ErrorCategory
from server.early_refusals import HEADERS_SIZE, REQUEST_LINE_SIZE, error_of, refusal

HEAD_SECONDS = 30.0
STALL_SECONDS = 60.0
# A body must come at this pace on average, in bytes a second; a slow start is granted BODY_GRACE_SECONDS.
MINIMUM_BODY_PACE = 200.0
BODY_GRACE_SECONDS = 120.0
LINGER_SECONDS, LINGER_IDLE_SECONDS = 30.0, 2.0
ACCEPT_PAUSE = 0.05

_UNENCODED = re.compile(rb"[^\x21-\x7e]")
_REQUEST_LINE = re.compile(rb"(?:\r\n)?[^ ]+ .+ HTTP/1\.[0-9]")


class GthreadWorker(ThreadWorker):  # type: ignore[misc]
    """One process: a main loop that watches idle connections, and threads that each handle one request at a time."""

    def run(self) -> None:
        """Serve requests, or work on jobs if this process is the one for it."""
        if not self.app.work_on_jobs(self):
            super().run()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection. A system that refuses one, for example for want of files, does not end the process."""
        try:
            super().accept(listener)
        except OSError as error:
            self.log.error("cannot accept a connection: %s", error.strerror)
            time.sleep(ACCEPT_PAUSE)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or stop to accept. A worker that stops still serves everybody who has connected already."""
        super().set_accept_enabled(enabled)
        for listener in () if self.alive else self.sockets:
            count = None
            while count != self.nr_conns:
                count = self.nr_conns
                self.accept(listener)

    def handle(self, conn: Any) -> Any:
        """Handle one request in a thread; close the connection in the thread too, because the sender may take its time."""
        if conn.parser is None:
            conn.parser = HeadFirstParser(self.cfg, conn.sock, conn.client)
            conn.parser.unreader = TimedUnreader(conn.sock, max_chunk=64 * 1024)
        result = super().handle(conn)
        if not result:
            _close_after_sender(conn.sock)
        return result

    def finish_request(self, conn: Any, future: Future[Any]) -> None:
        """Wait for the connection's next request in the main loop, or count it off where `handle` has closed it."""
        if conn.sock.fileno() < 0:
            self.nr_conns -= 1
        else:
            super().finish_request(conn, future)

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer a request. A client that does not read its reply is no error of the server."""
        conn.sock.settimeout(STALL_SECONDS)
        try:
            keep_alive = super().handle_request(req, conn)
        except TimeoutError:
            return False
        # gunicorn now discards what the application did not read; a sender that is not quick is waited for below instead.
        conn.parser.unreader.start(LINGER_IDLE_SECONDS)
        return bool(keep_alive)

    def handle_error(self, req: Any, client: socket.socket, addr: object, exc: BaseException) -> None:  # noqa: ARG002
        """Refuse a request that gunicorn cannot read. Nothing that was sent is logged."""
        error = error_of(exc)
        if error.category is ErrorCategory.BUG:
            self.log.error("a request failed outside of the application", exc_info=exc)
        target = getattr(exc, "target", None) or getattr(req, "uri", "").encode("latin-1")
        with suppress(OSError):
            client.settimeout(STALL_SECONDS)
            client.sendall(refusal(target, error, http_status=self.app.plan.http_status))


class TimedUnreader(SocketUnreader):  # type: ignore[misc]
    """Reads from the socket, and gives up where the sender is too slow."""

    def start(self, seconds: float, pace: float = math.inf) -> None:
        """From now on the sender has so many seconds, and one more for every `pace` bytes that it sends."""
        self._end = time.monotonic() + seconds
        self._pace = pace

    def chunk(self, size_hint: int | None = None) -> bytes:
        """What the socket has, b"" at its end. Raises NoMoreData where the time is over."""
        self.sock.settimeout(min(max(self._end - time.monotonic(), 0.001), STALL_SECONDS))
        try:
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            raise NoMoreData from None
        self._end += len(data) / self._pace
        return data


class HeadFirstParser(RequestParser):  # type: ignore[misc]
    """Reads a whole head against limits of size and time and encodes its target, before gunicorn parses it."""

    def __next__(self) -> Any:
        """The next request. Raises NoMoreData at the end, ParseException with the `target` as far as it was read."""
        self.unreader.start(HEAD_SECONDS)
        head = bytearray(self.unreader.take_buffered())
        try:
            while not _is_whole(head):
                data = self.unreader.chunk()
                if not data:
                    raise NoMoreData
                head += data
            target = _target_of(head)
            encoded = _UNENCODED.sub(lambda match: b"%%%02X" % match.group()[0], target)
            self.unreader.unread(bytes(head.replace(target, encoded, 1)))
            request = super().__next__()
        except ParseException as error:
            error.target = _target_of(head)
            raise
        self.unreader.start(BODY_GRACE_SECONDS, MINIMUM_BODY_PACE)
        request.body = ArrivingBody(request.body)
        return request


class ArrivingBody(io.RawIOBase):
    """A request's body, as it arrives. Raises OSError where the sender stalls, leaves or breaks the framing."""

    def __init__(self, body: Body) -> None:
        self._reader = body.reader
        self._piece = b""
        self.failed = False  # gunicorn asks: where the next request begins is unknown then

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read at least one byte; 0 at the end."""
        try:
            self._piece = self._piece or self._received(len(buffer))
        except (ParseException, OSError) as error:
            self.failed = True
            raise ConnectionResetError("the body ended early or cannot be read") from error
        data, self._piece = self._piece[: len(buffer)], self._piece[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def _received(self, size: int) -> bytes:
        reader = self._reader
        if not isinstance(reader, LengthReader):
            # gunicorn gives an empty piece where only the size of a chunk has arrived; at the end it gives none.
            return next(filter(None, reader.parser), b"")
        limit = min(size, reader.length)
        data: bytes = reader.unreader.read(None, read_ahead=limit) if limit else b""
        if limit and not data:
            raise NoMoreData
        reader.unreader.unread(data[limit:])
        reader.length -= len(data[:limit])
        return data[:limit]


def _is_whole(head: bytearray) -> bool:
    """Whether the head has its end, or gunicorn is certain to refuse it. Raises ParseException for a long one."""
    line_size = len(head[:2] + head[2:].partition(b"\r\n")[0])  # gunicorn passes over one empty line before it
    if line_size > REQUEST_LINE_SIZE:
        raise LimitRequestLine(line_size, REQUEST_LINE_SIZE)
    if b"\r\n\r\n" in head or head.count(b"\n") != head.count(b"\r\n"):
        return True
    if len(head) - line_size > HEADERS_SIZE:
        # Of two mistakes the first one is reported.
        is_http = _REQUEST_LINE.fullmatch(head[:line_size])
        raise LimitRequestHeaders("max buffer headers") if is_http else InvalidRequestLine("")
    return False


def _target_of(head: bytearray) -> bytes:
    """The target as it was sent; b"" where gunicorn does not take the first line for one."""
    line = bytes(head.removeprefix(b"\r\n").partition(b"\r\n")[0])
    target_and_version = b"" if b"\n" in line else line.partition(b" ")[2]
    return target_and_version.rpartition(b" HTTP/")[0] or target_and_version


def _close_after_sender(sock: socket.socket) -> None:
    """Say that nothing more comes, wait until the sender has stopped, is silent or is gone, and close."""
    deadline = time.monotonic() + LINGER_SECONDS
    with suppress(OSError), sock:
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(LINGER_IDLE_SECONDS)
        while time.monotonic() < deadline and sock.recv(256 * 1024):
            pass
