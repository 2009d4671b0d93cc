"""What has expired is dropped, and nothing while an older undo state lives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, insert, select, update

from importing import upkeep
from importing.core import Core
from importing.faults import Fault
from importing.undo import preview
from storage import models
from tests.actual import Actual
from tests.model import Import


def _images(core: Core) -> int:
    with core.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(models.snapshot)).scalar_one()


def _age(core: Core, batch_id: str, days: int) -> None:
    with core.database.writing() as connection:
        table = models.batch
        values = {"created_at": table.c.created_at - days * upkeep.DAY}
        connection.execute(update(table).where(table.c.id == batch_id).values(values))


def test_undo_states_beyond_the_newest_and_older_than_the_days_expire_and_are_dropped(core: Core) -> None:
    core = replace(core, undo_keep=1, undo_days=30)
    actual = Actual(core)
    ids = [
        actual.apply(
            Import(("code", "first_name"), ({"code": "k1", "first_name": name},), "update", campaigns=("club",))
        ).id
        for name in ("ann", "bob", "eve")
    ]
    assert (upkeep.tend(core), _images(core)) == (0, 2)
    _age(core, ids[1], 31)
    # The oldest still lives by its age, and the later image is a part of it.
    assert (upkeep.tend(core), _images(core)) == (0, 2)
    _age(core, ids[0], 31)
    with pytest.raises(Fault, match="undo_expired"):
        preview(core, actual.number, ids[1])
    assert (upkeep.tend(core), _images(core)) == (1, 1)
    # The newest is kept whatever its age.
    _age(core, ids[2], 31)
    assert (upkeep.tend(core), _images(core)) == (0, 1)
    assert preview(core, actual.number, ids[2]).restored == 1


def test_removed_customers_are_blanked_when_the_undo_that_removed_them_expires(core: Core) -> None:
    core = replace(core, undo_keep=1, undo_days=30)
    actual = Actual(core)
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
        _age(core, batch_id, 31)
    assert (upkeep.tend(core), _known(core)) == (1, {"", "bob", "eve", "cid"})
    assert upkeep.tend(core) == 0
    assert set(actual.state()) == {"k2", "k3", "k4"}


def test_what_has_expired_goes_where_nothing_that_lives_has_changed_anything(core: Core) -> None:
    core = replace(core, undo_keep=1, undo_days=30)
    actual = Actual(core)
    made = actual.apply(Import(("code", "first_name"), ({"code": "k1", "first_name": "ann"},)))
    undone = actual.undo(made.id).batch_id
    for batch_id in (made.id, undone):
        _age(core, batch_id, 31)
    with core.database.writing() as connection:
        table = models.batch
        [row] = connection.execute(select(table).where(table.c.id == made.id)).mappings()
        job = {"id": "queued", "root": "queued", "status": "queued", "number": row["number"] + 9}
        connection.execute(insert(table).values({**row, **job, "created_at": row["created_at"] + 31 * upkeep.DAY}))
    assert upkeep.tend(core) == 1
    assert _known(core) == {""}


NAMED = ("code", "first_name", "customer_PIN")


def _known(core: Core) -> set[str]:
    """All first names, and an empty one of whoever has nothing else either."""
    with core.database.reading() as connection:
        rows = connection.execute(select(models.customer)).mappings().all()
    blank = {"password_version": 0, "pin_version": 0, "custom_fields": {}, "attributes": {}}
    for row in rows:
        if not row["first_name"]:
            assert all(
                row[name] == blank.get(name, "") for name in (*models.PROFILE, *models.SECRETS, *models.DOCUMENTS)
            )
            assert all(row[name] is None for name in (*models.KEYS, *models.HAD))
    return {row["first_name"] for row in rows}
