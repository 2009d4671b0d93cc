"""A connection as `tillgate serve` reads it: against the clock, generously, and with the body as it arrives."""

from __future__ import annotations

import errno
import io
import mmap
import re
import socket
import struct
import time
from typing import Any

from gunicorn import util
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import LimitRequestLine, NoMoreData, ParseException
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import TConn

from sockets import ClientSocket

REQUEST_LINE = 1024 * 1024
HEADERS = 256 * 1024
HEADER = 64 * 1024
HEADER_COUNT = 500

HEAD_SECONDS = 30.0
STALL_SECONDS = 60.0
# A body must come at this pace on the whole, besides what a slow start is granted.
SLOWEST_BODY = 200
BODY_GRACE = 120.0
LINGER_SECONDS = 30.0
LINGER_IDLE = 2.0
# So long a thread waits for a connection's next request itself: handed back to the loop and out again, a short request
# costs a third more. Whoever sends one after another has sent the next by then, on a machine that is busy too.
STAY_SECONDS = 0.02

# The one header that the protocol's clients may send with underscores, as it is called without. All other names with
# underscores are dropped: two names that a proxy sees as different would be one to the application.
UNDERSCORED = frozenset({"API-ACCESS-KEY"})

_UNENCODED = re.compile(rb"[^\x21-\x7e]")


class Connection(TConn):  # type: ignore[misc]
    """A client's connection, from its first request to its last."""

    parser: Any
    sock: ClientSocket

    def __init__(self, cfg: Any, accepted: socket.socket, client: object, server: object) -> None:
        super().__init__(cfg, ClientSocket.of(accepted, STAY_SECONDS), client, server)

    def init(self) -> None:
        self.initialized = True
        if self.parser is None:
            self.parser = _Parser(self.cfg, self.sock, self.client)
        self.parser.unreader.expect_head()

    def goes_on(self) -> bool:
        """Whether the next request is there, or comes at once."""
        unreader = self.parser.unreader
        if unreader.buf.getvalue():
            return True
        try:
            data = self.sock.receive_soon(unreader.mxchunk)
        except OSError:
            return True  # met again by whoever reads the request
        if data:
            unreader.unread(data)
        return data is not None

    def linger(self) -> None:
        """Say that nothing more comes, and let the sender finish: cut off meanwhile, it would never read the reply."""
        deadline = time.monotonic() + LINGER_SECONDS
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.settimeout(LINGER_IDLE)
            while time.monotonic() < deadline and self.sock.recv(256 * 1024):
                pass
        except OSError:
            return

    def close(self, graceful: bool = False) -> None:  # noqa: ARG002 - the thread has lingered; the loop must not wait
        util.close(self.sock)


class _Unreader(SocketUnreader):  # type: ignore[misc]
    """Reads from the socket, against the clock."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, max_chunk=64 * 1024)
        self._deadline = 0.0
        self._began = 0.0
        self._head = True
        self._received = 0

    def expect_head(self) -> None:
        self._head = True
        self._deadline = time.monotonic() + HEAD_SECONDS

    def expect_body(self) -> None:
        self._head = False
        self._received = 0
        self._began = time.monotonic()
        self.sock.settimeout(STALL_SECONDS)

    def chunk(self, size_hint: int | None = None) -> bytes:
        now = time.monotonic()
        deadline = self._deadline if self._head else self._began + BODY_GRACE + self._received / SLOWEST_BODY
        if now >= deadline:
            raise NoMoreData
        try:
            if self._head:
                self.sock.settimeout(deadline - now)
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            raise NoMoreData from None
        self._received += len(data)
        return data


class _Body(io.RawIOBase):
    """The body as it arrives: a read gives what is there, so that whoever is refused early hears of it early.

    Raises OSError where the sender stalls, leaves or breaks the framing, after all that came before was given.
    """

    def __init__(self, reader: Any, unreader: _Unreader) -> None:
        self._unreader = unreader
        self._left = reader.length if isinstance(reader, LengthReader) else 0
        # None: there are none, or they have come to their end.
        self._chunks = reader.parser if isinstance(reader, ChunkedReader) else None
        self._held = b""
        # Read by gunicorn: where the next request begins is unknown then.
        self.failed = False

    @property
    def is_over(self) -> bool:
        """Whether all of it was read."""
        return not (self._left or self._held or self.failed) and self._chunks is None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held:
            try:
                if self._left:
                    self._held = self._sized(len(buffer))
                elif self._chunks is not None:
                    # Where only a chunk's size has come, gunicorn's reader gives an empty piece; the end is no piece.
                    self._held = next(filter(None, self._chunks), b"")
                    if not self._held:
                        self._chunks = None
            except (ParseException, OSError) as error:
                self.failed = True
                raise ConnectionResetError(errno.ECONNRESET, "the body ended early or cannot be read") from error
        data, self._held = self._held[: len(buffer)], self._held[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def _sized(self, wanted: int) -> bytes:
        limit = min(wanted, self._left)
        data: bytes = self._unreader.read(None, read_ahead=limit)
        if not data:
            raise NoMoreData
        if len(data) > limit:
            self._unreader.unread(data[limit:])
            data = data[:limit]
        self._left -= len(data)
        return data


class _Parser(RequestParser):  # type: ignore[misc]
    def __init__(self, cfg: Any, source: socket.socket, source_addr: object) -> None:
        super().__init__(cfg, source, source_addr)
        self.unreader = _Unreader(source)
        self.mesg_class = _Request

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Discard what was not read of a body; nothing of nearly every one."""
        if self.mesg is None or self.mesg.body.is_over:
            return True
        finished: bool = super().finish_body(deadline, max_bytes)
        return finished


