"""`type=customers_batch`: import customers, queue them, or only check them. Source: docs/protocol.md, Parameters."""

from __future__ import annotations

from importing import account_settings, import_batch
from importing.jobs import lifecycle
from legacy_api import envelope, replies
from legacy_api.envelope import Asked
from legacy_api.replies import Answer


def customers_batch(asked: Asked) -> Answer:
    """Run the batch; with `dry_run` only check it, `async` or not; with `async` queue it."""
    batch = envelope.batch(asked, account_settings.load(asked.context, asked.access.account))
    details = asked.says("details")
    if asked.says("dry_run"):
        return replies.checked(import_batch.preview(asked.context, batch), details=details)
    if asked.says("async"):
        envelope.check_data(batch)
        return replies.queued(lifecycle.submit(asked.context, batch, asked.request_id))
    return replies.imported(import_batch.run(asked.context, batch), details=details)
