"""`tillgate account`."""

from __future__ import annotations

import click

from commands.context import checked_id, opened, writing
from commands.output import examples, json_option, print_rows, report
from importing.times import iso_seconds
from storage.queries import accounts


@click.group()
@examples('tillgate account create greatwidgets --name "Great Widgets Inc."')
def account() -> None:
    """Accounts, which share nothing with each other."""


@account.command()
@click.argument("account_id", metavar="ACCOUNT")
@click.option("--name", default="", help="What people call it.")
@json_option
@examples('tillgate account create greatwidgets --name "Great Widgets Inc."')
def create(account_id: str, name: str, as_json: bool) -> None:
    """Make an account."""
    checked_id(account_id, "account id")
    with opened() as context, writing(context) as connection:
        if accounts.find_account(connection, account_id):
            raise click.ClickException(f"There is an account {account_id!r} already.")
        number = accounts.create_account(connection, account_id, name)
        accounts.add_audit_line(connection, number, "cli", "account create", account_id)
    report(as_json, {"account_id": account_id, "name": name}, f"The account {account_id} was made.")


@account.command(name="list")
@json_option
@examples("tillgate account list")
def list_(as_json: bool) -> None:
    """List all accounts."""
    with opened() as context, context.database.reading() as connection:
        stored = accounts.list_accounts(connection)
    rows = [
        {"account_id": r["public_id"], "name": r["name"], "created_at": iso_seconds(r["created_at"])} for r in stored
    ]
    print_rows(as_json, rows, ("account", "name", "created"), "There is no account yet.")
