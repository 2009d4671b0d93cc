"""Webhooks: an account's own URLs are told of finished batches by signed posts, again and again until one is taken.

A delivery is inserted in the transaction of what it reports (`storage.queries.webhooks.add_deliveries`). A post carries
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

from sqlalchemy import RowMapping
from sqlalchemy.exc import SQLAlchemyError

from crypto.encryption import Cipher, DecryptionError
from importing.batch_status import make_status
from importing.context import Context
from importing.queue import put_deliveries
from importing.times import iso_seconds
from storage.engine import Busy, now_ms
from storage.queries import batches
from storage.queries import webhooks as stored
from storage.queries.webhooks import ClaimedDelivery
from webhooks import safe_http
from webhooks.safe_http import NoAnswer, PostOptions, UrlRefused

log = logging.getLogger("tillgate.webhooks")

USER_AGENT_VERSION = "0.1.0"
SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with is none
TEST_EVENT = "webhook.test"
# Seconds until the next attempt, after each that failed; after the last one a delivery is given up. Each is lengthened
# by up to a fifth, so that what failed together does not come back together.
BACKOFF_SECONDS = (10, 60, 300, 1_800, 7_200, 21_600, 43_200, 86_400)
BACKOFF_JITTER = 0.2
# Milliseconds that an attempt is its worker's, that a receiver rests that could not be reached, and that what became of
# a delivery can be looked up.
LEASE_MS = 60_000
REST_MS = 60_000
DELIVERIES_KEPT_MS = 30 * 86_400_000
# Seconds that writing it down waits for its turn.
WRITE_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook as it was made. `secret` signs what it is sent, and is shown this once."""

    id: str
    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class PostResult:
    """What came of a post: the status of the answer (0: there was none) and, where it was not taken, why."""

    status: int
    error: str = ""

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300


def register_webhook(context: Context, account: int, url: str, options: PostOptions | None = None) -> NewWebhook:
    """Register a URL of an account. Raises Refused, also where its host has no address that may be posted to."""
    try:
        safe_http.allowed_addresses(safe_http.parse_url(url), options or _post_options(context))
    except NoAnswer as error:
        raise UrlRefused(f"The URL's host cannot be found: {error}.") from error
    webhook = NewWebhook(secrets.token_hex(8), url, SECRET_PREFIX + secrets.token_hex(32))
    encrypted = _make_cipher(context).encrypt(webhook.secret.encode(), _secret_place(account, webhook.id))
    with context.database.writing(context.write_wait) as connection:
        stored.create_webhook(connection, account, webhook.id, url, encrypted)
    return webhook


def test_webhook(
    context: Context, account_id: str, webhook: RowMapping, options: PostOptions | None = None
) -> PostResult:
    """Post a message that tells of nothing to a webhook, a row of its table, at once. Raises DecryptionError."""
    message = {
        "id": secrets.token_hex(8),
        "event": TEST_EVENT,
        "created_at": iso_seconds(now_ms()),
        "account_id": account_id,
    }
    secret = _make_cipher(context).decrypt(webhook["secret"], _secret_place(webhook["account_id"], webhook["id"]))
    return _post(webhook["url"], secret, {**message, "batch": None}, options or _post_options(context))


def deliver(context: Context, delivery_id: str, options: PostOptions | None = None) -> None:
    """Make one attempt at a delivery, unless it is over, somebody else's, or not asked for."""
    try:
        with context.database.reading() as connection:
            if not stored.is_queued(connection, delivery_id):
                return
        with context.database.writing(WRITE_WAIT_SECONDS) as connection:
            sending = stored.claim_delivery(connection, delivery_id, LEASE_MS, REST_MS)
    except (Busy, SQLAlchemyError) as error:
        # The delivery is as it was: recovery asks for it again.
        log.warning("delivery %s waits: %s", delivery_id, type(error).__qualname__)
        return
    if sending is None:
        return
    try:
        result = _post_delivery(context, sending, options or _post_options(context))
    except Exception as error:  # the outermost door of a delivery; messages of errors may hold the URL
        log.error("delivery %s failed: %s", delivery_id, type(error).__qualname__)
        result = PostResult(0, f"internal error: {type(error).__qualname__}")
    # Where it cannot be written down, the delivery is made again when its lease is over.
    with suppress(Busy, SQLAlchemyError), context.database.writing(WRITE_WAIT_SECONDS) as connection:
        stored.finish_attempt(connection, sending, *_next_state(sending, result), result.status, result.error)


