"""`type=customers_batch_undo`: undo a batch, or only preview the undo. Source: docs/protocol.md, Undo."""

from __future__ import annotations

from importing.batch import Origin
from importing.undo import undo_batch
from legacy_api.parameters import CallContext, read_batch_id
from legacy_api.replies import CallReply, undo_reply


def customers_batch_undo(call: CallContext) -> CallReply:
    """Undo the batch that `batch_id` names. With `dry_run` only say what an undo would do."""
    batch_id = read_batch_id(call)
    context, access = call.context, call.access
    if call.is_set("dry_run"):
        return undo_reply(undo_batch.preview(context, access.account, batch_id))
    origin = Origin(call.address, request_id=call.request_id)
    return undo_reply(undo_batch.undo(context, access.account, batch_id, access.user_id, "legacy", origin))
