"""The schema's revision, and bringing a database up or down by Alembic, on SQLite and PostgreSQL alike.

The revision is read at each start without loading Alembic, which takes 130 ms of processor time and 11 MB.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from storage.engine import Database, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
# Any fixed number: the process that migrates a PostgreSQL database holds this advisory lock.
MIGRATION_LOCK = 74_117_001


def current_revision(database: Database) -> str | None:
    """The revision that the database is at, None for an empty one."""
    with database.reading() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def newest_revision() -> str:
    """The revision that this release needs: the names of the migrations begin with their revisions, in their order."""
    return max(file.name for file in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the database up to a revision, in one transaction. Of two at once, the second finds nothing to do."""
    from alembic import command

    _migrate(database, command.upgrade, revision)


def downgrade(database: Database, revision: str) -> None:
    """Bring the database down to a revision ("base": nothing left), in one transaction."""
    from alembic import command

    _migrate(database, command.downgrade, revision)


def _migrate(database: Database, move: Callable[[Config, str], None], revision: str) -> None:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with database.writing(wait=60.0) as connection:
        if database.kind is Kind.POSTGRESQL:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        move(config, revision)
