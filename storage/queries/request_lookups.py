"""What every request reads of an account, by the driver's cursor: compiled statements would cost more than a small batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from storage.queries import batches
from storage.sql_connection import SqlConnection

LookupRow = Mapping[str, Any]

USER_COLUMNS = (
    "user_id",
    "account_id",
    "public_id",
    "key_digest",
    "old_key_digest",
    "old_key_until",
    "may_import",
    "disabled",
)
ITEM_COLUMNS = ("campaign_id", "id", "item_id", "name")


_USER_COLUMNS_SQL = (
    "u.user_id, u.account_id, a.public_id, u.key_digest, u.old_key_digest, u.old_key_until, u.may_import, u.disabled"
)
_FROM_USERS = "FROM api_user u JOIN account a ON a.id = u.account_id"
_SELECT_USER = f"SELECT {_USER_COLUMNS_SQL}, {batches.NEWEST_NUMBER} {_FROM_USERS} WHERE u.user_id = :user"


def find_user(work: SqlConnection, user_id: str) -> LookupRow | None:
    """The API user of that id, with its account's `public_id` and its newest change as `newest`."""
    rows = work.all(_SELECT_USER, user=user_id)
    return dict(zip((*USER_COLUMNS, "newest"), rows[0], strict=True)) if rows else None


class CustomFieldRow(NamedTuple):
    """A custom field. `choices` is a JSON array."""

    number: int
    label: str
    type: str
    choices: str
    is_unique: bool
    searchable: bool


class CampaignRow(NamedTuple):
    """A campaign. `id` is the store's number, `public_id` what the protocols call it."""

    id: int
    public_id: str
    name: str
    type: str


def list_fields_and_campaigns(
    work: SqlConnection, account: int
) -> tuple[tuple[CustomFieldRow, ...], tuple[CampaignRow, ...]]:
    """The custom fields of an account, by number, and its active campaigns, in the order of their creation."""
    fields = work.send(
        "SELECT number, label, type, CAST(choices AS TEXT), is_unique, searchable FROM custom_field "
        "WHERE account_id = :account ORDER BY number",
        account=account,
    )
    campaigns = work.send(
        "SELECT id, public_id, name, type FROM campaign WHERE account_id = :account AND active ORDER BY id",
        account=account,
    )
    return tuple(map(CustomFieldRow._make, fields.rows)), tuple(map(CampaignRow._make, campaigns.rows))


def list_campaign_items(work: SqlConnection, account: int) -> list[LookupRow]:
    """The items of an account's campaigns, by campaign and number."""
    rows = work.all(
        f"SELECT {', '.join(ITEM_COLUMNS)} FROM campaign_item WHERE account_id = :account ORDER BY campaign_id, id",
        account=account,
    )
    return [dict(zip(ITEM_COLUMNS, row, strict=True)) for row in rows]
