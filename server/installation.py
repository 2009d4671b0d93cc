"""Opens an installation as its settings say, without HTTP: a command loads no web framework."""

from __future__ import annotations

from crypto.digests import Digests
from importing.context import Context
from importing.jobs.queue_huey import HueyQueue
from settings import Settings, secret_key
from storage.engine import open_database


def open_context(settings: Settings) -> Context:
    """The context that the settings describe, with its database open."""
    return Context(
        open_database(settings.database_url, settings.data_dir),
        Digests(secret_key(settings)),
        settings.write_wait,
        settings.undo_keep,
        settings.undo_days,
        settings.job_lease,
        HueyQueue(settings.queue_url),
        settings.webhook_private,
    )
