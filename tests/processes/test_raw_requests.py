"""What clients send on the wire, to a running `tillgate serve`: one table of raw requests and what comes back.

The tests speak to the socket only and know nothing of the server behind it.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import Blank
from tests.support.case_database import World
from tests.support.gateway_process import PROGRAM, Server, read_all, read_reply
from tests.support.legacy_client import BOUNDARY, multipart
from tests.support.legacy_posts import ASKED
from tests.support.served_gateway import served_in

FIELDS = {**ASKED, "output": "JSON", "condensed": "yes", "overwrite_duplicates": "update"}
URLENCODED = b"Content-Type: application/x-www-form-urlencoded"
MULTIPART = b"Content-Type: multipart/form-data; boundary=" + BOUNDARY
CHUNKED = b"Transfer-Encoding: chunked"
CLOSE = b"Connection: close"
SLOW_SENDERS = 150
MAX_BODY = 1024 * 1024

# The server gives a request line and its headers 30 seconds. Here it gives them one.
SHORT_HEAD_CLOCK = """
from server import gthread_worker
gthread_worker.HEAD_SECONDS = 1.0
"""
CLOCK_PATIENCE = 60.0


def form(data: str, **changed: str) -> bytes:
    return urlencode({**FIELDS, "profiles_data": data, **changed}).encode()


def pairs(data: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in {**FIELDS, "profiles_data": data}.items()]


def head(line: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((line, b"Host: localhost", *headers, b"", b""))


def post(body: bytes, *headers: bytes, line: bytes = b"POST /api.php HTTP/1.1") -> bytes:
    return head(line, b"Content-Length: %d" % len(body), *headers) + body


def get(query: bytes, *headers: bytes, method: bytes = b"GET", path: bytes = b"/api.php") -> bytes:
    return head(method + b" " + path + b"?" + query + b" HTTP/1.1", *headers)


def chunks(body: bytes, size: int) -> bytes:
    """The body in chunks of that many bytes."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def wide_rows(count: int) -> str:
    """Rows of about 100 bytes."""
    return "\n".join(f"w{number}|{'x' * 92}" for number in range(count))


@dataclass(frozen=True)
class Reply:
    """A reply as it came."""

    head: bytes
    body: bytes

    @property
    def new_customers(self) -> int:
        """How many customers the imported batch made. Fails where nothing was imported."""
        reply: Any = json.loads(self.body)
        assert reply["status"] == "success", reply
        return int(reply["batch"]["customers"]["new"])


