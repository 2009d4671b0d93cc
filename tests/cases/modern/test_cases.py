"""Every case of fixtures/voucherify and fixtures/grid, on both databases: what became of the file, and the customers then."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from app import create_app
from crypto.digests import Digests
from importing.context import Context
from storage.engine import Kind
from tests.conftest import SECRET, settings_for
from tests.support.case_database import World
from tests.support.demo_accounts import open_accounts
from tests.support.documents import HOUSE
from tests.support.job_batches import HeldQueue
from tests.support.modern_client import APIS, Caller

FIXTURES = HOUSE / "fixtures"
CASES = [path for protocol in APIS for path in sorted((FIXTURES / protocol).iterdir()) if path.is_dir()]

# What no two runs have in common, and what stands for it in a case.
MADE_UP = (
    (re.compile(r'"(aa_[0-9a-f]{20}|Job:[0-9a-f-]{36})"'), '"{id}"'),
    (re.compile(r'"v-[0-9a-f]{32}"'), '"{request}"'),
    (re.compile(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"'), '"{time}"'),
    (re.compile(r'(?<="processing_time": )\d+'), '"{milliseconds}"'),
    (re.compile(r'(?<="code": )"[1-9]\d{15}"'), '"{code}"'),
)

Stage = tuple[World, Flask]


@pytest.fixture(scope="module", params=[kind.value for kind in Kind])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A database of each kind with the demo accounts, and the application on it."""
    folder: Path = tmp_path_factory.mktemp("cases")
    database = request.getfixturevalue(f"blank_{request.param}")(folder)
    context = Context(database=database, digests=Digests(SECRET), queue=HeldQueue())
    yield World(context, open_accounts(context)[0]), create_app(settings_for(database), context)
    database.dispose()


@pytest.mark.parametrize("case", CASES, ids=[f"{case.parent.name}/{case.name}" for case in CASES])
def test_case(stage: Stage, case: Path) -> None:
    world, app = stage
    jobs, customers = played(world, app, case)
    for name, job in jobs.items():
        assert job == (case / name).read_text(encoding="utf-8")
    assert customers == (case / "after.json").read_text(encoding="utf-8")


def played(world: World, app: Flask, case: Path) -> tuple[dict[str, str], str]:
    """Send the files of a case; what became of each, by the name of the file that says so, and the customers then."""
    queue = world.context.queue
    assert isinstance(queue, HeldQueue)
    queue.messages.clear()
    before = case / "before.json"
    world.begin(json.loads(before.read_text(encoding="utf-8")) if before.exists() else [])
    caller = Caller.of(case.parent.name, app, world.demo)
    jobs = {}
    for file in sorted(case.glob("file*.csv")):
        job_id = caller.queued(file.read_bytes())
        queue.run(world.context)
        jobs[file.name.replace("file", "job").replace(".csv", ".json")] = text_of(caller.job(job_id))
    customers = world.customers([])
    for customer in customers:
        customer.pop("campaigns")
        if "attributes" in customer:
            # PostgreSQL keeps them in an order of its own.
            customer["attributes"] = dict(sorted(customer["attributes"].items()))
    # By what is not made up.
    return jobs, text_of(sorted(customers, key=text_of))


def text_of(document: Any) -> str:
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    for pattern, placeholder in MADE_UP:
        text = pattern.sub(placeholder, text)
    return text


def test_every_case_is_complete() -> None:
    assert len(CASES) >= 40
    for case in CASES:
        names = {re.sub(r"-\d+$", "", path.stem) for path in case.iterdir()}
        assert {"file", "job", "after"} <= names <= {"file", "job", "before", "after"}, case
