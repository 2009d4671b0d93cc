"""The plain queries of accounts: their users, campaigns, custom fields, and the audit.

All take an SQLAlchemy connection first. `account` is the store's number of an account. Whatever writes needs a write
transaction. Rows are mappings of their table's columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, func, insert, select, update

from storage import tables
from storage.engine import now_ms

TableRows = Sequence[RowMapping]


def find_account(connection: Connection, public_id: str) -> RowMapping | None:
    """The account of that id."""
    query = select(tables.account).where(tables.account.c.public_id == public_id)
    return connection.execute(query).mappings().first()


def list_accounts(connection: Connection) -> TableRows:
    """All accounts, by id."""
    return connection.execute(select(tables.account).order_by(tables.account.c.public_id)).mappings().all()


def create_account(connection: Connection, public_id: str, name: str) -> int:
    """Make an account; returns the store's number of it."""
    values = {"public_id": public_id, "name": name, "created_at": now_ms()}
    created = connection.execute(insert(tables.account).values(values).returning(tables.account.c.id))
    return int(created.scalar_one())


def find_user(connection: Connection, user_id: str) -> RowMapping | None:
    """The API user of that id, with its account's `public_id`."""
    table = tables.api_user
    query = (
        select(table, tables.account.c.public_id)
        .join(tables.account, tables.account.c.id == table.c.account_id)
        .where(table.c.user_id == user_id)
    )
    return connection.execute(query).mappings().first()


def list_users(connection: Connection, account: int) -> TableRows:
    """The API users of an account, by id."""
    return _list_rows(connection, tables.api_user, account, tables.api_user.c.user_id)


def create_user(connection: Connection, account: int, user_id: str, key_digest: str, *, may_import: bool) -> None:
    """Create an API user; ids are unique in the installation."""
    values = {
        "user_id": user_id,
        "account_id": account,
        "key_digest": key_digest,
        "may_import": may_import,
        "created_at": now_ms(),
    }
    connection.execute(insert(tables.api_user).values(values))


def rotate_user(connection: Connection, user_id: str, key_digest: str, old_key_until: int) -> None:
    """Give an API user a new key; the present one stays valid until `old_key_until` (milliseconds since the epoch)."""
    table = tables.api_user
    connection.execute(
        update(table)
        .where(table.c.user_id == user_id)
        .values(key_digest=key_digest, old_key_digest=table.c.key_digest, old_key_until=old_key_until)
    )


def disable_user(connection: Connection, user_id: str) -> None:
    """Refuse an API user from now on; both its keys."""
    connection.execute(update(tables.api_user).where(tables.api_user.c.user_id == user_id).values(disabled=True))


def list_campaigns(connection: Connection, account: int) -> TableRows:
    """The campaigns of an account, deactivated ones too, in the order of their creation."""
    return _list_rows(connection, tables.campaign, account, tables.campaign.c.id)


def list_campaign_items(connection: Connection, account: int) -> TableRows:
    """The items of all `buyx` campaigns of an account, in the order of their creation."""
    return _list_rows(connection, tables.campaign_item, account, tables.campaign_item.c.id)


def create_campaign(
    connection: Connection, account: int, public_id: str, name: str, kind: str, items: Sequence[tuple[str, str]] = ()
) -> int:
    """Make a campaign with its items (id and name each); returns the store's number of it within the account."""
    number = _next_number(connection, tables.campaign, account)
    values = {"account_id": account, "id": number, "public_id": public_id, "name": name, "type": kind}
    connection.execute(insert(tables.campaign).values({**values, "created_at": now_ms()}))
    for item, (item_id, item_name) in enumerate(items, 1):
        row = {"account_id": account, "campaign_id": number, "id": item, "item_id": item_id, "name": item_name}
        connection.execute(insert(tables.campaign_item).values(row))
    return number


def deactivate_campaign(connection: Connection, account: int, public_id: str) -> None:
    """No batch can include the campaign any more; enrolments and balances stay."""
    table = tables.campaign
    matches = (table.c.account_id == account) & (table.c.public_id == public_id)
    connection.execute(update(table).where(matches).values(active=False))


def list_custom_fields(connection: Connection, account: int) -> TableRows:
    """The custom fields of an account, by number."""
    return _list_rows(connection, tables.custom_field, account, tables.custom_field.c.number)


def create_custom_field(connection: Connection, account: int, number: int, **values: object) -> None:
    """Define custom field `number` of an account: label, type, choices, is_unique, searchable."""
    row = {"account_id": account, "number": number, "created_at": now_ms(), **values}
    connection.execute(insert(tables.custom_field).values(row))


def add_audit_line(connection: Connection, account: int | None, actor: str, action: str, subject: str = "") -> None:
    """Write a line of the audit: the actor, the action and its subject. Never a secret."""
    values = {"account_id": account, "at": now_ms(), "actor": actor, "action": action, "subject": subject}
    connection.execute(insert(tables.audit).values(values))


def _find_first(connection: Connection, table: Table, condition: ColumnElement[bool]) -> RowMapping | None:
    return connection.execute(select(table).where(condition)).mappings().first()


def _list_rows(connection: Connection, table: Table, account: int, order: ColumnElement[Any]) -> TableRows:
    query = select(table).where(table.c.account_id == account).order_by(order)
    return connection.execute(query).mappings().all()


def _next_number(connection: Connection, table: Table, account: int) -> int:
    # The account's row is the lock under which numbers are given (PostgreSQL; SQLite has one writer anyway).
    connection.execute(select(tables.account.c.id).where(tables.account.c.id == account).with_for_update())
    last = connection.execute(select(func.max(table.c.id)).where(table.c.account_id == account)).scalar()
    return int(last or 0) + 1
