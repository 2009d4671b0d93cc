"""What a release before has stored goes on working, and what this one stores is not lost on the way back."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import func, inspect, select, text

from importing import account_settings, batch_status, import_batch
from importing.batch import Batch, Campaign, CampaignType, Delimited, Header, Outcome, Source, UndoOutcome
from importing.batch_status import BatchProgress
from importing.context import Context
from importing.fields import FIELD_BY_NAME
from importing.jobs import batch_json, chunk, lifecycle
from importing.undo import undo_batch
from storage import migrate, tables
from storage.engine import Database
from storage.queries import accounts, admins, batches, webhooks
from tests.properties.test_undo import FULL
from tests.support.demo_accounts import Demo
from tests.support.job_batches import CAMPAIGN, HeldQueue, batch
from tests.support.model import Import
from tests.support.real_core import Actual


def people(*rows: str) -> Import:
    cells = (row.split() for row in rows)
    return Import(FULL, tuple(dict(zip(FULL, row, strict=True)) for row in cells), "update", campaigns=("club",))


ANN = people("k1 c1 ann 2020-01-02 ann 1234 v", "k2 c2 bob 2021-03-04 bob 1234 w")
EVE = people("k3 c3 eve 2020-01-02 eve 1234 x", "k1 c1 anna 2020-01-02 ann 1234 v")
CID = people("k4 c4 cid 2020-01-02 cid 1234 y")
# Takes the card that an undo has freed.
DAN = people("k5 c4 dan 2020-01-02 dan 1234 z")


@pytest.fixture
def actual(context: Context) -> Actual:
    return Actual(context)


def _stored(actual: Actual) -> list[list[tuple[object, ...]]]:
    with actual.context.database.reading() as connection:
        return [
            sorted(map(tuple, connection.execute(select(*table.primary_key, *columns))), key=str)
            for table, columns in (
                (
                    tables.customer,
                    [tables.customer.c[name] for name in (*tables.IMAGE_COLUMNS, *tables.HAD_COLUMNS, "removed")],
                ),
                (tables.change, [tables.change.c[name] for name in ("first_removed", "last_removed")]),
                (tables.snapshot, [tables.snapshot.c[name] for name in (*tables.IMAGE_COLUMNS, "removed")]),
                (tables.batch, list(tables.batch.c)),
            )
        ]


def _down_and_up(actual: Actual) -> tuple[int, int]:
    """Go back to the release before, and forward again. Returns how many it found removed, and how many with values."""
    database = actual.context.database
    migrate.downgrade(database, "0002")
    with database.reading() as connection:
        where = "removed IS NOT NULL"
        removed, kept = (
            int(connection.execute(text(f"SELECT count(*) FROM customer WHERE {condition}")).scalar_one())
            for condition in (where, f"{where} AND (first_name <> '' OR pin_digest <> '' OR code IS NOT NULL)")
        )
    migrate.upgrade(database)
    return removed, kept


def test_removed_customers_are_carried_over_and_come_back(actual: Actual) -> None:
    actual.apply(ANN)
    eve, cid = actual.apply(EVE).id, actual.apply(CID).id
    written = actual.raw()
    undone = [actual.undo(batch_id).batch_id for batch_id in (eve, cid)]
    stored = _stored(actual)
    assert _down_and_up(actual) == (2, 0)
    assert _stored(actual) == stored
    for batch_id in undone:
        assert not actual.undo(batch_id).kept
    assert actual.raw() == written
    actual.check()


@pytest.mark.parametrize("carried", [False, True])
def test_what_a_change_wrote_is_known_though_its_customer_was_away_since(actual: Actual, *, carried: bool) -> None:
    made = actual.apply(CID).id
    changed = actual.apply(replace(CID, rows=({**CID.rows[0], "card_number": "c9"},))).id
    gave_back = actual.undo(changed).batch_id
    away = actual.undo(made).batch_id
    actual.apply(DAN)
    assert [(c.field, c.current) for c in actual.undo(away).conflicts] == [("card_number", "")]
    if carried:
        _down_and_up(actual)
    # It wrote the card that Dan has by now: the customer is left without one.
    undone = actual.undo(gave_back)
    assert [(c.field, c.written, c.current) for c in undone.conflicts] == [("card_number", "c4", "")]
    actual.check()


def test_the_migrations_make_what_the_models_say(context: Context) -> None:
    found = inspect(context.database.engine)
    for table in tables.metadata.sorted_tables:
        assert {column["name"] for column in found.get_columns(table.name)} == set(table.columns.keys())
        assert {index["name"] for index in found.get_indexes(table.name) if not index.get("duplicates_constraint")} == {
            index.name for index in table.indexes
        }


def test_a_release_before_counts_on_from_the_last_number(actual: Actual) -> None:
    actual.apply(ANN)
    actual.undo(actual.apply(EVE).id)
    database = actual.context.database
    with database.read_connection() as work:
        newest = batches.last_change(work, actual.number)
    migrate.downgrade(database, "0004")
    counted = select(tables.account.c.last_change, tables.account.c.last_customer).where(
        tables.account.c.id == actual.number
    )
    last = select(func.max(tables.customer.c.id)).where(tables.customer.c.account_id == actual.number)
    with database.reading() as connection:
        assert connection.execute(counted).one() == (newest, connection.execute(last).scalar_one())
    migrate.upgrade(database)
    actual.apply(CID)
    actual.check()


Dump = dict[str, list[dict[str, Any]]]


def _dump(database: Database) -> Dump:
    """All rows of all tables, whatever the revision."""
    with database.reading() as connection:
        names = sorted(set(inspect(connection).get_table_names()) - {"alembic_version"})
        dump = {
            name: [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()] for name in names
        }
    return {name: sorted(rows, key=repr) for name, rows in dump.items()}


@pytest.fixture
def queue() -> HeldQueue:
    return HeldQueue()


@pytest.fixture
def working(context: Context, queue: HeldQueue, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(chunk, "FIRST_CHUNK_ROWS", 2)
    return replace(context, queue=queue)


@dataclass
class Stored:
    """What `_store_everything` made: its batches, an undo, and jobs."""

    imported: Outcome
    undone: UndoOutcome
    queued: str
    running: str


KEYLESS = "|Ann|2001-02-03|25\n|Bob|2001-02-03|25\nc1|Cid|never|1\n"


def _keyed(context: Context, account: Demo) -> Batch:
    return batch(context, account, KEYLESS, key="key-1")


def _store_everything(context: Context, queue: HeldQueue, account: Demo) -> Stored:
    """Rows in every table, among them an undo with all three counts, a queued job and one that has begun."""
    imported = import_batch.run(context, _keyed(context, account))
    import_batch.run(context, batch(context, account, "a1|Eve|2001-02-03|25\na2|Fay|2001-02-03|25\na3|Hal||1\n"))
    second = import_batch.run(
        context, batch(context, account, "a1|Eva||1\na2|Fee||1\na3|Hank||1\nb1|Gil||1\nd1|Dan||1\nd2|Don||1\n")
    ).batch_id
    import_batch.run(context, batch(context, account, "a1|Ewa||1\nb1|Gus||1\n"))
    unique = (
        Header(1, FIELD_BY_NAME["code"]),
        Header(2, account_settings.load(context, account.number).fields["custom_field_5"]),
    )
    source = Source(io.BytesIO(b"u1|badge\n"), "utf-8", 9)
    import_batch.run(context, Batch(account.number, "u", "cli", unique, Delimited("|"), source))
    with context.database.writing() as connection:
        webhooks.create_webhook(connection, account.number, "hook", "https://example.com/", b"sealed")
        admins.create_admin(connection, "root@example.com", account.number, "admin", "digest")
        admins.add_session(connection, digest="d", admin_id=1, created_at=1, expires_at=2**40)
        accounts.add_audit_line(connection, account.number, "cli", "test")
    undone = undo_batch.undo(context, account.number, second, "u", "cli")
    assert (undone.restored, undone.removed, undone.kept) == (3, 2, 1)
    running = lifecycle.submit(context, batch(context, account, "".join(f"r{n}|R|||\n" for n in range(9)))).batch_id
    queue.run(context, 1)
    queue.messages.clear()
    context.queue.put_chunk(running, 1)
    queued = lifecycle.submit(context, batch(context, account, "q1|Q|2001-02-03|25\n|P|2001-02-03|25\n")).batch_id
    return Stored(imported, undone, queued, running)


def test_columns_are_renamed_both_ways_with_all_their_data(working: Context, queue: HeldQueue, account: Demo) -> None:
    stored = _store_everything(working, queue, account)
    database = working.database
    new = _dump(database)
    assert [name for name, rows in new.items() if not rows] == []
    migrate.downgrade(database, "0005")
    old = _dump(database)
    _check_old_form(old, stored)
    migrate.upgrade(database)
    assert _dump(database) == new
    migrate.downgrade(database, "0005")
    assert _dump(database) == old
    migrate.upgrade(database)
    assert _dump(database) == new
    _go_on(working, queue, account, stored)


def _check_old_form(old: Dump, stored: Stored) -> None:
    """The tables as the release before wrote them."""
    undone, imported = stored.undone, stored.imported
    by_id = {row["id"]: row for row in old["batch"]}
    counts = {"updated": undone.restored, "ignored": undone.removed, "failed": undone.kept}
    counts |= {"rows": undone.restored + undone.removed + undone.kept, "new": 0, "unchanged": 0}
    assert {name: by_id[undone.batch_id][name] for name in counts} == counts
    assert by_id[imported.batch_id]["seconds"] == round(imported.seconds * 1000)
    assert (by_id[imported.batch_id]["rows"], by_id[imported.batch_id]["failed"]) == (3, 1)
    assert set(by_id[undone.batch_id]).isdisjoint(("restored", "duration_ms", "address", "declared_charset"))
    made = [row for row in old["batch_problem"] if (row["batch_id"], row["kind"]) == (imported.batch_id, "made")]
    names = ("n", "row", "field", "code", "value", "written", "ref")
    assert [tuple(row[name] for name in names) for row in sorted(made, key=lambda row: row["n"])] == [
        (n, key.row, "", key.code, key.card_number, "", "") for n, key in enumerate(imported.assigned_keys)
    ]
    assert len(made) == 2
    assert [(row["key"], row["batch_id"]) for row in old["reply"]] == [("key-1", imported.batch_id)]
    assert {row["account_id"] for row in old["account"]} == {"greatwidgets", "smallshop"}
    assert {"898989889", "coffee", "shop"} <= {row["campaign_id"] for row in old["campaign"]}
    plans = {row["batch_id"]: json.loads(row["plan"]) for row in old["job"]}
    assert [c["campaign_id"] for c in plans[stored.queued]["campaigns"]] == [CAMPAIGN]
    assert "origin" not in plans[stored.queued]


def _go_on(context: Context, queue: HeldQueue, account: Demo, stored: Stored) -> None:
    again = import_batch.run(context, _keyed(context, account))
    assert again.replayed
    assert (again.batch_id, list(again.assigned_keys), again.counts) == (
        stored.imported.batch_id,
        list(stored.imported.assigned_keys),
        stored.imported.counts,
    )
    queue.run(context)
    for batch_id, rows in ((stored.queued, 2), (stored.running, 9)):
        status = batch_status.find_batch(context, account.number, batch_id)
        assert status is not None
        assert (status.status, status.counts.new + status.counts.failed) == ("imported", rows)
    undo = batch_status.find_batch(context, account.number, stored.undone.batch_id)
    assert undo is not None
    total = stored.undone.restored + stored.undone.removed + stored.undone.kept
    assert undo.progress == BatchProgress(total, total, total - stored.undone.kept, stored.undone.kept)
    assert undo_batch.undo(context, account.number, stored.undone.batch_id, "u", "cli").restored
    assert undo_batch.undo(context, account.number, stored.imported.batch_id, "u", "cli").removed == 2


def test_an_item_that_is_called_like_a_member_of_a_plan_keeps_its_name(working: Context, account: Demo) -> None:
    campaign = Campaign(7, 'x"campaign_id":"', "Coffee", CampaignType.BUYX, {"campaign_id": 1, "public_id": 2})
    sent = batch(working, account, "q1|Q||1\n")._replace(campaigns=(campaign,))
    lifecycle.submit(working, sent)
    new = _dump(working.database)["job"][0]["plan"]
    migrate.downgrade(working.database, "0005")
    old = json.loads(_dump(working.database)["job"][0]["plan"])["campaigns"]
    assert (old[0]["campaign_id"], old[0]["items"]) == (campaign.public_id, dict(campaign.items))
    migrate.upgrade(working.database)
    assert _dump(working.database)["job"][0]["plan"] == new
    assert batch_json.load_batch(new, io.BytesIO(), 0).campaigns == (campaign,)
