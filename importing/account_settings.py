"""What a batch needs of its account: the custom fields by name and the active campaigns by id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from importing.batch import Campaign, CampaignType
from importing.context import Context
from importing.fields import Field, FieldKind, make_custom_field
from storage.queries import request_lookups
from storage.sql_connection import SqlConnection

KIND_OF_TYPE: Mapping[str, FieldKind] = {
    "Text": FieldKind.TEXT,
    "Date": FieldKind.DATE_TIME,
    "Pick": FieldKind.PICK,
    "List": FieldKind.LIST,
}


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """The custom fields by name ("custom_field_3") in the order of their numbers; the active campaigns by their ids."""

    fields: Mapping[str, Field]
    campaigns: Mapping[str, Campaign]


def load(context: Context, account: int) -> AccountSettings:
    """The account's custom fields and active campaigns, as they are now."""
    with context.database.read_connection() as work:
        fields, campaigns = request_lookups.list_fields_and_campaigns(work, account)
        has_items = any(row.type == CampaignType.BUYX for row in campaigns)
        items = _list_items(work, account) if has_items else {}
    return AccountSettings(
        {field.name: field for field in map(_make_field, fields)},
        {
            row.public_id: Campaign(row.id, row.public_id, row.name, CampaignType(row.type), items.get(row.id, {}))
            for row in campaigns
        },
    )


def _make_field(row: request_lookups.CustomFieldRow) -> Field:
    is_unique, searchable = bool(row.is_unique), bool(row.searchable)
    choices = tuple(json.loads(row.choices))
    kind = KIND_OF_TYPE[row.type]
    return make_custom_field(row.number, row.label, kind, choices, unique=is_unique, searchable=searchable)


def _list_items(work: SqlConnection, account: int) -> dict[int, dict[str, int]]:
    """Of each campaign, its items' numbers by name and id."""
    rows = request_lookups.list_campaign_items(work, account)
    items: dict[int, dict[str, int]] = {}
    # The ids come last: an id that equals another item's name is an id.
    for column in ("name", "item_id"):
        for row in rows:
            items.setdefault(row["campaign_id"], {})[row[column].casefold()] = row["id"]
    return items
