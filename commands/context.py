"""What most commands begin with: the settings, the context with its database migrated, and the account or the batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click
from sqlalchemy import Connection, RowMapping

from importing.context import Context
from importing.errors import ApiError
from server.installation import open_context
from settings import Settings, load_settings
from storage import migrate
from storage.engine import Busy, Database, Kind
from storage.queries import accounts, batches

# Seconds that a command waits to write; a terminal at a till waits less.
PATIENCE = 60.0
STATISTICS_PATIENCE = 0.5


@contextmanager
def opened(settings: Settings | None = None) -> Iterator[Context]:
    """The context of this installation. An SQLite database is migrated first; for PostgreSQL the error names the command."""
    settings = settings or load_settings()
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    context = open_context(settings)
    try:
        _bring_up(context.database)
        yield context
    finally:
        context.queue.close()
        context.database.dispose()


def _bring_up(database: Database) -> None:
    if migrate.current_revision(database) != migrate.newest_revision():
        if database.kind is not Kind.SQLITE:
            raise click.ClickException("The database is not at this release's revision; run: tillgate migrate")
        migrate.upgrade(database)
    # If another process writes, the server's maintenance does it later.
    with suppress(Busy):
        database.drop_statistics(STATISTICS_PATIENCE)


@contextmanager
def writing(context: Context) -> Iterator[Connection]:
    """A write transaction. It waits longer than a request would."""
    with context.database.writing(PATIENCE) as connection:
        yield connection


def account_row(connection: Connection, account_id: str) -> RowMapping:
    """The account with that id. Raises ClickException."""
    row = accounts.find_account(connection, account_id)
    if row is None:
        raise click.ClickException(f"There is no account {account_id!r}.")
    return row


def batch_row(connection: Connection, batch_id: str) -> RowMapping:
    """The batch with that id, of any account. Raises unknown_batch."""
    row = batches.find_anywhere(connection, batch_id)
    if row is None:
        raise ApiError("unknown_batch", value=batch_id)
    return row


def checked_id(value: str, what: str) -> str:
    """An id as the protocols can send it: 1 to 255 characters, no control characters, no blanks around."""
    if not 0 < len(value) <= 255 or value != value.strip() or not value.isprintable():
        raise click.ClickException(f"Invalid {what}: use 1 to 255 printable characters without blanks around them.")
    return value