class Reply(Response):  # type: ignore[misc]
    """A response whose head goes out together with the first piece of its body."""

    headers_sent: bool

    def write(self, arg: bytes) -> None:
        """Send a piece of the body."""
        if self.headers_sent:
            super().write(arg)
            return
        self.sock.hold()
        try:
            super().write(arg)
        except BaseException:
            # Nothing was sent: the request can still be refused.
            self.sock.forget()
            self.headers_sent = False
            raise
        self.sock.let_go()


class _Request(Request):  # type: ignore[misc]
    body: Any

    def parse(self, unreader: _Unreader) -> bytes:
        # The constructor has just cut the limit of the line down to 8 kB.
        self.limit_request_line = REQUEST_LINE
        self.max_buffer_headers = HEADERS
        try:
            rest: bytes = super().parse(unreader)
        except ParseException as error:
            error.request = self
            raise
        unreader.expect_body()
        return rest

    def set_body_reader(self) -> None:
        try:
            super().set_body_reader()
        except ParseException as error:
            error.request = self
            raise
        self.body = _Body(self.body.reader, self.unreader)

    def read_line(self, unreader: _Unreader, buf: bytearray, limit: int = 0) -> tuple[bytes, bytearray]:
        line: tuple[bytes, bytearray]
        try:
            line = super().read_line(unreader, buf, limit)
        except LimitRequestLine:
            self._remember(bytes(buf))
            raise
        return line

    def parse_request_line(self, line_bytes: bytes) -> None:
        """Read generously: what should have been percent-encoded in the address is encoded here."""
        self._remember(line_bytes)
        method, _, rest = line_bytes.partition(b" ")
        target, _, version = rest.rpartition(b" ")
        target = _UNENCODED.sub(lambda match: b"%%%02X" % match.group()[0], target)
        super().parse_request_line(b" ".join((method, target, version)))

    def _remember(self, line: bytes) -> None:
        before, _, query = line.partition(b"?")
        self.query = query.decode("latin-1")
        self.place = before.partition(b" ")[2].partition(b" ")[0].decode("latin-1")

    def _apply_header_policy(self, name: str, value: str, *args: Any, **options: Any) -> tuple[str, str] | None:
        if "_" in name:
            name = name.replace("_", "-")
            if name not in UNDERSCORED:
                return None
        kept: tuple[str, str] | None = super()._apply_header_policy(name, value, *args, **options)
        return kept


class Held:
    """How many connections each worker holds, for all of them to see: a proxy that opens eight at once has them shared out.

    A worker's place is by its age; one that was killed leaves a number behind, for which others wait a moment in vain.
    """

    PLACES = 64
    NUMBER = struct.Struct("=i")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.PLACES * self.NUMBER.size)

    def tell(self, age: int, connections: int | None) -> None:
        """Say how many a worker holds; None: it accepts no more."""
        place = age % self.PLACES * self.NUMBER.size
        self.NUMBER.pack_into(self._memory, place, 0 if connections is None else connections + 1)

    def fewest(self) -> int:
        """How many the worker with the fewest holds."""
        told = (number for (number,) in self.NUMBER.iter_unpack(self._memory[:]) if number)
        return min(told, default=1) - 1
