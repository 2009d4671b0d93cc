"""`type=customers_batch`: import customers, or only check them. Source: docs/protocol.md, Parameters."""

from __future__ import annotations

from importing import account, run
from legacy_api import envelope, replies
from legacy_api.envelope import Asked
from legacy_api.replies import Answer


def customers_batch(asked: Asked) -> Answer:
    """Run the batch; with `dry_run` only check it."""
    batch = envelope.batch(asked, account.load(asked.core, asked.access.account))
    details = asked.says("details")
    if asked.says("dry_run"):
        return replies.checked(run.preview(asked.core, batch), details=details)
    return replies.imported(run.run(asked.core, batch), details=details)
