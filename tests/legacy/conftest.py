"""A real server with the demo accounts, for the tests that need sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from importing.core import Core
from importing.secrets import Digests
from tests.conftest import SECRET, Blank
from tests.demo import open_accounts
from tests.legacy.world import World
from tests.serving import Server, serving

Serve = Callable[..., AbstractContextManager[tuple[Server, World]]]


@pytest.fixture
def serve(tmp_path: Path, blank_sqlite: Blank) -> Serve:
    """Runs `tillgate serve` on a database with the demo accounts; settings are given by their names."""

    @contextmanager
    def run(*options: str, **settings: str) -> Iterator[tuple[Server, World]]:
        folder = tmp_path / "data"
        folder.mkdir()
        core = Core(database=blank_sqlite(folder), digests=Digests(SECRET))
        world = World(core, open_accounts(core)[0])
        environment = {"TILLGATE_SECRET": SECRET.decode(), **{f"TILLGATE_{n}": v for n, v in settings.items()}}
        try:
            with serving(tmp_path, *options, environment=environment) as server:
                yield server, world
        finally:
            core.database.dispose()

    return run
