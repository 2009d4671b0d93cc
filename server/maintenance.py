"""The background work of a server: what has expired is dropped, a little at a time, by one process of the machine."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from auth import admin_sessions
from importing.context import Context
from importing.jobs import lifecycle
from storage import statistics
from storage.engine import Busy, now_ms
from storage.queries import expired_data
from webhooks import deliveries

log = logging.getLogger("tillgate.upkeep")

DAY_MS = 86_400_000
# Stored replies are promised for 24 hours; a sender that was offline over a weekend may still ask.
REPLIES_KEPT_DAYS = 7
# Seconds between two rounds.
PAUSE_SECONDS = 300.0


def run_once(context: Context) -> int:
    """One round over all accounts, a short transaction each, and the data of jobs. Returns how many before-images went."""
    now = now_ms()
    limits = (context.undo_keep, now - context.undo_days * DAY_MS, now - REPLIES_KEPT_DAYS * DAY_MS)
    with context.database.reading() as connection:
        due_accounts = [
            number
            for number in expired_data.list_account_numbers(connection)
            if expired_data.has_expired(connection, number, *limits)
        ]
    dropped = 0
    for account in due_accounts:
        # A busy account is tended in the next round.
        with suppress(Busy), context.database.writing(context.write_wait) as connection:
            dropped += expired_data.prune(connection, account, *limits)
    with suppress(Busy):
        statistics.forget(context.database, context.write_wait)
        lifecycle.drop_stale_inputs(context)
        deliveries.drop_old_deliveries(context)
        admin_sessions.drop_expired(context)
    return dropped


def run_until_stopped(context: Context, stop: threading.Event) -> None:
    """Rounds until told to stop. A round that fails is told of and tried again: the server goes on."""
    while not stop.wait(PAUSE_SECONDS):
        try:
            run_once(context)
        except SQLAlchemyError as error:
            log.error("upkeep failed: %s", type(error).__qualname__)
