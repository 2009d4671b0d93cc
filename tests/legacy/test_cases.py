"""Every case of fixtures/legacy, in all encodings and formats, on both databases: the same answer and the same end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from webtest import TestApp  # type: ignore[import-untyped]

from app import create_app
from importing.core import Core
from importing.secrets import Digests
from storage.engine import Kind
from tests.conftest import SECRET, settings_for
from tests.demo import open_accounts
from tests.jobs import HeldQueue
from tests.legacy.placeholders import Placeholders
from tests.legacy.reading import FOLDER, Case, Step, cases, read_request
from tests.legacy.sending import Encoding, Format, Reply, canonical_json, canonical_xml, send
from tests.legacy.world import World

CASES = cases()


@pytest.fixture(scope="module", params=[kind.value for kind in Kind])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, TestApp]]:
    """A database of each kind with the demo accounts, and the application on it."""
    folder: Path = tmp_path_factory.mktemp("cases")
    database = request.getfixturevalue(f"blank_{request.param}")(folder)
    core = Core(database=database, digests=Digests(SECRET), queue=HeldQueue())
    yield World(core, open_accounts(core)[0]), TestApp(create_app(settings_for(database), core))
    database.dispose()


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(stage: tuple[World, TestApp], case: Case, encoding: Encoding) -> None:
    world, client = stage
    queue = world.core.queue
    assert isinstance(queue, HeldQueue)
    for form in Format:
        world.begin(case.before)
        queue.messages.clear()
        placeholders = Placeholders()
        for number, step in enumerate(case.steps, 1):
            request = read_request(placeholders.filled(step.request))
            if request.later:
                queue.run(world.core)
            reply = send(client, request.fields, encoding, form, request.headers)
            if "X-Batch-Id" in reply.headers and "Idempotent-Replayed" not in reply.headers:
                placeholders.learn(f"{{batch {number}}}", reply.headers["X-Batch-Id"])
            check_reply(reply, form, step, placeholders)
        expected = sorted(case.after, key=lambda customer: placeholders.filled(customer["code"]))
        customers = world.customers([*case.before, *case.after])
        for customer in (*expected, *customers):
            customer.setdefault("campaigns", {})
        placeholders.compare(dumped(customers), dumped(expected))


def check_reply(reply: Reply, form: Format, step: Step, placeholders: Placeholders) -> None:
    """Fails unless the reply is the wanted one, and its headers say what it says."""
    if form is Format.XML:
        placeholders.compare(reply.xml, canonical_xml(step.xml))
    else:
        placeholders.compare(canonical_json(reply.tree(form)), canonical_json(step.json))
    made_a_batch = re.search('<batch status="(imported|queued|undone)">', step.xml)
    assert ("X-Batch-Id" in reply.headers) == bool(made_a_batch)


def dumped(customers: list[dict[str, object]]) -> str:
    """The customers as text, members by name."""
    return canonical_json([dict(sorted(customer.items())) for customer in customers])


def test_every_case_is_complete() -> None:
    assert len(CASES) >= 80
    for case in CASES:
        assert case.steps, case.name
        known = {"request", "reply", "before", "after"}
        for path in (FOLDER / case.name).iterdir():
            assert path.stem.partition("-")[0] in known, path
