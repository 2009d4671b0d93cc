"""Rate limits: counts requests in windows of the clock, over all processes and, with Redis, over all hosts.

A window begins where the clock's time is a multiple of its length. So one call to the store gives everything that the
headers say, and the same on every host. A store that fails stops no request.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from limits import RateLimitItem, parse

from importing.errors import ApiError
from storage.sqlite.side_file import SideFile

# Seconds: how long the store may take to answer, and how long it is not asked after it has failed.
PATIENCE = 0.25
PAUSE = 10.0
# Seconds between two deletions of expired counters.
SWEEP = 60

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counter (
    key TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    expires INTEGER NOT NULL      -- seconds since the epoch
) WITHOUT ROWID
"""
_INCREASE = """
INSERT INTO counter (key, count, expires) VALUES (?1, 1, ?3 + ?2)
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN expires <= ?3 THEN 0 ELSE count END + 1,
    expires = CASE WHEN expires <= ?3 THEN excluded.expires ELSE expires END
RETURNING count
"""

log = logging.getLogger("tillgate.rate")


class Whose(StrEnum):
    """Who has a limit."""

    USER = "user"
    ADDRESS = "address"
    LEGACY_USER = "legacy-user"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a limit after a request.

    `resets`: when all of it is available again, in seconds since the epoch. `wait`: the seconds to wait if the limit is
    exceeded, else 0.
    """

    limit: int
    remaining: int
    resets: int
    wait: int

    def admit(self) -> None:
        """Raises ApiError("too_many_requests") if the limit is exceeded."""
        if self.wait:
            raise ApiError("too_many_requests", retry_after=self.wait, seconds=self.wait)


class CounterStore(Protocol):
    """What is used of a storage of `limits`."""

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What `incr` raises if the store cannot be used."""

    def incr(self, key: str, expiry: int) -> int:
        """Add one to a counter that lives for `expiry` seconds, and return it."""


class SqliteCounters:
    """Counters that all processes of a machine share, in an SQLite file of their own, made when it is first needed.

    It never waits for the importers' lock and is not synced: a crash of the machine loses counts of some seconds.
    """

    base_exceptions = sqlite3.Error

    def __init__(self, path: Path) -> None:
        self._file = SideFile(path, _SCHEMA, PATIENCE)
        self._swept = 0

    def incr(self, key: str, expiry: int) -> int:
        now = int(time.time())
        with self._file.opened() as connection:
            count = int(connection.execute(_INCREASE, (key, expiry, now)).fetchone()[0])
            if count == 1 and now >= self._swept + SWEEP:
                self._swept = now
                connection.execute("DELETE FROM counter WHERE expires <= ?", (now,))
        return count


class Limiter:
    """The limits as `limits` writes them, such as "600 per minute", or "none". Raises ValueError for another text."""

    def __init__(self, store: CounterStore, limits: Mapping[Whose, str]) -> None:
        self._store = store
        self._items = {whose: parse(text) for whose, text in limits.items() if text != "none"}
        self._paused_until = 0.0

    def limits(self) -> Mapping[Whose, str]:
        """The limits, such as "600 per minute"."""
        return {whose: repr(item).replace(" per 1 ", " per ") for whose, item in self._items.items()}

    def count(self, whose: Whose, name: str) -> Standing | None:
        """Count a request of a user or an address. None: there is no limit, or the store has failed."""
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
        # Serving without a limit is better than not serving, and no request waits for a store that has just failed.
        if not self._paused_until:
            log.warning("requests cannot be counted, and are not limited: %s", type(error).__qualname__)
        self._paused_until = time.monotonic() + PAUSE


def unlimited() -> Limiter:
    """A limiter without limits."""
    return Limiter(SqliteCounters(Path()), {})


def tightest(*standings: Standing | None) -> Standing | None:
    """The one of which least is left."""
    return min((s for s in standings if s is not None), key=lambda standing: standing.remaining, default=None)


def store_at(queue_url: str, folder: Path) -> CounterStore:
    """Where requests are counted: at the queue's Redis for all hosts, else in a file of this machine."""
    if not queue_url.startswith(("redis://", "rediss://")):
        return SqliteCounters(folder / "rate.db")
    # Imported where it is used: it costs each server process 130 ms of processor time and 17 MB.
    import redis
    from limits.storage import RedisStorage
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    pool = redis.ConnectionPool.from_url(
        queue_url, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
    )
    return RedisStorage("redis://", connection_pool=pool, key_prefix="tillgate-rate")


def _key(whose: Whose, name: str, item: RateLimitItem, window: int) -> str:
    # A digest: names are of any length, and an address is personal data.
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{whose}/{digest}/{item.get_expiry()}/{window}"
