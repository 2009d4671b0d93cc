"""gunicorn's private places that the worker uses, and what the worker does with them that no other test shows."""

from __future__ import annotations

import errno
import inspect
import os
import re
import resource
import signal
import socket
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gunicorn
import pytest
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders, LimitRequestLine
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import TConn, ThreadWorker

from server import process
from server.early_refusals import HEADERS_SIZE, REQUEST_LINE_SIZE
from server.gthread_worker import GthreadWorker, HeadFirstParser, TimedUnreader, _is_whole
from tests.support.gateway_process import PROGRAM, Server, read_all, read_reply, serving

HOUSE = Path(__file__).parents[3]
# The clocks of the worker, run fast.
HASTE = (
    "from server import gthread_worker as worker; worker.HEAD_SECONDS = worker.STALL_SECONDS = 1.0; "
    "worker.BODY_GRACE_SECONDS = 2.0; " + PROGRAM
)
LONG_ENOUGH = 20.0
GET = b"GET /?output=JSON HTTP/1.1\r\nHost: x\r\n\r\n"
INCOMPLETE = b"The connection ended before all of it"

PLACES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "ThreadWorker.handle": (ThreadWorker.handle, ["self", "conn"]),
    "ThreadWorker.handle_request": (ThreadWorker.handle_request, ["self", "req", "conn"]),
    "ThreadWorker.finish_request": (ThreadWorker.finish_request, ["self", "conn", "fs"]),
    "ThreadWorker.accept": (ThreadWorker.accept, ["self", "listener"]),
    "ThreadWorker.set_accept_enabled": (ThreadWorker.set_accept_enabled, ["self", "enabled"]),
    "Worker.handle_error": (Worker.handle_error, ["self", "req", "client", "addr", "exc"]),
    "TConn.parser": (TConn.__init__, ["self", "cfg", "sock", "client", "server"]),
    "RequestParser.__next__": (RequestParser.__next__, ["self"]),
    "SocketUnreader.chunk": (SocketUnreader.chunk, ["self", "size_hint"]),
    "Body.reader": (Body.__init__, ["self", "reader"]),
}


def listed() -> dict[str, str]:
    """The places in docs/dependencies.md, and the test of each."""
    text = (HOUSE / "docs" / "dependencies.md").read_text(encoding="utf-8").partition("## Private places")[2]
    return dict(re.findall(r"^\| `([\w.]+)` \| .+ \| `(test_\w+)` \|$", text, re.MULTILINE))


