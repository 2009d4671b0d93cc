"""Webhooks: signed posts that report ended batches to URLs of the account, retried until the receiver accepts.

A delivery is inserted in the transaction that it reports (`storage.queries.webhooks.add_deliveries`). A post contains ids
and counts, and no customer's data. Source: docs/webhooks.md.
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
from importing.batch_status import UNDO_COUNT_NAMES, make_status
from importing.context import Context
from importing.times import iso_seconds
from storage.engine import Busy, now_ms
from storage.queries import batches
from storage.queries import webhooks as stored
from storage.queries.webhooks import ClaimedDelivery
from webhooks import safe_http
from webhooks.safe_http import NoAnswer, PostOptions, UrlRefused

log = logging.getLogger("tillgate.webhooks")

USER_AGENT_VERSION = "0.1.0"
SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix is no secret
TEST_EVENT = "webhook.test"
# The pauses after failed attempts; after the last one the delivery has failed. Each is lengthened by up to a fifth, so
# that deliveries which failed together are not retried together.
BACKOFF_SECONDS = (10, 60, 300, 1_800, 7_200, 21_600, 43_200, 86_400)
BACKOFF_JITTER = 0.2
# How long a worker has for an attempt, a receiver that could not be reached gets no post, and an ended delivery is stored.
LEASE_MS = 60_000
REST_MS = 60_000
DELIVERIES_KEPT_MS = 30 * 86_400_000
# How long storing a result waits for the write lock.
WRITE_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A new webhook. `secret` signs its posts, and is shown only now."""

    id: str
    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class PostResult:
    """The status of the response to a post (0: none came), and why the receiver did not accept it."""

    status: int
    error: str = ""

    @property
    def is_accepted(self) -> bool:
        return 200 <= self.status < 300


def register_webhook(context: Context, account: int, url: str, options: PostOptions | None = None) -> NewWebhook:
    """Register a URL of an account. Raises UrlRefused, also when its host has no allowed address."""
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
    context: Context, public_id: str, webhook: RowMapping, options: PostOptions | None = None
) -> PostResult:
    """Post a message without a batch to a webhook (a row of its table) now. Raises DecryptionError."""
    message = _message(secrets.token_hex(8), TEST_EVENT, now_ms(), public_id, None)
    secret = _make_cipher(context).decrypt(webhook["secret"], _secret_place(webhook["account_id"], webhook["id"]))
    return _post(webhook["url"], secret, message, options or _post_options(context))


def deliver(context: Context, delivery_id: str, options: PostOptions | None = None) -> None:
    """Make one attempt at a delivery, unless it has ended, another worker has it, or nobody asked for it."""
    try:
        with context.database.reading() as connection:
            if not stored.is_queued(connection, delivery_id):
                return
        with context.database.writing(WRITE_WAIT_SECONDS) as connection:
            claim = stored.claim_delivery(connection, delivery_id, LEASE_MS, REST_MS)
    except (Busy, SQLAlchemyError) as error:
        # The delivery is unchanged: recovery asks for it again.
        log.warning("delivery %s waits: %s", delivery_id, type(error).__qualname__)
        return
    if claim is None:
        return
    try:
        result = _post_delivery(context, claim, options or _post_options(context))
    except Exception as error:  # the error boundary; messages of errors may contain the URL
        log.error("delivery %s failed: %s", delivery_id, type(error).__qualname__)
        result = PostResult(0, f"internal error: {type(error).__qualname__}")
    # If the result cannot be stored, the delivery is made again after its lease.
    with suppress(Busy, SQLAlchemyError), context.database.writing(WRITE_WAIT_SECONDS) as connection:
        stored.finish_attempt(connection, claim, *_next_state(claim, result), result.status, result.error)


def _next_state(delivery: ClaimedDelivery, result: PostResult) -> tuple[str, int]:
    """The state after an attempt, and how long it lasts, in milliseconds."""
    if result.is_accepted:
        return "delivered", DELIVERIES_KEPT_MS
    if delivery.attempts > len(BACKOFF_SECONDS):
        text = "webhook %s: delivery %s is given up after %d attempts: %s"
        log.warning(text, delivery.webhook_id, delivery.id, delivery.attempts, result.error)
        return "failed", DELIVERIES_KEPT_MS
    return "waiting", round(BACKOFF_SECONDS[delivery.attempts - 1] * 1000 * random.uniform(1, 1 + BACKOFF_JITTER))


def recover_deliveries(context: Context) -> int:
    """Ask for deliveries that are due: to be retried, or left by a dead worker. Returns how many."""
    with context.database.reading() as connection:
        if not stored.has_due(connection):
            return 0
    with context.database.writing(context.write_wait) as connection:
        due = stored.take_due(connection)
    context.queue.put_deliveries(due)
    return len(due)


def drop_old_deliveries(context: Context) -> int:
    """Drop deliveries that ended 30 days ago, some at a time. Returns how many."""
    dropped = 0
    while True:
        with context.database.reading() as connection:
            if not stored.has_old(connection):
                return dropped
        with context.database.writing(context.write_wait) as connection:
            dropped += stored.drop_old(connection)


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """The X-Tillgate-Signature of a body that is sent at a time (seconds)."""
    return f"t={timestamp},v1={hmac.digest(secret, b'%d.' % timestamp + body, 'sha256').hex()}"


def _post_delivery(context: Context, delivery: ClaimedDelivery, options: PostOptions) -> PostResult:
    with context.database.read_connection() as work:
        row = batches.find_with_job(work, delivery.account, delivery.batch_id)
    if row is None:
        return PostResult(0, "the batch is gone")
    try:
        secret = _make_cipher(context).decrypt(delivery.secret, _secret_place(delivery.account, delivery.webhook_id))
    except DecryptionError:
        return PostResult(0, "the webhook was made under another TILLGATE_SECRET")
    batch = _batch_message(row)
    message = _message(delivery.id, delivery.event, delivery.created_at, delivery.public_id, batch)
    return _post(delivery.url, secret, message, options)


def _message(
    message_id: str, event: str, created_at: int, account_id: str, batch: Mapping[str, object] | None
) -> dict[str, object]:
    time_text = iso_seconds(created_at)
    return {"id": message_id, "event": event, "created_at": time_text, "account_id": account_id, "batch": batch}


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
    return result if result.is_accepted else PostResult(result.status, f"answered with status {result.status}")


def _batch_message(row: batches.BatchRow) -> dict[str, object]:
    """A batch without names and values; of a failure only the code, because its message may quote a row."""
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
        return {**message, "undoes": batch.undoes, **{name: row[name] for name in UNDO_COUNT_NAMES}}
    progress, counts = batch.progress, {n: row[n] for n in ("new", "updated", "unchanged", "ignored", "failed")}
    message |= {"rows": progress.total, "processed": progress.processed, **counts}
    return message if batch.reason is None else {**message, "reason": batch.reason.code}


def _post_options(context: Context) -> PostOptions:
    return PostOptions(allow_private=context.webhook_private)


def _make_cipher(context: Context) -> Cipher:
    return Cipher(context.digests.key("webhooks"))


def _secret_place(account: int, webhook_id: str) -> str:
    return f"webhook {account} {webhook_id}"
