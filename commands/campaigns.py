"""`tillgate campaign` and `tillgate field`: what an account's batches may name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from commands.context import account_row, checked_id, opened, writing
from commands.output import examples, json_option, print_rows, report, say
from importing.account_settings import KIND_OF_TYPE
from importing.batch import CampaignType
from importing.times import iso_seconds
from storage.queries import accounts

TYPES = [kind.value for kind in CampaignType]
FIELD_TYPES = list(KIND_OF_TYPE)

_FIELD = re.compile(r"custom_field_([1-9][0-9]{0,2})")


@click.group()
@examples('tillgate campaign create greatwidgets 898989889 --name "Summer points" --type points')
def campaign() -> None:
    """Campaigns: what customers are enrolled in."""


@campaign.command()
@click.argument("account_id", metavar="ACCOUNT")
@click.argument("campaign_id", metavar="ID")
@click.option("--name", required=True, help="What people call it.")
@click.option("--type", "kind", type=click.Choice(TYPES), required=True)
@click.option("--item", "items", metavar="ID=NAME", multiple=True, help="An item of a buyx campaign; repeat it.")
@json_option
@examples(
    'tillgate campaign create greatwidgets 898989889 --name "Summer points" --type points',
    'tillgate campaign create greatwidgets coffee --name "Tenth coffee" --type buyx --item 1=Coffee --item 2=Tea',
)
def create(account_id: str, campaign_id: str, name: str, kind: str, items: Sequence[str], as_json: bool) -> None:
    """Make a campaign. Its id is the one that senders name in campaigns_to_include."""
    checked_id(campaign_id, "campaign id")
    if set(campaign_id) & set(",|"):
        raise click.ClickException("A campaign id has neither commas nor bars: they separate campaigns.")
    pairs = _items(kind, items)
    with opened() as context, writing(context) as connection:
        account = account_row(connection, account_id)["id"]
        if any(row["public_id"] == campaign_id for row in accounts.list_campaigns(connection, account)):
            raise click.ClickException(f"The account has a campaign {campaign_id!r} already.")
        accounts.create_campaign(connection, account, campaign_id, name, kind, pairs)
        accounts.add_audit_line(connection, account, "cli", "campaign create", campaign_id)
    document = {"id": campaign_id, "name": name, "type": kind, "active": True, "items": _item_objects(pairs)}
    report(as_json, document, f"The campaign {campaign_id} was made.")


@campaign.command(name="list")
@click.argument("account_id", metavar="ACCOUNT")
@json_option
@examples("tillgate campaign list greatwidgets")
def list_campaigns(account_id: str, as_json: bool) -> None:
    """List the campaigns of an account."""
    with opened() as context, context.database.reading() as connection:
        account = account_row(connection, account_id)["id"]
        campaigns = accounts.list_campaigns(connection, account)
        items = accounts.list_campaign_items(connection, account)
    rows = [
        {
            "id": row["public_id"],
            **{name: row[name] for name in ("name", "type", "active")},
            "items": _item_objects([(i["item_id"], i["name"]) for i in items if i["campaign_id"] == row["id"]]),
            "created_at": iso_seconds(row["created_at"]),
        }
        for row in campaigns
    ]
    columns = ("id", "name", "type", "active", "items", "created")
    print_rows(as_json, rows, columns, "The account has no campaign yet.")


@campaign.command()
@click.argument("account_id", metavar="ACCOUNT")
@click.argument("campaign_id", metavar="ID")
@examples("tillgate campaign deactivate greatwidgets 898989889")
def deactivate(account_id: str, campaign_id: str) -> None:
    """Let no batch include the campaign any more. Enrolments and balances stay."""
    with opened() as context, writing(context) as connection:
        account = account_row(connection, account_id)["id"]
        if all(row["public_id"] != campaign_id for row in accounts.list_campaigns(connection, account)):
            raise click.ClickException(f"The account has no campaign {campaign_id!r}.")
        accounts.deactivate_campaign(connection, account, campaign_id)
        accounts.add_audit_line(connection, account, "cli", "campaign deactivate", campaign_id)
    say(f"The campaign {campaign_id} is deactivated.")


@click.group()
@examples('tillgate field create greatwidgets custom_field_2 --label "Shoe size"')
def field() -> None:
    """Custom fields, beside the standard ones."""


@field.command(name="create")
@click.argument("account_id", metavar="ACCOUNT")
@click.argument("name", metavar="custom_field_N")
@click.option("--label", required=True, help="What people call it.")
@click.option("--type", "kind", type=click.Choice(FIELD_TYPES, case_sensitive=False), default="Text", show_default=True)
@click.option("--choice", "choices", multiple=True, help="A choice of a Pick or List field; repeat it.")
@click.option("--unique", is_flag=True, help="No two customers may have the same value.")
@click.option("--searchable", is_flag=True, help="The console's search looks into it.")
@json_option
@examples(
    'tillgate field create greatwidgets custom_field_1 --label "Member since" --type Date',
    "tillgate field create greatwidgets custom_field_2 --label Size --type Pick --choice S --choice M --choice L",
)
def create_field(account_id: str, name: str, kind: str, choices: Sequence[str], as_json: bool, **options: Any) -> None:
    """Define a custom field; N is from 1 to 999. Pick is one of its choices, List several of them."""
    match = _FIELD.fullmatch(name)
    if match is None:
        raise click.ClickException(f"Invalid custom field {name!r}: use custom_field_1 to custom_field_999.")
    number = int(match.group(1))
    choices = _choices(kind, choices)
    with opened() as context, writing(context) as connection:
        account = account_row(connection, account_id)["id"]
        if any(row["number"] == number for row in accounts.list_custom_fields(connection, account)):
            raise click.ClickException(f"The account has a {name} already.")
        searchable, unique = options["searchable"], options["unique"]
        values = {"label": options["label"], "type": kind, "choices": choices, "searchable": searchable}
        accounts.create_custom_field(connection, account, number, is_unique=unique, **values)
        accounts.add_audit_line(connection, account, "cli", "field create", name)
    report(as_json, {"name": name, **values, "unique": unique}, f"The field {name} was defined.")


@field.command(name="list")
@click.argument("account_id", metavar="ACCOUNT")
@json_option
@examples("tillgate field list greatwidgets")
def list_fields(account_id: str, as_json: bool) -> None:
    """List the custom fields of an account."""
    with opened() as context, context.database.reading() as connection:
        fields = accounts.list_custom_fields(connection, account_row(connection, account_id)["id"])
    rows = [
        {
            "name": f"custom_field_{row['number']}",
            **{name: row[name] for name in ("label", "type", "choices")},
            "unique": row["is_unique"],
            "searchable": row["searchable"],
            "created_at": iso_seconds(row["created_at"]),
        }
        for row in fields
    ]
    columns = ("name", "label", "type", "choices", "unique", "searchable", "created")
    print_rows(as_json, rows, columns, "The account has no custom field yet.")


def _items(kind: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    if bool(texts) != (kind == CampaignType.BUYX):
        raise click.ClickException("A buyx campaign has items (--item ID=NAME); no other has.")
    pairs = []
    for text in texts:
        item_id, _, name = (part.strip() for part in text.partition("="))
        if not item_id or not name:
            raise click.ClickException(f"Invalid item {text!r}: use ID=NAME.")
        pairs.append((checked_id(item_id, "item id"), checked_id(name, "item name")))
    for column in (0, 1):
        if len({pair[column].casefold() for pair in pairs}) < len(pairs):
            raise click.ClickException("Two items have the same id or name.")
    return pairs


def _item_objects(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"id": item_id, "name": name} for item_id, name in pairs]


def _choices(kind: str, texts: Sequence[str]) -> list[str]:
    choices = [choice.strip() for choice in texts]
    if bool(choices) != (kind in ("Pick", "List")):
        raise click.ClickException("A Pick or List field has choices (--choice C); no other has.")
    for choice in choices:
        checked_id(choice, "choice")
        # In a row, a comma separates the values of a List, and quotes hold them together.
        if set(choice) & set(',"'):
            raise click.ClickException(f"Invalid choice {choice!r}: choices have neither commas nor quotes.")
    if len({choice.casefold() for choice in choices}) < len(choices):
        raise click.ClickException("Two choices are the same in any case.")
    return choices
