"""The plain queries of webhooks, and of the deliveries that report finished batches to them.

A delivery goes through states: `queued` (a message asks for it), `sending` (a worker posts it), `waiting` (for another
try), and at last `delivered` or `failed`. Until then `due_at` is when recovery takes it up, whatever became of messages
and workers; afterwards, when it is dropped. Times are in milliseconds.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, text, update

from storage.batch_transaction import BatchTransaction
from storage.engine import now_ms
from storage.queries.jobs import clock_ms
from storage.sql_connection import PendingResult
from storage.tables import account as accounts
from storage.tables import delivery, webhook

OPEN_STATES = ("queued", "sending", "waiting")
ENDED_STATES = ("delivered", "failed")
# How long recovery waits for a new delivery's own message, and for one that it queued itself: there may be many more.
MESSAGE_WAIT_MS, RECOVERY_WAIT_MS = 10_000, 600_000
# The database makes the ids: one for each webhook, and the webhooks have not been read.
INSERT_DELIVERIES = (
    "INSERT INTO delivery(account_id, id, webhook_id, batch_id, event, state, due_at, created_at, updated_at) "
    "SELECT account_id, :stem || id, id, :batch, :event, 'queued', :due_at, :now, :now "
    "FROM webhook WHERE account_id = :account AND active RETURNING id"
)


class WebhookEvent(StrEnum):
    """What a webhook reports."""

    IMPORTED = "batch.imported"
    FAILED = "batch.failed"
    CANCELLED = "batch.cancelled"
    UNDONE = "batch.undone"


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that is this worker's to post. `secret` is sealed; `account_id` is what the protocols call the account."""

    account: int
    account_id: str
    id: str
    webhook_id: str
    batch_id: str
    event: str
    attempts: int
    created_at: int
    url: str
    secret: bytes


@dataclass(frozen=True, slots=True)
class NewDeliveries:
    """The ids of new deliveries, to be queued once the transaction has committed."""

    result: PendingResult

    def __iter__(self) -> Iterator[str]:
        return (row[0] for row in self.result.rows)


def add_deliveries(work: BatchTransaction, account: int, batch_id: str, event: WebhookEvent, now: int) -> NewDeliveries:
    """Add a delivery for each webhook of the account, in the transaction that it reports."""
    return NewDeliveries(work.send(INSERT_DELIVERIES, **_delivery_values(account, batch_id, event, now)))


def add_deliveries_in(connection: Connection, account: int, batch_id: str, event: WebhookEvent, now: int) -> list[str]:
    """The same in an SQLAlchemy transaction."""
    return list(connection.execute(text(INSERT_DELIVERIES), _delivery_values(account, batch_id, event, now)).scalars())


def _delivery_values(account: int, batch_id: str, event: WebhookEvent, now: int) -> dict[str, object]:
    stem = f"{secrets.token_hex(8)}-"
    values = {"account": account, "batch": batch_id, "event": event.value, "now": now}
    return {**values, "stem": stem, "due_at": now + MESSAGE_WAIT_MS}


def create_webhook(connection: Connection, account: int, webhook_id: str, url: str, secret: bytes) -> None:
    """Register a webhook. `secret` is encrypted."""
    values = {"account_id": account, "id": webhook_id, "url": url, "secret": secret, "created_at": now_ms()}
    connection.execute(insert(webhook).values(values))


def find_webhook(connection: Connection, account: int, webhook_id: str) -> RowMapping | None:
    """A webhook of the account."""
    conditions = (webhook.c.account_id == account, webhook.c.id == webhook_id)
    return connection.execute(select(webhook).where(*conditions)).mappings().first()


def list_webhooks(connection: Connection, account: int) -> Sequence[RowMapping]:
    """The webhooks of an account, oldest first."""
    query = select(webhook).where(webhook.c.account_id == account).order_by(webhook.c.created_at, webhook.c.id)
    return connection.execute(query).mappings().all()


def count_deliveries(connection: Connection, account: int, webhook_id: str) -> Mapping[str, int]:
    """How many deliveries of a webhook there are in each state."""
    query = select(delivery.c.state, func.count().label("n")).where(
        delivery.c.account_id == account, delivery.c.webhook_id == webhook_id
    )
    return {row.state: row.n for row in connection.execute(query.group_by(delivery.c.state))}


def find_last_tried(connection: Connection, account: int, webhook_id: str) -> RowMapping | None:
    """The delivery of a webhook that was tried last."""
    conditions = (delivery.c.account_id == account, delivery.c.webhook_id == webhook_id, delivery.c.attempts > 0)
    query = select(delivery).where(*conditions).order_by(delivery.c.updated_at.desc()).limit(1)
    return connection.execute(query).mappings().first()


def remove_webhook(connection: Connection, account: int, webhook_id: str) -> bool:
    """Drop a webhook with its deliveries. Returns whether there was one."""
    connection.execute(delete(delivery).where(delivery.c.account_id == account, delivery.c.webhook_id == webhook_id))
    deleted = connection.execute(delete(webhook).where(webhook.c.account_id == account, webhook.c.id == webhook_id))
    return deleted.rowcount > 0


