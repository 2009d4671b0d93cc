"""Which revision of the schema a database is at, and which one this release needs. Asked at each start, without Alembic."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, text

from storage.engine import Database

MIGRATIONS = Path(__file__).parent / "migrations"


def current(database: Database) -> str | None:
    """The revision that the database is at, None for an empty one."""
    with database.reading() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def newest() -> str:
    """The revision that this release needs: the names of the migrations begin with their revisions, in their order."""
    return max(file.name for file in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]
