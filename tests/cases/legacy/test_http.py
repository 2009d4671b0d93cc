"""The protocol's HTTP: paths, methods, CORS, and which status a reply has. Source: docs/protocol.md, Transport and 6."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from webtest import TestApp  # type: ignore[import-untyped]

from importing.context import Context
from storage import tables
from tests.support.case_database import World
from tests.support.demo_accounts import Demo
from tests.support.job_queries import origin_of
from tests.support.legacy_client import BOUNDARY, Encoding, Format, multipart, send, urlencoded
from tests.support.legacy_posts import BATCH, URLENCODED, WRONG_KEY, body, client_for, codes, error_of, pairs, post

# Paths and methods


@pytest.mark.parametrize("path", ["/", "/api.php", "/api"])
def test_served_at_three_paths(client: TestApp, path: str) -> None:
    assert send(client, pairs(BATCH), path=path).xml.startswith('<response status="success">')


def test_head_never_imports(client: TestApp, world: World) -> None:
    response = client.head(f"/api?{body(BATCH).decode()}", expect_errors=True)
    assert (response.status_int, response.body) == (200, b"")
    assert codes(world) == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("where", ["query", "body"])
def test_other_methods_are_refused_in_the_callers_format(
    client: TestApp, world: World, method: str, where: str
) -> None:
    form = body(BATCH, output="json").decode()
    url, sent = (f"/api?{form}", b"") if where == "query" else ("/api", form.encode())
    response = client.request(url, method=method, body=sent, content_type=URLENCODED, expect_errors=True)
    assert response.status_int == 200
    assert error_of(response) == f"The method {method} is not served here; send POST or GET."
    assert codes(world) == []


def test_other_methods_are_refused_in_xml_by_default(client: TestApp) -> None:
    response = client.request("/", method="DELETE", expect_errors=True)
    assert response.content_type == "application/xml"
    assert error_of(response).startswith("The method DELETE")


def test_a_preflight_gets_204_and_the_cors_headers(client: TestApp) -> None:
    headers = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "Idempotency-Key",
    }
    response = client.request("/api", method="OPTIONS", headers=headers)
    assert (response.status_int, response.body) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_get_can_be_switched_off(context: Context, account: Demo, world: World) -> None:  # noqa: ARG001
    client = client_for(context, legacy_get=False)
    reply = send(client, pairs(BATCH), Encoding.GET, Format.JSON)
    assert reply.json["error"] == "GET is switched off on this server; send POST."
    assert codes(world) == []
    assert send(client, pairs(BATCH)).xml.startswith('<response status="success">')


def test_cors_on_this_endpoint_alone(client: TestApp) -> None:
    response = client.get("/elsewhere", expect_errors=True)
    assert response.status_int == 404
    assert "Access-Control-Allow-Origin" not in response.headers


# Statuses


STATUSES = {
    "wrong key": ({**BATCH, "user_api_key": "wrong"}, 401),
    "unknown user": ({**BATCH, "user_id": "nobody"}, 401),
    "another account": ({**BATCH, "account_id": "smallshop"}, 401),
    "no right to import": ({**BATCH, "user_id": "reader", "user_api_key": "0000aaaa1111bbbb22"}, 403),
    "unknown api": ({**BATCH, "API": "2"}, 400),
    "unknown type": ({**BATCH, "type": "x"}, 400),
    "bad output": ({**BATCH, "output": "x"}, 400),
    "bad parameter": ({**BATCH, "delimiter": "x"}, 400),
    "bad row": ({**BATCH, "profiles_header_2": "custom_date"}, 400),
    "unknown batch": ({**BATCH, "type": "customers_batch_undo", "batch_id": "x"}, 400),
}


@pytest.mark.parametrize("fields", [fields for fields, _ in STATUSES.values()], ids=list(STATUSES))
def test_status_is_200_for_errors_of_the_protocol(client: TestApp, fields: dict[str, str]) -> None:
    response = post(client, fields)
    assert response.status_int == 200
    assert error_of(response)


@pytest.mark.parametrize(("fields", "status"), list(STATUSES.values()), ids=list(STATUSES))
def test_status_by_kind_of_error_for_those_who_prefer_it(
    context: Context,
    account: Demo,  # noqa: ARG001
    fields: dict[str, str],
    status: int,
) -> None:
    response = post(client_for(context, legacy_status="http"), fields)
    assert response.status_int == status
    assert error_of(response)


def test_status_405_for_those_who_prefer_it(context: Context, account: Demo) -> None:  # noqa: ARG001
    client = client_for(context, legacy_status="http", legacy_get=False)
    assert client.request("/api", method="PUT", expect_errors=True).status_int == 405
    assert client.get("/api", expect_errors=True).status_int == 405
    assert post(client, BATCH).status_int == 200


def test_status_of_jsonp_is_always_200(context: Context, account: Demo) -> None:  # noqa: ARG001
    response = post(client_for(context, legacy_status="http"), WRONG_KEY, callback="done")
    assert response.status_int == 200
    assert response.text.startswith("/**/done(")


@pytest.mark.parametrize("preferred", ["always-200", "http"])
def test_a_body_over_the_limit_gets_a_well_formed_error(context: Context, account: Demo, preferred: str) -> None:  # noqa: ARG001
    client = client_for(context, max_body=2000, legacy_status=preferred)
    for kind, encode in (
        (URLENCODED, urlencoded),
        (f"multipart/form-data; boundary={BOUNDARY.decode()}", multipart),
    ):
        sent = encode(pairs({"output": "json", **BATCH, "profiles_data": "A1|Ann\n" * 1000}))
        response = client.request("/api", method="POST", body=sent, content_type=kind, expect_errors=True)
        assert response.status_int == (413 if preferred == "http" else 200)
        assert error_of(response) == "The request is larger than the 2000 bytes that this server takes."


def test_the_unpacked_size_counts(context: Context, account: Demo) -> None:  # noqa: ARG001
    sent = gzip.compress(body(BATCH, profiles_data="A1|Ann\n" * 10000))
    headers = {"Content-Encoding": "gzip"}
    client = client_for(context, max_body=20000)
    response = client.request("/api", method="POST", body=sent, content_type=URLENCODED, headers=headers)
    assert len(sent) < 20000
    assert error_of(response) == "The request is larger than the 20000 bytes that this server takes."


@pytest.fixture
def account_in_use(context: Context, account: Demo) -> Iterator[None]:
    """Somebody else holds the account's turn to write for as long as the test takes."""
    with context.database.writing() as connection:
        table = tables.account
        connection.execute(select(table).where(table.c.id == account.number).with_for_update())
        yield


