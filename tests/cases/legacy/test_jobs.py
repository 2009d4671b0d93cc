"""Queued batches of the legacy protocol: followed, cancelled, resumed and undone. Source: docs/protocol.md, Jobs.

Each test's name says the decision; what is a plain case stands in fixtures/legacy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from webtest import TestApp  # type: ignore[import-untyped]

from app import create_app
from importing import batch_status
from importing.batch_status import BatchStatus
from importing.context import Context
from importing.jobs import chunk
from legacy_api import replies
from legacy_api.encoders import Encoder
from storage import tables
from storage.batch_transaction import BatchTransaction
from storage.queries import batches
from tests.conftest import settings_for
from tests.support.case_database import World
from tests.support.demo_accounts import Demo
from tests.support.job_batches import HeldQueue
from tests.support.legacy_client import Format, Reply, send
from tests.support.legacy_posts import BATCH, pairs

ROWS = 300
# A column that is not used makes the rows long: a chunk ends with a block of 64 kB.
LONG = {
    **BATCH,
    "profiles_header_1": "card_number",
    "profiles_header_2": "auto_add",
    "profiles_header_3": "",
    "profiles_data": "".join(f"{n}|25|{'x' * 1000}\n" for n in range(1, ROWS + 1)),
    "on_error": "skip",
    "async": "yes",
}
SHORT = {**BATCH, "async": "yes"}


@pytest.fixture
def queue() -> HeldQueue:
    return HeldQueue()


@pytest.fixture
def working(context: Context, queue: HeldQueue, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A core whose chunks are as small as can be."""
    monkeypatch.setattr(chunk, "FIRST_CHUNK_ROWS", 1)
    monkeypatch.setattr(chunk, "_next_chunk_rows", lambda *_: 1)
    return replace(context, queue=queue)


@pytest.fixture
def client(working: Context, account: Demo) -> TestApp:  # noqa: ARG001 - the accounts are there
    return TestApp(create_app(settings_for(working.database), working))


@pytest.fixture
def world(working: Context, account: Demo) -> World:
    return World(working, account)


def post(client: TestApp, fields: Mapping[str, str], **more: str) -> Reply:
    return send(client, pairs({**fields, **more}), form=Format.JSON)


def call(client: TestApp, kind: str, batch_id: str = "", **more: str) -> Any:
    """The tree of a call's reply."""
    who = {name: BATCH[name] for name in ("user_id", "user_api_key", "account_id")}
    fields = {**who, "type": f"customers_{kind}", **({"batch_id": batch_id} if batch_id else {}), **more}
    reply = send(client, pairs(fields), form=Format.JSON)
    assert "X-Batch-Id" not in reply.headers or kind == "batch_undo"
    return reply.json


def queued(client: TestApp, fields: Mapping[str, str] = SHORT) -> str:
    reply = post(client, fields)
    batch_id: str = reply.json["batch"]["id"]
    assert reply.headers["X-Batch-Id"] == batch_id
    return batch_id


def audit(world: World) -> list[tuple[str, str, str]]:
    with world.context.database.reading() as connection:
        table = tables.audit
        found = connection.execute(select(table.c.actor, table.c.action, table.c.subject).order_by(table.c.at))
        return [(row[0], row[1], row[2]) for row in found if row[1] in ("cancel", "resume")]


def test_a_repetition_of_a_queued_batch_says_so_and_gives_the_same_bytes(
    client: TestApp, world: World, queue: HeldQueue
) -> None:
    first = post(client, SHORT, request_id="k1")
    again = post(client, SHORT, request_id="k1")
    assert queue.run(world.context) > 0
    late = post(client, SHORT, request_id="k1", condensed="no")
    assert first.body == again.body == late.body
    assert first.headers["X-Batch-Id"] == again.headers["X-Batch-Id"] == late.headers["X-Batch-Id"]
    replayed = [reply.headers.get("Idempotent-Replayed") for reply in (first, again, late)]
    assert replayed == [None, "true", "true"]
    assert (world.count("batch"), queue.run(world.context)) == (1, 0)


def test_without_a_key_the_same_batch_is_queued_again(client: TestApp, world: World) -> None:
    assert queued(client) != queued(client)
    assert world.count("job") == 2


