"""`type=customers_batch_status`: the status of one batch. Source: docs/protocol.md, Jobs."""

from __future__ import annotations

from importing import batch_status
from importing.batch_status import BatchStatus
from importing.errors import ApiError
from legacy_api.batch_status_replies import status_reply
from legacy_api.parameters import CallContext, read_batch_id
from legacy_api.replies import CallReply


def customers_batch_status(call: CallContext) -> CallReply:
    """The status of the batch, or the undo, that `batch_id` names."""
    batch_id = read_batch_id(call)
    # The row was read together with the credentials, unless the sender was admitted before the last `batch_id` came.
    row = call.access.batch
    batch = batch_status.make_status(row) if row is not None and row["id"] == batch_id else find_batch(call, batch_id)
    return status_reply(call.context, call.access.account, batch)


def find_batch(call: CallContext, batch_id: str) -> BatchStatus:
    """The status of a batch of the sender's account. Raises unknown_batch."""
    batch = batch_status.find_batch(call.context, call.access.account, batch_id)
    if batch is None:
        raise ApiError("unknown_batch", value=batch_id)
    return batch
