"""Decisions of the legacy protocol that are no plain case: methods, statuses, formats, and what several requests do.

Each test's name says the decision. Source: docs/protocol.md, Transport to 7; the others are the cases of fixtures/legacy.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from sqlalchemy import select
from webtest import TestApp, TestResponse  # type: ignore[import-untyped]

from app import create_app
from importing.core import Core
from storage import models
from storage.engine import Database, Kind
from tests.conftest import settings_for
from tests.demo import Demo
from tests.legacy.sending import BOUNDARY, Encoding, Format, Reply, multipart, send, urlencoded
from tests.legacy.world import World

URLENCODED = "application/x-www-form-urlencoded"
BATCH = {
    "API": "1.5",
    "user_id": "john1970",
    "user_api_key": "1959caadac9b13dcb3",
    "account_id": "greatwidgets",
    "type": "customers_batch",
    "delimiter": "pipe",
    "campaigns_to_include": "898989889",
    "profiles_header_1": "code",
    "profiles_header_2": "first_name",
    "profiles_data": "A1|Ann",
}
WRONG_KEY = {**BATCH, "user_api_key": "wrong"}


def pairs(fields: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields.items()]


def body(fields: Mapping[str, str], **more: str) -> bytes:
    return urlencoded(pairs({**fields, **more}))


def post(client: TestApp, fields: Mapping[str, str], **more: str) -> TestResponse:
    """A plain post, whatever its status."""
    return client.request(
        "/api.php", method="POST", body=body(fields, **more), content_type=URLENCODED, expect_errors=True
    )


def error_of(response: TestResponse) -> str:
    """The message of an error in XML or JSON."""
    if response.content_type == "application/json":
        tree = response.json
        assert tree["status"] == "error"
        return str(tree["error"])
    root = etree.fromstring(response.body)
    assert root.get("status") == "error"
    return root.findtext("error") or ""


def client_for(core: Core, **settings: Any) -> TestApp:
    return TestApp(create_app(settings_for(core.database, **settings), core))


@pytest.fixture
def world(core: Core, account: Demo) -> World:
    return World(core, account)


def codes(world: World) -> list[str]:
    return [customer["code"] for customer in world.customers([])]


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


def test_get_can_be_switched_off(core: Core, account: Demo, world: World) -> None:  # noqa: ARG001
    client = client_for(core, legacy_get=False)
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
    core: Core,
    account: Demo,  # noqa: ARG001
    fields: dict[str, str],
    status: int,
) -> None:
    response = post(client_for(core, legacy_status="http"), fields)
    assert response.status_int == status
    assert error_of(response)


def test_status_405_for_those_who_prefer_it(core: Core, account: Demo) -> None:  # noqa: ARG001
    client = client_for(core, legacy_status="http", legacy_get=False)
    assert client.request("/api", method="PUT", expect_errors=True).status_int == 405
    assert client.get("/api", expect_errors=True).status_int == 405
    assert post(client, BATCH).status_int == 200


def test_status_of_jsonp_is_always_200(core: Core, account: Demo) -> None:  # noqa: ARG001
    response = post(client_for(core, legacy_status="http"), WRONG_KEY, callback="done")
    assert response.status_int == 200
    assert response.text.startswith("/**/done(")


@pytest.mark.parametrize("preferred", ["always-200", "http"])
def test_a_body_over_the_limit_gets_a_well_formed_error(core: Core, account: Demo, preferred: str) -> None:  # noqa: ARG001
    client = client_for(core, max_body=2000, legacy_status=preferred)
    for kind, encode in (
        (URLENCODED, urlencoded),
        (f"multipart/form-data; boundary={BOUNDARY.decode()}", multipart),
    ):
        sent = encode(pairs({"output": "json", **BATCH, "profiles_data": "A1|Ann\n" * 1000}))
        response = client.request("/api", method="POST", body=sent, content_type=kind, expect_errors=True)
        assert response.status_int == (413 if preferred == "http" else 200)
        assert error_of(response) == "The request is larger than the 2000 bytes that this server takes."


def test_the_unpacked_size_counts(core: Core, account: Demo) -> None:  # noqa: ARG001
    sent = gzip.compress(body(BATCH, profiles_data="A1|Ann\n" * 10000))
    headers = {"Content-Encoding": "gzip"}
    client = client_for(core, max_body=20000)
    response = client.request("/api", method="POST", body=sent, content_type=URLENCODED, headers=headers)
    assert len(sent) < 20000
    assert error_of(response) == "The request is larger than the 20000 bytes that this server takes."


@pytest.fixture
def account_in_use(core: Core, account: Demo) -> Iterator[None]:
    """Somebody else holds the account's turn to write for as long as the test takes."""
    with core.database.writing() as connection:
        table = models.account
        connection.execute(select(table).where(table.c.id == account.number).with_for_update())
        yield


