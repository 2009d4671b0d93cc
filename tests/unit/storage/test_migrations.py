"""What a release before has stored goes on working, and what this one stores is not lost on the way back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, inspect, select, text

from importing.context import Context
from storage import migrate, tables
from storage.queries import batches
from tests.properties.test_undo import FULL
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