def test_a_job_that_fails_is_not_queued_anew_under_its_key(client: TestApp, world: World, queue: HeldQueue) -> None:
    bad = {**SHORT, "profiles_header_2": "custom_date", "request_id": "k1"}
    batch_id = queued(client, bad)
    queue.run(world.context)
    assert call(client, "batch_status", batch_id)["batch"]["status"] == "failed"
    assert queued(client, bad) == batch_id


def test_nothing_is_imported_before_the_job_runs(client: TestApp, world: World, queue: HeldQueue) -> None:
    queued(client)
    assert world.customers([]) == []
    queue.run(world.context)
    assert [customer["code"] for customer in world.customers([])] == ["A1"]


def test_a_job_knows_what_its_request_was_called(client: TestApp, world: World) -> None:
    reply = post(client, SHORT)
    found = batch_status.find_batch(world.context, world.demo.number, reply.headers["X-Batch-Id"])
    assert found is not None
    assert found.request_ref == reply.headers["X-Request-Id"]


def test_a_batch_that_was_asked_for_before_the_data_is_not_told_of_when_another_one_is_meant(client: TestApp) -> None:
    """The first field of a name is read along with the sender, who is looked at when data begin to arrive."""
    first, last = queued(client), queued(client)
    who = {name: BATCH[name] for name in ("user_id", "user_api_key", "account_id")}
    asking = pairs({**who, "type": "customers_batch_status", "batch_id": first, "profiles_data": "x"})
    for meant, told in (({"batch_id": last}, last), ({}, first)):
        reply = send(client, [*asking, *pairs(meant)], form=Format.JSON)
        assert reply.json["batch"]["id"] == told
    reply = send(client, [*asking, *pairs({"batch_id": "none"})], form=Format.JSON)
    assert reply.json["error"].startswith("Unknown batch: ")


def test_a_batch_of_another_account_is_none(client: TestApp, world: World, account: Demo) -> None:
    assert account.number == world.demo.number
    batch_id = queued(client)
    with world.context.database.writing() as connection:
        other = connection.execute(
            select(tables.account.c.id).where(tables.account.c.id != account.number)
        ).scalar_one()
        connection.execute(update(tables.batch).where(tables.batch.c.id == batch_id).values(account_id=other))
    assert call(client, "batch_status", batch_id)["error"].startswith("Unknown batch: ")


