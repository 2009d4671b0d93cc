"""The built-in server over real sockets: what gets through, what is refused and how, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from app import open_core
from settings import Settings
from tests.conftest import Blank
from tests.demo import open_accounts
from tests.legacy.posting import ASKED
from tests.serving import PROGRAM, Server, read_all, read_reply, serving

FIELDS = {
    **ASKED,
    "output": "JSON",
    "condensed": "yes",
    "overwrite_duplicates": "update",
}
CREDENTIALS = b"Invalid user, API key or account."
END = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
TOO_LARGE = b"The request is larger than"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, blank_sqlite: Blank) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    furnish(folder, blank_sqlite)
    with serving(folder, environment={"TILLGATE_MAX_BODY": "1 MB", "TILLGATE_LOG_FORMAT": "json"}) as server:
        yield server


def furnish(folder: Path, blank: Blank) -> None:
    """The demo accounts, in the database of a server that is not running yet."""
    (folder / "data").mkdir()
    blank(folder / "data").dispose()
    url = f"sqlite:///{folder}/data/tillgate.db"
    core = open_core(Settings(data_dir=folder / "data", database_url=url))
    open_accounts(core)
    core.database.dispose()


def form(data: str = "", **changed: str) -> bytes:
    return urlencode({**FIELDS, "profiles_data": data, **changed}).encode()


def post(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A POST that asks for the connection to be closed after it."""
    size = len(body) if length is None else length
    lines = ("POST / HTTP/1.1", "Host: x", f"Content-Length: {size}", "Connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


def answer(reply: bytes) -> dict[str, object]:
    """The JSON in a raw reply."""
    found = json.loads(reply.partition(b"\r\n\r\n")[2])
    assert isinstance(found, dict)
    return found


def imported(reply: bytes) -> dict[str, str]:
    """The counts of a batch that was imported."""
    batch = answer(reply)["batch"]
    assert isinstance(batch, dict)
    assert batch["status"] == "imported"
    counts = batch["customers"]
    assert isinstance(counts, dict)
    return counts


class TestWhatGetsThrough:
    def test_ready_line_has_the_url(self, server: Server) -> None:
        assert server.line.startswith("Tillgate is ready at http://127.0.0.1:")
        with urlopen(server.url + "/") as response:  # noqa: S310 - our own server's
            assert CREDENTIALS in response.read()

    def test_chunks_of_any_size(self, server: Server) -> None:
        body = form("a1|x\na2|y")
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        chunks = [b"%x\r\n%s\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7)]
        assert imported(server.exchange(head, *chunks, b"0\r\n\r\n"))["new"] == "2"

    @pytest.mark.parametrize("sent", ["lines", "bytes"])
    def test_chunks_that_come_in_pieces(self, server: Server, sent: str) -> None:
        """What has come may end anywhere, behind the size of a chunk too: nothing is lost of it, nor of what follows."""
        body = form(f"{sent}1|x\n{sent}2|y", overwrite_duplicates="ignore")
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        pieces = [head]
        for start in range(0, len(body), 100):
            chunk = body[start : start + 100]
            pieces += [b"%x\r\n" % len(chunk), chunk, b"\r\n"]
        pieces += [b"0\r\n", b"\r\n"]
        if sent == "bytes":
            pieces = [bytes([byte]) for byte in b"".join(pieces)]
        with server.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for expected in ("2", "0"):
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(0.02 if sent == "lines" else 0.0005)
                assert imported(read_reply(connection))["new"] == expected

    def test_expect_100_continue(self, server: Server) -> None:
        body = form("b1|x")
        with server.connect() as connection:
            connection.sendall(post(b"", "Expect: 100-continue", length=len(body)))
            assert connection.recv(1024).startswith(b"HTTP/1.1 100 ")
            connection.sendall(body)
            assert imported(read_all(connection))["new"] == "1"

    def test_get_line_of_more_than_64_kb(self, server: Server) -> None:
        rows = "\n".join(f"c{number}|{'x' * 200}" for number in range(500))
        request = b"GET /?" + form(rows)
        assert len(request) > 100_000
        assert imported(server.exchange(request + END))["new"] == "500"

    def test_characters_in_the_address_that_should_be_encoded(self, server: Server) -> None:
        request = b"GET /?" + form() + "d1|Zoë La Rue".encode()
        assert imported(server.exchange(request + END))["new"] == "1"

    @pytest.mark.parametrize("name", ["api_access_key", "API-Access-Key", "Api_Access-Key"])
    def test_header_of_the_key_with_underscores_or_hyphens(self, server: Server, name: str) -> None:
        reply = server.exchange(post(form("e1|x", user_api_key="wrong"), f"{name}: {FIELDS['user_api_key']}"))
        assert answer(reply)["status"] == "success"

    def test_other_headers_with_underscores_are_dropped(self, server: Server) -> None:
        # Two names that a proxy tells apart would be one to the application.
        reply = server.exchange(post(form("e2|x"), "Content_Encoding: br", "Content_Length: 3"))
        assert answer(reply)["status"] == "success"

    def test_connection_is_kept_for_the_next_request(self, server: Server) -> None:
        with server.connect() as connection:
            for _ in range(3):
                connection.sendall(post(form("f1|x")).replace(b"Connection: close\r\n", b""))
                assert answer(read_reply(connection))["status"] == "success"

    def test_requests_may_follow_each_other_at_once(self, server: Server) -> None:
        one = post(form("f2|x")).replace(b"Connection: close\r\n", b"")
        replies = server.exchange(one + one + post(form("f2|x")))
        assert replies.count(b'"status":"success"') == 3

    def test_any_method_is_answered_by_the_protocol(self, server: Server) -> None:
        reply = server.exchange(b"BREW /?output=JSON" + END)
        assert "BREW" in str(answer(reply)["error"])


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("query", "kind", "start"),
        [
            (b"", b"application/xml", b'<?xml version="1.0"'),
            (b"output=JSON&", b"application/json", b"{"),
            (b"callback=f&", b"text/javascript", b"/**/f({"),
        ],
    )
    def test_line_beyond_the_limit_in_the_callers_format(
        self, server: Server, query: bytes, kind: bytes, start: bytes
    ) -> None:
        head, _, body = server.exchange(b"GET /?" + query + b"a=" + b"x" * 1_100_000 + END).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"Content-Type: " + kind in head
        assert body.startswith(start)
        assert TOO_LARGE in body

    @pytest.mark.parametrize(
        "head",
        [
            b"GET /?output=JSON HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
            b"GET /?output=JSON HTTP/1.1\r\n" + b"".join(b"X-%d: x\r\n" % number for number in range(600)) + b"\r\n",
            b"GET /?output=JSON HTTP/1.1\r\n" + b"X: " + b"x" * 400_000,
        ],
    )
    def test_headers_beyond_the_limit_in_the_callers_format(self, server: Server, head: bytes) -> None:
        assert TOO_LARGE.decode() in str(answer(server.exchange(head))["error"])

    @pytest.mark.parametrize(
        "request_",
        [
            b"nonsense\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: rot13\r\n\r\n",
            b"POST / HTTP/1.1\r\nExpect: miracles\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        ],
    )
    def test_what_is_not_http_gets_well_formed_xml(self, server: Server, request_: bytes) -> None:
        head, _, body = server.exchange(request_).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<response status="error">')

    def test_sender_may_finish_and_reads_that_it_was_too_much(self, server: Server) -> None:
        reply = server.exchange(post(b"", length=20_000_000), *[b"x" * 1_000_000] * 20)
        assert TOO_LARGE in reply

    def test_wrong_credentials_before_the_body_has_come(self, server: Server) -> None:
        start = form("g1|x", user_api_key="wrong") + b"x" * 4000
        with server.connect() as connection:
            connection.sendall(post(start, length=900_000))
            assert CREDENTIALS in read_reply(connection)

    @pytest.mark.parametrize("framing", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
    def test_body_that_ends_early_in_the_format_read_so_far(self, server: Server, framing: str) -> None:
        body = b"output=JSON&condensed=yes&a="
        piece = b"%x\r\n%s\r\n" % (len(body), body) if "chunked" in framing else body
        with server.connect() as connection:
            connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode() + piece)
            connection.shutdown(socket.SHUT_WR)
            assert "before all of it" in str(answer(read_all(connection))["error"])

    def test_chunk_that_is_broken(self, server: Server) -> None:
        head = b"POST /?output=JSON HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert answer(server.exchange(head + b"zz\r\n"))["status"] == "error"


class TestNeighbours:
    def test_slow_senders_stop_nobody(self, server: Server) -> None:
        with ExitStack() as slow:
            for number in range(240):
                connection = slow.enter_context(server.connect())
                connection.sendall((b"", b"POST / HT", post(b"API=1.5&", length=9000))[number % 3])
            for _ in range(5):
                assert answer(server.exchange(post(form("h1|x"))))["status"] == "success"

    def test_slow_sender_is_served_in_the_end(self, server: Server) -> None:
        request = post(form("h2|x"))
        with server.connect() as connection:
            for start in range(0, len(request), 40):
                connection.sendall(request[start : start + 40])
            assert imported(read_all(connection))["new"] == "1"


class TestLifeAndDeath:
    def test_it_ends_in_peace_and_what_is_under_way_is_finished(self, tmp_path: Path, blank_sqlite: Blank) -> None:
        furnish(tmp_path, blank_sqlite)
        body = form("i1|x")
        with serving(tmp_path, "--workers", "1") as server, server.connect() as connection:
            connection.sendall(post(body[:-1], length=len(body)) if body else b"")
            # A second request on another connection is answered: the first one has been taken up.
            assert CREDENTIALS in server.exchange(post(b"API=1.5"))
            server.process.send_signal(signal.SIGTERM)
            connection.sendall(body[-1:])
            assert imported(read_all(connection))["new"] == "1"
            assert server.process.wait(30) == 0
            out, err = server.process.communicate()
        assert (out, err) == ("", "")

    def test_nothing_sent_is_in_its_output(self, tmp_path: Path, blank_sqlite: Blank) -> None:
        furnish(tmp_path, blank_sqlite)
        with serving(tmp_path) as server:
            server.exchange(b"GET /?" + form("canary-1|x", user_api_key="canary-2") + END)
            server.exchange(b"GET /canary-3?canary-4=1 HTTP/1.1\r\ncanary-5\r\n\r\n")
            server.exchange(b"POST /?canary-6 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\ncanary-7\r\n")
            status, out, err = server.stop()
        assert (status, out) == (0, "")
        assert "canary" not in err

    def test_first_start_makes_everything(self, tmp_path: Path) -> None:
        with serving(tmp_path) as server:
            assert CREDENTIALS in server.exchange(b"GET /" + END)
        names = {file.name for file in (tmp_path / "data").iterdir()}
        assert {"secret", "tillgate.db"} <= names
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "data").iterdir())

    def test_workers_end_when_their_master_is_killed(self, tmp_path: Path) -> None:
        with serving(tmp_path) as server:
            server.stop(signal.SIGKILL)  # returns when the last of them has closed standard output
            with pytest.raises(ConnectionRefusedError):
                server.connect()

    def test_worker_that_dies_is_replaced_and_said_nothing_of(self, tmp_path: Path) -> None:
        with serving(tmp_path, "--workers", "1") as server:
            children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
            for child in children:
                os.kill(int(child), signal.SIGKILL)
            assert CREDENTIALS in server.exchange(b"GET /" + END)
            assert server.stop()[:2] == (0, "")

    def test_port_in_use_is_told_in_a_sentence(self, server: Server) -> None:
        port = server.url.rpartition(":")[2]
        ended = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", PROGRAM, "serve", "--port", port],
            cwd=server.folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        sentence = f"Cannot listen on 127.0.0.1 port {port}: something else listens there already.\n"
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", sentence)

    def test_statuses_where_they_are_wanted(self, tmp_path: Path) -> None:
        with serving(tmp_path, environment={"TILLGATE_LEGACY_STATUS": "http"}) as server:
            assert server.exchange(b"GET /" + END).startswith(b"HTTP/1.1 401 ")
            assert server.exchange(b"GET /?a=" + b"x" * 1_100_000 + END).startswith(b"HTTP/1.1 413 ")
