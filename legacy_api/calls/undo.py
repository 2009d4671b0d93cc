"""`type=customers_batch_undo`: take a batch back, or only tell what that would do. Source: docs/protocol.md, Undo."""

from __future__ import annotations

from importing.undo import undo_batch
from legacy_api import envelope, replies
from legacy_api.envelope import Asked
from legacy_api.replies import Answer


def customers_batch_undo(asked: Asked) -> Answer:
    """Undo the batch that `batch_id` names; with `dry_run` only check it."""
    batch_id = envelope.batch_id(asked)
    if asked.says("dry_run"):
        return replies.undone(undo_batch.preview(asked.context, asked.access.account, batch_id))
    return replies.undone(
        undo_batch.undo(asked.context, asked.access.account, batch_id, asked.access.user_id, "legacy")
    )
