"""Bring a database up or down by Alembic, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from storage.engine import Database, Kind
from storage.schema_revision import MIGRATIONS

# Any fixed number: whoever migrates a PostgreSQL database holds this advisory lock.
MIGRATION_LOCK = 74_117_001


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the database up to a revision, in one transaction. Of two at once, the second finds nothing to do."""
    _run_migration(database, lambda config: command.upgrade(config, revision))


def downgrade(database: Database, revision: str) -> None:
    """Bring the database down to a revision ("base": nothing left), in one transaction."""
    _run_migration(database, lambda config: command.downgrade(config, revision))


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def _run_migration(database: Database, run: object) -> None:
    assert callable(run)
    config = _alembic_config()
    with database.writing(wait=60.0) as connection:
        if database.kind is Kind.POSTGRESQL:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        run(config)