@pytest.mark.usefixtures("account_in_use")
@pytest.mark.parametrize(("form", "status"), [(Format.XML, 503), (Format.JSON, 503), (Format.JSONP, 200)])
def test_a_post_that_waited_in_vain_is_503_with_retry_after(core: Core, form: Format, status: int) -> None:
    client = client_for(replace(core, write_wait=0.05))
    more = {Format.XML: {}, Format.JSON: {"output": "json"}, Format.JSONP: {"callback": "f"}}[form]
    response = post(client, {**BATCH, **more})
    assert response.status_int == status
    assert "The account is busy with another import; nothing was imported." in response.text
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.usefixtures("account_in_use")
def test_a_dry_run_waits_for_nobody(core: Core) -> None:
    response = post(client_for(replace(core, write_wait=0.05)), BATCH, dry_run="yes")
    assert b'<batch status="checked">' in response.body


@pytest.mark.parametrize("form", [Format.XML, Format.JSON])
def test_a_bug_is_500_in_the_callers_format(core: Core, account: Demo, form: Format) -> None:  # noqa: ARG001
    broken: Any = None
    client = client_for(replace(core, digests=broken))
    response = post(client, BATCH, **({"output": "json"} if form is Format.JSON else {}))
    assert response.status_int == 500
    request_id = response.headers["X-Request-Id"]
    assert error_of(response) == f"Internal error; nothing was imported. Quote the request id {request_id}."


# Formats


DOCUMENTED = b"""<?xml version="1.0" encoding="UTF-8"?>
<response status="success">
  <batch status="imported">
    <customers>
      <new>2</new>
      <updated>1</updated>
    </customers>
  </batch>
</response>
"""
THREE = {**BATCH, "profiles_data": "A1|Ann\nA2|Ben\nA3|Cid", "overwrite_duplicates": "update"}


def test_the_documented_reply_to_the_byte(client: TestApp, world: World) -> None:
    world.begin([{"code": "A2"}])
    assert post(client, THREE).body.rstrip() == DOCUMENTED.rstrip()


def test_the_documented_reply_in_json_to_the_byte(client: TestApp, world: World) -> None:
    world.begin([{"code": "A2"}])
    condensed = post(client, THREE, output="JSON", condensed="yes")
    wanted = '{"status":"success","batch":{"status":"imported","customers":{"new":"2","updated":"1"}}}'
    assert condensed.text == wanted
    world.begin([{"code": "A2"}])
    assert post(client, THREE, output="JSON").text.rstrip() == json.dumps(json.loads(wanted), indent=4)


def test_condensed_is_for_json_only(client: TestApp, world: World) -> None:
    world.begin([{"code": "A2"}])
    assert post(client, THREE, condensed="yes").body.rstrip() == DOCUMENTED.rstrip()


@pytest.mark.parametrize(("output", "kind"), [("xml", "xml"), ("XML", "xml"), (" Json ", "json"), ("", "xml")])
def test_output_in_any_case_and_xml_by_default(client: TestApp, output: str, kind: str) -> None:
    assert post(client, WRONG_KEY, output=output).content_type == f"application/{kind}"


@pytest.mark.parametrize("output", ["yaml", "JSONP", "application/json"])
def test_an_unknown_output_is_an_error_in_xml(client: TestApp, world: World, output: str) -> None:
    response = post(client, BATCH, output=output)
    assert response.content_type == "application/xml"
    assert error_of(response) == f"Invalid output: {output}. Use XML or JSON."
    assert codes(world) == []


def test_output_and_callback_are_judged_before_all_else(client: TestApp) -> None:
    wrong = {**WRONG_KEY, "API": "9", "type": "x"}
    assert error_of(post(client, wrong, output="yaml")).startswith("Invalid output")
    assert error_of(post(client, wrong, callback="no()")).startswith("Invalid callback")


def test_a_callback_with_explicit_xml_is_ignored(client: TestApp) -> None:
    for callback in ("done", "not a callback!"):
        response = post(client, BATCH, output="xml", callback=callback)
        assert response.content_type == "application/xml"
        assert b'status="success"' in response.body


