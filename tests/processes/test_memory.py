"""A serving process stays small whatever is sent to it: a bound, held by a real server. (How small: bench/RESULTS.md.)

With TILLGATE_SOAK=1 the bodies have 100 MB instead of 10.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from importing.context import Context
from storage.engine import Kind
from tests.conftest import SECRET
from tests.support.demo_accounts import Demo
from tests.support.gateway_process import Server, serving
from tests.support.strategies import SOAK

SIZE = 100_000_000 if SOAK else 10_000_000
MOST = 96  # MB above idle
PATIENCE = 900
URLENCODED = "application/x-www-form-urlencoded"
BOUNDARY = "memory-bound"
NAMES = ("code", "card_number", "first_name", "email", "street1", "city")
BLOCK = 1000

pytestmark = pytest.mark.slow


class Processes:
    """Those that answer and those that work beside them, and what each may grow by."""

    def __init__(self, server: Server, fields: dict[str, str]) -> None:
        master = server.process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        self._folders = [Path("/proc") / child for child in children]
        self._port = urlsplit(server.url).port
        self.fields = fields
        self.post(urlencode({**fields, "profiles_data": "warm-up|\n"}).encode(), URLENCODED)
        self._idle = self._memory("VmRSS")

    def post(self, body: bytes, content_type: str) -> dict[str, object]:
        """Post a body; the reply. The peak of memory is counted from here on."""
        for folder in self._folders:
            (folder / "clear_refs").write_text("5")
        connection = http.client.HTTPConnection("127.0.0.1", self._port or 0, timeout=PATIENCE)
        try:
            connection.request("POST", "/", body, {"Content-Type": content_type})
            reply: dict[str, object] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return reply

    @property
    def growth(self) -> float:
        """MB of the last post's peak above idle, of the process that grew most."""
        return max(peak - idle for peak, idle in zip(self._memory("VmHWM"), self._idle, strict=True))

    def _memory(self, what: str) -> list[float]:
        found = []
        for folder in self._folders:
            lines = (folder / "status").read_text().splitlines()
            found.append(next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what)))
        return found


@pytest.fixture
def server(context: Context, account: Demo, tmp_path: Path) -> Iterator[Processes]:
    fields = {"API": "1.5", **account.credentials, "output": "json", "type": "customers_batch", "delimiter": "pipe"}
    fields |= {f"profiles_header_{number}": name for number, name in enumerate(NAMES, 1)}
    fields |= {"overwrite_duplicates": "update", "campaigns_to_include": "898989889"}
    engine = context.database.engine
    if context.database.kind is Kind.SQLITE:
        engine.dispose()
    url = engine.url.set(drivername=context.database.kind.value).render_as_string(hide_password=False)
    settings = {
        "TILLGATE_DATABASE_URL": url,
        "TILLGATE_DATA_DIR": str(tmp_path / "data"),
        "TILLGATE_SECRET": SECRET.decode(),
        "TILLGATE_MAX_BODY": "1g",
    }
    with serving(tmp_path, "--workers", "1", environment=settings) as started:
        yield Processes(started, fields)


def rows(*, keys: bool) -> Iterator[bytes]:
    """About SIZE bytes of rows: 100 bytes each, or without keys as many short ones as a reply can be long for."""
    for start in range(0, SIZE // (100 if keys else 20), BLOCK):
        numbers = range(start, start + BLOCK)
        if keys:
            lines = (
                f"{n}|{10**15 + n}|Ann {n}|ann{n:09}@example.com|{n:09} {'Street ' * 4}|City {n:09}\n" for n in numbers
            )
        else:
            lines = (f"||Ann {n:014}\n" for n in numbers)
        yield "".join(lines).encode()


def urlencoded(server: Processes, data: bytes) -> bytes:
    """The form; of the data only what has to be is encoded."""
    escaped = data.replace(b"%", b"%25").replace(b" ", b"+").replace(b"|", b"%7C").replace(b"\n", b"%0A")
    return urlencode(server.fields).encode() + b"&profiles_data=" + escaped


def multipart(server: Processes, data: bytes) -> bytes:
    fields = {**server.fields, "profiles_data": ""}
    parts = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    return parts.removesuffix("\r\n").encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def test_rows_urlencoded_and_then_their_undo(server: Processes) -> None:
    server.fields["details"] = "yes"
    imported = server.post(urlencoded(server, b"".join(rows(keys=True))), URLENCODED)
    assert imported["status"] == "success"
    assert server.growth < MOST
    batch = imported["batch"]
    assert isinstance(batch, dict)
    undo = {**server.fields, "type": "customers_batch_undo", "batch_id": batch["id"]}
    assert server.post(urlencode(undo).encode(), URLENCODED)["status"] == "success"
    assert server.growth < MOST


def test_rows_multipart(server: Processes) -> None:
    body = multipart(server, b"".join(rows(keys=True)))
    assert server.post(body, f"multipart/form-data; boundary={BOUNDARY}")["status"] == "success"
    assert server.growth < MOST


def test_reply_that_lists_a_made_code_for_every_row(server: Processes) -> None:
    body = urlencoded(server, b"".join(rows(keys=False)))
    reply = server.post(body, URLENCODED)
    assert reply["status"] == "success", str(reply)[:1000]
    batch = reply["batch"]
    assert isinstance(batch, dict)
    assert len(batch["customers"]["customer"]) == SIZE // 20
    assert server.growth < MOST


def test_one_single_line(server: Processes) -> None:
    for encoding, content_type in (
        (urlencoded, URLENCODED),
        (multipart, f"multipart/form-data; boundary={BOUNDARY}"),
    ):
        body = encoding(server, b"1|2|" + b"x" * SIZE)
        assert server.post(body, content_type)["status"] == "error"
        assert server.growth < MOST
