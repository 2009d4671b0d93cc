"""`tillgate serve` as its users meet it: a process of its own on a free port, and raw sockets to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cli

PATIENCE = 30.0
PROGRAM = "from cli import main; main()"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `folder` is where it was started; its data are in `folder/data`."""

    process: subprocess.Popen[str]
    line: str
    folder: Path

    @property
    def url(self) -> str:
        return self.line.removeprefix("Tillgate is ready at ").strip()

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), PATIENCE)

    def exchange(self, *pieces: bytes) -> bytes:
        """Send raw bytes; everything that comes back until the server closes the connection."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            return read_all(connection)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """End it; its exit status, and what else it printed on standard output and error."""
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextmanager
def serving(
    folder: Path, *options: str, environment: Mapping[str, str] | None = None, program: str = PROGRAM
) -> Iterator[Server]:
    """A server in a folder, ready to be asked. `program`: Python that ends with what starts the command."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-P", "-c", program, "serve", "--port", "0", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        yield Server(process, line, folder)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def read_reply(connection: socket.socket) -> bytes:
    """One reply with a Content-Length, head and body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    [length] = [
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    ]
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
