"""`type=customers_batches`: the status of the account's batches, the newest first. Source: docs/protocol.md, Jobs."""

from __future__ import annotations

from importing import batch_status
from legacy_api.parameters import CallContext, read_page
from legacy_api.replies import CallReply, list_reply


def customers_batches(call: CallContext) -> CallReply:
    """The status of `length` batches after the first `offset`."""
    offset, length = read_page(call)
    batches = batch_status.list_batches(call.context, call.access.account, offset=offset, length=length)
    return list_reply(call.context, call.access.account, batches)
