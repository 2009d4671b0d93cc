"""`type=customers_batch`: import customers, queue them, or only check them. Source: docs/protocol.md, Parameters."""

from __future__ import annotations

from importing import account_settings, import_batch
from importing.jobs import lifecycle
from legacy_api.parameters import CallContext, check_data, read_batch
from legacy_api.replies import CallReply, import_reply, preview_reply, queued_reply


def customers_batch(call: CallContext) -> CallReply:
    """Import the batch. With `dry_run` only check it, whether `async` or not; with `async` queue it."""
    batch = read_batch(call, account_settings.load(call.context, call.access.account))
    details = call.is_set("details")
    if call.is_set("dry_run"):
        return preview_reply(import_batch.preview(call.context, batch), details=details)
    if call.is_set("async"):
        check_data(batch)
        return queued_reply(lifecycle.submit(call.context, batch, call.request_id))
    return import_reply(import_batch.run(call.context, batch), details=details)
