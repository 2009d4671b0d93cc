"""What the tests share: a database of each kind, quickly made; the core on it; the demo accounts; the application."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from flask import Flask

from app import create_app
from crypto.digests import Digests
from importing.context import Context
from settings import Settings
from storage import migrate
from storage.engine import Database, Kind, open_database
from tests.support import strategies
from tests.support.demo_accounts import Demo, open_accounts
from tests.support.postgres_server import PostgresServer

with warnings.catch_warnings():
    # Of webob's: it has its own copy of `cgi` where Python has none any more.
    warnings.filterwarnings("ignore", "'cgi' is deprecated", DeprecationWarning)
    from webtest import TestApp  # type: ignore[import-untyped]

strategies.load_profile()

# Modules that are no tests themselves, but say in full what was wrong.
pytest.register_assert_rewrite("tests.cases.legacy")

SECRET = b"x" * 32
OURS = ("TILLGATE_TEST_", "TILLGATE_SOAK")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
Blank = Callable[[Path], Database]


def pytest_configure(config: pytest.Config) -> None:
    """The settings of whoever runs the tests are not the tests'."""
    config.addinivalue_line(
        "markers", "client_of(protocol, ...): a client of those modern protocols, as its vendor has it"
    )
    config.addinivalue_line("markers", "slow: takes more than a few seconds; run with all others")
    # A make that a test runs is not a part of the one that runs the tests.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name.startswith("TILLGATE_") and not name.startswith(OURS)]:
        del os.environ[name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,  # noqa: ARG001
    call: pytest.CallInfo[None],  # noqa: ARG001
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With TILLGATE_TEST_ALL=1 a skipped test is a failed one: where all must run, nothing may be missing."""
    return _none_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,  # noqa: ARG001
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _none_skipped((yield))


def _none_skipped(report: Report) -> Report:
    if os.environ.get("TILLGATE_TEST_ALL") == "1" and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but TILLGATE_TEST_ALL=1: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def blank_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Blank:
    """Makes migrated, empty SQLite databases in a given folder, by copying a file."""
    folder = tmp_path_factory.mktemp("template")
    template = folder / "tillgate.db"
    database = open_database(f"sqlite:///{template}", folder)
    migrate.upgrade(database)
    database.dispose()

    def blank(folder: Path) -> Database:
        shutil.copy(template, folder / "tillgate.db")
        return open_database(f"sqlite:///{folder / 'tillgate.db'}", folder)

    return blank


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this process, for as long as its tests take."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def blank_postgresql(postgresql_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Blank:
    """Makes migrated, empty PostgreSQL databases, by cloning one."""
    template = postgresql_server.create()
    database = open_database(postgresql_server.url(template), tmp_path_factory.mktemp("template"))
    migrate.upgrade(database)
    database.dispose()
    return lambda folder: open_database(postgresql_server.url(postgresql_server.create(template)), folder)


@pytest.fixture(params=[kind.value for kind in Kind])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated, empty database of each kind, one after the other."""
    blank: Blank = request.getfixturevalue(f"blank_{request.param}")
    database = blank(tmp_path)
    yield database
    database.dispose()
    if database.kind is Kind.POSTGRESQL:
        name = database.engine.url.database
        assert name is not None
        request.getfixturevalue("postgresql_server").drop(name)


@pytest.fixture
def context(database: Database) -> Context:
    """The import core on an empty database."""
    return Context(database=database, digests=Digests(SECRET))


@pytest.fixture
def account(context: Context) -> Demo:
    """The account of the vendor's example, with its user, campaigns and custom fields; a second account beside it."""
    return open_accounts(context)[0]


@pytest.fixture
def settings(database: Database) -> Settings:
    """The default settings, on the test's database."""
    return settings_for(database)


@pytest.fixture
def app(settings: Settings, context: Context) -> Flask:
    """The application."""
    return create_app(settings, context)


@pytest.fixture
def client(app: Flask, account: Demo) -> TestApp:  # noqa: ARG001 - the accounts are there
    """Sends requests to the application and checks that it is proper WSGI."""
    return TestApp(app)


def settings_for(database: Database, **changed: Any) -> Settings:
    """The default settings, but for those given, on a database."""
    url = database.engine.url.set(drivername=database.kind.value).render_as_string(hide_password=False)
    return Settings(data_dir=database.data_dir, database_url=url, **changed)
