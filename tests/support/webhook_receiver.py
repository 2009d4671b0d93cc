"""A receiver of webhooks: a real HTTP server on this machine that remembers what is posted and answers as it is told."""

from __future__ import annotations

import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What may be said instead of a status: nothing at all, one byte after the other for ever, no HTTP, or more than is read.
SILENCE, DRIP, NONSENSE, FLOOD = "silence", "drip", "nonsense", "flood"
# Seconds between two bytes of a drip.
DROP = 0.02


@dataclass(frozen=True, slots=True)
class Posted:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers each post with the next of `answers` (a status, or one of the above), and 204 when there is none left."""

    port: int = 0
    posts: list[Posted] = field(default_factory=list)
    answers: deque[int | str] = field(default_factory=deque)
    location: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?shop=7"


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a free port of 127.0.0.1."""
    receiver = Receiver()

    class Handler(_Handler):
        told = receiver

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    told: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.told.posts.append(Posted(self.path, dict(self.headers), body))
        answer = self.told.answers.popleft() if self.told.answers else 204
        if isinstance(answer, int):
            self.send_response(answer)
            if self.told.location:
                self.send_header("Location", self.told.location)
            self.end_headers()
        else:
            self._answer_oddly(answer)

    def _answer_oddly(self, answer: str) -> None:
        over = self.told.over
        try:
            if answer == SILENCE:
                over.wait()
            elif answer == NONSENSE:
                self.wfile.write(b"220 mail.example.com ESMTP\r\n")
            elif answer == FLOOD:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while not over.is_set():
                    self.wfile.write(b"x" * 65_536)
            else:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not over.wait(DROP):
                    self.wfile.write(b"X")
        except OSError:
            # The gateway has had enough.
            self.close_connection = True

    def do_GET(self) -> None:
        # Who follows a redirect after a post comes back with a GET.
        self.told.posts.append(Posted(self.path, dict(self.headers), b""))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
