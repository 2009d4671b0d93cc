"""What has expired is dropped, and nothing while an older undo state lives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, insert, select, update

from importing.context import Context
from importing.errors import ApiError
from importing.undo.undo_batch import preview
from server import maintenance
from storage import tables
from tests.support.model import Import
from tests.support.real_core import Actual


def _images(context: Context) -> int:
    with context.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(tables.snapshot)).scalar_one()


def _age(context: Context, batch_id: str, days: int) -> None:
    with context.database.writing() as connection:
        table = tables.batch
        values = {"created_at": table.c.created_at - days * maintenance.DAY}
        connection.execute(update(table).where(table.c.id == batch_id).values(values))


def test_undo_states_beyond_the_newest_and_older_than_the_days_expire_and_are_dropped(context: Context) -> None:
    context = replace(context, undo_keep=1, undo_days=30)
    actual = Actual(context)
    ids = [
        actual.apply(
            Import(("code", "first_name"), ({"code": "k1", "first_name": name},), "update", campaigns=("club",))
        ).id
        for name in ("ann", "bob", "eve")
    ]
    assert (maintenance.run_once(context), _images(context)) == (0, 2)
    _age(context, ids[1], 31)
    # The oldest still lives by its age, and the later image is a part of it.
    assert (maintenance.run_once(context), _images(context)) == (0, 2)
    _age(context, ids[0], 31)
    with pytest.raises(ApiError, match="undo_expired"):
        preview(context, actual.number, ids[1])
    assert (maintenance.run_once(context), _images(context)) == (1, 1)
    # The newest is kept whatever its age.
    _age(context, ids[2], 31)
    assert (maintenance.run_once(context), _images(context)) == (0, 1)
    assert preview(context, actual.number, ids[2]).restored == 1


def test_removed_customers_are_blanked_when_the_undo_that_removed_them_expires(context: Context) -> None:
    context = replace(context, undo_keep=1, undo_days=30)
    actual = Actual(context)
    batches = [
        actual.apply(
            Import(("code", "first_name", "customer_PIN"), (dict(zip(NAMED, (code, name, "1234"), strict=True)),))
        )
        for code, name in (("k1", "ann"), ("k2", "bob"), ("k3", "eve"))
    ]
    undone = [actual.undo(batch.id).batch_id for batch in batches[:2]]
    # Bob is there again, and an image of himself no more.
    actual.undo(undone[1])
    actual.apply(Import(("code", "first_name"), ({"code": "k4", "first_name": "cid"},)))
    for batch_id in (*(batch.id for batch in batches), undone[0]):
        _age(context, batch_id, 31)
    assert (maintenance.run_once(context), _known(context)) == (1, {"", "bob", "eve", "cid"})
    assert maintenance.run_once(context) == 0
    assert set(actual.state()) == {"k2", "k3", "k4"}


def test_what_has_expired_goes_where_nothing_that_lives_has_changed_anything(context: Context) -> None:
    context = replace(context, undo_keep=1, undo_days=30)
    actual = Actual(context)
    made = actual.apply(Import(("code", "first_name"), ({"code": "k1", "first_name": "ann"},)))
    undone = actual.undo(made.id).batch_id
    for batch_id in (made.id, undone):
        _age(context, batch_id, 31)
    with context.database.writing() as connection:
        table = tables.batch
        [row] = connection.execute(select(table).where(table.c.id == made.id)).mappings()
        job = {"id": "queued", "root": "queued", "status": "queued", "number": row["number"] + 9}
        connection.execute(insert(table).values({**row, **job, "created_at": row["created_at"] + 31 * maintenance.DAY}))
    assert maintenance.run_once(context) == 1
    assert _known(context) == {""}


NAMED = ("code", "first_name", "customer_PIN")


def _known(context: Context) -> set[str]:
    """All first names, and an empty one of whoever has nothing else either."""
    with context.database.reading() as connection:
        rows = connection.execute(select(tables.customer)).mappings().all()
    blank = {"password_version": 0, "pin_version": 0, "custom_fields": {}, "attributes": {}}
    for row in rows:
        if not row["first_name"]:
            assert all(
                row[name] == blank.get(name, "")
                for name in (*tables.PROFILE_COLUMNS, *tables.SECRET_COLUMNS, *tables.DOCUMENT_COLUMNS)
            )
            assert all(row[name] is None for name in (*tables.KEY_COLUMNS, *tables.HAD_COLUMNS))
    return {row["first_name"] for row in rows}


def test_codes_that_a_batch_made_are_dropped_with_its_undo_state(context: Context) -> None:
    context = replace(context, undo_keep=1, undo_days=30)
    actual = Actual(context)
    batch = Import(("code", "first_name"), ({"code": "", "first_name": "ann"},), "update", campaigns=("club",))
    ids = [actual.apply(batch).id for _ in range(2)]
    _age(context, ids[0], 31)
    maintenance.run_once(context)
    with context.database.reading() as connection:
        assert list(connection.execute(select(tables.assigned_key.c.batch_id)).scalars()) == [ids[1]]
