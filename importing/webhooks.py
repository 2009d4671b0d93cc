"""Webhooks: an account's own URLs are told of finished batches by signed posts, again and again until one is taken.

What shall be told is written down with what it tells of, in one transaction (`storage.webhooks.note`). A post carries
ids and counts, and nothing of any customer. Source: docs/webhooks.md.
"""

from __future__ import annotations

import hmac
import json
import logging
import random
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import RowMapping
from sqlalchemy.exc import SQLAlchemyError

from importing import posting
from importing.core import Core
from importing.follow import followed
from importing.posting import Refused, Unanswered, Way
from importing.queue import put_deliveries
from importing.vault import Vault, WrongSecret
from storage import batches
from storage import webhooks as stored
from storage.engine import Busy, now
from storage.webhooks import Sending

log = logging.getLogger("tillgate.webhooks")

VERSION = "0.1.0"
SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with is none
TEST = "webhook.test"
# Seconds until the next attempt, after each that failed; after the last one a delivery is given up. Each is lengthened
# by up to a fifth, so that what failed together does not come back together.
BACKOFF = (10, 60, 300, 1_800, 7_200, 21_600, 43_200, 86_400)
JITTER = 0.2
# Milliseconds that an attempt is its worker's, that a receiver rests that could not be reached, and that what became of
# a delivery can be looked up.
LEASE = 60_000
REST = 60_000
KEPT = 30 * 86_400_000
# Seconds that writing it down waits for its turn.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Registered:
    """A webhook as it was made. `secret` signs what it is sent, and is shown this once."""

    id: str
    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a post: the status of the answer (0: there was none) and, where it was not taken, why."""

    status: int
    error: str = ""

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300


def register(core: Core, account: int, url: str, way: Way | None = None) -> Registered:
    """Register a URL of an account. Raises Refused, also where its host has no address that may be posted to."""
    try:
        posting.addresses(posting.target(url), way or _way(core))
    except Unanswered as error:
        raise Refused(f"The URL's host cannot be found: {error}.") from error
    made = Registered(secrets.token_hex(8), url, SECRET_PREFIX + secrets.token_hex(32))
    sealed = _vault(core).seal(made.secret.encode(), _place(account, made.id))
    with core.database.writing(core.write_wait) as connection:
        stored.create(connection, account, made.id, url, sealed)
    return made


def test(core: Core, account_id: str, hook: RowMapping, way: Way | None = None) -> Answer:
    """Post a message that tells of nothing to a webhook, a row of its table, at once. Raises WrongSecret."""
    message = {"id": secrets.token_hex(8), "event": TEST, "created_at": _iso(now()), "account_id": account_id}
    secret = _vault(core).unseal(hook["secret"], _place(hook["account_id"], hook["id"]))
    return _posted(hook["url"], secret, {**message, "batch": None}, way or _way(core))


def deliver(core: Core, delivery_id: str, way: Way | None = None) -> None:
    """Make one attempt at a delivery, unless it is over, somebody else's, or not asked for."""
    try:
        with core.database.reading() as connection:
            if not stored.asked_for(connection, delivery_id):
                return
        with core.database.writing(PATIENCE) as connection:
            sending = stored.claim(connection, delivery_id, LEASE, REST)
    except (Busy, SQLAlchemyError) as error:
        # The delivery is as it was: recovery asks for it again.
        log.warning("delivery %s waits: %s", delivery_id, type(error).__qualname__)
        return
    if sending is None:
        return
    try:
        answer = _attempt(core, sending, way or _way(core))
    except Exception as error:  # the outermost door of a delivery; messages of errors may hold the URL
        log.error("delivery %s failed: %s", delivery_id, type(error).__qualname__)
        answer = Answer(0, f"internal error: {type(error).__qualname__}")
    # Where it cannot be written down, the delivery is made again when its lease is over.
    with suppress(Busy, SQLAlchemyError), core.database.writing(PATIENCE) as connection:
        stored.finish(connection, sending, *_after(sending, answer), answer.status, answer.error)