def is_queued(connection: Connection, delivery_id: str) -> bool:
    """Whether a delivery waits to be posted. Takes no lock."""
    return connection.execute(select(delivery.c.state).where(delivery.c.id == delivery_id)).scalar() == "queued"


def claim_delivery(connection: Connection, delivery_id: str, lease: int, rest: int) -> ClaimedDelivery | None:
    """Claim a delivery for `lease` milliseconds. None: another worker has it, it has ended, or its receiver rests.

    A receiver that could not be reached rests for `rest` milliseconds, so that one that is down does not hold up the
    others.
    """
    columns: tuple[Any, ...] = (delivery, webhook.c.url, webhook.c.secret, accounts.c.account_id.label("name"))
    same_webhook = (webhook.c.account_id == delivery.c.account_id) & (webhook.c.id == delivery.c.webhook_id)
    query = (
        select(*columns)
        .join_from(delivery, webhook, same_webhook)
        .join(accounts, accounts.c.id == delivery.c.account_id)
    )
    row = connection.execute(query.where(delivery.c.id == delivery_id)).mappings().first()
    if row is None:
        return None
    now = clock_ms(connection)
    conditions = update(delivery).where(delivery.c.account_id == row["account_id"], delivery.c.id == delivery_id)
    conditions = conditions.where(delivery.c.state == "queued")
    if _is_resting(connection, row, now - rest):
        connection.execute(conditions.values(state="waiting", due_at=now + rest))
        return None
    attempts = row["attempts"] + 1
    values = {"state": "sending", "due_at": now + lease, "attempts": attempts, "updated_at": now}
    if connection.execute(conditions.values(values)).rowcount == 0:
        return None
    return ClaimedDelivery(
        row["account_id"],
        row["name"],
        row["id"],
        row["webhook_id"],
        row["batch_id"],
        row["event"],
        attempts,
        row["created_at"],
        row["url"],
        row["secret"],
    )


def _is_resting(connection: Connection, row: RowMapping, since: int) -> bool:
    unreachable = (delivery.c.state == "waiting", delivery.c.status == 0, delivery.c.attempts > 0)
    same_webhook = (delivery.c.account_id == row["account_id"], delivery.c.webhook_id == row["webhook_id"])
    others = (*same_webhook, delivery.c.id != row["id"], delivery.c.updated_at > since)
    query = select(delivery.c.id).where(*unreachable, *others).limit(1)
    return connection.execute(query).first() is not None


def finish_attempt(
    connection: Connection, claimed: ClaimedDelivery, state: str, wait: int, status: int, error: str
) -> None:
    """Store the outcome of an attempt; in `wait` milliseconds the delivery is due again, or dropped.

    Nothing is stored where another worker has claimed the delivery by now.
    """
    now = clock_ms(connection)
    conditions = (delivery.c.account_id == claimed.account, delivery.c.id == claimed.id)
    unchanged = (delivery.c.state == "sending", delivery.c.attempts == claimed.attempts)
    values = {"state": state, "due_at": now + wait, "status": status, "error": error, "updated_at": now}
    connection.execute(update(delivery).where(*conditions, *unchanged).values(values))


def has_due(connection: Connection) -> bool:
    """Whether there is anything for `take_due`. Takes no lock."""
    is_late = (delivery.c.state.in_(OPEN_STATES), delivery.c.due_at < clock_ms(connection))
    return connection.execute(select(delivery.c.id).where(*is_late).limit(1)).first() is not None


def take_due(connection: Connection, limit: int = 500) -> list[str]:
    """Queue deliveries that are due: to be tried again, left behind by a dead worker, or with a message overdue."""
    now = clock_ms(connection)
    is_late = (delivery.c.state.in_(OPEN_STATES), delivery.c.due_at < now)
    first = select(delivery.c.account_id, delivery.c.id).where(*is_late).order_by(delivery.c.due_at).limit(limit)
    due_ids = []
    for account, delivery_id in connection.execute(first).all():
        conditions = update(delivery).where(delivery.c.account_id == account, delivery.c.id == delivery_id, *is_late)
        if connection.execute(conditions.values(state="queued", due_at=now + RECOVERY_WAIT_MS)).rowcount:
            due_ids.append(delivery_id)
    return due_ids


def drop_old(connection: Connection, limit: int = 5000) -> int:
    """Drop deliveries that ended long enough ago; returns how many."""
    now = clock_ms(connection)
    is_late = (delivery.c.state.in_(ENDED_STATES), delivery.c.due_at < now)
    old = connection.execute(select(delivery.c.account_id, delivery.c.id).where(*is_late).limit(limit)).all()
    for account, delivery_id in old:
        connection.execute(delete(delivery).where(delivery.c.account_id == account, delivery.c.id == delivery_id))
    return len(old)


def has_old(connection: Connection) -> bool:
    """Whether there is anything for `drop_old`. Takes no lock."""
    is_late = (delivery.c.state.in_(ENDED_STATES), delivery.c.due_at < clock_ms(connection))
    return connection.execute(select(delivery.c.id).where(*is_late).limit(1)).first() is not None
