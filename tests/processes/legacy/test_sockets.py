"""What clients send on the wire, to a real server: content types, gzip, and bodies of 100 MB."""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.case_database import World
from tests.support.gateway_process import Server
from tests.support.legacy_client import BOUNDARY, multipart, urlencoded
from tests.support.legacy_posts import ASKED, URLENCODED
from tests.support.served_gateway import Serve

MB = 1024 * 1024
MEMORY_ABOVE_IDLE = 96 * MB
MULTIPART = f"multipart/form-data; boundary={BOUNDARY.decode()}"
FIELDS: dict[str, str] = {
    **ASKED,
    "output": "JSON",
    "profiles_data": "A1|Ann\r\nA2|Ben\r\n",
}


def pairs(**changed: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in {**FIELDS, **changed}.items()]


def head(*lines: str, method: str = "POST", target: str = "/api.php") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: localhost", *lines, "", "")).encode()


def posted(server: Server, body: bytes, *lines: str) -> Any:
    """The tree of the reply to a body with a length."""
    return tree(server.exchange(head(f"Content-Length: {len(body)}", "Connection: close", *lines), body))


def tree(reply: bytes) -> Any:
    top, _, body = reply.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 200 "), reply[:500]
    if b"chunked" in top.lower():
        body = b"".join(_chunks(body))
    return json.loads(body)


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, body = body.partition(b"\r\n")
        yield body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


def new(reply: Any) -> int:
    assert reply["status"] == "success", reply
    return int(reply["batch"]["customers"]["new"])


def test_any_content_type_or_none(served: tuple[Server, World]) -> None:
    server, world = served
    for lines in ((), ("Content-Type: text/plain",), ("Content-Type: application/json",), ("Content-Type:",)):
        for body in (urlencoded(pairs()), multipart(pairs())):
            world.begin([])
            assert new(posted(server, body, *lines)) == 2, (lines, body[:40])


def test_gzipped_bodies(served: tuple[Server, World]) -> None:
    server, world = served
    for kind, body in ((URLENCODED, urlencoded(pairs())), (MULTIPART, multipart(pairs()))):
        world.begin([])
        assert new(posted(server, gzip.compress(body), f"Content-Type: {kind}", "Content-Encoding: gzip")) == 2


def test_a_body_over_the_limit_gets_a_well_formed_error(serve: Serve) -> None:
    with serve("--workers", "1", MAX_BODY="1 MB") as (server, world):
        for kind, encode in ((URLENCODED, urlencoded), (MULTIPART, multipart)):
            body = encode(pairs(profiles_data="A1|Ann\r\n" * 500_000))
            for data, lines in (
                (body, (f"Content-Length: {len(body)}",)),
                (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), ("Transfer-Encoding: chunked",)),
            ):
                target = "/api?output=json"
                sent = head(f"Content-Type: {kind}", *lines, "Connection: close", target=target)
                reply = tree(server.exchange(sent, data))
                assert reply["error"] == "The request is larger than the 1048576 bytes that this server takes."
        assert world.customers([]) == []


@pytest.mark.slow
def test_100_mb_in_either_encoding_within_bounded_memory(serve: Serve) -> None:
    # Most of it is an unused column, so that the disk is not what is measured.
    rows, filler = 1750, "x" * 60_000
    lines = [f"K{n}|{filler}|Ann" for n in range(rows)]
    more = {"profiles_header_2": "", "profiles_header_3": "first_name"}
    with serve("--workers", "1") as (server, world):
        new(posted(server, urlencoded(pairs()), f"Content-Type: {URLENCODED}"))
        idle = peak_memory(server)
        for kind, encode in ((URLENCODED, urlencoded), (MULTIPART, multipart)):
            world.begin([])
            body = encode(pairs(**more, profiles_data="\r\n".join(lines)))
            assert len(body) > 100 * MB
            assert new(posted(server, body, f"Content-Type: {kind}")) == rows
        if idle:
            assert peak_memory(server) - idle < MEMORY_ABOVE_IDLE


@pytest.mark.slow
def test_100_mb_of_short_bad_rows_within_bounded_memory(serve: Serve) -> None:
    # Every row is a problem, and each is reported.
    with serve("--workers", "1") as (server, world):
        new(posted(server, urlencoded(pairs()), f"Content-Type: {URLENCODED}"))
        idle = peak_memory(server)
        row = b"A1|" + b"x" * 1000 + b"\n"
        body = multipart([*pairs(details="yes"), (b"profiles_data", row * (100 * MB // len(row)))])
        reply = posted(server, body, f"Content-Type: {MULTIPART}")
        assert len(reply["problems"]) == 100 * MB // len(row)
        assert re.fullmatch(r".* \(and [0-9]+ more\)", reply["error"])
        assert [customer["code"] for customer in world.customers([])] == ["A1", "A2"]
        if idle:
            assert peak_memory(server) - idle < MEMORY_ABOVE_IDLE


def peak_memory(server: Server) -> int:
    """The most memory that a process of the server ever used, in bytes; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    return max(_peaks(server.process.pid))


def _peaks(process: int) -> Iterable[int]:
    folder = Path(f"/proc/{process}")
    found = re.search(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
    yield int(found[1]) * 1024 if found else 0
    for task in (folder / "task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _peaks(int(child))
