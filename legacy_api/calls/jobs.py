"""`type=customers_batch_cancel`, `customers_batch_resume`: end a queued batch, go on with it. From docs/protocol.md, Jobs."""

from __future__ import annotations

from importing import batch_status
from importing.errors import ApiError
from importing.jobs import lifecycle
from legacy_api import envelope, following
from legacy_api.envelope import Asked
from legacy_api.replies import Answer


def customers_batch_cancel(asked: Asked) -> Answer:
    """End the job that `batch_id` names. What it has written stays, and can be undone."""
    batch_id = envelope.batch_id(asked)
    lifecycle.cancel(asked.context, asked.access.account, batch_id, asked.access.user_id)
    return _changed(asked, batch_id)


def customers_batch_resume(asked: Asked) -> Answer:
    """Go on with the job that `batch_id` names, where it stood when it was cancelled or failed."""
    batch_id = envelope.batch_id(asked)
    lifecycle.resume(asked.context, asked.access.account, batch_id, asked.access.user_id)
    return _changed(asked, batch_id)


def _changed(asked: Asked, batch_id: str) -> Answer:
    found = batch_status.find_batch(asked.context, asked.access.account, batch_id)
    if found is None:
        raise ApiError("unknown_batch", value=batch_id)
    return following.changed(found)