class TestThePrivatePlaces:
    def test_each_is_listed_with_a_test_that_exists(self) -> None:
        assert list(listed()) == list(PLACES)
        tests = "".join(path.read_text(encoding="utf-8") for path in (HOUSE / "tests").rglob("test_*.py"))
        assert [name for name in listed().values() if f"def {name}(" not in tests] == []

    def test_they_are_at_most_ten_in_250_lines(self) -> None:
        assert len(PLACES) <= 10
        files = [HOUSE / "server" / name for name in ("gthread_worker.py", "early_refusals.py")]
        assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 250

    @pytest.mark.parametrize("place", PLACES)
    def test_each_takes_what_it_took(self, place: str) -> None:
        function, parameters = PLACES[place]
        assert list(inspect.signature(function).parameters) == parameters

    @pytest.mark.parametrize(
        ("ours", "base"),
        [(GthreadWorker, ThreadWorker), (HeadFirstParser, RequestParser), (TimedUnreader, SocketUnreader)],
    )
    def test_nothing_else_is_overridden(self, ours: type, base: type) -> None:
        ordinary = {"__module__", "__doc__", "__qualname__", "__static_attributes__", "__firstlineno__"}
        overridden = {name for name in vars(ours) if hasattr(base, name)} - ordinary
        # A worker class is told to have a `run` of its own; all else is private.
        assert overridden - {"run"} <= {place.rpartition(".")[2] for place in PLACES}

    def test_what_is_read_of_them_is_there(self) -> None:
        unreader = SocketUnreader(None)
        assert {"unread", "take_buffered", "read"} <= set(dir(unreader))
        assert LengthReader(unreader, 3).length == 3
        assert hasattr(ChunkedReader(SimpleNamespace(), unreader), "parser")
        assert Body(None).failed is False
        assert hasattr(RequestParser(None, (), None), "unreader")

    def test_gunicorn_is_pinned_to_its_minor_release(self) -> None:
        with (HOUSE / "pyproject.toml").open("rb") as file:
            named = tomllib.load(file)["project"]["dependencies"]
        major, minor = map(int, gunicorn.__version__.split(".")[:2])
        assert f"gunicorn>={major}.{minor},<{major}.{minor + 1}" in named


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits for nobody longer than some seconds."""
    with serving(tmp_path_factory.mktemp("hasty"), "--workers", "1", program=HASTE) as server:
        yield server


def drip(connection: socket.socket, first: bytes) -> bytes:
    """Send something, then a byte ten times a second until the other side has closed. Returns what it sent."""
    connection.sendall(first)
    connection.settimeout(0.1)
    deadline = time.monotonic() + LONG_ENOUGH
    received = b""
    while time.monotonic() < deadline:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"1")
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece
    raise AssertionError("it was waited for")


class TestClocks:
    @pytest.mark.parametrize("head", [b"GET /?a=", b"GET / HTTP/1.1\r\nHost: x\r\nA: "])
    def test_a_dripping_head_is_cut_off(self, hasty: Server, head: bytes) -> None:
        with hasty.connect() as connection:
            assert drip(connection, head) == b""

    @pytest.mark.parametrize("framing", [b"Content-Length: 5000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1b\r\n"])
    def test_a_stalled_body_is_cut_off(self, hasty: Server, framing: bytes) -> None:
        with hasty.connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + b"output=JSON&condensed=yes&a")
            head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert b"application/json" in head
        assert body.startswith(b'{"status":"error"')

    @pytest.mark.parametrize(
        "framing",
        [
            b"Content-Length: 5000\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n1000\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n1;a=",
        ],
    )
    def test_a_dripping_body_is_cut_off(self, hasty: Server, framing: bytes) -> None:
        with hasty.connect() as connection:
            assert drip(connection, b"POST /?output=JSON HTTP/1.1\r\nHost: x\r\n" + framing).startswith(
                b"HTTP/1.1 200 "
            )

    def test_150_stalled_heads_and_bodies_stop_nobody(self, hasty: Server) -> None:
        with ExitStack() as stalled:
            for number in range(300):
                connection = stalled.enter_context(hasty.connect())
                connection.sendall((b"GET /?a", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\na")[number % 2])
            started = time.monotonic()
            for _ in range(3):
                assert hasty.exchange(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert time.monotonic() - started < LONG_ENOUGH


def children(server: Server) -> list[int]:
    """The processes of a server besides its first one."""
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class TestReadingHeads:
    def test_a_line_or_headers_without_end_are_refused(self) -> None:
        with pytest.raises(LimitRequestLine):
            _is_whole(bytearray(b"x" * (REQUEST_LINE_SIZE + 1)))
        with pytest.raises(LimitRequestLine):
            _is_whole(bytearray(b"x" * (REQUEST_LINE_SIZE + 1) + b"\r\n\r\n"))
        with pytest.raises(LimitRequestHeaders):
            _is_whole(bytearray(b"GET / HTTP/1.1\r\n" + b"x" * (HEADERS_SIZE + 1)))
        with pytest.raises(InvalidRequestLine):
            _is_whole(bytearray(b"GET / HTTP/7.1\r\n" + b"x" * (HEADERS_SIZE + 1)))

    @pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nA: b\r\n", b"\r", b"\r\nGET"])
    def test_a_head_that_has_no_end_yet_is_read_on(self, begun: bytes) -> None:
        assert not _is_whole(bytearray(begun))

    @pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\nGET", b"GET / HTTP/1.1\nA: b"])
    def test_gunicorn_never_has_to_read_more_of_a_head(self, hasty: Server, head: bytes) -> None:
        assert _is_whole(bytearray(head))
        with hasty.connect() as connection:
            connection.sendall(head)
            assert connection.recv(9) == b"HTTP/1.1 "

    def test_one_empty_line_before_a_request_is_passed_over(self, hasty: Server) -> None:
        with hasty.connect() as connection:
            for _ in range(2):
                connection.sendall(b"\r\n" + GET.replace(b"JSON", b"JSON&a=\xff \xfe"))
                assert read_reply(connection).startswith(b"HTTP/1.1 200 ")


class TestConnections:
    def test_one_that_waits_between_requests_costs_no_thread(self, tmp_path: Path) -> None:
        with serving(tmp_path, "--workers", "1") as server, ExitStack() as idle:
            for _ in range(40):
                connection = idle.enter_context(server.connect())
                connection.sendall(GET)
                read_reply(connection)
            assert all(len(list(Path(f"/proc/{child}/task").iterdir())) < 20 for child in children(server))

    def test_a_client_that_does_not_read_its_reply_is_no_error(self, tmp_path: Path) -> None:
        with serving(tmp_path, "--workers", "1", program=HASTE) as server:
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
                connection.settimeout(LONG_ENOUGH)
                # Nobody reads: the server's replies do not fit, and then our requests do not.
                with pytest.raises((BrokenPipeError, ConnectionResetError)):
                    while True:
                        connection.sendall(GET * 1000)
            assert server.stop() == (0, "", "")

    def test_many_requests_at_once_and_a_slow_reader(self, hasty: Server) -> None:
        requests, received = 3000, b""
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", int(hasty.url.rpartition(":")[2])))
            connection.settimeout(LONG_ENOUGH)
            connection.sendall(GET * requests)
            while received.count(b"HTTP/1.1 200 ") < requests:
                piece = connection.recv(2048)
                assert piece
                received += piece

    def test_who_resets_harms_nobody(self, hasty: Server) -> None:
        for sent in (b"", b"GET /", GET, b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\na") * 10:
            with hasty.connect() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.sendall(sent)
        assert hasty.exchange(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    def test_connections_are_counted_off(self) -> None:
        worker: Any = GthreadWorker.__new__(GthreadWorker)
        worker.nr_conns, worker.alive = 2, True
        future: Future[bool] = Future()
        future.set_result(False)
        ours, theirs = socket.socketpair()
        with theirs:
            connection = TConn(SimpleNamespace(), ours, None, None)
            ours.close()
            worker.finish_request(connection, future)
            assert worker.nr_conns == 1
        ours, theirs = socket.socketpair()
        theirs.close()
        worker.finish_request(TConn(SimpleNamespace(), ours, None, None), future)
        assert (worker.nr_conns, ours.fileno()) == (0, -1)

    def test_a_system_that_refuses_connections_does_not_end_the_process(self) -> None:
        worker: Any = GthreadWorker.__new__(GthreadWorker)
        errors: list[str] = []
        worker.nr_conns, worker.log = 0, SimpleNamespace(error=lambda text, *values: errors.append(text % values))

        def refuse() -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        worker.accept(SimpleNamespace(accept=refuse))
        assert (errors, worker.nr_conns) == (["cannot accept a connection: Too many open files"], 0)

    def test_who_has_connected_before_the_stop_is_served(self, tmp_path: Path) -> None:
        with serving(tmp_path, "--workers", "1") as server, ExitStack() as clients:
            for child in children(server):
                os.kill(child, signal.SIGSTOP)
            waiting = [clients.enter_context(server.connect()) for _ in range(5)]
            for connection in waiting:
                connection.sendall(GET)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            for child in children(server):
                os.kill(child, signal.SIGCONT)
            assert [read_all(connection)[:13] for connection in waiting] == [b"HTTP/1.1 200 "] * 5
            assert server.process.wait(LONG_ENOUGH) == 0


class TestProcesses:
    def test_nothing_is_open_and_no_thread_runs_where_the_processes_fork(self, hasty: Server) -> None:
        master = Path(f"/proc/{hasty.process.pid}")
        assert len(list((master / "task").iterdir())) == 1
        files = {file.readlink().name for file in (master / "fd").iterdir()}
        assert [name for name in files if name.endswith((".db", ".db-wal", ".db-shm"))] == []

    def test_a_server_says_that_it_is_ready_when_its_last_process_is(self) -> None:
        announced: list[str] = []
        listener = process.listen("127.0.0.1", 0)
        server = process.EmbeddedGunicorn(
            process.ServerPlan(
                load=lambda: dict, listener=listener, announce=lambda: announced.append("ready"), workers=3
            )
        )
        before = signal.getsignal(signal.SIGHUP)
        try:
            seen = []
            for _ in range(4):  # The last one replaces another one later on.
                server._worker_is_ready(GthreadWorker.__new__(GthreadWorker))
                seen.append(len(announced))
        finally:
            signal.signal(signal.SIGHUP, before)
            os.close(int(server.cfg.settings["bind"].value[0].removeprefix("fd://")))
        assert seen == [0, 0, 1, 1]

    @pytest.mark.parametrize(
        ("soft", "hard", "connections", "files"),
        [
            (1024, 524_288, process.CONNECTIONS, process.CONNECTIONS + process.OTHER_FILES),
            (1024, 1024, 1024 - process.OTHER_FILES, 1024),
            (256, 256, 64, 256),
            (100_000, 100_000, process.CONNECTIONS, 100_000),
        ],
    )
    def test_connections_are_as_many_as_files_may_be_open(
        self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, connections: int, files: int
    ) -> None:
        limits = [(soft, hard)]
        monkeypatch.setattr(resource, "getrlimit", lambda _which: limits[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda _which, value: limits.append(value))
        assert process._connection_limit() == connections
        assert limits[-1][0] == files