@pytest.mark.parametrize(
    "callback",
    ["f", "$", "_a1.b$", "jQuery17_8", "a[0].b[12]", "app['till-7'].done", "a['x.y']", "x" * 128],
)
def test_a_callback_is_a_dotted_path_of_identifiers(client: TestApp, callback: str) -> None:
    response = post(client, BATCH, callback=callback)
    assert response.content_type == "text/javascript"
    assert response.text.startswith(f"/**/{callback}(")
    assert response.text.endswith(");")
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "callback",
    ["alert(1)", "a b", "1a", "a.", ".a", "a..b", "a[b]", 'a["b"]', "a['<']", "a[']", "a;b", "é", "x" * 129, "a-b"],
)
@pytest.mark.parametrize("output", ["", "JSON"])
def test_any_other_callback_is_a_plain_json_error(client: TestApp, world: World, callback: str, output: str) -> None:
    response = post(client, BATCH, callback=callback, output=output)
    assert response.content_type == "application/json"
    assert error_of(response).startswith("Invalid callback")
    assert codes(world) == []


def test_a_blank_callback_counts_as_absent(client: TestApp) -> None:
    assert post(client, BATCH, callback=" ").content_type == "application/xml"
    assert post(client, BATCH, callback="", output="json").content_type == "application/json"


def test_the_format_is_known_even_when_reading_fails(client: TestApp) -> None:
    for name, kind in (("output", "application/json"), ("callback", "text/javascript")):
        response = client.request(
            f"/api?{name}=json",
            method="POST",
            body=body(BATCH),
            content_type=URLENCODED,
            headers={"Content-Encoding": "br"},
            expect_errors=True,
        )
        assert response.content_type == kind
        assert "The Content-Encoding br is not served; send the body plain or as gzip." in response.text


def test_every_request_has_an_id_of_its_own(client: TestApp) -> None:
    assert len({post(client, WRONG_KEY).headers["X-Request-Id"] for _ in range(3)}) == 3


# Bodies


def test_the_body_wins_over_the_query(client: TestApp, world: World) -> None:
    url = f"/api?{body({'delimiter': 'comma', 'Profiles-Data': 'B1,Ben', 'output': 'json'}).decode()}"
    response = client.request(url, method="POST", body=body(BATCH), content_type=URLENCODED)
    assert response.json["batch"]["customers"]["new"] == "1"
    assert codes(world) == ["A1"]


def test_a_file_named_profiles_data_counts_as_the_field(client: TestApp, world: World) -> None:
    fields = pairs({name: value for name, value in BATCH.items() if name != "profiles_data"})
    part = b'Content-Disposition: form-data; name="profiles_data"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    sent = b"--" + BOUNDARY + b"\r\n" + part + b"F1|Fay\r\n" + multipart(fields)
    kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    assert b"<new>1</new>" in client.request("/api", method="POST", body=sent, content_type=kind).body
    assert codes(world) == ["F1"]


def test_a_gzipped_body_is_read(client: TestApp, world: World) -> None:
    headers = {"Content-Encoding": "gzip"}
    sent = gzip.compress(body(BATCH))
    client.request("/api", method="POST", body=sent, content_type=URLENCODED, headers=headers)
    assert codes(world) == ["A1"]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "application/octet-stream"])
def test_a_form_with_a_missing_or_wrong_content_type_is_read(client: TestApp, world: World, kind: str) -> None:
    for number, encode in enumerate((urlencoded, multipart), 1):
        sent = encode(pairs({**BATCH, "profiles_data": f"T{number}|x"}))
        client.request("/api", method="POST", body=sent, content_type=kind)
    assert codes(world) == ["T1", "T2"]


# Requests that belong together


def test_a_repeated_request_id_gives_the_same_bytes_and_says_so(client: TestApp, world: World) -> None:
    fields = pairs({**BATCH, "profiles_header_1": "card_number", "request_id": "k1", "details": "yes"})
    first = send(client, fields, form=Format.JSON)
    again = send(client, fields, Encoding.MULTIPART, Format.JSON)
    assert again.body == first.body
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert world.count("batch") == 1


def test_a_repeated_request_id_answers_in_the_format_asked_for(client: TestApp, world: World) -> None:
    fields = pairs({**BATCH, "request_id": "k1"})
    replies: list[Reply] = [send(client, fields, encoding, form) for form in Format for encoding in Encoding]
    assert all(b"new" in reply.body and b"error" not in reply.body for reply in replies)
    for start in range(0, len(replies), len(Encoding)):
        assert len({reply.body for reply in replies[start : start + len(Encoding)]}) == 1
    assert world.count("batch") == 1


def test_request_ids_are_per_account(client: TestApp, world: World) -> None:
    other = {"user_id": "mary", "user_api_key": "7777cccc8888dddd99", "account_id": "smallshop"}
    send(client, pairs({**BATCH, "request_id": "k1"}))
    reply = send(client, pairs({**BATCH, **other, "campaigns_to_include": "shop", "request_id": "k1"}))
    assert "<new>1</new>" in reply.xml
    assert "Idempotent-Replayed" not in reply.headers
    assert world.count("batch") == 2


