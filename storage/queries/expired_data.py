"""What expires: undo states with their before-images, what is known of single rows, and stored replies."""

from __future__ import annotations

from sqlalchemy import Connection, delete, exists, func, or_, select, update

from storage.tables import (
    DOCUMENT_COLUMNS,
    HAD_COLUMNS,
    PROFILE_COLUMNS,
    account,
    assigned_key,
    batch,
    batch_problem,
    change,
    customer,
    idempotency_key,
    snapshot,
)

# What is known of single rows.
ROW_TABLES = (batch_problem, assigned_key)
NO_SECRETS = {"password_digest": "", "password_version": 0, "pin_digest": "", "pin_version": 0}


def list_account_numbers(connection: Connection) -> list[int]:
    """All accounts' numbers."""
    return list(connection.execute(select(account.c.id)).scalars())


def has_expired(connection: Connection, number: int, keep: int, undo_since: int, replies_since: int) -> bool:
    """Whether an account has anything to drop. Takes no lock."""
    if connection.execute(
        select(idempotency_key.c.key).where(
            idempotency_key.c.account_id == number, idempotency_key.c.created_at < replies_since
        )
    ).first():
        return True
    oldest = _oldest_undoable(connection, number, keep, undo_since)
    if oldest is None:
        return False
    rows = (
        select(change.c.change)
        .join(batch, (batch.c.account_id == change.c.account_id) & (batch.c.id == change.c.batch_id))
        .where(batch.c.account_id == number, batch.c.number < oldest)
        .where(
            or_(
                change.c.last_removed >= change.c.first_removed,
                exists().where(snapshot.c.account_id == number, snapshot.c.change == change.c.change),
                *(exists().where(rows.c.account_id == number, rows.c.batch_id == batch.c.id) for rows in ROW_TABLES),
            )
        )
    )
    return connection.execute(rows.limit(1)).first() is not None


def prune(connection: Connection, number: int, keep: int, undo_since: int, replies_since: int) -> int:
    """Drop what an account no longer needs; times in milliseconds. Returns how many before-images were dropped.

    An undo state is kept while it is one of the newest `keep` or younger than `undo_since`. A later image is part of an
    older state, so that nothing is dropped while an older state is kept. Customers, points and the history itself stay.
    """
    oldest = _oldest_undoable(connection, number, keep, undo_since)
    connection.execute(
        delete(idempotency_key).where(
            idempotency_key.c.account_id == number, idempotency_key.c.created_at < replies_since
        )
    )
    if oldest is None:
        return 0
    # Read first: whatever is written meanwhile has a later number.
    newest = select(func.coalesce(func.max(change.c.change), 0) + 1).where(change.c.account_id == number)
    beyond = connection.execute(newest).scalar_one()
    first_change = connection.execute(
        select(func.min(change.c.change))
        .join(batch, (batch.c.account_id == change.c.account_id) & (batch.c.id == change.c.batch_id))
        .where(batch.c.account_id == number, batch.c.number >= oldest)
    ).scalar()
    gone_batches = select(batch.c.id).where(batch.c.account_id == number, batch.c.number < oldest)
    for rows in ROW_TABLES:
        connection.execute(delete(rows).where(rows.c.account_id == number, rows.c.batch_id.in_(gone_batches)))
    if first_change is None:
        # Whatever has changed anything is older.
        first_change = beyond
    gone = connection.execute(delete(snapshot).where(snapshot.c.account_id == number, snapshot.c.change < first_change))
    return gone.rowcount + _blank_removed(connection, number, first_change)


def _blank_removed(connection: Connection, number: int, first_change: int) -> int:
    """Blank the customers that older changes removed, who are their own before-images. Returns how many."""
    removing = (
        change.c.account_id == number,
        change.c.change < first_change,
        change.c.last_removed >= change.c.first_removed,
    )
    lies_in = customer.c.id.between(change.c.first_removed, change.c.last_removed) & (
        customer.c.removed == change.c.change
    )
    gone = select(customer.c.id).select_from(change).join(customer, lies_in)
    blanked = connection.execute(
        update(customer)
        .where(
            customer.c.account_id == number, customer.c.id.in_(gone.where(*removing, customer.c.account_id == number))
        )
        .values(
            {
                **dict.fromkeys(PROFILE_COLUMNS, ""),
                **NO_SECRETS,
                **{name: {} for name in DOCUMENT_COLUMNS},
                **dict.fromkeys(HAD_COLUMNS),
            }
        )
    )
    connection.execute(update(change).where(*removing).values(first_removed=0, last_removed=-1))
    return blanked.rowcount


def _oldest_undoable(connection: Connection, number: int, keep: int, undo_since: int) -> int | None:
    """The number of the oldest batch whose undo state is kept."""
    newest = (
        select(batch.c.number)
        .where(batch.c.account_id == number, batch.c.keep_undo)
        .order_by(batch.c.number.desc())
        .limit(keep)
        .subquery()
    )
    return connection.execute(
        select(func.min(batch.c.number)).where(
            batch.c.account_id == number,
            batch.c.keep_undo,
            or_(batch.c.created_at >= undo_since, batch.c.number.in_(select(newest.c.number))),
        )
    ).scalar()
