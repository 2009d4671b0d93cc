"""What a release before has stored goes on working, and what this one stores is not lost on the way back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, inspect, select, text

from importing.core import Core
from storage import batches, migrate, models
from tests.actual import Actual
from tests.model import Import
from tests.test_properties_undo import FULL


def people(*rows: str) -> Import:
    cells = (row.split() for row in rows)
    return Import(FULL, tuple(dict(zip(FULL, row, strict=True)) for row in cells), "update", campaigns=("club",))


ANN = people("k1 c1 ann 2020-01-02 ann 1234 v", "k2 c2 bob 2021-03-04 bob 1234 w")
EVE = people("k3 c3 eve 2020-01-02 eve 1234 x", "k1 c1 anna 2020-01-02 ann 1234 v")
CID = people("k4 c4 cid 2020-01-02 cid 1234 y")
# Takes the card that an undo has freed.
DAN = people("k5 c4 dan 2020-01-02 dan 1234 z")


@pytest.fixture
def actual(core: Core) -> Actual:
    return Actual(core)


def _stored(actual: Actual) -> list[list[tuple[object, ...]]]:
    with actual.core.database.reading() as connection:
        return [
            sorted(map(tuple, connection.execute(select(*table.primary_key, *columns))), key=str)
            for table, columns in (
                (models.customer, [models.customer.c[name] for name in (*models.IMAGE, *models.HAD, "removed")]),
                (models.change, [models.change.c[name] for name in ("first_removed", "last_removed")]),
                (models.snapshot, [models.snapshot.c[name] for name in (*models.IMAGE, "removed")]),
                (models.batch, list(models.batch.c)),
            )
        ]


def _down_and_up(actual: Actual) -> tuple[int, int]:
    """Go back to the release before, and forward again. Returns how many it found removed, and how many with values."""
    database = actual.core.database
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


def test_the_migrations_make_what_the_models_say(core: Core) -> None:
    found = inspect(core.database.engine)
    for table in models.metadata.sorted_tables:
        assert {column["name"] for column in found.get_columns(table.name)} == set(table.columns.keys())
        assert {index["name"] for index in found.get_indexes(table.name) if not index.get("duplicates_constraint")} == {
            index.name for index in table.indexes
        }


def test_a_release_before_counts_on_from_the_last_number(actual: Actual) -> None:
    actual.apply(ANN)
    actual.undo(actual.apply(EVE).id)
    database = actual.core.database
    with database.looking() as work:
        newest = batches.last_change(work, actual.number)
    migrate.downgrade(database, "0004")
    counted = select(models.account.c.last_change, models.account.c.last_customer).where(
        models.account.c.id == actual.number
    )
    last = select(func.max(models.customer.c.id)).where(models.customer.c.account_id == actual.number)
    with database.reading() as connection:
        assert connection.execute(counted).one() == (newest, connection.execute(last).scalar_one())
    migrate.upgrade(database)
    actual.apply(CID)
    actual.check()
