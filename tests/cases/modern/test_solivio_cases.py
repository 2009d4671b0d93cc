"""The cases of fixtures/solivio, each on both databases. See its README for what the files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp  # type: ignore[import-untyped]

from importing.context import Context
from importing.undo import undo_batch
from tests.support.admin_sign_in import administrator, sign_in
from tests.support.case_database import World
from tests.support.demo_accounts import Demo

CASES = Path(__file__).parents[3] / "fixtures" / "solivio"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir() if path.is_dir()))
def test_case(case: str, client: TestApp, context: Context, account: Demo) -> None:
    folder = CASES / case
    before = read(folder / "before.json") if (folder / "before.json").exists() else []
    wanted = read(folder / "reply.json")
    world = World(context, account)
    world.begin(before)
    administrator(context, account)
    sign_in(client)
    body = (folder / "request.json").read_bytes()
    reply = client.post("/api/customers/import", body, content_type="application/json", expect_errors=True)
    assert {"status": reply.status_int, "body": reply.json} == wanted
    assert world.customers([]) == (read(folder / "after.json") if (folder / "after.json").exists() else before)
    assert ("X-Batch-Id" in reply.headers) == (reply.status_int == 200)
    if reply.status_int == 200:
        undo_batch.undo(context, account.number, reply.headers["X-Batch-Id"], "tester", "cli")
        assert world.customers([]) == before
