"""The background work of a server: what has expired is dropped, a little at a time, by one process of the machine."""

from __future__ import annotations

import threading

from importing.core import Core
from storage import pruning
from storage.engine import Busy, now

DAY = 86_400_000
# Stored replies are promised for 24 hours; a sender that was offline over a weekend may still ask.
REPLY_DAYS = 7
# Seconds between two rounds.
PAUSE = 300.0


def tend(core: Core) -> int:
    """One round over all accounts, a short transaction each. Returns how many before-images went."""
    moment = now()
    with core.database.reading() as connection:
        accounts = pruning.accounts(connection)
    gone = 0
    for account in accounts:
        try:
            with core.database.writing(core.write_wait) as connection:
                gone += pruning.prune(
                    connection,
                    account,
                    core.undo_keep,
                    moment - core.undo_days * DAY,
                    moment - REPLY_DAYS * DAY,
                )
        except Busy:
            continue  # a busy account is tended in the next round
    return gone


def tend_for_ever(core: Core, stop: threading.Event) -> None:
    """Rounds until told to stop."""
    while not stop.wait(PAUSE):
        tend(core)
