"""The HTTP of the legacy endpoint: methods, formats, statuses and headers. Source: docs/protocol.md, Transport and 6."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from lxml import etree
from pydantic import SecretStr
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app

from app import create_app
from auth.authenticate import Access, authenticate
from importing.context import Context
from importing.errors import API_ERRORS, ApiError
from legacy_api import calls, endpoint
from legacy_api.calls import CallSpec
from legacy_api.endpoint import PATHS
from legacy_api.parameters import CallContext
from legacy_api.replies import CallReply
from server.installation import open_context
from settings import Settings
from storage import migrate
from storage.engine import Busy
from storage.queries import accounts

Fields = dict[str, str]

BATCH = {
    "API": "1.5",
    "user_id": "john1970",
    "user_api_key": "secret-key",
    "account_id": "greatwidgets",
    "type": "customers_batch",
    "delimiter": "pipe",
    "overwrite_duplicates": "update",
    "campaigns_to_include": "Spring",
    "profiles_header_1": "code",
    "profiles_header_2": "first_name",
    "profiles_data": "1|jane\r\n2|jim\n",
}


def settings(folder: Path, **values: Any) -> Settings:
    return Settings(data_dir=folder, secret=SecretStr("s" * 32), **values)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    context = open_context(settings(tmp_path_factory.mktemp("face")))
    migrate.upgrade(context.database)
    with context.database.writing() as connection:
        account = accounts.create_account(connection, "greatwidgets", "")
        accounts.create_user(connection, account, "john1970", context.digests.api_key("secret-key"), may_import=True)
        accounts.create_user(connection, account, "reader", context.digests.api_key("reader-key"), may_import=False)
        accounts.create_campaign(connection, account, "Spring", "Spring", "points")
    yield context
    context.database.dispose()


@pytest.fixture
def app(context: Context) -> Flask:
    return create_app(settings(context.database.data_dir), context)


@pytest.fixture
def strict(context: Context) -> Flask:
    return create_app(settings(context.database.data_dir, legacy_status="http", legacy_get=False), context)


def send(app: Flask, fields: Fields | None = None, method: str = "POST", path: str = "/", **more: Any) -> TestResponse:
    return app.test_client().open(path, method=method, data={**BATCH, **(fields or {})}, **more)


def error(response: TestResponse) -> str:
    if response.mimetype == "application/xml":
        told = etree.fromstring(response.data).findtext("error")
    else:
        told = json.loads(response.data)["error"]
    assert isinstance(told, str)
    return told


class TestServing:
    @pytest.mark.parametrize("path", PATHS)
    def test_its_paths(self, app: Flask, path: str) -> None:
        response = send(app, path=path)
        assert (response.status_code, response.content_type) == (200, "application/xml; charset=utf-8")
        assert response.data.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
        assert etree.fromstring(response.data).get("status") == "success"

    @pytest.mark.parametrize("path", ["//api.php", "//api", "//", "", None, "api.php"])
    def test_slashes_before_a_path_and_none_at_all_do_no_harm(self, app: Flask, path: str | None) -> None:
        environ = EnvironBuilder(method="POST", data=BATCH).get_environ()
        del environ["PATH_INFO"]
        if path is not None:
            environ["PATH_INFO"] = path
        body, status, _ = run_wsgi_app(app.wsgi_app, environ)
        assert (status, b"imported" in b"".join(body)) == ("200 OK", True)

    def test_head_has_no_body_whatever_goes_wrong(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(endpoint, "read_form", lambda *_: 1 / 0)
        response = send(app, method="HEAD")
        assert (response.status_code, response.data) == (500, b"")

    def test_by_get(self, app: Flask) -> None:
        response = app.test_client().get("/api.php", query_string={**BATCH, "output": "json", "dry_run": "yes"})
        assert json.loads(response.data)["batch"]["status"] == "checked"

    def test_headers_of_every_reply(self, app: Flask) -> None:
        for response in (send(app), send(app, {"type": "x"}), send(app, method="PUT"), send(app, method="HEAD")):
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in response.headers
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert len(response.headers["X-Request-Id"]) == 32

    def test_the_batch_id_header(self, app: Flask) -> None:
        made = send(app, {"details": "yes", "output": "json"})
        assert made.headers["X-Batch-Id"] == json.loads(made.data)["batch"]["id"]
        assert "X-Batch-Id" in send(app, {"no_undo": "yes"}).headers
        assert "X-Batch-Id" not in send(app, {"dry_run": "yes"}).headers
        assert "X-Batch-Id" not in send(app, {"delimiter": "x"}).headers

    def test_an_undo_s_batch_id_header_names_the_undo(self, app: Flask) -> None:
        made = send(app).headers["X-Batch-Id"]
        asked = {"type": "customers_batch_undo", "batch_id": made, "output": "json"}
        checked = send(app, {**asked, "dry_run": "yes"})
        assert "X-Batch-Id" not in checked.headers
        undone = send(app, asked)
        told = json.loads(undone.data)["batch"]
        assert (told["status"], told["undoes"]) == ("undone", made)
        assert undone.headers["X-Batch-Id"] == told["id"] != made

    def test_a_repetition_says_so_and_has_the_same_bytes(self, app: Flask) -> None:
        for details in ("yes", "no"):
            first = send(app, {"request_id": f"r-{details}", "details": details})
            again = send(app, {"request_id": f"r-{details}", "details": details})
            assert "Idempotent-Replayed" not in first.headers
            assert again.headers["Idempotent-Replayed"] == "true"
            assert (again.data, again.headers["X-Batch-Id"]) == (first.data, first.headers["X-Batch-Id"])

    def test_the_idempotency_key_header(self, app: Flask) -> None:
        first = send(app, headers={"Idempotency-Key": "k1"})
        again = send(app, {"output": "json"}, headers={"Idempotency-Key": "k1"})
        assert again.headers["X-Batch-Id"] == first.headers["X-Batch-Id"]
        assert again.mimetype == "application/json"

    def test_a_short_reply_has_its_length(self, app: Flask) -> None:
        response = send(app)
        assert int(response.headers["Content-Length"]) == len(response.data)

    def test_the_api_key_header_wins(self, app: Flask) -> None:
        assert b"success" in send(app, {"user_api_key": "x"}, headers={"api-access-key": "secret-key"}).data


class TestFormats:
    def test_json(self, app: Flask) -> None:
        response = send(app, {"output": "json", "delimiter": "x"})
        assert response.content_type == "application/json; charset=utf-8"
        assert error(response) == "Invalid delimiter"

    def test_jsonp_is_always_200(self, strict: Flask) -> None:
        response = send(strict, {"callback": "w.f", "user_api_key": "x"})
        assert (response.status_code, response.content_type) == (200, "text/javascript")
        assert response.data.startswith(b"/**/w.f({")
        assert response.data.endswith(b"});")

    def test_a_wrong_callback_is_a_plain_json_error(self, app: Flask) -> None:
        response = send(app, {"callback": "f;g"})
        assert (response.mimetype, error(response)) == (
            "application/json",
            "Invalid callback: f;g. Use a dotted path of ASCII identifiers.",
        )

    def test_a_wrong_output_is_an_error_in_xml(self, app: Flask) -> None:
        response = send(app, {"output": "csv"})
        assert (response.mimetype, error(response)) == ("application/xml", "Invalid output: csv. Use XML or JSON.")

    def test_a_failure_while_reading_speaks_the_format_read_so_far(self, context: Context) -> None:
        small = create_app(settings(context.database.data_dir, max_body=100), context)
        response = small.test_client().post("/?output=json", data=b"x=1&" + b"y" * 200)
        assert "larger" in error(response)
        assert response.mimetype == "application/json"


class TestOrder:
    WORSE = (
        ({"output": "csv"}, "bad_output"),
        ({"API": "2"}, "bad_api"),
        ({"user_api_key": "x"}, "bad_credentials"),
        ({"type": "x"}, "unknown_type"),
        ({"user_id": "reader", "user_api_key": "reader-key"}, "no_permission"),
        ({"delimiter": "x"}, "bad_delimiter"),
    )

    @pytest.mark.parametrize("first", range(len(WORSE)))
    def test_the_first_failure_answers(self, app: Flask, caplog: pytest.LogCaptureFixture, first: int) -> None:
        fields: Fields = {}
        for wrong, _ in reversed(self.WORSE[first:]):
            fields.update(wrong)
        with caplog.at_level(logging.INFO, "tillgate.legacy"):
            send(app, fields)
        assert caplog.messages[-1].endswith(": " + self.WORSE[first][1])

    @pytest.mark.parametrize("name", ["user_id", "user_api_key", "account_id"])
    def test_all_credentials_are_needed(self, app: Flask, name: str) -> None:
        assert error(send(app, {name: ""})) == "Invalid user, API key or account."

    def test_whoever_fails_to_authenticate_is_refused_before_the_data(self, app: Flask) -> None:
        body = b"user_id=nobody&user_api_key=x&account_id=y&profiles_data=" + b"1" * 20_000
        response = app.test_client().post("/?output=json", data=body + b"&output=xml")
        assert (response.mimetype, error(response)) == ("application/json", "Invalid user, API key or account.")

    def test_a_short_request_is_read_to_its_end_for_the_format(self, app: Flask) -> None:
        response = send(app, {"user_api_key": "x", "output": "json"})
        assert (response.mimetype, error(response)) == ("application/json", "Invalid user, API key or account.")

    def test_a_refusal_is_counted_once(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = watched(monkeypatch)
        send(app, {"user_api_key": "x"})
        send(app, {"dry_run": "yes"})
        assert len(asked) == 2

    def test_credentials_after_the_data_count(self, app: Flask) -> None:
        body = b"user_id=john1970&user_api_key=secret-key&account_id=greatwidgets&profiles_data=1&user_api_key=x"
        assert error(app.test_client().post("/?output=json", data=body)) == "Invalid user, API key or account."
        last = {name: BATCH[name] for name in ("user_id", "user_api_key", "account_id")}
        first = {name: value for name, value in BATCH.items() if name not in last}
        assert b"success" in app.test_client().post("/", data={**first, **last}).data

    def test_no_permission(self, app: Flask) -> None:
        assert error(send(app, {"user_id": "reader", "user_api_key": "reader-key"})) == "User does not have permission"


class TestMethods:
    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "FOO"])
    def test_another_method_is_refused_in_the_caller_s_format(self, app: Flask, method: str) -> None:
        message = f"The method {method} is not served here; send POST or GET."
        by_query = app.test_client().open("/api?output=json", method=method)
        assert (by_query.status_code, by_query.mimetype, error(by_query)) == (200, "application/json", message)
        assert error(app.test_client().open("/", method=method)) == message

    def test_the_body_says_the_format_too(self, app: Flask) -> None:
        response = send(app, {"output": "json"}, method="PUT")
        assert error(response) == "The method PUT is not served here; send POST or GET."
        assert response.mimetype == "application/json"

    def test_head_never_imports(self, app: Flask) -> None:
        for query in ({}, {**BATCH, "output": "json"}):
            response = app.test_client().head("/", query_string=query)
            assert (response.status_code, response.data) == (200, b"")
            assert "X-Batch-Id" not in response.headers

    def test_get_can_be_switched_off(self, strict: Flask) -> None:
        response = strict.test_client().get("/", query_string={**BATCH, "output": "json"})
        assert (response.status_code, response.headers["Allow"]) == (405, "HEAD, POST")
        assert error(response) == "GET is switched off on this server; send POST."

    def test_a_cors_preflight(self, app: Flask) -> None:
        asked = {
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "idempotency-key",
        }
        response = app.test_client().options("/api.php", headers=asked)
        assert (response.status_code, response.data) == (204, b"")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert response.headers["Access-Control-Allow-Headers"] == "idempotency-key"

    @pytest.mark.parametrize("path", ["/nothing", "/api/", "/api.php/", "/static/x", "/%ff"])
    def test_another_path_is_a_line_of_text(self, app: Flask, path: str) -> None:
        response = app.test_client().post(path, data=BATCH)
        assert (response.status_code, response.mimetype) == (404, "text/plain")
        assert "Access-Control-Allow-Origin" not in response.headers

    def test_a_request_for_a_websocket_is_served_as_any_other(self, app: Flask) -> None:
        headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert b"success" in send(app, {"dry_run": "yes"}, headers=headers).data

    def test_an_odd_host_is_served(self, app: Flask) -> None:
        for host in ("", "a b", "[::1", "caf\u00e9"):
            assert b"success" in send(app, {"dry_run": "yes"}, environ_overrides={"HTTP_HOST": host}).data


class TestStatuses:
    CASES: tuple[tuple[Fields, int], ...] = (
        ({"user_api_key": "x"}, 401),
        ({"user_id": "reader", "user_api_key": "reader-key"}, 403),
        ({"delimiter": "x"}, 400),
        ({"type": "customers_batch_undo", "batch_id": "nothing"}, 400),
        ({}, 200),
    )

    @pytest.mark.parametrize(("fields", "status"), CASES)
    def test_by_setting(self, app: Flask, strict: Flask, fields: Fields, status: int) -> None:
        assert send(strict, {**fields, "dry_run": "yes"}).status_code == status
        assert send(app, {**fields, "dry_run": "yes"}).status_code == 200

    def test_too_large(self, context: Context) -> None:
        small = settings(context.database.data_dir, max_body=100, legacy_status="http")
        assert send(create_app(small, context)).status_code == 413

    def test_method(self, strict: Flask) -> None:
        assert send(strict, method="PUT").status_code == 405


def failing(failure: Exception) -> CallSpec:
    def fail(_: CallContext) -> CallReply:
        raise failure

    return CallSpec(fail, imports=True)


class TestTheOutermostDoor:
    """What a call raises, whatever it is, becomes a reply."""

    def answer(self, app: Flask, monkeypatch: pytest.MonkeyPatch, failure: Exception, **fields: str) -> TestResponse:
        monkeypatch.setattr(calls, "CALLS", {"customers_batch": failing(failure)})
        return send(app, {"output": "json", **fields})

    @pytest.mark.parametrize("strictly", [False, True])
    def test_busy(self, context: Context, monkeypatch: pytest.MonkeyPatch, strictly: bool) -> None:
        app = create_app(
            settings(context.database.data_dir, legacy_status="http" if strictly else "always-200"), context
        )
        for failure in (Busy(), ApiError("busy")):
            response = self.answer(app, monkeypatch, failure)
            assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
            assert error(response) == API_ERRORS["busy"].template

    def test_a_fault_may_say_how_long_to_wait(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.answer(app, monkeypatch, ApiError("busy", retry_after=60)).headers["Retry-After"] == "60"

    def test_busy_as_jsonp_is_200(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.answer(app, monkeypatch, ApiError("busy"), callback="f").status_code == 200

    def test_an_unreachable_database(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        response = self.answer(app, monkeypatch, sqlite3.OperationalError("unable to open database file"))
        assert (response.status_code, error(response)) == (503, API_ERRORS["unavailable"].template)

    def test_a_full_disk(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        response = self.answer(app, monkeypatch, OSError(28, "No space left on device"))
        assert (response.status_code, error(response)) == (503, API_ERRORS["out_of_room"].template)

    def test_a_bug(self, app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        response = self.answer(app, monkeypatch, ValueError("p4ssword"))
        request_id = response.headers["X-Request-Id"]
        assert (response.status_code, response.mimetype) == (500, "application/json")
        assert error(response) == f"Internal error; nothing was imported. Quote the request id {request_id}."
        assert request_id in caplog.text
        assert "ValueError" in caplog.text
        assert "p4ssword" not in caplog.text


def test_behind_a_proxy_the_client_s_address_is_the_forwarded_one(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = watched(monkeypatch)
    for hops in (0, 1):
        app = create_app(settings(context.database.data_dir, trust_proxy=hops), context)
        send(app, {"dry_run": "yes"}, headers={"X-Forwarded-For": "6.6.6.6, 203.0.113.9"})
    assert asked == ["127.0.0.1", "203.0.113.9"]


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The client addresses for which credentials are looked at, as it happens."""
    asked: list[str] = []

    def watch(context: Context, user: str, key: str, account: str, address: str) -> Access:
        asked.append(address)
        return authenticate(context, user, key, account, address)

    monkeypatch.setattr(endpoint, "authenticate", watch)
    return asked