def test_a_batch_without_undo_has_an_id_too(client: TestApp) -> None:
    assert send(client, pairs({**BATCH, "no_undo": "yes"})).headers["X-Batch-Id"]


def test_nothing_that_made_no_batch_has_a_batch_id(client: TestApp) -> None:
    for more in ({"dry_run": "yes"}, {"delimiter": "x"}, {"user_api_key": "wrong"}):
        assert "X-Batch-Id" not in send(client, pairs({**BATCH, **more})).headers


def test_an_old_undo_state_expires_and_is_refused(core: Core, account: Demo) -> None:  # noqa: ARG001
    client = client_for(replace(core, undo_keep=2, undo_days=0))
    ids = [send(client, pairs({**BATCH, "profiles_data": f"A{n}|x"})).headers["X-Batch-Id"] for n in range(3)]
    undo = {**BATCH, "type": "customers_batch_undo"}
    expired = send(client, pairs({**undo, "batch_id": ids[0]}), form=Format.JSON)
    assert expired.json["error"] == f"The undo state of the batch {ids[0]} has expired."
    assert send(client, pairs({**undo, "batch_id": ids[2]}), form=Format.JSON).json["status"] == "success"


def test_the_newest_states_and_all_recent_ones_are_kept(core: Core, account: Demo) -> None:  # noqa: ARG001
    client = client_for(replace(core, undo_keep=1, undo_days=30))
    ids = [send(client, pairs({**BATCH, "profiles_data": f"A{n}|x"})).headers["X-Batch-Id"] for n in range(3)]
    undo = {**BATCH, "type": "customers_batch_undo", "batch_id": ids[0]}
    assert send(client, pairs(undo), form=Format.JSON).json["status"] == "success"


def test_an_undo_takes_points_back_by_an_opposite_entry(client: TestApp, world: World) -> None:
    fields = {**BATCH, "profiles_header_2": "auto_add", "profiles_data": "A1|25\nA1|0.5"}
    batch = send(client, pairs({**fields, "overwrite_duplicates": "update"})).headers["X-Batch-Id"]
    assert sum(world.amounts()) == 2550
    entries = len(world.amounts())
    send(client, pairs({**BATCH, "type": "customers_batch_undo", "batch_id": batch}))
    assert sum(world.amounts()) == 0
    assert len(world.amounts()) > entries


# Keys and secrets


def test_cards_of_so_many_digits_exhausted_is_an_error(client: TestApp, world: World) -> None:
    rows = "\n".join(f"C{n}|x" for n in range(9001))
    fields = {**BATCH, "card_number_generate": "4", "profiles_data": rows}
    for more in ({"dry_run": "yes"}, {}):
        error = error_of(post(client, {**fields, **more}))
        assert error == "There are not enough free card numbers of 4 digits; nothing was imported."
    assert codes(world) == []


def test_all_cards_of_so_many_digits_can_be_given(client: TestApp, world: World) -> None:
    rows = "\n".join(f"C{n}|x" for n in range(9000))
    post(client, {**BATCH, "card_number_generate": "4", "profiles_data": rows})
    assert {customer["card_number"] for customer in world.customers([])} == {str(n) for n in range(1000, 10000)}


def test_passwords_and_pins_are_nowhere_in_clear(
    client: TestApp, database: Database, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "Canary7Password"  # noqa: S105 - what must not be found anywhere
    header = {"profiles_header_3": "customer_password", "profiles_header_4": "customer_PIN"}
    data = f"A1|Ann|{secret}|{secret}\nA2|Ben|{secret * 21}|{secret}\x01\nA3|{secret}|{secret}|{secret}|{secret}"
    for mode in ("skip", "reject"):
        for encoding in Encoding:
            fields = {**BATCH, **header, "profiles_data": data, "on_error": mode, "details": "yes"}
            reply = send(client, pairs({**fields, "overwrite_duplicates": "yes"}), encoding)
            assert secret not in reply.text
    assert secret not in caplog.text + "".join(capfd.readouterr())
    assert secret.encode() not in stored_bytes(database, database.data_dir)


def stored_bytes(database: Database, folder: Path) -> bytes:
    """All that the database and the data folder hold."""
    found: Iterable[Any] = (path.read_bytes() for path in folder.rglob("*") if path.is_file())
    if database.kind is Kind.POSTGRESQL:
        with database.reading() as connection:
            tables = [connection.execute(select(table)).all() for table in models.metadata.sorted_tables]
        return b"".join(found) + repr(tables).encode()
    return b"".join(found)
