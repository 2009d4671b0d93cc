"""How often whom is served: requests are counted in windows of the clock, over all processes and, by Redis, all hosts.

A window begins where the clock's time is a multiple of its length, so one question to the store tells everything that
headers say, and the same on every host. A store that fails stops no request.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path

from limits import RateLimitItem, parse
from limits.storage import Storage

from importing.errors import ApiError
from transport.rate_counters_sqlite import SqliteCounters

# Seconds that Redis has for an answer, and seconds without a question after it, or the file, had none.
PATIENCE = 0.25
PAUSE = 10.0

log = logging.getLogger("tillgate.rate")


class Whose(StrEnum):
    """Who has a limit."""

    USER = "user"
    ADDRESS = "address"
    LEGACY_USER = "legacy-user"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a limit after a request.

    `resets` is when all of it is there again, in seconds since the epoch. `wait`: so many seconds, for it is exceeded.
    """

    limit: int
    remaining: int
    resets: int
    wait: int

    def admit(self) -> None:
        """Raises ApiError("too_many_requests") where the limit is exceeded."""
        if self.wait:
            raise ApiError("too_many_requests", retry_after=self.wait, seconds=self.wait)


class Limiter:
    """The limits as `limits` writes them, such as "600 per minute", or "none". Raises ValueError for another text."""

    def __init__(self, store: Storage, limits: Mapping[Whose, str]) -> None:
        self._store = store
        self._items = {whose: parse(text) for whose, text in limits.items() if text != "none"}
        self._paused_until = 0.0

    def limits(self) -> Mapping[Whose, str]:
        """The limits, such as "600 per minute"."""
        said = ((whose, repr(item).replace(" per 1 ", " per ")) for whose, item in self._items.items())
        return dict(said)

    def count(self, whose: Whose, name: str) -> Standing | None:
        """Count a request of a user or an address; where it stands then. None: no limit, or the store has failed."""
        item = self._items.get(whose)
        if item is None or time.monotonic() < self._paused_until:
            return None
        now = time.time()
        length = item.get_expiry()
        window = int(now // length)
        try:
            count = self._store.incr(_key(whose, name, item, window), length)
        except self._store.base_exceptions as error:
            self._fail(error)
            return None
        if self._paused_until:
            self._paused_until = 0.0
            log.warning("requests are counted again")
        resets = (window + 1) * length
        wait = max(1, math.ceil(resets - now)) if count > item.amount else 0
        return Standing(item.amount, max(0, item.amount - count), resets, wait)

    def _fail(self, error: Exception) -> None:
        # Better to serve without a limit than not to serve; and nobody waits for what has just failed.
        if not self._paused_until:
            log.warning("requests cannot be counted, and are not limited: %s", type(error).__qualname__)
        self._paused_until = time.monotonic() + PAUSE


def unlimited() -> Limiter:
    """A limiter that limits nobody."""
    return Limiter(SqliteCounters(Path()), {})


def tightest(*standings: Standing | None) -> Standing | None:
    """The one of which least is left."""
    return min((s for s in standings if s is not None), key=lambda standing: standing.remaining, default=None)


def store_at(queue_url: str, folder: Path) -> Storage:
    """Where requests are counted: at the queue's Redis for all hosts, else in a file of this machine."""
    if not queue_url.startswith(("redis://", "rediss://")):
        return SqliteCounters(folder / "rate.db")
    # Loaded where it is used: 130 ms of processor time and 17 MB in each server process.
    import redis
    from limits.storage import RedisStorage
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    pool = redis.ConnectionPool.from_url(
        queue_url, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
    )
    return RedisStorage("redis://", connection_pool=pool, key_prefix="tillgate-rate")


def _key(whose: Whose, name: str, item: RateLimitItem, window: int) -> str:
    # A digest: names are of any length, and an address says who somebody is.
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{whose}/{digest}/{item.get_expiry()}/{window}"
