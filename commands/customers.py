"""`tillgate customers` and `tillgate export`: the customers of an account, without secrets."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import click
from sqlalchemy import Connection

from commands.context import account_row, opened
from commands.output import examples, json_option, print_json, print_table
from importing.checking.amounts import with_decimals
from importing.fields import PROFILE_FIELDS
from importing.reading.csv_formula_guard import guard
from importing.times import iso_seconds
from storage.queries import accounts
from storage.queries.customers import Customer, find_customer, stream_customers

KEYS = ("code", "card_number")
COLUMNS = (*KEYS, *PROFILE_FIELDS, "customer_username")


@click.command()
@click.argument("account_id", metavar="ACCOUNT")
@click.option("--code", metavar="C", help="Only the customer with this code.")
@click.option("--card-number", metavar="N", help="Only the customer with this card number.")
@json_option
@examples("tillgate customers greatwidgets", "tillgate customers greatwidgets --code 33445566 --json")
def customers(account_id: str, code: str | None, card_number: str | None, as_json: bool) -> None:
    """List the customers of an account, or one of them."""
    with opened() as context, context.database.reading() as connection:
        account = account_row(connection, account_id)["id"]
        fields = _custom_fields(connection, account)
        selected: Iterable[Customer] = stream_customers(connection, account)
        if code is not None or card_number is not None:
            one = find_customer(connection, account, code=code, card_number=card_number)
            selected = [one] if one else []
        if as_json:
            print_json(as_object(customer, fields) for customer in selected)
            return
        names = (*KEYS, "first_name", "last_name", "custom_date", "email", "phone")
        rows = ((*(customer.row[name] for name in names), _balances(customer)) for customer in selected)
        print_table((*names, "campaigns"), rows, "There is no such customer.")


@click.command()
@click.argument("account_id", metavar="ACCOUNT")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@examples("tillgate export greatwidgets > customers.csv", "tillgate export greatwidgets --format jsonl | head -1")
def export(account_id: str, form: str) -> None:
    """Write all customers of an account to standard output.

    The columns of the CSV are the header names of the protocol, and `tillgate import` takes it again as it is. A cell
    that a spreadsheet would run as a formula begins with an apostrophe, which our import takes off again.
    """
    with opened() as context, context.database.reading() as connection:
        account = account_row(connection, account_id)["id"]
        fields = _custom_fields(connection, account)
        customers = stream_customers(connection, account)
        if form == "csv":
            _write_csv(customers, fields)
        else:
            for customer in customers:
                sys.stdout.write(json.dumps(as_object(customer, fields), ensure_ascii=False) + "\n")


def as_object(customer: Customer, fields: Sequence[str]) -> dict[str, object]:
    """A customer as JSON has it. `fields` are the custom fields that the account defines."""
    row = customer.row
    custom: Mapping[str, str] = row["custom_fields"]
    return {
        **{name: row[name] or "" for name in COLUMNS},
        "custom_fields": {name: custom[name] for name in fields if custom.get(name)},
        "attributes": row["attributes"],
        "campaigns": {campaign: with_decimals(balance) for campaign, balance in customer.balances.items()},
        "has_password": row["password_digest"] != "",
        "has_pin": row["pin_digest"] != "",
        "created_at": iso_seconds(row["created_at"]),
        "updated_at": iso_seconds(row["updated_at"]),
    }


def _write_csv(customers: Iterator[Customer], fields: Sequence[str]) -> None:
    # RFC 4180's line ends, whatever the system's.
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow((*COLUMNS, *fields))
    for customer in customers:
        custom: Mapping[str, str] = customer.row["custom_fields"]
        values = (*(customer.row[name] or "" for name in COLUMNS), *(custom.get(name, "") for name in fields))
        writer.writerow([guard(value) for value in values])


def _custom_fields(connection: Connection, account: int) -> list[str]:
    return [f"custom_field_{row['number']}" for row in accounts.list_custom_fields(connection, account)]


def _balances(customer: Customer) -> str:
    return ", ".join(f"{campaign}: {with_decimals(balance)}" for campaign, balance in customer.balances.items())
