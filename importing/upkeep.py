"""The background work of a server: what has expired is dropped, a little at a time, by one process of the machine."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from importing import jobs, signin, webhooks
from importing.core import Core
from storage import pruning, statistics
from storage.engine import Busy, now

log = logging.getLogger("tillgate.upkeep")

DAY = 86_400_000
# Stored replies are promised for 24 hours; a sender that was offline over a weekend may still ask.
REPLY_DAYS = 7
# Seconds between two rounds.
PAUSE = 300.0


def tend(core: Core) -> int:
    """One round over all accounts, a short transaction each, and the data of jobs. Returns how many before-images went."""
    moment = now()
    limits = (core.undo_keep, moment - core.undo_days * DAY, moment - REPLY_DAYS * DAY)
    with core.database.reading() as connection:
        due = [number for number in pruning.accounts(connection) if pruning.expired(connection, number, *limits)]
    gone = 0
    for account in due:
        # A busy account is tended in the next round.
        with suppress(Busy), core.database.writing(core.write_wait) as connection:
            gone += pruning.prune(connection, account, *limits)
    with suppress(Busy):
        statistics.forget(core.database, core.write_wait)
        jobs.tidy(core)
        webhooks.tidy(core)
        signin.drop_expired(core)
    return gone


def tend_for_ever(core: Core, stop: threading.Event) -> None:
    """Rounds until told to stop. A round that fails is told of and tried again: the server goes on."""
    while not stop.wait(PAUSE):
        try:
            tend(core)
        except SQLAlchemyError as error:
            log.error("upkeep failed: %s", type(error).__qualname__)