def test_times_are_utc_without_a_zone(client: TestApp) -> None:
    told = call(client, "batch_status", queued(client))["batch"]["created_stamp"]
    age = datetime.now(UTC) - datetime.strptime(told, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert timedelta(0) <= age < timedelta(minutes=5)


def test_a_running_batch_tells_its_progress_and_no_codes_yet(client: TestApp, world: World, queue: HeldQueue) -> None:
    batch_id = queued(client, LONG)
    queue.run(world.context, 2)
    batch = call(client, "batch_status", batch_id)["batch"]
    assert batch["status"] == "running"
    done = int(batch["progress"]["processed"])
    assert 0 < done < ROWS
    assert batch["progress"] == {"total": str(ROWS), "processed": str(done), "successful": str(done), "failed": "0"}
    assert batch["customers"] == {"new": str(done), "updated": "0", "unchanged": "0", "ignored": "0", "failed": "0"}
    assert len(world.customers([])) == done


def test_a_cancelled_batch_keeps_whole_chunks_and_reports_their_codes(
    client: TestApp, world: World, queue: HeldQueue
) -> None:
    batch_id = queued(client, LONG)
    queue.run(world.context, 2)
    assert call(client, "batch_cancel", batch_id)["batch"] == {"id": batch_id, "status": "cancelled"}
    assert queue.run(world.context) > 0
    batch = call(client, "batch_status", batch_id)["batch"]
    done = int(batch["customers"]["new"])
    assert (batch["status"], batch["undo"]) == ("cancelled", "available")
    assert 0 < done < ROWS
    codes = {customer["code"] for customer in batch["customers"]["customer"]}
    assert codes == {customer["code"] for customer in world.customers([])}
    assert len(codes) == done


def test_a_cancelled_batch_can_be_undone(client: TestApp, world: World, queue: HeldQueue) -> None:
    batch_id = queued(client, LONG)
    queue.run(world.context, 2)
    call(client, "batch_cancel", batch_id)
    undo = call(client, "batch_undo", batch_id)["batch"]
    assert (undo["status"], undo["customers"]["kept"]) == ("undone", "0")
    assert world.customers([]) == []
    batch = call(client, "batch_status", batch_id)["batch"]
    assert (batch["status"], batch["undo"]) == ("undone", "undone")
    assert "customer" not in batch["customers"]


def test_a_running_batch_cannot_be_undone(client: TestApp, world: World, queue: HeldQueue) -> None:
    batch_id = queued(client, LONG)
    for _ in range(2):
        assert call(client, "batch_status", batch_id)["batch"]["undo"] == "none"
        assert call(client, "batch_undo", batch_id)["status"] == "error"
        queue.run(world.context, 2)
    assert call(client, "batch_status", batch_id)["batch"]["status"] == "running"


def test_a_resumed_batch_goes_on_where_it_stood(client: TestApp, world: World, queue: HeldQueue) -> None:
    batch_id = queued(client, LONG)
    queue.run(world.context, 2)
    call(client, "batch_cancel", batch_id)
    queue.run(world.context)
    assert call(client, "batch_resume", batch_id)["batch"] == {"id": batch_id, "status": "queued"}
    queue.run(world.context)
    batch = call(client, "batch_status", batch_id)["batch"]
    assert (batch["status"], batch["customers"]["new"]) == ("imported", str(ROWS))
    assert [int(customer["row"]) for customer in batch["customers"]["customer"]] == list(range(1, ROWS + 1))
    assert world.amounts() == [2500] * ROWS


def test_a_job_that_failed_from_outside_says_why_and_can_be_resumed(
    client: TestApp, world: World, queue: HeldQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    batch_id = queued(client)
    with monkeypatch.context() as patch:
        patch.setattr(chunk, "do_chunk", broken)
        with world.context.database.writing() as connection:
            connection.execute(update(tables.job).values(attempts=1000))
        queue.run(world.context)
    batch = call(client, "batch_status", batch_id)["batch"]
    assert batch["status"] == "failed"
    assert list(batch)[-1] == "reason"
    assert batch["reason"]["code"] == "job_interrupted"
    assert call(client, "batch_resume", batch_id)["batch"]["status"] == "queued"
    queue.run(world.context)
    batch = call(client, "batch_status", batch_id)["batch"]
    assert batch["status"] == "imported"
    assert "reason" not in batch


def test_who_cancels_and_resumes_is_in_the_audit(client: TestApp, world: World) -> None:
    batch_id = queued(client)
    call(client, "batch_cancel", batch_id)
    assert "error" in call(client, "batch_cancel", batch_id)
    call(client, "batch_resume", batch_id)
    assert audit(world) == [("john1970", "cancel", batch_id), ("john1970", "resume", batch_id)]


@pytest.mark.parametrize("kind", ["batch_status", "batch_cancel", "batch_resume", "batch_undo"])
def test_a_batch_id_that_is_none_is_refused(client: TestApp, kind: str) -> None:
    assert call(client, kind)["error"] == "The batch_id is missing."
    for batch_id in ("nothing", "a\x00b", "x" * 300, "é"):
        assert call(client, kind, batch_id)["error"].startswith("Unknown batch: ")


def test_the_lists_of_a_history_are_read_one_batch_after_the_other(
    client: TestApp, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_status, "ROWS_PER_PAGE", 100)
    for n in range(4):
        post(client, {**LONG, "async": "no", "profiles_data": "".join(f"{n}-{row}|1\n" for row in range(ROWS * 3))})
    read: list[str] = []
    page = batches.load_assigned_key_page

    def counted(work: BatchTransaction, account: int, batch_id: str, *more: Any) -> Any:
        read.extend([batch_id] if batch_id not in read else [])
        return page(work, account, batch_id, *more)

    monkeypatch.setattr(batches, "load_assigned_key_page", counted)
    found: list[BatchStatus] = list(batch_status.list_batches(world.context, world.demo.number))
    pieces = Encoder().encode(replies.list_reply(world.context, world.demo.number, found).root)
    assert read == []
    first = next(pieces)
    assert read == [found[0].id]
    assert b"".join([first, *pieces]).count(b"<customer>") == 4 * ROWS * 3
    assert read == [batch.id for batch in found]


def test_pages_of_a_history_follow_one_another(client: TestApp) -> None:
    ids = [queued(client, {**SHORT, "profiles_data": f"A{n}|Ann"}) for n in range(23)][::-1]
    first = call(client, "batches")["batches"]
    second = call(client, "batches", offset="20")["batches"]
    assert [batch["id"] for batch in first + second] == ids
    assert len(first) == 20
    assert [batch["id"] for batch in call(client, "batches", length="100")["batches"]] == ids