def _next_state(sending: ClaimedDelivery, result: PostResult) -> tuple[str, int]:
    """The state after an attempt, and how long it stands, in milliseconds."""
    if result.taken:
        return "delivered", DELIVERIES_KEPT_MS
    if sending.attempts > len(BACKOFF_SECONDS):
        log.warning(
            "webhook %s: delivery %s is given up after %d attempts: %s",
            sending.webhook_id,
            sending.id,
            sending.attempts,
            result.error,
        )
        return "failed", DELIVERIES_KEPT_MS
    return "waiting", round(BACKOFF_SECONDS[sending.attempts - 1] * 1000 * random.uniform(1, 1 + BACKOFF_JITTER))


def recover_deliveries(context: Context) -> int:
    """Ask for deliveries that are due: to be tried again, or left behind. Returns how many."""
    with context.database.reading() as connection:
        if not stored.has_due(connection):
            return 0
    with context.database.writing(context.write_wait) as connection:
        due = stored.take_due(connection)
    put_deliveries(context.queue, due)
    return len(due)


def drop_old_deliveries(context: Context) -> int:
    """Drop deliveries that have been over for 30 days, some at a time. Returns how many."""
    dropped = 0
    while True:
        with context.database.reading() as connection:
            if not stored.has_old(connection):
                return dropped
        with context.database.writing(context.write_wait) as connection:
            dropped += stored.drop_old(connection)


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """The X-Tillgate-Signature of a body sent at a time in seconds."""
    return f"t={timestamp},v1={hmac.digest(secret, b'%d.' % timestamp + body, 'sha256').hex()}"


def _post_delivery(context: Context, sending: ClaimedDelivery, options: PostOptions) -> PostResult:
    with context.database.read_connection() as work:
        row = batches.find_with_job(work, sending.account, sending.batch_id)
    if row is None:
        return PostResult(0, "the batch is gone")
    try:
        secret = _make_cipher(context).decrypt(sending.secret, _secret_place(sending.account, sending.webhook_id))
    except DecryptionError:
        return PostResult(0, "the webhook was made under another TILLGATE_SECRET")
    message = {
        "id": sending.id,
        "event": sending.event,
        "created_at": iso_seconds(sending.created_at),
        "account_id": sending.account_id,
        "batch": _batch_message(row),
    }
    return _post(sending.url, secret, message, options)


def _post(url: str, secret: bytes, message: Mapping[str, object], options: PostOptions) -> PostResult:
    body = json.dumps(message, separators=(",", ":")).encode()
    timestamp = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"Tillgate/{USER_AGENT_VERSION}",
        "X-Tillgate-Event": str(message["event"]),
        "X-Tillgate-Delivery": str(message["id"]),
        "X-Tillgate-Timestamp": str(timestamp),
        "X-Tillgate-Signature": sign(secret, timestamp, body),
    }
    try:
        result = PostResult(safe_http.post(url, headers, body, options))
    except (UrlRefused, NoAnswer) as error:
        return PostResult(0, str(error))
    return result if result.taken else PostResult(result.status, f"answered with status {result.status}")


def _batch_message(row: batches.BatchRow) -> dict[str, object]:
    """What is told of a batch: no name, no value, and of a failure its code only, for a message may quote a row."""
    batch = make_status(row)
    message: dict[str, object] = {
        "id": batch.id,
        "kind": batch.kind,
        "status": batch.status,
        "face": batch.protocol,
        "created_at": iso_seconds(batch.created_at),
        "started_at": iso_seconds(batch.started_at) if batch.started_at else None,
        "ended_at": iso_seconds(batch.ended_at) if batch.ended_at else None,
    }
    if batch.kind == "undo":
        counts = {"restored": row["updated"], "removed": row["ignored"], "kept": row["failed"]}
        return {**message, "undoes": batch.undoes, **counts}
    progress, counts = batch.progress, {n: row[n] for n in ("new", "updated", "unchanged", "ignored", "failed")}
    message |= {"rows": progress.total, "processed": progress.processed, **counts}
    return message if batch.reason is None else {**message, "reason": batch.reason.code}


def _post_options(context: Context) -> PostOptions:
    return PostOptions(private=context.webhook_private)


def _make_cipher(context: Context) -> Cipher:
    return Cipher(context.digests.key("webhooks"))


def _secret_place(account: int, webhook_id: str) -> str:
    return f"webhook {account} {webhook_id}"