def _after(sending: Sending, answer: Answer) -> tuple[str, int]:
    """The state after an attempt, and how long it stands, in milliseconds."""
    if answer.taken:
        return "delivered", KEPT
    if sending.attempts > len(BACKOFF):
        log.warning(
            "webhook %s: delivery %s is given up after %d attempts: %s",
            sending.webhook_id,
            sending.id,
            sending.attempts,
            answer.error,
        )
        return "failed", KEPT
    return "waiting", round(BACKOFF[sending.attempts - 1] * 1000 * random.uniform(1, 1 + JITTER))


def recover(core: Core) -> int:
    """Ask for deliveries that are due: to be tried again, or left behind. Returns how many."""
    with core.database.reading() as connection:
        if not stored.any_due(connection):
            return 0
    with core.database.writing(core.write_wait) as connection:
        found = stored.due(connection)
    put_deliveries(core.queue, found)
    return len(found)


def tidy(core: Core) -> int:
    """Drop deliveries that have been over for 30 days, some at a time. Returns how many."""
    gone = 0
    while True:
        with core.database.reading() as connection:
            if not stored.any_old(connection):
                return gone
        with core.database.writing(core.write_wait) as connection:
            gone += stored.drop(connection)


def signature(secret: bytes, moment: int, body: bytes) -> str:
    """The X-Tillgate-Signature of a body sent at a time in seconds."""
    return f"t={moment},v1={hmac.digest(secret, b'%d.' % moment + body, 'sha256').hex()}"


def _attempt(core: Core, sending: Sending, way: Way) -> Answer:
    with core.database.looking() as work:
        row = batches.followed(work, sending.account, sending.batch_id)
    if row is None:
        return Answer(0, "the batch is gone")
    try:
        secret = _vault(core).unseal(sending.secret, _place(sending.account, sending.webhook_id))
    except WrongSecret:
        return Answer(0, "the webhook was made under another TILLGATE_SECRET")
    message = {
        "id": sending.id,
        "event": sending.event,
        "created_at": _iso(sending.created_at),
        "account_id": sending.account_id,
        "batch": _batch(row),
    }
    return _posted(sending.url, secret, message, way)


def _posted(url: str, secret: bytes, message: Mapping[str, object], way: Way) -> Answer:
    body = json.dumps(message, separators=(",", ":")).encode()
    moment = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"Tillgate/{VERSION}",
        "X-Tillgate-Event": str(message["event"]),
        "X-Tillgate-Delivery": str(message["id"]),
        "X-Tillgate-Timestamp": str(moment),
        "X-Tillgate-Signature": signature(secret, moment, body),
    }
    try:
        answer = Answer(posting.post(url, headers, body, way))
    except (Refused, Unanswered) as error:
        return Answer(0, str(error))
    return answer if answer.taken else Answer(answer.status, f"answered with status {answer.status}")


def _batch(row: batches.Known) -> dict[str, object]:
    """What is told of a batch: no name, no value, and of a failure its code only, for a message may quote a row."""
    batch = followed(row)
    told: dict[str, object] = {
        "id": batch.id,
        "kind": batch.kind,
        "status": batch.status,
        "face": batch.face,
        "created_at": _iso(batch.created_at),
        "started_at": _iso(batch.started_at),
        "ended_at": _iso(batch.ended_at),
    }
    if batch.kind == "undo":
        counts = {"restored": row["updated"], "removed": row["ignored"], "kept": row["failed"]}
        return {**told, "undoes": batch.undoes, **counts}
    progress, counts = batch.progress, {n: row[n] for n in ("new", "updated", "unchanged", "ignored", "failed")}
    told |= {"rows": progress.total, "processed": progress.processed, **counts}
    return told if batch.reason is None else {**told, "reason": batch.reason.code}


def _iso(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _way(core: Core) -> Way:
    return Way(private=core.webhook_private)


def _vault(core: Core) -> Vault:
    return Vault(core.digests.key("webhooks"))


def _place(account: int, webhook_id: str) -> str:
    return f"webhook {account} {webhook_id}"
