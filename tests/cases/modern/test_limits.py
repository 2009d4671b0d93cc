"""How often whom is served: counted truly, over processes and hosts, told in each protocol's language, and never in the way."""

from __future__ import annotations

import logging
import math
import multiprocessing
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client, EnvironBuilder, run_wsgi_app

from app import create_app
from importing.context import Context
from importing.errors import ApiError
from settings import BadSettings, Settings, load_settings
from storage.sqlite.side_file import SideFile
from tests.conftest import settings_for
from tests.support.admin_sign_in import EMAIL, PASSWORD, SIGN_IN, administrator
from tests.support.demo_accounts import Demo
from tests.support.modern_client import APIS, READER
from tests.support.served_gateway import Serve
from transport import rate
from transport.rate import CounterStore, Limiter, SqliteCounters, Standing, Whose, store_at, tightest, unlimited

JOBS = {"voucherify": "/v1/async-actions", "grid": "/customers/bulk/jobs/Job:0"}
# Of a minute on the clock, no test may see two.
MOMENT = 1_800_000_017.25


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the limiter and its counters; tests move it."""
    now = [MOMENT]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def limiter(store: CounterStore, **limits: str) -> Limiter:
    return Limiter(store, {Whose[whose.upper()]: text for whose, text in limits.items()})


# Counting


def test_what_is_left_is_what_will_be_served(tmp_path: Path, clock: list[float]) -> None:
    counted = limiter(SqliteCounters(tmp_path / "rate.db"), user="3 per minute")
    standings = [counted.count(Whose.USER, "john1970") for _ in range(5)]
    assert [(s.remaining, s.wait) for s in standings if s] == [(2, 0), (1, 0), (0, 0), (0, 43), (0, 43)]
    clock[0] += 42
    assert counted.count(Whose.USER, "john1970") == Standing(3, 0, 1_800_000_060, 1)
    clock[0] = 1_800_000_060
    assert counted.count(Whose.USER, "john1970") == Standing(3, 2, 1_800_000_120, 0)


@pytest.mark.usefixtures("clock")
def test_everyone_has_a_limit_of_their_own(tmp_path: Path) -> None:
    counted = limiter(SqliteCounters(tmp_path / "rate.db"), user="1 per hour", address="1 per hour")
    for whose in (Whose.USER, Whose.ADDRESS):
        for name in ("john1970", "kim", "\ud800"):
            standing = counted.count(whose, name)
            assert standing is not None
            assert standing.wait == 0
    assert counted.count(Whose.LEGACY_USER, "john1970") is None


def test_a_refusal_says_when_to_send_again() -> None:
    Standing(3, 0, 1_800_000_060, 0).admit()
    with pytest.raises(ApiError) as caught:
        Standing(3, 0, 1_800_000_060, 43).admit()
    assert caught.value.retry_after == 43
    assert caught.value.message == "Too many requests; send it again in 43 s."


def test_the_tightest_limit_counts() -> None:
    many, few = Standing(9, 8, 0, 0), Standing(9, 1, 0, 0)
    assert tightest(many, None, few) is few
    assert tightest(None, None) is None


def test_without_limits_nothing_is_counted() -> None:
    assert unlimited().count(Whose.USER, "john1970") is None


def count_many(path: Path, name: str) -> None:
    counted = limiter(SqliteCounters(path), user="1000 per day")
    for _ in range(200):
        counted.count(Whose.USER, name)


def test_all_processes_of_a_machine_count_together(tmp_path: Path) -> None:
    path = tmp_path / "rate.db"
    processes = [
        multiprocessing.get_context("spawn").Process(target=count_many, args=(path, "john1970")) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    standing = limiter(SqliteCounters(path), user="1000 per day").count(Whose.USER, "john1970")
    assert standing is not None
    assert standing.remaining == 1000 - 601


def test_a_connection_is_not_carried_over_a_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SideFile(tmp_path / "side.db", "CREATE TABLE IF NOT EXISTS known (key TEXT)", 1.0)
    with file.opened() as before:
        before.execute("INSERT INTO known VALUES ('a')")
    monkeypatch.setattr("os.getpid", lambda: -1)
    with file.opened() as after:
        assert after is not before
        assert after.execute("SELECT key FROM known").fetchall() == [("a",)]
    before.close()


def test_what_has_expired_goes(tmp_path: Path, clock: list[float]) -> None:
    counters = SqliteCounters(tmp_path / "rate.db")
    for n in range(20):
        counters.incr(f"old {n}", 60)
    clock[0] += 61
    counters.incr("new", 60)
    with closing(sqlite3.connect(tmp_path / "rate.db")) as file:
        assert file.execute("SELECT key FROM counter").fetchall() == [("new",)]


# A store that fails


@pytest.mark.parametrize("content", [None, b"not a database at all, but something long enough to be read as one" * 20])
def test_a_file_that_fails_stops_no_request(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rate.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    counted = limiter(SqliteCounters(path), user="1 per day")
    with caplog.at_level(logging.WARNING, "tillgate.rate"):
        for _ in range(3):
            assert counted.count(Whose.USER, "john1970") is None
            now[0] += rate.PAUSE + 1
        [said] = [record.message for record in caplog.records]
        assert said.startswith("requests cannot be counted, and are not limited: ")
        path.rmdir() if content is None else path.unlink()
        for left in tmp_path.glob("rate.db-*"):
            left.unlink()
        assert counted.count(Whose.USER, "john1970") is not None
        assert caplog.records[-1].message == "requests are counted again"


def test_nobody_waits_for_a_store_that_has_just_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Gone(SqliteCounters):
        def incr(self, key: str, expiry: int) -> int:  # noqa: ARG002 - the library's signature
            asked.append(key)
            raise self.base_exceptions

    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    counted = limiter(Gone(Path()), user="1 per day")
    for _ in range(5):
        assert counted.count(Whose.USER, "john1970") is None
    assert len(asked) == 1
    now[0] += rate.PAUSE
    counted.count(Whose.USER, "john1970")
    assert len(asked) == 2


# Redis


@contextmanager
def redis_server() -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            assert any("Ready to accept connections" in line for line in process.stdout)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def test_all_hosts_count_together_where_the_queue_is_at_redis(tmp_path: Path) -> None:
    with redis_server() as url:
        hosts = [limiter(store_at(url, tmp_path / name), user="5 per day") for name in ("one", "other")]
        standings = [host.count(Whose.USER, "john1970") for _ in range(3) for host in hosts]
        assert [standing and standing.remaining for standing in standings] == [4, 3, 2, 1, 0, 0]
        assert [bool(standing and standing.wait) for standing in standings] == [False] * 5 + [True]
    began = time.monotonic()
    assert hosts[0].count(Whose.USER, "john1970") is None
    assert time.monotonic() - began < 2


def test_other_queues_are_no_place_to_count_at(tmp_path: Path) -> None:
    for url in ("sqlite:///queue.db", "postgresql://localhost/queue"):
        assert isinstance(store_at(url, tmp_path), SqliteCounters)


# The settings


@pytest.mark.parametrize("text", ["600 per minute", "10/second", "5000 PER 1 hour", "none", "None"])
def test_rates_that_can_be_set(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILLGATE_RATE_LIMIT", text)
    assert load_settings().rate_limit == text.lower()
    limiter(SqliteCounters(Path()), user=load_settings().rate_limit)


@pytest.mark.parametrize(
    "text", ["often", "0 per minute", "-1 per minute", "1 per fortnight", "1 per second; 9 per minute"]
)
def test_rates_that_cannot_be_set(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILLGATE_RATE_LIMIT", text)
    with pytest.raises(BadSettings, match="TILLGATE_RATE_LIMIT: use a rate such as 600 per minute, or none"):
        load_settings()


def test_the_defaults_are_rates() -> None:
    fields = Settings.model_fields
    limits = {
        whose: str(fields[name].default)
        for whose, name in zip(Whose, ("rate_limit", "rate_limit_address", "legacy_rate_limit"), strict=True)
    }
    Limiter(SqliteCounters(Path()), limits)


# The protocols


def limited(context: Context, **settings: Any) -> Flask:
    return create_app(settings_for(context.database, **settings), context)


def headers_of(name: str, account: Demo) -> dict[str, str]:
    return dict(APIS[name].credentials(account.user_id, account.key))


def test_voucherify_tells_on_every_reply_what_is_left(context: Context, account: Demo, clock: list[float]) -> None:
    client = Client(limited(context, rate_limit="3 per minute", rate_limit_address="6 per minute"))
    headers = headers_of("voucherify", account)
    seen = []
    for path, sent in (
        ("/v1/async-actions", headers),
        ("/v1/async-actions", {}),
        ("/v1/async-actions/nothing", headers),
        ("/v1/nothing", headers),
        ("/v1/async-actions?limit=0", headers),
        ("/v1/async-actions", headers),
        ("/v1/async-actions", headers),
    ):
        reply = client.get(path, headers=sent)
        said = [reply.headers.get(f"X-Rate-Limit-{name}") for name in ("Limit", "Remaining", "Reset", "Retry")]
        seen.append((reply.status_code, *said, reply.headers.get("Retry-After")))
    reset = "1800000060"
    assert seen == [
        (200, "3", "2", reset, None, None),
        (401, "6", "4", reset, None, None),
        (404, "3", "1", reset, None, None),
        (404, "6", "2", reset, None, None),
        (400, "3", "0", reset, None, None),
        (429, "3", "0", reset, reset, "43"),
        (429, "6", "0", reset, reset, "43"),
    ]
    document = client.get("/v1/async-actions", headers=headers).get_json()
    assert (document["code"], document["key"]) == (429, "too_many_requests")
    assert document["request_id"].startswith("v-")
    clock[0] += 43
    assert client.get("/v1/async-actions", headers=headers).status_code == 200


@pytest.mark.usefixtures("clock")
def test_grid_says_when_to_come_again(context: Context, account: Demo) -> None:
    client = Client(limited(context, rate_limit="1 per minute"))
    headers = headers_of("grid", account)
    statuses = [client.get(JOBS["grid"], headers=headers).status_code for _ in range(2)]
    reply = client.get(JOBS["grid"], headers=headers)
    assert statuses == [404, 429]
    assert reply.headers["Retry-After"] == "43"
    assert reply.get_json() | {"details": None} == {
        "status": 429,
        "code": "RATE_LIMITED",
        "message": "Too many requests; send it again in 43 s.",
        "details": None,
    }


@pytest.mark.usefixtures("clock")
def test_a_user_has_one_limit_in_all_protocols(context: Context, account: Demo) -> None:
    client = Client(limited(context, rate_limit="1 per minute"))
    assert client.get(JOBS["voucherify"], headers=headers_of("voucherify", account)).status_code == 200
    assert client.get(JOBS["grid"], headers=headers_of("grid", account)).status_code == 429
    reader = APIS["grid"].credentials(*READER)
    assert client.get(JOBS["grid"], headers=reader).status_code == 404


@pytest.mark.usefixtures("clock")
def test_an_upload_that_is_refused_is_not_read(context: Context, account: Demo) -> None:
    class Unread:
        def read(self, size: int = -1) -> bytes:
            raise AssertionError(size)

    client = Client(limited(context, rate_limit="1 per minute"))
    headers = headers_of("voucherify", account)
    client.get(JOBS["voucherify"], headers=headers)
    upload = EnvironBuilder("/v1/customers/importCSV", method="POST", headers=list(headers.items())).get_environ()
    upload |= {"wsgi.input": Unread(), "CONTENT_LENGTH": "10000000", "CONTENT_TYPE": "multipart/form-data; boundary=b"}
    _, status, _ = run_wsgi_app(client.application, upload)
    assert status == "429 TOO MANY REQUESTS"


@pytest.mark.usefixtures("clock")
def test_signing_in_is_limited_as_better_auth_limits_it(context: Context, account: Demo) -> None:
    administrator(context, account)
    client = Client(limited(context, rate_limit_address="2 per minute"))
    body = {"email": EMAIL, "password": PASSWORD}
    replies = [client.post(SIGN_IN, json=body) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert (replies[2].headers["X-Retry-After"], replies[2].headers["Retry-After"]) == ("43", "43")
    assert replies[2].get_json()["message"] == "Too many requests. Please try again later."


@pytest.mark.usefixtures("clock")
def test_solivio_says_when_to_come_again(context: Context, account: Demo) -> None:
    administrator(context, account)
    client = Client(limited(context, rate_limit="1 per minute"))
    client.post(SIGN_IN, json={"email": EMAIL, "password": PASSWORD})
    replies = [client.post("/api/customers/import", json={"content": "name\nKim\n"}) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 429]
    assert replies[1].headers["Retry-After"] == "43"
    assert replies[1].get_json() == {"error": "Too many requests; send it again in 43 s."}


def test_the_protocols_serve_without_their_counters(context: Context, account: Demo) -> None:
    (context.database.data_dir / "rate.db").mkdir()
    client = Client(limited(context, rate_limit="1 per minute"))
    replies = [client.get(JOBS["voucherify"], headers=headers_of("voucherify", account)) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert "X-Rate-Limit-Limit" not in replies[0].headers


# The legacy protocol


def legacy(account: Demo, **fields: str) -> dict[str, str]:
    return {"API": "1.5", **account.credentials, "type": "customers_batches", "output": "json", **fields}


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("status", "code"), [("always-200", 200), ("http", 429)])
def test_the_legacy_protocol_is_limited_where_asked_for(
    context: Context, account: Demo, status: str, code: int
) -> None:
    client = Client(limited(context, legacy_rate_limit="1 per minute", legacy_status=status))
    wrong = client.post("/", data=legacy(account, user_api_key="wrong")).get_json()
    assert wrong["error"] == "Invalid user, API key or account."
    assert client.post("/", data=legacy(account)).get_json()["status"] == "success"
    reply = client.post("/", data=legacy(account))
    assert (reply.status_code, reply.headers["Retry-After"]) == (code, "43")
    assert reply.get_json()["error"] == "Too many requests; send it again in 43 s."


def test_the_legacy_protocol_is_not_limited_by_default(context: Context, account: Demo) -> None:
    client = Client(limited(context, rate_limit="1 per minute", rate_limit_address="1 per minute"))
    replies = [client.post("/", data=legacy(account)).get_json() for _ in range(3)]
    assert [reply["status"] for reply in replies] == ["success"] * 3
    assert not (context.database.data_dir / "rate.db").exists()


# A real server


def test_all_workers_of_a_server_count_together(serve: Serve) -> None:
    with serve("--workers", "3", RATE_LIMIT="20 per hour") as (server, world):
        headers = "".join(f"{name}: {value}\r\n" for name, value in headers_of("grid", world.demo).items())
        request = f"GET {JOBS['grid']} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n".encode()
        # At the very end of an hour, some of the requests may be in the next one.
        hour = math.floor(time.time() / 3600)
        statuses = [server.exchange(request).split(b" ", 2)[1] for _ in range(25)]
        if math.floor(time.time() / 3600) == hour:
            assert statuses == [b"404"] * 20 + [b"429"] * 5
