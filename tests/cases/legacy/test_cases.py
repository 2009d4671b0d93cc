"""Every case of fixtures/legacy, in all encodings and formats, on both databases: the same answer and the same end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from webtest import TestApp  # type: ignore[import-untyped]

from app import create_app
from crypto.digests import Digests
from importing.context import Context
from storage.engine import Kind
from tests.cases import reply_digests
from tests.cases.legacy.case_files import FOLDER, Case, cases
from tests.cases.legacy.placeholders import Placeholders
from tests.cases.replay import replay
from tests.conftest import SECRET, settings_for
from tests.support.case_database import World
from tests.support.demo_accounts import open_accounts
from tests.support.job_batches import HeldQueue
from tests.support.legacy_client import Encoding, Format, canonical_json

CASES = cases()
DIGESTS = reply_digests.stored()


@pytest.fixture(scope="module", params=[kind.value for kind in Kind])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, TestApp]]:
    """A database of each kind with the demo accounts, and the application on it."""
    folder: Path = tmp_path_factory.mktemp("cases")
    database = request.getfixturevalue(f"blank_{request.param}")(folder)
    context = Context(database=database, digests=Digests(SECRET), queue=HeldQueue())
    yield World(context, open_accounts(context)[0]), TestApp(create_app(settings_for(database), context))
    database.dispose()


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(stage: tuple[World, TestApp], case: Case, encoding: Encoding) -> None:
    world, client = stage
    digests = DIGESTS.get(case.name, {})
    changed = []
    for form in Format:
        placeholders = Placeholders()
        played = replay(world, client, case, encoding, form, placeholders)
        for number, (step, reply) in enumerate(played, 1):
            made_a_batch = re.search('<batch status="(imported|queued|undone)">', step.xml)
            assert ("X-Batch-Id" in reply.headers) == bool(made_a_batch)
            place = reply_digests.place(form, number)
            if reply_digests.digest(reply, placeholders) != digests.get(place):
                changed.append(f"{place}: {reply.status} {reply.headers['Content-Type']}\n{reply.text[:2000]}")
        expected = sorted(case.after, key=lambda customer: placeholders.filled(customer["code"]))
        customers = world.customers([*case.before, *case.after])
        for customer in (*expected, *customers):
            customer.setdefault("campaigns", {})
        placeholders.compare(dumped(customers), dumped(expected))
    assert not changed, f"not the bytes of {reply_digests.FILE.name}: {case.name}\n" + "\n".join(changed)


def dumped(customers: list[dict[str, object]]) -> str:
    """The customers as text, members by name."""
    return canonical_json([dict(sorted(customer.items())) for customer in customers])


def test_every_digest_is_of_a_case() -> None:
    names = {case.name for case in CASES}
    assert not (DIGESTS.keys() - names), "digests of no case; to write them anew: python -m tests.cases digests"
    missing = sorted(names - DIGESTS.keys())
    assert not missing, f"no digests; to write them: python -m tests.cases generate {' '.join(missing)}"


def test_every_case_is_complete() -> None:
    assert len(CASES) >= 80
    for case in CASES:
        assert case.steps, case.name
        known = {"request", "reply", "before", "after"}
        for path in (FOLDER / case.name).iterdir():
            assert path.stem.partition("-")[0] in known, path
