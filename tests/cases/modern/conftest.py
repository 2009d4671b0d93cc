"""What the tests of the modern protocols share: a core whose queue the test holds, a caller of each, and a real server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from crypto.digests import Digests
from importing.context import Context
from storage.engine import Database
from tests.conftest import SECRET
from tests.support.demo_accounts import Demo, open_accounts
from tests.support.job_batches import HeldQueue
from tests.support.modern_client import Caller
from tests.support.served_gateway import one_server, serve, served  # noqa: F401 - fixtures

Callers = Callable[[str], Caller]


@pytest.fixture
def queue() -> HeldQueue:
    """The queue, with nothing in it."""
    return HeldQueue()


@pytest.fixture
def context(database: Database, queue: HeldQueue) -> Context:
    """The import core on an empty database."""
    return Context(database=database, digests=Digests(SECRET), queue=queue)


@pytest.fixture
def accounts(context: Context) -> tuple[Demo, Demo]:
    """The demo accounts."""
    return open_accounts(context)


@pytest.fixture
def account(accounts: tuple[Demo, Demo]) -> Demo:
    """The first of them."""
    return accounts[0]


@pytest.fixture
def callers(app: Flask, account: Demo) -> Callers:
    """A caller of the protocol of that name, in the first account."""
    return lambda protocol: Caller.of(protocol, app, account)


@pytest.fixture(params=["voucherify", "grid"])
def caller(request: pytest.FixtureRequest, callers: Callers) -> Caller:
    """A caller of each protocol, one after the other."""
    return callers(request.param)
