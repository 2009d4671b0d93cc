"""What every request asks of an account, by the driver's cursor: compiled statements would cost more than a small batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from storage.queries import batches
from storage.workspace import Workspace

LookupRow = Mapping[str, Any]

USER_COLUMNS = (
    "user_id",
    "account_id",
    "account_name_id",
    "key_digest",
    "old_key_digest",
    "old_key_until",
    "may_import",
    "disabled",
)
ITEM_COLUMNS = ("campaign_id", "id", "item_id", "name")


_USER_COLUMNS_SQL = (
    "u.user_id, u.account_id, a.account_id, u.key_digest, u.old_key_digest, u.old_key_until, u.may_import, u.disabled"
)
_FROM_USERS = "FROM api_user u JOIN account a ON a.id = u.account_id"
_SELECT_USER = f"SELECT {_USER_COLUMNS_SQL}, {batches.NEWEST_NUMBER} {_FROM_USERS} WHERE u.user_id = :user"
# The batch by its id alone, as `batches.followed` finds it.
_SELECT_USER_AND_BATCH = (
    f"SELECT {_USER_COLUMNS_SQL}, {batches.STATUS_COLUMNS_SQL} {_FROM_USERS} "
    f"LEFT JOIN batch b ON b.id = :batch AND +b.account_id = u.account_id {batches.JOIN_JOB} WHERE u.user_id = :user"
)


def find_user(work: Workspace, user_id: str) -> LookupRow | None:
    """The API user of that id, with its account's id as `account_name_id` and its newest change as `newest`."""
    rows = work.all(_SELECT_USER, user=user_id)
    return dict(zip((*USER_COLUMNS, "newest"), rows[0], strict=True)) if rows else None


def find_user_and_batch(
    work: Workspace, user_id: str, batch_id: str
) -> tuple[LookupRow | None, batches.BatchRow | None]:
    """The same without `newest`, and the batch of that id that the user's account has, as `batches.followed` gives it.

    One statement: a terminal that asks what became of a batch asks nothing else.
    """
    rows = work.all(_SELECT_USER_AND_BATCH, user=user_id, batch=batch_id)
    if not rows:
        return None, None
    row = rows[0]
    batch = batches.status_row(row[len(USER_COLUMNS) :])
    return dict(zip(USER_COLUMNS, row, strict=False)), batch if batch["id"] is not None else None


class CustomFieldRow(NamedTuple):
    """A custom field. `choices` is a JSON array."""

    number: int
    label: str
    type: str
    choices: str
    is_unique: bool
    searchable: bool


class CampaignRow(NamedTuple):
    """A campaign. `id` is the store's number, `campaign_id` what the protocols call it."""

    id: int
    campaign_id: str
    name: str
    type: str


def list_fields_and_campaigns(
    work: Workspace, account: int
) -> tuple[tuple[CustomFieldRow, ...], tuple[CampaignRow, ...]]:
    """The custom fields of an account, by number, and its active campaigns, in the order in which they were made."""
    fields = work.send(
        "SELECT number, label, type, CAST(choices AS TEXT), is_unique, searchable FROM custom_field "
        "WHERE account_id = :account ORDER BY number",
        account=account,
    )
    campaigns = work.send(
        "SELECT id, campaign_id, name, type FROM campaign WHERE account_id = :account AND active ORDER BY id",
        account=account,
    )
    return tuple(map(CustomFieldRow._make, fields.rows)), tuple(map(CampaignRow._make, campaigns.rows))


def list_campaign_items(work: Workspace, account: int) -> list[LookupRow]:
    """The items of an account's campaigns, by campaign and number."""
    rows = work.all(
        f"SELECT {', '.join(ITEM_COLUMNS)} FROM campaign_item WHERE account_id = :account ORDER BY campaign_id, id",
        account=account,
    )
    return [dict(zip(ITEM_COLUMNS, row, strict=True)) for row in rows]
