"""A real server with the demo accounts, for the tests that need sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from crypto.digests import Digests
from importing.context import Context
from tests.conftest import SECRET, Blank
from tests.support.case_database import World
from tests.support.demo_accounts import Demo, open_accounts
from tests.support.gateway_process import PROGRAM, Server, serving

Serve = Callable[..., AbstractContextManager[tuple[Server, World]]]


@contextmanager
def served_in(
    folder: Path, blank: Blank, *options: str, program: str = PROGRAM, **settings: str
) -> Iterator[tuple[Server, World]]:
    """`tillgate serve` in a folder, on a database with the demo accounts; settings are given by their names."""
    data = folder / "data"
    data.mkdir()
    context = Context(database=blank(data), digests=Digests(SECRET))
    world = World(context, open_accounts(context)[0])
    environment = {"TILLGATE_SECRET": SECRET.decode(), **{f"TILLGATE_{n}": v for n, v in settings.items()}}
    try:
        with serving(folder, *options, environment=environment, program=program) as server:
            yield server, world
    finally:
        context.database.dispose()


@pytest.fixture
def serve(tmp_path: Path, blank_sqlite: Blank) -> Serve:
    """Runs a server as one test needs it."""
    return partial(served_in, tmp_path, blank_sqlite)


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory, blank_sqlite: Blank) -> Iterator[tuple[Server, World]]:
    """The server of all tests of a module that want nothing special of it: to start and to stop one takes seconds."""
    with served_in(tmp_path_factory.mktemp("served"), blank_sqlite, "--workers", "1") as running:
        yield running


@pytest.fixture
def served(one_server: tuple[Server, World]) -> tuple[Server, World]:
    """The module's server, with no customers and no batches."""
    _, world = one_server
    world.begin([])
    return one_server


@pytest.fixture
def world(context: Context, account: Demo) -> World:
    return World(context, account)
