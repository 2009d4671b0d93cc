"""`tillgate user` and `tillgate admin`: who may use the protocols, and who may use the console."""

from __future__ import annotations

import re
import sys

import click
from sqlalchemy import Connection, RowMapping

from auth import admin_sessions
from commands.context import account_row, checked_id, opened, writing
from commands.output import examples, json_option, print_rows, report, say
from crypto import digests
from importing.times import iso_seconds
from storage.engine import now_ms
from storage.queries import accounts, admins

_DURATION = re.compile(r"(\d+)\s*([smhd])", re.IGNORECASE)
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Duration(click.ParamType[int]):
    """A time span such as 30m, 24h or 7d, in milliseconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            self.fail("use a time span such as 30m, 24h or 7d", param, ctx)
        return int(match.group(1)) * _UNITS[match.group(2).lower()]


@click.group()
@examples("tillgate user create john1970 --account greatwidgets")
def user() -> None:
    """API users: who may send batches."""


@user.command()
@click.argument("user_id", metavar="USER")
@click.option("--account", "account_id", metavar="ACCOUNT", required=True, help="The account that the user belongs to.")
@click.option("--key", help="Keep this API key: the one that a terminal in the field already has.")
@click.option("--no-import", is_flag=True, help="The user may read, but neither import nor undo.")
@json_option
@examples(
    "tillgate user create john1970 --account greatwidgets",
    "tillgate user create john1970 --account greatwidgets --key 1959caadac9b13dcb3",
)
def create(user_id: str, account_id: str, key: str | None, no_import: bool, as_json: bool) -> None:
    """Make an API user and print its API key, this once.

    User ids are unique in the installation. The key is all that is printed on standard output.
    """
    checked_id(user_id, "user id")
    key = _api_key(key)
    with opened() as context, writing(context) as connection:
        account = account_row(connection, account_id)
        if accounts.find_user(connection, user_id):
            raise click.ClickException(f"There is an API user {user_id!r} already; user ids are unique here.")
        accounts.create_user(connection, account["id"], user_id, context.digests.api_key(key), may_import=not no_import)
        accounts.add_audit_line(connection, account["id"], "cli", "user create", user_id)
    document = {"user_id": user_id, "account_id": account_id, "api_key": key, "may_import": not no_import}
    sentence = f"The API user {user_id} of {account_id} was made. Its API key is shown only now:"
    report(as_json, document, sentence, key)


@user.command()
@click.argument("user_id", metavar="USER")
@click.option("--overlap", type=Duration(), default="24h", show_default=True, help="So long the old key works too.")
@json_option
@examples("tillgate user rotate john1970 --overlap 7d")
def rotate(user_id: str, overlap: int, as_json: bool) -> None:
    """Give an API user a new key and print it, this once."""
    key = digests.new_api_key()
    with opened() as context, writing(context) as connection:
        row = _user_row(connection, user_id)
        until = now_ms() + overlap
        accounts.rotate_user(connection, user_id, context.digests.api_key(key), until)
        accounts.add_audit_line(connection, row["account_id"], "cli", "user rotate", user_id)
    end = iso_seconds(until)
    sentence = f"The API user {user_id} has a new key, shown only now. The old one works until {end}."
    report(as_json, {"user_id": user_id, "api_key": key, "old_key_until": end}, sentence, key)


@user.command()
@click.argument("user_id", metavar="USER")
@examples("tillgate user disable john1970")
def disable(user_id: str) -> None:
    """Refuse an API user from now on."""
    with opened() as context, writing(context) as connection:
        row = _user_row(connection, user_id)
        accounts.disable_user(connection, user_id)
        accounts.add_audit_line(connection, row["account_id"], "cli", "user disable", user_id)
    say(f"The API user {user_id} is disabled.")


@user.command(name="list")
@click.argument("account_id", metavar="ACCOUNT")
@json_option
@examples("tillgate user list greatwidgets")
def list_(account_id: str, as_json: bool) -> None:
    """List the API users of an account."""
    with opened() as context, context.database.reading() as connection:
        users = accounts.list_users(connection, account_row(connection, account_id)["id"])
    rows = [{**{n: row[n] for n in ("user_id", "may_import", "disabled")}, **_times(row)} for row in users]
    columns = ("user", "may import", "disabled", "old key until", "created")
    print_rows(as_json, rows, columns, "The account has no API user yet.")


@click.group()
@examples("tillgate admin create ann@example.com --account greatwidgets")
def admin() -> None:
    """Administrators: who may use the console."""


@admin.command(name="create")
@click.argument("email", metavar="EMAIL")
@click.option(
    "--account", "account_id", metavar="ACCOUNT", help="The one account to administrate and import into; default: all."
)
@click.option("--role", type=click.Choice(["admin", "user"]), default="admin", show_default=True)
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
@json_option
@examples(
    "tillgate admin create ann@example.com",
    "pass show tillgate | tillgate admin create ann@example.com --password-stdin",
)
def create_admin(email: str, account_id: str | None, role: str, password_stdin: bool, as_json: bool) -> None:
    """Make an administrator. Asks for the password, or reads one line."""
    email = checked_id(email, "e-mail address").lower()
    if not admin_sessions.is_email(email):
        raise click.ClickException(f"Invalid e-mail address: {email!r}.")
    with opened() as context:
        with context.database.reading() as connection:
            account = account_row(connection, account_id)["id"] if account_id is not None else None
            if admins.find_admin(connection, email):
                raise click.ClickException(f"There is an administrator {email!r} already.")
        digest = digests.hash_password(_password(password_stdin))
        with writing(context) as connection:
            admins.create_admin(connection, email, account, role, digest)
            accounts.add_audit_line(connection, account, "cli", "admin create", email)
    document = {"email": email, "account_id": account_id, "role": role}
    report(as_json, document, f"The administrator {email} was made.")


def _api_key(key: str | None) -> str:
    if key is None:
        return digests.new_api_key()
    # The protocols trim what is sent: with blanks around it, a key would never match.
    key = key.strip()
    if not key:
        raise click.ClickException("The API key is empty.")
    return key


def _user_row(connection: Connection, user_id: str) -> RowMapping:
    row = accounts.find_user(connection, user_id)
    if row is None:
        raise click.ClickException(f"There is no API user {user_id!r}.")
    return row


def _times(row: RowMapping) -> dict[str, str]:
    old = row["old_key_until"]
    return {"old_key_until": iso_seconds(old) if old > now_ms() else "", "created_at": iso_seconds(row["created_at"])}


def _password(from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    if not password:
        raise click.ClickException("The password is empty.")
    return password
