"""`tillgate webhook`: the URLs of an account that receive finished batches."""

from __future__ import annotations

import click
from sqlalchemy import Connection, RowMapping

from commands.context import account_row, opened, writing
from commands.output import examples, json_option, print_rows, report, say
from crypto.encryption import DecryptionError
from importing.times import iso_seconds
from storage.queries import accounts
from storage.queries import webhooks as stored
from webhooks import deliveries
from webhooks.safe_http import UrlRefused


@click.group()
@examples("tillgate webhook create greatwidgets https://shop.example.com/tillgate")
def webhook() -> None:
    """Webhooks: URLs of an account that are told of finished batches."""


@webhook.command()
@click.argument("account_id", metavar="ACCOUNT")
@click.argument("url", metavar="URL")
@json_option
@examples("tillgate webhook create greatwidgets https://shop.example.com/tillgate")
def create(account_id: str, url: str, as_json: bool) -> None:
    """Register a URL and print the secret that signs what it is sent, this once.

    The secret is all that is printed on standard output.
    """
    with opened() as context:
        with context.database.reading() as connection:
            account = account_row(connection, account_id)["id"]
        try:
            hook = deliveries.register_webhook(context, account, url)
        except UrlRefused as error:
            raise click.ClickException(str(error)) from error
        with writing(context) as connection:
            accounts.add_audit_line(connection, account, "cli", "webhook create", hook.id)
    sentence = f"The webhook {hook.id} of {account_id} was made. Its secret is shown only now:"
    report(as_json, {"id": hook.id, "url": hook.url, "secret": hook.secret}, sentence, hook.secret)


@webhook.command(name="list")
@click.argument("account_id", metavar="ACCOUNT")
@json_option
@examples("tillgate webhook list greatwidgets")
def list_(account_id: str, as_json: bool) -> None:
    """List the webhooks of an account, with how many deliveries wait or failed and what came of the last attempt."""
    with opened() as context, context.database.reading() as connection:
        account = account_row(connection, account_id)["id"]
        rows = [_line(connection, row) for row in stored.list_webhooks(connection, account)]
    columns = ("webhook", "url", "waiting", "failed", "last attempt", "created")
    print_rows(as_json, rows, columns, "The account has no webhook yet.")


@webhook.command()
@click.argument("account_id", metavar="ACCOUNT")
@click.argument("webhook_id", metavar="ID")
@examples("tillgate webhook delete greatwidgets 9b2f6c1d0e8a7745")
def delete(account_id: str, webhook_id: str) -> None:
    """Tell a URL nothing any more; what it has not been told yet is dropped."""
    with opened() as context, writing(context) as connection:
        account = account_row(connection, account_id)["id"]
        if not stored.remove_webhook(connection, account, webhook_id):
            raise _unknown(webhook_id)
        accounts.add_audit_line(connection, account, "cli", "webhook delete", webhook_id)
    say(f"The webhook {webhook_id} was deleted.")


@webhook.command()
@click.argument("account_id", metavar="ACCOUNT")
@click.argument("webhook_id", metavar="ID")
@json_option
@examples("tillgate webhook test greatwidgets 9b2f6c1d0e8a7745")
def test(account_id: str, webhook_id: str, as_json: bool) -> None:
    """Post a signed message to a webhook now, and say how it answered."""
    with opened() as context:
        with context.database.reading() as connection:
            hook = stored.find_webhook(connection, account_row(connection, account_id)["id"], webhook_id)
        if hook is None:
            raise _unknown(webhook_id)
        try:
            answer = deliveries.test_webhook(context, account_id, hook)
        except DecryptionError as error:
            raise click.ClickException("The webhook was made under another TILLGATE_SECRET; make it again.") from error
    if not answer.is_accepted:
        raise click.ClickException(f"The webhook did not take it: {answer.error.rstrip('.')}.")
    document = {"id": webhook_id, "status": answer.status}
    report(as_json, document, f"The webhook answered with status {answer.status}.")


def _line(connection: Connection, row: RowMapping) -> dict[str, object]:
    counts = stored.count_deliveries(connection, row["account_id"], row["id"])
    last = stored.find_last_tried(connection, row["account_id"], row["id"])
    return {
        "id": row["id"],
        "url": row["url"],
        "waiting": sum(counts.get(state, 0) for state in stored.OPEN_STATES),
        "failed": counts.get("failed", 0),
        "last_attempt": "" if last is None else last["error"] or last["state"],
        "created_at": iso_seconds(row["created_at"]),
    }


def _unknown(webhook_id: str) -> click.ClickException:
    return click.ClickException(f"There is no webhook {webhook_id!r} in this account.")
