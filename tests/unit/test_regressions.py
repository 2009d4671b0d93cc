"""What an outside look found: each once wrong, each now held."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import replace

import pytest
from webtest import TestApp  # type: ignore[import-untyped]

from auth.authenticate import authenticate
from auth.lockout import ADDRESS_LIMIT
from importing import batch_status
from importing.context import Context
from importing.errors import ApiError
from importing.undo import undo_batch
from server import maintenance
from storage.engine import Kind
from tests.support.demo_accounts import Demo
from tests.support.legacy_posts import BATCH
from tests.support.model import Import
from tests.support.real_core import Actual


def test_requests_without_a_user_lock_nobody_else_out(context: Context, account: Demo) -> None:
    for _ in range(ADDRESS_LIMIT // 2):
        with pytest.raises(ApiError, match="bad_credentials"):
            authenticate(context, "", "", "", "192.0.2.7")
    assert (
        authenticate(context, account.user_id, account.key, account.account_id, "192.0.2.7").account == account.number
    )


def test_an_account_without_batches_does_not_stop_the_upkeep_of_others(context: Context, account: Demo) -> None:
    assert account.number
    assert maintenance.run_once(replace(context, undo_keep=0, undo_days=0)) == 0


def test_a_customer_that_only_wants_a_taken_unique_value_back_is_kept(context: Context) -> None:
    actual = Actual(context)

    def send(code: str, value: str) -> str:
        row = {"code": code, "custom_field_1": value}
        return actual.apply(Import(("code", "custom_field_1"), (row,), "update", campaigns=("club",))).id

    send("1", "A")
    changed = send("1", "Z")
    send("7", "A")
    for undone in (
        undo_batch.preview(context, actual.number, changed),
        undo_batch.undo(context, actual.number, changed, "u", "cli"),
    ):
        assert (undone.restored, undone.removed, undone.kept) == (0, 0, 1)
        assert [(conflict.field, conflict.current) for conflict in undone.conflicts] == [("custom_field_1", "Z")]


def test_a_file_that_another_program_has_locked_is_busy_after_the_wait(context: Context) -> None:
    if context.database.kind is not Kind.SQLITE:
        return  # PostgreSQL's locks are its own, and held by tests/processes/test_concurrency.py
    context = replace(context, write_wait=0.3)
    actual = Actual(context)
    other = sqlite3.connect(context.database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    assert actual.apply(Import(("code",), ({"code": "k1"},), campaigns=("club",))).fault == "busy"
    assert time.monotonic() - start < 3
    other.close()


def test_a_dry_run_refuses_a_request_id_that_was_used_for_another_request(client: TestApp) -> None:
    def status(code: str, **more: str) -> str:
        fields = {**BATCH, "profiles_data": f"{code}|Ann", "request_id": "K", **more}
        return str(client.post("/", {**fields, "output": "json"}).json.get("error", "success"))

    assert status("k1", dry_run="yes") == "success"
    assert status("k1") == "success"
    assert status("k1", dry_run="yes") == "success"
    assert status("k2", dry_run="yes") == status("k2") == "The request_id K was used for a different request."


def test_a_reply_that_is_given_again_is_the_same_to_the_byte_whatever_the_rows_held(
    client: TestApp, context: Context, account: Demo
) -> None:
    told = ["\0\x1b0\u2400", "\x1b1\0"]
    data = "\n".join(["k1|Ann", *(f"k2|{value}" for value in told)])
    more = {"request_id": "K", "on_error": "skip", "details": "yes", "output": "json"}
    first, again = (client.post("/", {**BATCH, "profiles_data": data, **more}) for _ in range(2))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.body == again.body
    kept = batch_status.paged_problems(context, account.number, first.headers["X-Batch-Id"])
    assert [problem.value for problem in kept] == told
