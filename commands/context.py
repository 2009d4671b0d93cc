"""What most commands begin with: the settings, the core with its database up to date, and the account that is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click
from sqlalchemy import Connection, RowMapping

from importing.context import Context
from server.installation import open_context
from settings import Settings, load_settings
from storage import migrate
from storage.engine import Busy, Database, Kind
from storage.queries import accounts

# A command waits longer for its turn to write than a terminal at a till would.
PATIENCE = 60.0
MOMENT = 0.5


@contextmanager
def opened(settings: Settings | None = None) -> Iterator[Context]:
    """The core of this installation. An SQLite database is migrated first; for PostgreSQL the command is named."""
    settings = settings or load_settings()
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    context = open_context(settings)
    try:
        bring_up(context.database)
        yield context
    finally:
        context.queue.close()
        context.database.dispose()


def bring_up(database: Database) -> None:
    """Migrate an SQLite database where it needs it. Refuses a PostgreSQL one that needs it."""
    if migrate.current_revision(database) != migrate.newest_revision():
        if database.kind is not Kind.SQLITE:
            raise click.ClickException("The database is not at this release's revision; run: tillgate migrate")
        migrate.upgrade(database)
    # While somebody writes: the server's maintenance does it.
    with suppress(Busy):
        database.drop_statistics(MOMENT)


@contextmanager
def writing(context: Context) -> Iterator[Connection]:
    """A write transaction, patiently."""
    with context.database.writing(PATIENCE) as connection:
        yield connection


def account_row(connection: Connection, account_id: str) -> RowMapping:
    """The account of that id, or a refusal."""
    row = accounts.find_account(connection, account_id)
    if row is None:
        raise click.ClickException(f"There is no account {account_id!r}.")
    return row


def checked_id(value: str, what: str) -> str:
    """An id as the protocols can send it: 1 to 255 characters, no control characters, no blanks around."""
    if not 0 < len(value) <= 255 or value != value.strip() or not value.isprintable():
        raise click.ClickException(f"Invalid {what}: use 1 to 255 printable characters without blanks around them.")
    return value
