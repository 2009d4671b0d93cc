"""A client's socket: it takes what is there, waits no longer than it may, and loses nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from gunicorn.config import Config

from connection import Reply
from sockets import ClientSocket

SOON = 0.02
MUCH = bytes(range(256)) * 16 * 1024


@pytest.fixture(params=[socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[ClientSocket, socket.socket]]:
    """Ours, and the other side. With SEQPACKET each send arrives as one message."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, request.param)
    theirs.settimeout(10)
    with contextlib.closing(ClientSocket.of(ours, SOON)) as taken, theirs:
        yield taken, theirs


@pytest.fixture
def stream() -> Iterator[tuple[ClientSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with contextlib.closing(ClientSocket.of(ours, SOON)) as taken, theirs:
        taken.settimeout(10)
        yield taken, theirs


def test_what_comes_soon_is_waited_for_that_long(pair: tuple[ClientSocket, socket.socket]) -> None:
    ours, theirs = pair
    start = time.monotonic()
    assert ours.receive_soon(100) is None
    # Of a clock that ticks every few milliseconds.
    assert time.monotonic() - start >= SOON / 2
    theirs.send(b"request")
    assert ours.receive_soon(100) == b"request"
    theirs.close()
    assert ours.receive_soon(100) == b""


def test_a_timeout_bounds_a_receive_and_nothing_else_does(pair: tuple[ClientSocket, socket.socket]) -> None:
    ours, theirs = pair
    ours.settimeout(0.05)
    assert ours.gettimeout() == 0.05
    with pytest.raises(TimeoutError):
        ours.recv(100)
    # Far longer than what comes soon may take.
    ours.setblocking(True)
    threading.Timer(0.2, theirs.send, (b"late",)).start()
    assert ours.recv(100) == b"late"


def test_more_than_fits_is_sent_as_it_is_taken(stream: tuple[ClientSocket, socket.socket]) -> None:
    ours, theirs = stream
    received = bytearray()

    def read() -> None:
        while piece := theirs.recv(50_000):
            received.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    ours.sendall(MUCH)
    ours.shutdown(socket.SHUT_WR)
    reader.join(timeout=10)
    assert received == MUCH


def test_who_takes_nothing_is_not_waited_for_without_end(stream: tuple[ClientSocket, socket.socket]) -> None:
    ours, _ = stream
    ours.settimeout(0.05)
    with pytest.raises(TimeoutError):
        ours.sendall(MUCH)


def test_who_has_gone_is_an_error_as_of_any_socket(stream: tuple[ClientSocket, socket.socket]) -> None:
    ours, theirs = stream
    theirs.close()
    assert ours.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        ours.sendall(b"x")


def test_what_was_held_in_vain_is_not_sent(stream: tuple[ClientSocket, socket.socket]) -> None:
    ours, theirs = stream
    reply = Reply(Request(), ours, Config())
    reply.start_response("200 OK", [("Content-Length", "3")])
    with pytest.raises(TypeError):
        reply.write("abc")  # type: ignore[arg-type]
    # So it can still be refused.
    assert not reply.headers_sent
    ours.sendall(b"refused")
    ours.shutdown(socket.SHUT_WR)
    assert theirs.recv(10_000) == b"refused"


class Request:
    """As much of gunicorn's as a response asks for."""

    def __init__(self, method: str = "GET") -> None:
        self.method = method
        self.version = (1, 1)

    def should_close(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("method", "headers", "pieces", "messages"),
    [
        ("GET", [("Content-Length", "3")], [b"abc"], ["head+abc"]),
        ("GET", [("Content-Length", "6")], [b"abc", b"def"], ["head+abc", "def"]),
        ("GET", [], [b"abc", b"", b"def"], ["head+3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\n\r\n"]),
        # What is begun without anything yet is told at once: whoever streams may take long.
        ("GET", [], [b"", b"abc"], ["head+", "3\r\nabc\r\n", "0\r\n\r\n"]),
        ("GET", [("Content-Length", "0")], [], ["head+"]),
        ("HEAD", [("Content-Length", "3")], [b""], ["head+"]),
    ],
)
def test_a_head_goes_out_with_the_first_piece(
    method: str, headers: list[tuple[str, str]], pieces: list[bytes], messages: list[str]
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(10)
    with contextlib.closing(ClientSocket.of(ours, SOON)) as taken, theirs:
        reply = Reply(Request(method), taken, Config())
        reply.start_response("200 OK", headers)
        for piece in pieces:
            reply.write(piece)
        reply.close()
        assert not reply.should_close()
        taken.shutdown(socket.SHUT_WR)
        received = []
        while message := theirs.recv(10_000).decode():
            head, end, body = message.partition("\r\n\r\n")
            received.append(f"head+{body}" if head.startswith("HTTP/1.1 200 OK") and end else message)
    assert received == messages
