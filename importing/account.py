"""An account as a batch needs it: its custom fields by header name, its active campaigns by their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from importing.batch import Campaign, CampaignType
from importing.core import Core
from importing.fields import Field, Kind, custom_field
from storage import senders
from storage.workspace import Workspace

KINDS: Mapping[str, Kind] = {"Text": Kind.TEXT, "Date": Kind.DATE_TIME, "Pick": Kind.PICK, "List": Kind.LIST}


@dataclass(frozen=True, slots=True)
class Account:
    """The custom fields by name ("custom_field_3") in the order of their numbers; the active campaigns by their ids."""

    fields: Mapping[str, Field]
    campaigns: Mapping[str, Campaign]


def load(core: Core, account: int) -> Account:
    """The account's custom fields and active campaigns, as they are now."""
    with core.database.looking() as work:
        fields, campaigns = senders.fields_and_campaigns(work, account)
        found = map(_field, fields)
        return Account({field.name: field for field in found}, _campaigns(work, account, campaigns))


def _field(row: senders.Row) -> Field:
    return custom_field(
        row["number"],
        row["label"],
        KINDS[row["type"]],
        tuple(row["choices"]),
        unique=bool(row["is_unique"]),
        searchable=bool(row["searchable"]),
    )


def _campaigns(work: Workspace, account: int, rows: Sequence[senders.Row]) -> dict[str, Campaign]:
    items: dict[int, dict[str, int]] = {}
    if any(row["type"] == CampaignType.BUYX for row in rows):
        items = _items(work, account)
    return {row["campaign_id"]: _campaign(row, items.get(row["id"], {})) for row in rows}


def _campaign(row: senders.Row, items: Mapping[str, int]) -> Campaign:
    return Campaign(row["id"], row["campaign_id"], row["name"], CampaignType(row["type"]), items)


def _items(work: Workspace, account: int) -> dict[int, dict[str, int]]:
    rows = senders.campaign_items(work, account)
    found: dict[int, dict[str, int]] = {}
    # An id that reads like another item's name is still the id.
    for column in ("name", "item_id"):
        for row in rows:
            found.setdefault(row["campaign_id"], {})[row[column].casefold()] = row["id"]
    return found
