"""`type=customers_batch_resume`: go on with a cancelled or failed batch. Source: docs/protocol.md, Jobs."""

from __future__ import annotations

from importing.jobs import lifecycle
from legacy_api.calls.customers_batch_status import find_batch
from legacy_api.parameters import CallContext, read_batch_id
from legacy_api.replies import CallReply, change_reply


def customers_batch_resume(call: CallContext) -> CallReply:
    """Go on with the job that `batch_id` names, from the row where it was cancelled or failed."""
    batch_id = read_batch_id(call)
    lifecycle.resume(call.context, call.access.account, batch_id, call.access.user_id)
    return change_reply(find_batch(call, batch_id))
