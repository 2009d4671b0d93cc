"""What the tests of jobs look at."""

from __future__ import annotations

from sqlalchemy import func, select

from importing import batch_status
from importing.batch_status import BatchStatus
from importing.context import Context
from storage.queries import batches
from storage.tables import change
from tests.support.demo_accounts import Demo

MANY = 12_000


def found(context: Context, account: Demo, batch_id: str) -> BatchStatus:
    batch = batch_status.find_batch(context, account.number, batch_id)
    assert batch is not None
    return batch


def origin_of(context: Context, batch_id: str) -> tuple[object, ...]:
    """The address, delimiter, request id and declared charset of a batch, as they are stored."""
    with context.database.reading() as connection:
        row = batches.find_anywhere(connection, batch_id)
    assert row is not None
    return tuple(row[name] for name in batches.ORIGIN_COLUMNS)


def changes(context: Context, account: Demo) -> int:
    with context.database.reading() as connection:
        query = select(func.count()).where(change.c.account_id == account.number)
        return int(connection.execute(query).scalar_one())
