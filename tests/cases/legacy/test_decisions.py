"""Decisions of the legacy protocol that are no plain case: bodies, what several requests do together, and secrets.

Each test's name says the decision. Source: docs/protocol.md, Transport to 7; the others are the cases of fixtures/legacy.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from webtest import TestApp  # type: ignore[import-untyped]

from importing.context import Context
from storage import tables
from storage.engine import Database, Kind
from tests.support.case_database import World
from tests.support.demo_accounts import Demo
from tests.support.legacy_client import BOUNDARY, Encoding, Format, Reply, multipart, send, urlencoded
from tests.support.legacy_posts import BATCH, URLENCODED, body, client_for, codes, error_of, pairs, post

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


def test_an_old_undo_state_expires_and_is_refused(context: Context, account: Demo) -> None:  # noqa: ARG001
    client = client_for(replace(context, undo_keep=2, undo_days=0))
    ids = [send(client, pairs({**BATCH, "profiles_data": f"A{n}|x"})).headers["X-Batch-Id"] for n in range(3)]
    undo = {**BATCH, "type": "customers_batch_undo"}
    expired = send(client, pairs({**undo, "batch_id": ids[0]}), form=Format.JSON)
    assert expired.json["error"] == f"The undo state of the batch {ids[0]} has expired."
    assert send(client, pairs({**undo, "batch_id": ids[2]}), form=Format.JSON).json["status"] == "success"


def test_the_newest_states_and_all_recent_ones_are_kept(context: Context, account: Demo) -> None:  # noqa: ARG001
    client = client_for(replace(context, undo_keep=1, undo_days=30))
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
            table_rows = [connection.execute(select(table)).all() for table in tables.metadata.sorted_tables]
        return b"".join(found) + repr(table_rows).encode()
    return b"".join(found)
