"""What the tests of the modern faces share: a core whose queue the test holds, callers of each face, and a real server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from importing.core import Core
from importing.secrets import Digests
from storage.engine import Database
from tests.conftest import SECRET
from tests.demo import Demo, open_accounts
from tests.jobs import HeldQueue
from tests.legacy.conftest import one_server, serve, served  # noqa: F401 - fixtures
from tests.modern.calling import Caller

Callers = Callable[[str], Caller]


@pytest.fixture
def queue() -> HeldQueue:
    """The queue, with nothing in it."""
    return HeldQueue()


@pytest.fixture
def core(database: Database, queue: HeldQueue) -> Core:
    """The import core on an empty database."""
    return Core(database=database, digests=Digests(SECRET), queue=queue)


@pytest.fixture
def accounts(core: Core) -> tuple[Demo, Demo]:
    """The demo accounts."""
    return open_accounts(core)


@pytest.fixture
def account(accounts: tuple[Demo, Demo]) -> Demo:
    """The first of them."""
    return accounts[0]


@pytest.fixture
def callers(app: Flask, account: Demo) -> Callers:
    """A caller of the face of that name, in the first account."""
    return lambda face: Caller.of(face, app, account)


@pytest.fixture(params=["voucherify", "grid"])
def caller(request: pytest.FixtureRequest, callers: Callers) -> Caller:
    """A caller of each face, one after the other."""
    return callers(request.param)
