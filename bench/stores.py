"""The databases of the benchmarks: filled once with the first file's customers, copied fresh for every run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, Self

from pydantic import SecretStr

from app import open_core
from bench.gateway import ACCOUNT, CAMPAIGN, COLUMNS, KEY, USER
from importing import account as accounts_of_batches
from importing import fields, run
from importing.batch import Batch, Delimited, Header, Source
from settings import Settings
from storage import accounts, migrate

SECRET = "benchmarks"  # noqa: S105 - of databases that live for minutes


class Store(Protocol):
    """A database that Tillgate and the yardstick are measured on."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def preload(self, file: Path) -> None:
        """Make the template: the account, and the customers of a file, enrolled."""
        ...

    def fresh(self) -> AbstractContextManager[Mapping[str, str]]:
        """A copy of the template: the settings that serve it."""
        ...

    def yardstick(self, script: Path, rows: int, folder: Path) -> float:
        """The floor: seconds of the raw database."""
        ...


class SqliteStore:
    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._template = folder / "template"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._template, ignore_errors=True)

    def preload(self, file: Path) -> None:
        shutil.rmtree(self._template, ignore_errors=True)
        fill(
            Settings(data_dir=self._template, secret=SecretStr(SECRET)),
            file,
            ("PRAGMA wal_checkpoint(TRUNCATE)", "ANALYZE"),
        )

    @contextmanager
    def fresh(self) -> Iterator[Mapping[str, str]]:
        data = self._folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(self._template, data)
        yield {"TILLGATE_DATA_DIR": str(data), "TILLGATE_SECRET": SECRET}
        shutil.rmtree(data)

    def yardstick(self, script: Path, rows: int, folder: Path) -> float:
        return seconds(str(script), "sqlite", str(rows), str(folder))


class PostgresStore:
    name = "PostgreSQL"

    def __init__(self, folder: Path) -> None:
        from tests.postgresql import PostgresServer

        self._folder = folder
        self._server = PostgresServer(durable=True)
        self._template = ""

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.stop()

    def preload(self, file: Path) -> None:
        if self._template:
            self._server.drop(self._template)
        self._template = self._server.create()
        fill(self._settings(self._template), file, ("VACUUM ANALYZE", "CHECKPOINT"))

    @contextmanager
    def fresh(self) -> Iterator[Mapping[str, str]]:
        name = self._server.create(self._template)
        settings = self._settings(name)
        yield {
            "TILLGATE_DATA_DIR": str(settings.data_dir),
            "TILLGATE_SECRET": SECRET,
            "TILLGATE_DATABASE_URL": settings.database_url,
        }
        self._server.drop(name)

    def yardstick(self, script: Path, rows: int, folder: Path) -> float:
        name = self._server.create()
        try:
            return seconds(str(script), "postgresql", str(rows), str(folder), self._server.url(name))
        finally:
            self._server.drop(name)

    def _settings(self, name: str) -> Settings:
        return Settings(data_dir=self._folder / "pgdata", secret=SecretStr(SECRET), database_url=self._server.url(name))


def fill(settings: Settings, file: Path, afterwards: tuple[str, ...]) -> None:
    """A migrated database with the account, its user and campaign, and the customers of a file."""
    core = open_core(settings)
    migrate.upgrade(core.database)
    with core.database.writing() as connection:
        number = accounts.create_account(connection, ACCOUNT, "Benchmarks")
        accounts.create_user(connection, number, USER, core.digests.api_key(KEY), may_import=True)
        accounts.create_campaign(connection, number, CAMPAIGN, "Club", "points", [])
        accounts.create_custom_field(connection, number, 1, label="Tier", type="Text")
    account = accounts_of_batches.load(core, number)
    known = {**fields.BY_NAME, **account.fields}
    headers = tuple(Header(position, known[name]) for position, name in enumerate(COLUMNS[:-1], 1))
    with file.open("rb") as data:
        source = Source(data, "utf-8", file.stat().st_size)
        campaigns = tuple(account.campaigns.values())
        run.run(core, Batch(number, USER, "bench", headers, Delimited("|"), source, campaigns=campaigns))
    with core.database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.rollback()
        if core.database.kind.value == "postgresql":
            driver.autocommit = True
        for statement in afterwards:
            driver.execute(statement)
        if core.database.kind.value == "postgresql":
            driver.autocommit = False
    core.database.dispose()


def seconds(*arguments: str) -> float:
    """Run the yardstick; the seconds that it measured."""
    from bench.run import yardstick_seconds

    return yardstick_seconds(
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout  # noqa: S603
    )
