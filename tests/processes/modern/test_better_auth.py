"""Better Auth's own client, and raw sockets, against a real server: signing in, importing by the cookie, signing out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import clients
from tests.support.admin_sign_in import EMAIL, PASSWORD
from tests.support.case_database import World
from tests.support.gateway_process import PROGRAM, Server
from tests.support.served_gateway import Serve

PATIENCE = 90.0
TEXT = "name,source\nAcme Corp,web\n,web\nGlobex,\n"
ERROR = {"index": 1, "message": "Missing or invalid field(s): name"}


def create_administrator(server: Server, world: World) -> None:
    """As whoever runs the server makes one."""
    command = ("admin", "create", EMAIL, "--account", world.demo.account_id, "--password-stdin")
    subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-P", "-c", PROGRAM, *command],
        cwd=server.folder,
        env={"PYTHONPATH": str(Path(clients.__file__).parents[3])},
        input=PASSWORD + "\n",
        text=True,
        check=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def better_auth() -> tuple[str, Path]:
    """node, and the folder of the client."""
    folder = clients.javascript()
    node = shutil.which("node")
    assert node is not None
    return node, folder


@pytest.mark.client_of("auth", "solivio")
def test_better_auths_client(served: tuple[Server, World], better_auth: tuple[str, Path], tmp_path: Path) -> None:
    node, folder = better_auth
    file = tmp_path / "customers.csv"
    file.write_text(TEXT, encoding="utf-8")
    server, world = served
    create_administrator(server, world)
    script = clients.FOLDER / "better_auth_client.mjs"
    done = subprocess.run(  # noqa: S603
        [node, str(script), str(folder), server.url, EMAIL, PASSWORD, str(file)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check(json.loads(done.stdout))
    assert [(found["code"], found["attributes"]) for found in world.customers([])] == [
        ("acme corp", {"source": "web"}),
        ("globex", {"source": "import"}),
    ]


def check(told: dict[str, Any]) -> None:
    """What the client has to tell."""
    nobody, unauthorized = {"data": None, "error": None}, {"error": "Unauthorized"}
    assert (told["before"], told["after"]) == (nobody, nobody)
    for refused in (told["anonymous"], told["late"]):
        assert (refused["status"], refused["body"]) == (401, unauthorized)
    for refused in (told["wrong"], told["unknown"]):
        assert refused["data"] is None
        assert (refused["error"]["status"], refused["error"]["code"]) == (401, "INVALID_EMAIL_OR_PASSWORD")
    assert (told["odd"]["error"]["status"], told["odd"]["error"]["code"]) == (400, "INVALID_EMAIL")
    signed_in, session = told["signedIn"]["data"], told["session"]["data"]
    assert (signed_in["redirect"], signed_in["user"]["email"], signed_in["user"]["role"]) == (False, EMAIL, "admin")
    assert (session["user"], session["session"]["token"]) == (signed_in["user"], signed_in["token"])
    assert session["session"]["ipAddress"] == "127.0.0.1"
    assert told["dates"]
    assert (told["done"]["status"], told["done"]["body"]) == (200, {"count": 2, "errors": [ERROR]})
    assert told["done"]["batch"]
    assert told["foreign"]["status"] == 403
    assert told["signedOut"] == {"data": {"success": True}, "error": None}
    assert told["emptied"] == "better-auth.session_token="


def test_who_is_not_signed_in_reads_the_refusal_of_a_large_body(served: tuple[Server, World]) -> None:
    server, _ = served
    for size, chunked in ((30_000_000, False), (30_000_000, True)):
        head = b"POST /api/customers/import HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        if chunked:
            head += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size
        else:
            head += b"Content-Length: %d\r\n\r\n" % size
        reply = server.exchange(head, b" " * size, b"\r\n0\r\n\r\n" if chunked else b"")
        assert reply.startswith(b"HTTP/1.1 401 ")
        assert reply.endswith(b'{"error":"Unauthorized"}')


def test_nothing_secret_is_logged(serve: Serve) -> None:
    body = json.dumps({"email": EMAIL, "password": "canary-word"}).encode()
    with serve("--workers", "1") as (server, world):
        create_administrator(server, world)
        for password in (PASSWORD, "canary-word"):
            body = json.dumps({"email": EMAIL, "password": password}).encode()
            head = b"POST /api/auth/sign-in/email HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            reply = server.exchange(head + b"Content-Length: %d\r\n\r\n" % len(body), body)
        good = reply.startswith(b"HTTP/1.1 401 ")
        _, out, err = server.stop()
    assert good
    assert "canary-word" not in out + err
    assert PASSWORD not in out + err
