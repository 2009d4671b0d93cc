"""What every request asks of an account, by the driver's cursor: compiled statements would cost more than a small batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from storage import batches
from storage.workspace import Workspace

Row = Mapping[str, Any]

USER = (
    "user_id",
    "account_id",
    "account_name_id",
    "key_digest",
    "old_key_digest",
    "old_key_until",
    "may_import",
    "disabled",
)
ITEM = ("campaign_id", "id", "item_id", "name")


_COLUMNS = (
    "u.user_id, u.account_id, a.account_id, u.key_digest, u.old_key_digest, u.old_key_until, u.may_import, u.disabled"
)
_USERS = "FROM api_user u JOIN account a ON a.id = u.account_id"
_USER = f"SELECT {_COLUMNS}, {batches.NEWEST} {_USERS} WHERE u.user_id = :user"
# The batch by its id alone, as `batches.followed` finds it.
_USER_AND_BATCH = (
    f"SELECT {_COLUMNS}, {batches.FOLLOWED_COLUMNS} {_USERS} "
    f"LEFT JOIN batch b ON b.id = :batch AND +b.account_id = u.account_id {batches.ITS_JOB} WHERE u.user_id = :user"
)


def user(work: Workspace, user_id: str) -> Row | None:
    """The API user of that id, with its account's id as `account_name_id` and its newest change as `newest`."""
    found = work.all(_USER, user=user_id)
    return dict(zip((*USER, "newest"), found[0], strict=True)) if found else None


def user_and_batch(work: Workspace, user_id: str, batch_id: str) -> tuple[Row | None, batches.Known | None]:
    """The same without `newest`, and the batch of that id that the user's account has, as `batches.followed` gives it.

    One statement: a terminal that asks what became of a batch asks nothing else.
    """
    found = work.all(_USER_AND_BATCH, user=user_id, batch=batch_id)
    if not found:
        return None, None
    row = found[0]
    batch = batches.followed_of(row[len(USER) :])
    return dict(zip(USER, row, strict=False)), batch if batch["id"] is not None else None


class CustomField(NamedTuple):
    """A custom field. `choices` is a JSON array."""

    number: int
    label: str
    type: str
    choices: str
    is_unique: bool
    searchable: bool


class Campaign(NamedTuple):
    """A campaign. `id` is the store's number, `campaign_id` what the protocols call it."""

    id: int
    campaign_id: str
    name: str
    type: str


def fields_and_campaigns(work: Workspace, account: int) -> tuple[tuple[CustomField, ...], tuple[Campaign, ...]]:
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
    return tuple(map(CustomField._make, fields.rows)), tuple(map(Campaign._make, campaigns.rows))


def campaign_items(work: Workspace, account: int) -> list[Row]:
    """The items of an account's campaigns, by campaign and number."""
    found = work.all(
        f"SELECT {', '.join(ITEM)} FROM campaign_item WHERE account_id = :account ORDER BY campaign_id, id",
        account=account,
    )
    return [dict(zip(ITEM, row, strict=True)) for row in found]
