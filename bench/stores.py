"""The databases of the benchmarks: filled once with the first file's customers, copied fresh for every run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import SecretStr

from bench.form import ACCOUNT, CAMPAIGN, COLUMNS, KEY, NEIGHBOUR
from importing import account_settings as accounts_of_batches
from importing import fields, import_batch
from importing.batch import Batch, Delimited, Header, Source
from importing.context import Context
from server.installation import open_context
from settings import Settings
from storage import migrate
from storage.queries import accounts

SECRET = "benchmarks"  # noqa: S105 - of databases that live for minutes
YARDSTICK = Path(__file__).with_name("yardstick.py")
# How many customers the second account gets.
NEIGHBOURS = 10_000


class Store(Protocol):
    """A database that Tillgate and its floors are measured on."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def preload(self, file: Path, *, neighbour: bool = False) -> None:
        """Make the template: the account, and the customers of a file, enrolled. `neighbour`: a second account too."""
        ...

    def fresh(self) -> AbstractContextManager[Mapping[str, str]]:
        """A copy of the template: the settings that serve it."""
        ...

    def yardstick(self, rows: int, folder: Path) -> float:
        """The floor: seconds of the raw database."""
        ...

    def blank(self) -> AbstractContextManager[str]:
        """A new, empty database: its URL."""
        ...

    def version(self) -> str:
        """The release of its server; "" where there is none."""
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

    def preload(self, file: Path, *, neighbour: bool = False) -> None:
        shutil.rmtree(self._template, ignore_errors=True)
        settings = Settings(data_dir=self._template, secret=SecretStr(SECRET))
        fill(settings, file, ("PRAGMA wal_checkpoint(TRUNCATE)",), neighbour)

    @contextmanager
    def fresh(self) -> Iterator[Mapping[str, str]]:
        data = self._folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(self._template, data)
        yield {"TILLGATE_DATA_DIR": str(data), "TILLGATE_SECRET": SECRET}
        shutil.rmtree(data)

    def yardstick(self, rows: int, folder: Path) -> float:
        return _yardstick("sqlite", str(rows), str(folder))

    @contextmanager
    def blank(self) -> Iterator[str]:
        data = self._folder / "blank"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        yield f"sqlite:///{data / 'raw.db'}"
        shutil.rmtree(data)

    def version(self) -> str:
        return ""


class PostgresStore:
    name = "PostgreSQL"

    def __init__(self, folder: Path) -> None:
        from tests.support.postgres_server import PostgresServer

        self._folder = folder
        self._server = PostgresServer(durable=True)
        self._template = ""

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.stop()

    def preload(self, file: Path, *, neighbour: bool = False) -> None:
        if self._template:
            self._server.drop(self._template)
        self._template = self._server.create()
        fill(self._settings(self._template), file, ("VACUUM ANALYZE", "CHECKPOINT"), neighbour)

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

    def yardstick(self, rows: int, folder: Path) -> float:
        with self.blank() as url:
            return _yardstick("postgresql", str(rows), str(folder), url)

    @contextmanager
    def blank(self) -> Iterator[str]:
        name = self._server.create()
        try:
            yield self._server.url(name)
        finally:
            self._server.drop(name)

    def version(self) -> str:
        import psycopg

        with psycopg.connect(self._server.url("postgres")) as connection:
            return str(connection.info.parameter_status("server_version"))

    def _settings(self, name: str) -> Settings:
        return Settings(data_dir=self._folder / "pgdata", secret=SecretStr(SECRET), database_url=self._server.url(name))


def opened(name: str, folder: Path) -> Store:
    """The store of a database's name."""
    return SqliteStore(folder) if name == "sqlite" else PostgresStore(folder)


def files(rows: int, folder: Path) -> tuple[Path, Path]:
    """The yardstick's two files of so many rows: the customers that are there, and the batch. Made once."""
    first, second = folder / f"first_{rows}.psv", folder / f"second_{rows}.psv"
    if not second.exists():
        subprocess.run([sys.executable, YARDSTICK, "generate", str(rows), folder], check=True)  # noqa: S603
    return first, second


def fill(settings: Settings, file: Path, afterwards: tuple[str, ...], neighbour: bool) -> None:
    """A migrated database with the account, its user and campaign, and the customers of a file."""
    context = open_context(settings)
    migrate.upgrade(context.database)
    _open_account(context, ACCOUNT, file)
    if neighbour:
        first_rows = file.with_name("neighbours.psv")
        with file.open("rb") as lines, first_rows.open("wb") as out:
            out.writelines(islice(lines, NEIGHBOURS))
        _open_account(context, NEIGHBOUR, first_rows)
    with context.database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.rollback()
        if context.database.kind.value == "postgresql":
            driver.autocommit = True
        for statement in afterwards:
            driver.execute(statement)
        if context.database.kind.value == "postgresql":
            driver.autocommit = False
    context.database.dispose()


def _open_account(context: Context, name: str, file: Path) -> None:
    with context.database.writing() as connection:
        number = accounts.create_account(connection, name, "Benchmarks")
        accounts.create_user(connection, number, name, context.digests.api_key(KEY), may_import=True)
        accounts.create_campaign(connection, number, CAMPAIGN, "Club", "points", [])
        accounts.create_custom_field(connection, number, 1, label="Tier", type="Text")
    account = accounts_of_batches.load(context, number)
    known = {**fields.FIELD_BY_NAME, **account.fields}
    headers = tuple(Header(position, known[name]) for position, name in enumerate(COLUMNS[:-1], 1))
    with file.open("rb") as data:
        source = Source(data, "utf-8", file.stat().st_size)
        campaigns = tuple(account.campaigns.values())
        import_batch.run(context, Batch(number, name, "bench", headers, Delimited("|"), source, campaigns=campaigns))


def _yardstick(*arguments: str) -> float:
    """Run the yardstick; the seconds that it measured."""
    return float(measured(str(YARDSTICK), *arguments)["seconds"])


def measured(*command: str, python: str = sys.executable) -> dict[str, Any]:
    """What a Python program of ours prints as its last line: one JSON object."""
    done = subprocess.run([python, *command], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
