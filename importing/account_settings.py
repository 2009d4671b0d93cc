"""An account as a batch needs it: its custom fields by header name, its active campaigns by their ids."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

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
    """The custom fields by name ("custom_field_3") in the order of their numbers; the active campaigns by their ids.

    `version`: two accounts with the same one have the same fields, and campaigns that differ in their items at most.
    """

    fields: Mapping[str, Field]
    campaigns: Mapping[str, Campaign]
    version: Hashable = field(default_factory=object)


def load(context: Context, account: int) -> AccountSettings:
    """The account's custom fields and active campaigns, as they are now."""
    with context.database.read_connection() as work:
        fields, campaigns = request_lookups.list_fields_and_campaigns(work, account)
        has_items = any(campaign.type == CampaignType.BUYX for campaign in campaigns)
        return _settings(fields, campaigns, _items(work, account) if has_items else {})


def _settings(
    fields: Sequence[request_lookups.CustomFieldRow],
    campaigns: Sequence[request_lookups.CampaignRow],
    items: Mapping[int, Mapping[str, int]],
) -> AccountSettings:
    custom_fields = map(_field, fields)
    return AccountSettings(
        {field.name: field for field in custom_fields}, _campaigns(campaigns, items), (fields, campaigns)
    )


def _field(row: request_lookups.CustomFieldRow) -> Field:
    return make_custom_field(
        row.number,
        row.label,
        KIND_OF_TYPE[row.type],
        tuple(json.loads(row.choices)),
        unique=bool(row.is_unique),
        searchable=bool(row.searchable),
    )


def _campaigns(
    rows: Sequence[request_lookups.CampaignRow], items: Mapping[int, Mapping[str, int]]
) -> dict[str, Campaign]:
    return {
        row.public_id: Campaign(row.id, row.public_id, row.name, CampaignType(row.type), items.get(row.id, {}))
        for row in rows
    }


def _items(work: SqlConnection, account: int) -> dict[int, dict[str, int]]:
    rows = request_lookups.list_campaign_items(work, account)
    custom_fields: dict[int, dict[str, int]] = {}
    # An id that reads like another item's name is still the id.
    for column in ("name", "item_id"):
        for row in rows:
            custom_fields.setdefault(row["campaign_id"], {})[row[column].casefold()] = row["id"]
    return custom_fields
