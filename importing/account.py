"""An account as a batch needs it: its custom fields by header name, its active campaigns by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping

from importing.batch import Campaign, CampaignType
from importing.core import Core
from importing.fields import Field, Kind, custom_field
from storage import accounts

KINDS: Mapping[str, Kind] = {"Text": Kind.TEXT, "Date": Kind.DATE_TIME, "Pick": Kind.PICK, "List": Kind.LIST}


@dataclass(frozen=True, slots=True)
class Account:
    """The custom fields by name ("custom_field_3") in the order of their numbers; the active campaigns by their ids."""

    fields: Mapping[str, Field]
    campaigns: Mapping[str, Campaign]


def load(core: Core, account: int) -> Account:
    """The account's custom fields and active campaigns, as they are now."""
    with core.database.reading() as connection:
        return Account(_fields(connection, account), _campaigns(connection, account))


def _fields(connection: Connection, account: int) -> dict[str, Field]:
    found = (_field(row) for row in accounts.custom_fields(connection, account))
    return {field.name: field for field in found}


def _field(row: RowMapping) -> Field:
    return custom_field(
        row["number"],
        row["label"],
        KINDS[row["type"]],
        tuple(row["choices"]),
        unique=row["is_unique"],
        searchable=row["searchable"],
    )


def _campaigns(connection: Connection, account: int) -> dict[str, Campaign]:
    rows = [row for row in accounts.campaigns(connection, account) if row["active"]]
    items: dict[int, dict[str, int]] = {}
    if any(row["type"] == CampaignType.BUYX for row in rows):
        items = _items(connection, account)
    return {row["campaign_id"]: _campaign(row, items.get(row["id"], {})) for row in rows}


def _campaign(row: RowMapping, items: Mapping[str, int]) -> Campaign:
    return Campaign(row["id"], row["campaign_id"], row["name"], CampaignType(row["type"]), items)


def _items(connection: Connection, account: int) -> dict[int, dict[str, int]]:
    rows = list(accounts.campaign_items(connection, account))
    found: dict[int, dict[str, int]] = {}
    # An id that reads like another item's name is still the id.
    for column in ("name", "item_id"):
        for row in rows:
            found.setdefault(row["campaign_id"], {})[row[column].casefold()] = row["id"]
    return found
