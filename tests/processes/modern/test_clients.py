"""The vendors' own clients, and one written from Grid's public pages, against a real server: only the base URL is another."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support import clients
from tests.support.case_database import World
from tests.support.documents import HOUSE
from tests.support.gateway_process import Server
from tests.support.modern_client import READER

EXAMPLE = HOUSE / "fixtures" / "grid" / "published-example" / "file.csv"
FILE = "Source_id,Name,Birthdate,tier\nc1,Ann Lee,1990-02-28,gold\nbad-1,Bo Ek,never,\nc3,Cy Fox,,3\n"
PATIENCE = 90.0

Served = tuple[Server, World]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_text(FILE, encoding="utf-8")
    return path


def run(*command: str | Path, **environment: str) -> Any:
    """What a client printed."""
    done = subprocess.run(  # noqa: S603
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def check(told: Any, world: World) -> None:
    """What both Voucherify clients have to tell."""
    assert re.fullmatch("aa_[0-9a-f]{20}", told["sent"]["async_action_id"])
    action = told["action"]
    assert (action["status"], action["operation_status"], action["progress"]) == ("DONE", "SUCCESS", 100)
    assert action["result"] == {
        "message": "2 customer(s) imported successfully, 1 failed.",
        "failed": [{"source_id": "bad-1", "row": 2, "reason": 'Row 2, Birthdate: "never" is not a date (YYYY-MM-DD).'}],
        "done_count": 2,
        "failed_count": 1,
    }
    [listed] = told["listed"]["async_actions"]
    assert {name: listed.get(name) for name in action if name != "result"} == {
        name: value for name, value in action.items() if name != "result"
    }
    assert told["earlier"]["async_actions"] == []
    assert [customer["code"] for customer in world.customers([])] == ["c1", "c3"]


@pytest.mark.client_of("voucherify")
def test_voucherifys_javascript_client(served: Served, file: Path) -> None:
    server, world = served
    folder = clients.javascript()
    node = shutil.which("node")
    assert node is not None
    script = clients.FOLDER / "voucherify_client.mjs"
    told = run(node, script, folder, server.url, world.demo.user_id, world.demo.key, file)
    check(told, world)
    unknown = told["unknown"]
    assert (unknown["code"], unknown["key"], unknown["resource_id"]) == (404, "not_found", "aa_none")
    assert (told["unauthorized"]["code"], told["unauthorized"]["message"]) == (401, "Unauthorized")


@pytest.mark.client_of("voucherify")
def test_voucherifys_python_client(served: Served, file: Path) -> None:
    server, world = served
    folder = clients.python()
    script = clients.FOLDER / "voucherify_client.py"
    told = run(sys.executable, script, server.url, world.demo.user_id, world.demo.key, file, PYTHONPATH=str(folder))
    check(told, world)
    assert (told["unknown"]["status"], told["unknown"]["body"]["resource_type"]) == (404, "async_action")
    assert (told["unauthorized"]["status"], told["unauthorized"]["body"]["key"]) == (401, "unauthorized")


class Grid:
    """A client of Grid's two operations as its reference describes them: Basic credentials, a multipart form, JSON."""

    def __init__(self, url: str, client_id: str, client_secret: str) -> None:
        self._url = url
        self._authorization = "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()

    def upload_csv(self, path: Path) -> Any:
        boundary = "grid-client-boundary"
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        return self._call("/customers/bulk/csv", body, {"content-type": f"multipart/form-data; boundary={boundary}"})

    def get_job_status(self, job_id: str) -> Any:
        return self._call(f"/customers/bulk/jobs/{urllib.parse.quote(job_id, safe='')}", None, {})

    def _call(self, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        sent = {"authorization": self._authorization, "accept": "application/json", **headers}
        request = urllib.request.Request(self._url + path, body, sent)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310
            return json.load(response)


@pytest.mark.client_of("grid")
@pytest.mark.parametrize("base", ["", "/grid/2025-10-13"])
def test_a_client_of_grids_public_interface(served: Served, base: str) -> None:
    server, world = served
    client = Grid(server.url + base, world.demo.user_id, world.demo.key)
    sent = client.upload_csv(EXAMPLE)
    assert re.fullmatch("Job:[0-9a-f-]{36}", sent["jobId"])
    assert sent["status"] == "PENDING"
    deadline = time.monotonic() + PATIENCE
    job = client.get_job_status(sent["jobId"])
    while job["status"] in ("PENDING", "PROCESSING") and time.monotonic() < deadline:
        time.sleep(0.05)
        job = client.get_job_status(sent["jobId"])
    assert (job["jobId"], job["status"]) == (sent["jobId"], "COMPLETED")
    assert job["progress"] == {"total": 2, "processed": 2, "successful": 1, "failed": 1}
    [failed] = job["errors"]
    assert (failed["correlationId"], failed["code"]) == ("biz456", "MISSING_MANDATORY_USER_INFO")
    for refused, status, code in (
        (Grid(server.url, world.demo.user_id, "wrong"), 401, "UNAUTHORIZED"),
        (Grid(server.url, *READER), 403, "FORBIDDEN"),
    ):
        with pytest.raises(urllib.error.HTTPError) as error:
            refused.upload_csv(EXAMPLE)
        told = json.load(error.value)
        assert (error.value.code, told["status"], told["code"]) == (status, status, code)


@pytest.mark.parametrize(
    ("start", "name", "said"),
    [
        ("GET /v1/async-actions HTTP/1.1\r\nX-Long: ", "key", "payload_too_large"),
        ("GET /v1/async-actions?limit=", "key", "payload_too_large"),
        ("POST /grid/2025-10-13/customers/bulk/csv HTTP/1.1\r\nX-Long: ", "code", "PAYLOAD_TOO_LARGE"),
        ("POST /customers/bulk/csv HTTP/7.1\r\nX-Long: ", "code", "INVALID_INPUT"),
        ("POST /api/auth/sign-in/email HTTP/1.1\r\nX-Long: ", "code", "PAYLOAD_TOO_LARGE"),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_language_of_the_protocol(
    served: Served, start: str, name: str, said: str
) -> None:
    server, _ = served
    head, _, body = server.exchange(f"{start}{'x' * 1_100_000}\r\n\r\n".encode()).partition(b"\r\n\r\n")
    told = json.loads(body)
    assert told[name] == said
    status = {"PAYLOAD_TOO_LARGE": 413, "INVALID_INPUT": 400, "payload_too_large": 413}[said]
    assert {told.get("code"), told.get("status")} & {status, said}
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"X-Request-Id: " in head
    assert b"Access-Control-Allow-Origin" not in head


def test_what_solivio_cannot_read_is_refused_as_solivio_does(served: Served) -> None:
    server, _ = served
    unread = b" HTTP/1.1\r\nno header\r\n\r\n"
    head, _, body = server.exchange(b"POST /api/customers/import" + unread).partition(b"\r\n\r\n")
    legacy = server.exchange(b"POST /api" + unread)
    assert set(json.loads(body)) == {"error"}
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Type: application/json" in head
    # The legacy protocol is served next to it.
    assert b"<response" in legacy
