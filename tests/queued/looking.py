"""What the tests of jobs look at."""

from __future__ import annotations

from sqlalchemy import func, select

from importing import follow
from importing.core import Core
from importing.follow import Followed
from storage.models import change
from tests.demo import Demo

MANY = 12_000


def found(core: Core, account: Demo, batch_id: str) -> Followed:
    batch = follow.find(core, account.number, batch_id)
    assert batch is not None
    return batch


def changes(core: Core, account: Demo) -> int:
    with core.database.reading() as connection:
        query = select(func.count()).where(change.c.account_id == account.number)
        return int(connection.execute(query).scalar_one())