def replies(received: bytes) -> list[Reply]:
    """The replies that follow each other in what came, each with a length or at the end."""
    found = []
    while received:
        top, _, rest = received.partition(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1."), received[:200]
        lengths = [int(line[15:]) for line in top.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        [length] = lengths or [len(rest)]
        found.append(Reply(top, rest[:length]))
        received = rest[length:]
    return found


# What is imported. Each is one connection: what is sent, and how many customers each request makes.
TWO = "a1|Ann\na2|Ben"
KEPT = post(form(TWO), URLENCODED)
LAST = post(form(TWO), URLENCODED, CLOSE)
IMPORTED: dict[str, tuple[bytes, Sequence[int]]] = {
    "GET of 60 kB": (get(form(wide_rows(600)), CLOSE), [600]),
    "GET of 300 kB": (get(form(wide_rows(3000)), CLOSE), [3000]),
    "GET with bytes of UTF-8 in the target": (get(form("") + 'u1|Zoë <La> "Rue" 日本'.encode(), CLOSE), [1]),
    "GET with bytes of Latin-1 in the target": (get(form("") + b"l1|Zo\xeb", CLOSE), [1]),
    "GET with blanks in the target": (get(form("") + b"b1|Zoe La Rue", CLOSE), [1]),
    "lower-case post": (post(form(TWO), CLOSE, line=b"post /api.php HTTP/1.1"), [2]),
    "mixed-case post": (post(form(TWO), CLOSE, line=b"Post /api.php HTTP/1.1"), [2]),
    "lower-case get": (get(form(TWO), CLOSE, method=b"get"), [2]),
    "post to //api.php": (post(form(TWO), CLOSE, line=b"POST //api.php HTTP/1.1"), [2]),
    "get of //api.php": (get(form(TWO), CLOSE, path=b"//api.php"), [2]),
    "a whole URL as the target": (post(form(TWO), CLOSE, line=b"POST http://localhost/api.php HTTP/1.1"), [2]),
    "HTTP/1.0": (post(form(TWO), URLENCODED, line=b"POST /api.php HTTP/1.0"), [2]),
    "HTTP/1.0 without a Host": (b"GET /api.php?" + form(TWO) + b" HTTP/1.0\r\n\r\n", [2]),
    "HTTP/1.0 that asks for more": (
        post(form(TWO), b"Connection: keep-alive", line=b"POST /api.php HTTP/1.0")
        + post(form(TWO), line=b"POST /api.php HTTP/1.0"),
        [2, 0],
    ),
    "pipelined posts": (KEPT + KEPT + LAST, [2, 0, 0]),
    "a pipelined get behind a chunked post": (
        head(b"POST /api.php HTTP/1.1", CHUNKED) + chunks(form(TWO), 50) + get(form("a3|Cid"), CLOSE),
        [2, 1],
    ),
    **{
        f"chunks of {size} bytes, {name}": (
            head(b"POST /api.php HTTP/1.1", kind, CHUNKED, CLOSE) + chunks(body, size),
            [2],
        )
        for size in (1, 7, 4096)
        for name, kind, body in (
            ("urlencoded", URLENCODED, form(TWO)),
            ("multipart", MULTIPART, multipart(pairs(TWO))),
        )
    },
}

NOT_HTTP = "it is not HTTP as this server knows it"
TOO_LARGE = "The request is larger than"
NO_METHOD = "The method BREW is not served here; send POST or GET."
XML, JSON, JAVASCRIPT = b"application/xml", b"application/json", b"text/javascript"
NO_COLON = b" HTTP/1.1\r\nno colon\r\n\r\n"
# As long as a line, a header, or all headers never are; the server stops to read before their end.
LONG_LINE = b"a=" + b"x" * 1_100_000
LONG_HEADER = b"X-Long: " + b"x" * 100_000
MEGABYTE = b"&a=" + b"x" * 1_000_000
CHUNKED_POST = head(b"POST /api.php HTTP/1.1", CHUNKED, CLOSE)
MANY_HEADERS = [b"X-%d: x" % number for number in range(600)]

# What is refused: what is sent, the status, the content type, and what the reply says.
REFUSED: dict[str, tuple[bytes, int, bytes, str]] = {
    **{
        name: (sent, 400, XML, NOT_HTTP)
        for name, sent in {
            "no request line": b"nonsense\r\n\r\n",
            "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
            "an unknown version": b"GET / HTTP/9.9\r\n\r\n",
            "a header without a colon": b"GET /" + NO_COLON,
            "a length and chunks": head(b"POST / HTTP/1.1", b"Content-Length: 1", CHUNKED),
            "a negative length": head(b"POST / HTTP/1.1", b"Content-Length: -1"),
            "two lengths": head(b"POST / HTTP/1.1", b"Content-Length: 1", b"Content-Length: 2"),
            "an unknown transfer encoding": head(b"POST / HTTP/1.1", b"Transfer-Encoding: rot13"),
            "an unknown expectation": head(b"POST / HTTP/1.1", b"Expect: miracles"),
        }.items()
    },
    # In the format of the caller, whatever cannot be read.
    "unreadable, JSON": (b"GET /api.php?output=json" + NO_COLON, 400, JSON, NOT_HTTP),
    "unreadable, JSONP": (b"GET /api.php?callback=f" + NO_COLON, 200, JAVASCRIPT, NOT_HTTP),
    "unreadable, an unknown format": (b"GET /api.php?output=yaml" + NO_COLON, 400, XML, "Invalid output: yaml."),
    "unreadable, no callback": (b"GET /api.php?callback=1;" + NO_COLON, 400, JSON, "Invalid callback: 1;."),
    "unreadable length, JSON": (head(b"POST /?output=json HTTP/1.1", b"Content-Length: x"), 400, JSON, NOT_HTTP),
    "unreadable chunks, JSON": (
        head(b"POST /?output=JSON HTTP/1.1", CHUNKED, CLOSE) + b"zz\r\n",
        200,
        JSON,
        "The request ended before all of it had arrived.",
    ),
    "unreadable, customer import": (b"POST /v1/customers/importCSV" + NO_COLON, 400, JSON, NOT_HTTP),
    "unreadable, bulk creation": (b"POST /customers/bulk/csv" + NO_COLON, 400, JSON, NOT_HTTP),
    "unreadable, bulk creation with a date": (
        b"POST /grid/2025-10-13/customers/bulk/csv" + NO_COLON,
        400,
        JSON,
        NOT_HTTP,
    ),
    "unreadable, admin import": (b"POST /api/customers/import" + NO_COLON, 400, JSON, NOT_HTTP),
    "unreadable, signing in": (b"POST /api/auth/sign-in/email" + NO_COLON, 400, JSON, "BAD_REQUEST"),
    "a long line, XML": (get(LONG_LINE, CLOSE), 200, XML, TOO_LARGE),
    "a long line, JSON": (get(b"output=JSON&" + LONG_LINE, CLOSE), 200, JSON, TOO_LARGE),
    "a long line, JSONP": (get(b"callback=f&" + LONG_LINE, CLOSE), 200, JAVASCRIPT, TOO_LARGE),
    "a long line, bulk creation": (get(LONG_LINE, CLOSE, path=b"/customers/bulk/csv"), 413, JSON, TOO_LARGE),
    "a long header": (get(b"output=JSON", LONG_HEADER), 200, JSON, TOO_LARGE),
    "many headers": (get(b"output=JSON", *MANY_HEADERS), 200, JSON, TOO_LARGE),
    "headers without an end": (b"GET /?output=JSON HTTP/1.1\r\nX: " + b"x" * 400_000, 200, JSON, TOO_LARGE),
    "a method that nobody serves": (get(b"output=JSON", CLOSE, method=b"BREW"), 200, JSON, NO_METHOD),
    # Its sender goes on sending all of it, and reads its refusal all the same.
    "a body of 20 MB": (post(b"x" * 20_000_000, CLOSE), 200, XML, TOO_LARGE),
    "a chunked body of 20 MB": (CHUNKED_POST + chunks(form(TWO) + 20 * MEGABYTE, 1_000_000), 200, JSON, TOO_LARGE),
    "a chunked body of 20 MB behind a wrong key": (
        CHUNKED_POST + chunks(form(TWO, user_api_key="wrong") + 20 * MEGABYTE, 1_000_000),
        200,
        JSON,
        "Invalid user, API key or account.",
    ),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, blank_sqlite: Blank) -> Iterator[tuple[Server, World]]:
    folder = tmp_path_factory.mktemp("raw")
    program = SHORT_HEAD_CLOCK + PROGRAM
    with served_in(folder, blank_sqlite, "--workers", "1", program=program, MAX_BODY=str(MAX_BODY)) as running:
        yield running


@pytest.fixture
def server(running: tuple[Server, World]) -> Server:
    """The module's server, with no customers and no batches."""
    running[1].begin([])
    return running[0]


@pytest.mark.parametrize("name", IMPORTED)
def test_what_is_imported(server: Server, name: str) -> None:
    sent, expected = IMPORTED[name]
    assert [reply.new_customers for reply in replies(server.exchange(sent))] == expected


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(server: Server, name: str) -> None:
    sent, status, content_type, words = REFUSED[name]
    [reply] = replies(server.exchange(sent))
    assert reply.head.split(b" ")[1] == str(status).encode()
    assert b"\r\nContent-Type: " + content_type in reply.head
    start = {XML: b'<?xml version="1.0" encoding="UTF-8"?>\n<response status="error">', JAVASCRIPT: b"/**/f({"}
    assert reply.body.startswith(start.get(content_type, b"{"))
    assert words.encode() in reply.body
    if content_type == JSON:
        json.loads(reply.body)


def test_a_latin_1_target_keeps_its_characters(running: tuple[Server, World], server: Server) -> None:
    server.exchange(IMPORTED["GET with bytes of Latin-1 in the target"][0])
    assert [customer["first_name"] for customer in running[1].customers([])] == ["Zoë"]


@pytest.mark.parametrize("name", [b"api_access_key", b"API_ACCESS_KEY", b"api-access-key", b"Api_Access-Key"])
def test_the_header_with_the_key_passes_in_any_spelling(server: Server, name: bytes) -> None:
    sent = post(form(TWO, user_api_key="wrong"), name + b": " + FIELDS["user_api_key"].encode(), CLOSE)
    assert replies(server.exchange(sent))[0].new_customers == 2


def test_other_headers_with_underscores_are_dropped(server: Server) -> None:
    # Two names that a proxy tells apart would be one to the application.
    others = (b"Content_Encoding: br", b"Content_Length: 3", b"Transfer_Encoding: chunked")
    assert replies(server.exchange(post(form(TWO), *others, CLOSE)))[0].new_customers == 2


@pytest.mark.parametrize("kind", [URLENCODED, MULTIPART], ids=["urlencoded", "multipart"])
def test_expect_100_continue(server: Server, kind: bytes) -> None:
    body = form(TWO) if kind is URLENCODED else multipart(pairs(TWO))
    with server.connect() as connection:
        connection.sendall(
            head(b"POST /api.php HTTP/1.1", kind, b"Expect: 100-continue", b"Content-Length: %d" % len(body))
        )
        # A curl that is not told to go on waits; nothing of the body is sent before.
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert replies(read_reply(connection))[0].new_customers == 2


def test_a_connection_is_kept(server: Server) -> None:
    with server.connect() as connection:
        for expected in (2, 0, 0):
            connection.sendall(KEPT)
            assert replies(read_reply(connection))[0].new_customers == expected


@pytest.mark.parametrize("alone", ["lines", "bytes"])
def test_chunks_whose_parts_come_alone(server: Server, alone: str) -> None:
    """What has come may end anywhere, behind the size of a chunk too: nothing is lost of it, nor of what follows."""
    sent = head(b"POST /api.php HTTP/1.1", CHUNKED) + chunks(form(TWO), 100)
    pieces = sent.splitlines(keepends=True) if alone == "lines" else [bytes([byte]) for byte in sent]
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for expected in (2, 0):
            for piece in pieces:
                connection.sendall(piece)
                # So that the server reads each piece before the next one is there.
                time.sleep(0.01 if alone == "lines" else 0.0005)
            assert replies(read_reply(connection))[0].new_customers == expected


def test_a_refused_sender_hears_of_it_before_it_has_sent_everything(server: Server) -> None:
    start = form(TWO, user_api_key="wrong") + b"&a=" + b"x" * 4000
    with server.connect() as connection:
        connection.sendall(head(b"POST / HTTP/1.1", URLENCODED, b"Content-Length: 900000") + start)
        assert b"Invalid user, API key or account." in read_reply(connection)


@pytest.mark.parametrize("framing", [b"Content-Length: 5000", CHUNKED], ids=["length", "chunked"])
def test_a_body_that_ends_early_is_refused_in_the_format_read_so_far(server: Server, framing: bytes) -> None:
    body = b"output=JSON&condensed=yes&a="
    piece = b"%x\r\n%b\r\n" % (len(body), body) if framing is CHUNKED else body
    with server.connect() as connection:
        connection.sendall(head(b"POST / HTTP/1.1", framing) + piece)
        connection.shutdown(socket.SHUT_WR)
        [reply] = replies(read_all(connection))
    assert json.loads(reply.body)["error"] == "The request ended before all of it had arrived."


@pytest.mark.parametrize(
    "stalled",
    [
        b"POST /api.php HT",
        head(b"POST /api.php HTTP/1.1", URLENCODED, b"Content-Length: 9000") + b"API=1.5&",
        head(b"POST /api.php HTTP/1.1", URLENCODED, CHUNKED) + b"8\r\nAPI=1",
    ],
    ids=["heads", "bodies", "chunked bodies"],
)
def test_stalled_senders_stop_nobody(server: Server, stalled: bytes) -> None:
    with ExitStack() as senders:
        for _ in range(SLOW_SENDERS):
            senders.enter_context(server.connect()).sendall(stalled)
        for number in range(5):
            [reply] = replies(server.exchange(post(form(f"n{number}|x"), CLOSE)))
            assert reply.new_customers == 1


def test_a_slow_sender_is_served_in_the_end(server: Server) -> None:
    with server.connect() as connection:
        for start in range(0, len(LAST), 40):
            connection.sendall(LAST[start : start + 40])
        assert replies(read_all(connection))[0].new_customers == 2


def test_a_head_that_drips_ends_by_the_clock(server: Server) -> None:
    """Each byte comes long before a stall would count; all of them together take too long."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        try:
            while not ended.wait(0.05):
                connection.sendall(b"x")
        except OSError:
            return

    started = time.monotonic()
    with server.connect() as connection:
        connection.settimeout(CLOCK_PATIENCE)
        connection.sendall(b"GET /api.php HTTP/1.1\r\nX-Slow: ")
        dripping = threading.Thread(target=drip, args=(connection,))
        dripping.start()
        try:
            read_all(connection)
        except ConnectionResetError:
            pass
        finally:
            ended.set()
            dripping.join()
    assert time.monotonic() - started < CLOCK_PATIENCE
    assert replies(server.exchange(LAST))[0].new_customers == 2
