"""An account as a batch needs it: its custom fields by header name, its active campaigns by their ids."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from importing.batch import Campaign, CampaignType
from importing.core import Core
from importing.fields import Field, Kind, custom_field
from storage import senders
from storage.workspace import Workspace

KINDS: Mapping[str, Kind] = {"Text": Kind.TEXT, "Date": Kind.DATE_TIME, "Pick": Kind.PICK, "List": Kind.LIST}


@dataclass(frozen=True, slots=True)
class Account:
    """The custom fields by name ("custom_field_3") in the order of their numbers; the active campaigns by their ids.

    `version`: two accounts with the same one have the same fields, and campaigns that differ in their items at most.
    """

    fields: Mapping[str, Field]
    campaigns: Mapping[str, Campaign]
    version: Hashable = field(default_factory=object)


def load(core: Core, account: int) -> Account:
    """The account's custom fields and active campaigns, as they are now."""
    with core.database.looking() as work:
        fields, campaigns = senders.fields_and_campaigns(work, account)
        if any(campaign.type == CampaignType.BUYX for campaign in campaigns):
            # With their items, of which there may be many: not kept.
            return _account(fields, campaigns, _items(work, account))
        return _remembered(fields, campaigns)


@lru_cache(maxsize=64)
def _remembered(fields: Sequence[senders.CustomField], campaigns: Sequence[senders.Campaign]) -> Account:
    return _account(fields, campaigns, {})


def _account(
    fields: Sequence[senders.CustomField],
    campaigns: Sequence[senders.Campaign],
    items: Mapping[int, Mapping[str, int]],
) -> Account:
    found = map(_field, fields)
    return Account({field.name: field for field in found}, _campaigns(campaigns, items), (fields, campaigns))


def _field(row: senders.CustomField) -> Field:
    return custom_field(
        row.number,
        row.label,
        KINDS[row.type],
        tuple(json.loads(row.choices)),
        unique=bool(row.is_unique),
        searchable=bool(row.searchable),
    )


def _campaigns(rows: Sequence[senders.Campaign], items: Mapping[int, Mapping[str, int]]) -> dict[str, Campaign]:
    return {
        row.campaign_id: Campaign(row.id, row.campaign_id, row.name, CampaignType(row.type), items.get(row.id, {}))
        for row in rows
    }


def _items(work: Workspace, account: int) -> dict[int, dict[str, int]]:
    rows = senders.campaign_items(work, account)
    found: dict[int, dict[str, int]] = {}
    # An id that reads like another item's name is still the id.
    for column in ("name", "item_id"):
        for row in rows:
            found.setdefault(row["campaign_id"], {})[row[column].casefold()] = row["id"]
    return found
