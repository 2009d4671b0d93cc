"""The background work of a server: it drops what has expired, a little at a time."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from auth import admin_sessions
from importing.context import Context
from importing.jobs import lifecycle
from storage.engine import Busy, now_ms
from storage.queries import expired_data
from webhooks import deliveries

log = logging.getLogger("tillgate.maintenance")

DAY = 86_400_000
# Stored replies are promised for 24 hours; a sender that was offline over a weekend may still ask.
REPLY_DAYS = 7
# Seconds between two rounds.
PAUSE = 300.0


def run_once(context: Context) -> int:
    """One round over all accounts, a short transaction each, and the data of jobs. Returns the number of dropped images."""
    now = now_ms()
    limits = (context.undo_keep, now - context.undo_days * DAY, now - REPLY_DAYS * DAY)
    with context.database.reading() as connection:
        due = [
            number
            for number in expired_data.list_account_numbers(connection)
            if expired_data.has_expired(connection, number, *limits)
        ]
    gone = 0
    for account in due:
        # A busy account has its turn in the next round.
        with suppress(Busy), context.database.writing(context.write_wait) as connection:
            gone += expired_data.prune(connection, account, *limits)
    with suppress(Busy):
        context.database.drop_statistics(context.write_wait)
        lifecycle.drop_stale_inputs(context)
        deliveries.drop_old_deliveries(context)
        admin_sessions.drop_expired(context)
    return gone


def run_until(stop: threading.Event, context: Context) -> None:
    """One round after another until `stop` is set. A round that fails is logged, and the next one tries again."""
    while not stop.wait(PAUSE):
        try:
            run_once(context)
        except SQLAlchemyError as error:
            log.error("maintenance failed: %s", type(error).__qualname__)
