"""The built-in server over real sockets: how it starts, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from server.installation import open_context
from settings import Settings
from tests.conftest import Blank
from tests.support.demo_accounts import open_accounts
from tests.support.gateway_process import PROGRAM, Server, read_all, serving
from tests.support.legacy_posts import ASKED

FIELDS = {
    **ASKED,
    "output": "JSON",
    "condensed": "yes",
    "overwrite_duplicates": "update",
}
CREDENTIALS = b"Invalid user, API key or account."
END = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


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
    context = open_context(Settings(data_dir=folder / "data", database_url=url))
    open_accounts(context)
    context.database.dispose()


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


class TestLifeAndDeath:
    def test_ready_line_has_the_url(self, server: Server) -> None:
        assert server.line.startswith("Tillgate is ready at http://127.0.0.1:")
        with urlopen(server.url + "/") as response:  # noqa: S310 - our own server's
            assert CREDENTIALS in response.read()

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

    def test_port_in_use_is_reported_in_a_sentence(self, server: Server) -> None:
        port = server.url.rpartition(":")[2]
        ended = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", PROGRAM, "serve", "--port", port],
            cwd=server.folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
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
