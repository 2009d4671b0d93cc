"""`type=customers_batch_status`: the status of one batch. Source: docs/protocol.md, Jobs."""

from __future__ import annotations

from importing import batch_status
from importing.batch_status import BatchStatus
from importing.errors import ApiError
from legacy_api.parameters import CallContext, read_batch_id
from legacy_api.replies import CallReply, status_reply


def customers_batch_status(call: CallContext) -> CallReply:
    """The status of the batch, or the undo, that `batch_id` names."""
    return status_reply(call.context, call.access.account, find_batch(call, read_batch_id(call)))


def find_batch(call: CallContext, batch_id: str) -> BatchStatus:
    """The status of a batch of the sender's account. Raises unknown_batch."""
    batch = batch_status.find_batch(call.context, call.access.account, batch_id)
    if batch is None:
        raise ApiError("unknown_batch", value=batch_id)
    return batch
