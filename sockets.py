"""A client's socket: what is there is taken and what fits is sent, and only then, where it must be, waited.

Python's own, where it has a timeout, asks the system twice for each call and once more for each timeout that is set. At
every one of these a thread gives the interpreter away and, where another one calculates, gets it back 5 ms later.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import Any, Self

AT_ONCE = socket.MSG_DONTWAIT
TIMEVAL = struct.Struct("@ll")

_receive, _send = socket.socket.recv, socket.socket.send


class ClientSocket(socket.socket):
    """A connected socket, for one thread at a time. A timeout is how long the other side may do nothing."""

    _timeout: float | None
    _held: list[bytes] | None
    _poll: select.poll

    @classmethod
    def of(cls, accepted: socket.socket, soon: float) -> Self:
        """One that takes the place of a socket just accepted. `soon`: how long `receive_soon` waits, in seconds."""
        taken = cls(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        taken._timeout = None
        taken._held = None
        taken._poll = select.poll()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEVAL.pack(int(soon), round(soon % 1 * 1_000_000)))
        return taken

    def setblocking(self, flag: bool) -> None:
        """For whoever takes it for Python's own: `True` waits without end."""
        self._timeout = None if flag else 0.0

    def settimeout(self, value: float | None) -> None:
        """So many seconds a call may wait for the other side."""
        self._timeout = value

    def gettimeout(self) -> float | None:
        """What was set."""
        return self._timeout

    def receive_soon(self, limit: int) -> bytes | None:
        """What comes at once, b"" at the end; None where nothing does."""
        try:
            return _receive(self, limit)
        except BlockingIOError:
            return None

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """What is there, or comes in time. Raises TimeoutError."""
        while True:
            try:
                return _receive(self, bufsize, flags | AT_ONCE)
            except BlockingIOError:
                self._wait(select.POLLIN)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send what the other side takes, now or in time; how many bytes. Raises TimeoutError."""
        while True:
            try:
                return _send(self, data, flags | AT_ONCE)
            except BlockingIOError:
                self._wait(select.POLLOUT)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of it. Raises TimeoutError where the other side takes nothing for too long."""
        if self._held is not None:
            self._held.append(data)
            return
        sent = self.send(data, flags)
        while sent < len(data):
            sent += self.send(memoryview(data)[sent:], flags)

    def hold(self) -> None:
        """What is sent from now on goes out together with what follows, by `let_go`."""
        self._held = []

    def let_go(self) -> None:
        """Send what was held."""
        held, self._held = self._held, None
        if held:
            self.sendall(b"".join(held))

    def forget(self) -> None:
        """Send nothing of what was held."""
        self._held = None

    def _wait(self, event: int) -> None:
        self._poll.register(self, event)
        if not self._poll.poll(None if self._timeout is None else self._timeout * 1000):
            raise TimeoutError("the other side keeps it waiting")
