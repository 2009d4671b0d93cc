"""Solivio's import: who may, what a body must be, what a failure says. What texts give is in fixtures/solivio."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from flask import Flask
from webtest import TestApp  # type: ignore[import-untyped]

from app import create_app
from importing import batch_status, import_batch
from importing.context import Context
from importing.errors import ApiError
from importing.undo import undo_batch
from modern_api import solivio
from storage.engine import Busy
from tests.cases.modern.test_sessions import failing
from tests.conftest import settings_for
from tests.support.admin_sign_in import administrator, sign_in
from tests.support.case_database import World
from tests.support.demo_accounts import Demo

PATH = "/api/customers/import"


@pytest.fixture
def signed_in(client: TestApp, context: Context, account: Demo) -> TestApp:
    """A client whose administrator is signed in."""
    administrator(context, account)
    sign_in(client)
    return client


def send(client: TestApp, content: str, **options: Any) -> Any:
    return client.post_json(PATH, {"content": content}, expect_errors=True, **options)


class TestWhoMay:
    def test_is_judged_before_the_body(self, client: TestApp, context: Context, account: Demo) -> None:
        administrator(context, account, "user@example.com", role="user")
        administrator(context, None, "all@example.com")

        def broken() -> tuple[int, Any]:
            reply = client.post(PATH, b"{", expect_errors=True)
            assert reply.content_type == "application/json"
            return reply.status_int, reply.json

        assert broken() == (401, {"error": "Unauthorized"})
        sign_in(client, "user@example.com")
        assert broken() == (403, {"error": "Forbidden"})
        sign_in(client, "all@example.com")
        status, body = broken()
        assert (status, body["error"]) == (403, "Forbidden: The administrator belongs to no account to import into.")

    def test_a_page_of_another_origin_may_not(self, signed_in: TestApp, context: Context, account: Demo) -> None:
        for headers in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
            reply = send(signed_in, "name\nAcme\n", headers=headers)
            assert reply.status_int == 403
            assert reply.json["error"].startswith("Forbidden: ")
        assert World(context, account).customers([]) == []
        headers = {"Host": "localhost", "Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
        assert send(signed_in, "name\nAcme\n", headers=headers).status_int == 200

    def test_imports_land_in_the_administrators_account(
        self, signed_in: TestApp, context: Context, account: Demo
    ) -> None:
        reply = send(signed_in, "name\nAcme\n,\n")
        found = batch_status.find_batch(context, account.number, reply.headers["X-Batch-Id"])
        assert found is not None
        assert (found.protocol, found.user_id, found.counts.new) == ("solivio", "ann@example.com", 1)


class TestTheBody:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"name\nAcme\n",
            b"{",
            b"\xff\xfe",
            b"[" * 100_000,
            b"null",
            b'"name"',
            b"[]",
            b"{}",
            b'{"content": ""}',
            b'{"content": null}',
            b'{"content": 7}',
            b'{"content": ["name"]}',
            b'{"content": "name\\nAcme", "dryRun": true}',
        ],
    )
    def test_is_exactly_one_text(self, signed_in: TestApp, context: Context, account: Demo, body: bytes) -> None:
        reply = signed_in.post(PATH, body, content_type="application/json", expect_errors=True)
        assert (reply.status_int, list(reply.json)) == (400, ["error"])
        assert reply.json["error"]
        assert World(context, account).customers([]) == []

    @pytest.mark.parametrize(
        "content_type", ["text/plain", "", "multipart/form-data", "application/json; charset=utf-16"]
    )
    def test_may_be_of_any_declared_type(self, app: Flask, signed_in: TestApp, content_type: str) -> None:
        body = json.dumps({"content": "name\nAcme\n"}).encode()
        cookie = "; ".join(f"{name}={value}" for name, value in signed_in.cookies.items())
        headers = {"Cookie": cookie, "Content-Type": content_type}
        assert app.test_client(use_cookies=False).post(PATH, data=body, headers=headers).json == {
            "count": 1,
            "errors": [],
        }

    def test_may_have_10_mib_and_no_more(self, signed_in: TestApp) -> None:
        frame = len(b'{"content": ""}')
        for more, status in ((0, 400), (1, 413)):
            body = b'{"content": "%b"}' % (b" " * (solivio.MAX_BODY - frame + more))
            reply = signed_in.post(PATH, body, expect_errors=True)
            assert reply.status_int == status
            assert reply.json["error"]

    def test_of_many_bad_rows_all_are_reported(self, signed_in: TestApp) -> None:
        rows = 30_000
        reply = send(signed_in, "name,source\nAcme,x\n" + ",x\n" * rows)
        assert (reply.status_int, reply.json["count"]) == (200, 1)
        assert [error["index"] for error in reply.json["errors"]] == list(range(1, rows + 1))


class TestRepetition:
    def test_under_its_key_is_answered_alike(self, signed_in: TestApp) -> None:
        headers = {"Idempotency-Key": "monday"}
        text = "name,source\nAcme,x\n,x\n"
        first, again = send(signed_in, text, headers=headers), send(signed_in, text, headers=headers)
        assert first.json == again.json
        assert (first.json["count"], [error["index"] for error in first.json["errors"]]) == (1, [1])
        assert first.headers["X-Batch-Id"] == again.headers["X-Batch-Id"]
        assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
        reused = send(signed_in, "name\nGlobex\n", headers=headers)
        assert (reused.status_int, reused.json) == (
            422,
            {"error": "The Idempotency-Key was used for a different text."},
        )
        assert send(signed_in, "name\nGlobex\n", headers={"Idempotency-Key": "x" * 256}).status_int == 400

    def test_without_a_key_nothing_is_new(self, signed_in: TestApp) -> None:
        assert [send(signed_in, "name\nAcme\n").json["count"] for _ in range(2)] == [1, 0]


class TestFailures:
    @pytest.mark.parametrize(
        "failure", [Busy(), ApiError("busy"), ApiError("unavailable"), OSError(28, "full"), ValueError("p4ss")]
    )
    def test_a_write_failure_is_a_500(
        self, signed_in: TestApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception
    ) -> None:
        monkeypatch.setattr(import_batch, "run", failing(failure))
        reply = send(signed_in, "name\nAcme\n")
        assert (reply.status_int, list(reply.json)) == (500, ["error"])
        assert solivio.SolivioError().validate(reply.json) == {}
        assert "p4ss" not in caplog.text

    def test_while_another_import_holds_the_account_nothing_is_imported(self, context: Context, account: Demo) -> None:
        context = Context(context.database, context.digests, write_wait=0.05)
        client = TestApp(create_app(settings_for(context.database), context))
        administrator(context, account)
        sign_in(client)
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with context.database.batch_transaction() as work, work.writing(account.number, 30):
                work.flush()
                held.set()
                go_on.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            assert held.wait(30)
            reply = send(client, "name\nAcme\n")
        finally:
            go_on.set()
            thread.join(30)
        assert (reply.status_int, reply.headers["Retry-After"]) == (500, "5")
        assert World(context, account).customers([]) == []
        assert send(client, "name\nAcme\n").json["count"] == 1

    def test_other_methods_are_refused_in_json(self, client: TestApp) -> None:
        reply = client.get(PATH, expect_errors=True)
        assert (reply.status_int, reply.headers["Allow"], list(reply.json)) == (405, "POST", ["error"])


def test_every_import_can_be_undone(signed_in: TestApp, context: Context, account: Demo) -> None:
    batches = [send(signed_in, f"name\n{name}\nBoth\n").headers["X-Batch-Id"] for name in ("Acme", "Globex")]
    for batch, left in zip(batches, (["globex"], []), strict=True):
        undo_batch.undo(context, account.number, batch, "ann", "console")
        assert [customer["code"] for customer in World(context, account).customers([])] == left


def test_another_account_sees_nothing_of_it(signed_in: TestApp, context: Context, account: Demo) -> None:
    batch = send(signed_in, "name\nAcme\n").headers["X-Batch-Id"]
    assert batch_status.find_batch(context, account.number + 1, batch) is None


def test_replies_are_what_the_routes_say(app: Flask, signed_in: TestApp) -> None:
    assert app.url_map.bind("").match(PATH, "POST")
    good, bad = send(signed_in, "name,source\nAcme,x\n,x\n"), send(signed_in, "source\nx\n")
    [route] = solivio.PROTOCOL.routes
    assert route.reply.schema().validate(good.json) == {}
    assert solivio.PROTOCOL.error_schema().validate(bad.json) == {}
    assert {*route.refusals, 405} == set(solivio.PROTOCOL.refusals)
