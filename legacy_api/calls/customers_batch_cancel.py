"""`type=customers_batch_cancel`: end a queued batch. Source: docs/protocol.md, Jobs."""

from __future__ import annotations

from importing.jobs import lifecycle
from legacy_api.calls.customers_batch_status import find_batch
from legacy_api.parameters import CallContext, read_batch_id
from legacy_api.replies import CallReply, change_reply


def customers_batch_cancel(call: CallContext) -> CallReply:
    """End the job that `batch_id` names. The rows that it has written stay, and can be undone."""
    batch_id = read_batch_id(call)
    lifecycle.cancel(call.context, call.access.account, batch_id, call.access.user_id)
    return change_reply(find_batch(call, batch_id))
