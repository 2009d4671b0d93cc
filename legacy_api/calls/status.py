"""`type=customers_batch_status` and `customers_batches`: what became of batches. Source: docs/protocol.md, Jobs."""

from __future__ import annotations

from importing import batch_status
from importing.errors import ApiError
from legacy_api import envelope, following
from legacy_api.envelope import Asked
from legacy_api.replies import Answer


def customers_batch_status(asked: Asked) -> Answer:
    """Tell of the batch, or the undo, that `batch_id` names."""
    batch_id = envelope.batch_id(asked)
    # Read along with who asks. Not where the form was admitted before the field came, or named another one by then.
    read = asked.access.batch
    if read is not None and read["id"] == batch_id:
        found: batch_status.BatchStatus | None = batch_status.make_status(read)
    else:
        found = batch_status.find_batch(asked.context, asked.access.account, batch_id)
    if found is None:
        raise ApiError("unknown_batch", value=batch_id)
    return following.status(asked.context, asked.access.account, found)


def customers_batches(asked: Asked) -> Answer:
    """Tell of the account's batches like that, the newest first: `length` of them after the first `offset`."""
    offset, length = envelope.page(asked)
    found = batch_status.list_batches(asked.context, asked.access.account, offset=offset, length=length)
    return following.history(asked.context, asked.access.account, found)