@pytest.mark.usefixtures("account_in_use")
@pytest.mark.parametrize(("form", "status"), [(Format.XML, 503), (Format.JSON, 503), (Format.JSONP, 200)])
def test_a_post_that_waited_in_vain_is_503_with_retry_after(context: Context, form: Format, status: int) -> None:
    client = client_for(replace(context, write_wait=0.05))
    more = {Format.XML: {}, Format.JSON: {"output": "json"}, Format.JSONP: {"callback": "f"}}[form]
    response = post(client, {**BATCH, **more})
    assert response.status_int == status
    assert "The account is busy with another import; nothing was imported." in response.text
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.usefixtures("account_in_use")
def test_a_dry_run_waits_for_nobody(context: Context) -> None:
    response = post(client_for(replace(context, write_wait=0.05)), BATCH, dry_run="yes")
    assert b'<batch status="checked">' in response.body


@pytest.mark.parametrize("form", [Format.XML, Format.JSON])
def test_a_bug_is_500_in_the_callers_format(context: Context, account: Demo, form: Format) -> None:  # noqa: ARG001
    broken: Any = None
    client = client_for(replace(context, digests=broken))
    response = post(client, BATCH, **({"output": "json"} if form is Format.JSON else {}))
    assert response.status_int == 500
    request_id = response.headers["X-Request-Id"]
    assert error_of(response) == f"Internal error; nothing was imported. Quote the request id {request_id}."


# Where a batch came from


def test_a_batch_says_where_it_came_from(client: TestApp, world: World) -> None:
    client.extra_environ["REMOTE_ADDR"] = "192.0.2.7"
    kind = f"{URLENCODED}; charset=Windows-1250"
    reply = client.post("/api", body(BATCH, _charset_="utf-8"), {"Content-Type": kind})
    batch_id, request_id = reply.headers["X-Batch-Id"], reply.headers["X-Request-Id"]
    assert origin_of(world.context, batch_id) == ("192.0.2.7", "|", request_id, "Windows-1250")
    undo = {**BATCH, "type": "customers_batch_undo", "batch_id": batch_id}
    undone = post(client, undo)
    assert origin_of(world.context, undone.headers["X-Batch-Id"]) == (
        "192.0.2.7",
        None,
        undone.headers["X-Request-Id"],
        None,
    )


def test_a_queued_batch_says_it_too(client: TestApp, world: World) -> None:
    client.extra_environ["REMOTE_ADDR"] = "192.0.2.7"
    reply = post(client, BATCH, **{"async": "yes", "_charset_": "x" * 50})
    expected = ("192.0.2.7", "|", reply.headers["X-Request-Id"], "x" * 40)
    assert origin_of(world.context, reply.headers["X-Batch-Id"]) == expected


def test_a_declared_charset_that_no_database_can_hold_is_not_stored(client: TestApp, world: World) -> None:
    reply = post(client, BATCH, _charset_="utf\0-8")
    assert origin_of(world.context, reply.headers["X-Batch-Id"])[3] is None
