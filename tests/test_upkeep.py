"""What has expired is dropped, and nothing while an older undo state lives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

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
