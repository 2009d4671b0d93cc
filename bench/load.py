"""Keep-alive clients in a process of their own, each sending its next request when it has the reply to the last.

    python -m bench.load --port 8080 --clients 8 --seconds 5 REQUESTS

REQUESTS is a JSON file: `requests`, whole HTTP requests that are sent in turn, and `good`, what a good reply holds.
With `--seconds 0` until standard input ends. Prints one line of JSON; times are seconds, `rate` replies a second.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Self

import click

WARM_UP = 1.0
# How long the last replies are waited for.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients saw. Bad replies are in `bad`, and in no other figure but `longest`."""

    rate: float
    p50: float
    p99: float
    longest: float
    good: int
    bad: int
    seconds: float


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the sorted values lies; 0 of none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def as_request(body: bytes, content_type: str, path: str = "/") -> str:
    """A POST, or with no body a GET, on a connection that stays open."""
    if not body:
        return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head + body.decode("latin-1")


class Running:
    """A load that goes on until the block ends; then `result` is there."""

    def __init__(self, port: int, clients: int, requests: Path) -> None:
        self._command = _command(port, clients, 0, requests)
        self.result: Load | None = None

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True)  # noqa: S603
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "started\n"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        out, _ = self._process.communicate()
        if kind is None:
            self.result = Load(**json.loads(out))


def run(port: int, clients: int, seconds: float, requests: Path) -> Load:
    """Put a server under load for so many seconds."""
    command = _command(port, clients, seconds, requests)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def _command(port: int, clients: int, seconds: float, requests: Path) -> list[str]:
    options = ("--port", str(port), "--clients", str(clients), "--seconds", str(seconds), str(requests))
    return [sys.executable, "-m", "bench.load", *options]


class Client:
    """One connection with one request under way."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self.connect()

    def connect(self) -> None:
        """A new connection, without delay for small packets."""
        self.socket = socket.create_connection(self._address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> None:
        """Begin an exchange."""
        self._received = bytearray()
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """The whole reply, None while it is not there. Raises ConnectionError when the server closed before its end."""
        piece = self.socket.recv(1 << 16)
        if not piece:
            raise ConnectionError
        self._received += piece
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._received[:end]).lower()
        at = head.find(b"content-length:")
        if at < 0:
            # In chunks, the last of which is empty.
            return bytes(self._received) if self._received.endswith(b"0\r\n\r\n") else None
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        return bytes(self._received) if len(self._received) >= end + 4 + length else None


class Clients:
    """All clients, watched by one loop: cheap, so that the server has the machine."""

    def __init__(self, port: int, count: int, requests: Iterator[bytes], good: bytes) -> None:
        self._requests = requests
        self._good = good
        self._selector = selectors.DefaultSelector()
        self._clients = [Client(port) for _ in range(count)]
        self.times: list[float] = []
        self.longest = 0.0
        self.bad = 0
        self.waiting = 0

    def start(self) -> None:
        """Every client sends its first request."""
        for client in self._clients:
            self._selector.register(client.socket, selectors.EVENT_READ, client)
            self._send(client)

    def until_closed(self, file: int) -> None:
        """Watch a file too: `turn` tells when it ends."""
        self._selector.register(file, selectors.EVENT_READ, None)

    def turn(self, *, sending: bool, wait: float) -> bool:
        """Take what has come, and send what follows on it. True when the watched file has ended."""
        ended = False
        for key, _ in self._selector.select(wait):
            if key.data is None:
                ended = True
                self._selector.unregister(key.fd)
            else:
                self._take(key.data, sending)
        return ended

    def forget(self) -> None:
        """What was measured so far was the warming up."""
        self.times, self.longest, self.bad = [], 0.0, 0

    def _take(self, client: Client, sending: bool) -> None:
        try:
            reply = client.receive()
        except ConnectionError:
            reply = b""
            self._selector.unregister(client.socket)
            client.connect()
            self._selector.register(client.socket, selectors.EVENT_READ, client)
        if reply is None:
            return
        took = time.perf_counter() - client.sent_at
        self.longest = max(self.longest, took)
        self.waiting -= 1
        if self._good in reply:
            self.times.append(took)
        else:
            self.bad += 1
        if sending:
            self._send(client)

    def _send(self, client: Client) -> None:
        self.waiting += 1
        client.send(next(self._requests))


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--clients", "count", type=int, required=True)
@click.option("--seconds", type=float, required=True)
@click.argument("requests", type=click.Path(path_type=Path))
def main(port: int, count: int, seconds: float, requests: Path) -> None:
    """Send, and say what came back."""
    read = json.loads(requests.read_text())
    turns = cycle([text.encode("latin-1") for text in read["requests"]])
    clients = Clients(port, count, turns, read["good"].encode())
    clients.start()
    if seconds:
        end = time.perf_counter() + min(WARM_UP, seconds)
        while time.perf_counter() < end:
            clients.turn(sending=True, wait=end - time.perf_counter())
        clients.forget()
    else:
        # Who watches something else counts from the beginning, and ends with it.
        os.set_blocking(sys.stdin.fileno(), False)
        clients.until_closed(sys.stdin.fileno())
        print("started", flush=True)
    start = time.perf_counter()
    while not seconds or time.perf_counter() < start + seconds:
        wait = start + seconds - time.perf_counter() if seconds else 1.0
        if clients.turn(sending=True, wait=max(wait, 0)):
            break
    took = time.perf_counter() - start
    good = len(clients.times)
    while clients.waiting and time.perf_counter() < start + took + PATIENCE:
        clients.turn(sending=False, wait=1.0)
    times = sorted(clients.times)
    found = Load(good / took, percentile(times, 0.5), percentile(times, 0.99), clients.longest, good, clients.bad, took)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
