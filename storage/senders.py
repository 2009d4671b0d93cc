"""What every request asks of an account, by the driver's cursor: compiled statements would cost more than a small batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

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
    "newest",
)
FIELD = ("number", "label", "type", "choices", "is_unique", "searchable")
CAMPAIGN = ("id", "campaign_id", "name", "type")
ITEM = ("campaign_id", "id", "item_id", "name")


def user(work: Workspace, user_id: str) -> Row | None:
    """The API user of that id, with its account's id as `account_name_id` and its newest change as `newest`."""
    found = work.all(
        "SELECT u.user_id, u.account_id, a.account_id, u.key_digest, u.old_key_digest, u.old_key_until, u.may_import, "
        "u.disabled, a.last_change FROM api_user u JOIN account a ON a.id = u.account_id WHERE u.user_id = :user",
        user=user_id,
    )
    return dict(zip(USER, found[0], strict=True)) if found else None


def fields_and_campaigns(work: Workspace, account: int) -> tuple[list[Row], list[Row]]:
    """The custom fields of an account, by number, and its active campaigns, in the order in which they were made."""
    fields = work.send(
        f"SELECT {', '.join(FIELD)} FROM custom_field WHERE account_id = :account ORDER BY number", account=account
    )
    campaigns = work.send(
        f"SELECT {', '.join(CAMPAIGN)} FROM campaign WHERE account_id = :account AND active ORDER BY id",
        account=account,
    )
    rows: list[Row] = []
    for values in fields.rows:
        row = dict(zip(FIELD, values, strict=True))
        # A text on SQLite, parsed by the driver on PostgreSQL.
        rows.append(row | {"choices": json.loads(row["choices"])} if work.sqlite else row)
    return rows, [dict(zip(CAMPAIGN, row, strict=True)) for row in campaigns.rows]


def campaign_items(work: Workspace, account: int) -> list[Row]:
    """The items of an account's campaigns, by campaign and number."""
    found = work.all(
        f"SELECT {', '.join(ITEM)} FROM campaign_item WHERE account_id = :account ORDER BY campaign_id, id",
        account=account,
    )
    return [dict(zip(ITEM, row, strict=True)) for row in found]
