"""A request that comes again while its first copy is still running. Source: docs/protocol.md, Parameters."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import select, text
from webtest import TestApp  # type: ignore[import-untyped]

from app import create_app
from importing import import_batch
from importing.context import Context
from storage import fair_locks, tables
from storage.engine import Database, Kind
from storage.sqlite import file_locks
from tests.conftest import settings_for
from tests.support.case_database import World
from tests.support.demo_accounts import Demo
from tests.support.legacy_client import Encoding, Format, Reply, send

PATIENCE = 30.0
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
# In Python; PostgreSQL tells itself who waits there.
IN_LINE = (fair_locks.__file__, "acquire")
WAITING = {
    Kind.SQLITE: frozenset((IN_LINE, (file_locks.__file__, "acquire"), (file_locks.__file__, "held"))),
    Kind.POSTGRESQL: frozenset((IN_LINE,)),
}
FIELDS = {
    "user_id": "john1970",
    "user_api_key": "1959caadac9b13dcb3",
    "account_id": "greatwidgets",
    "type": "customers_batch",
    "delimiter": "pipe",
    "overwrite_duplicates": "update",
    "campaigns_to_include": "898989889",
    "profiles_header_1": "code",
    "profiles_header_2": "auto_add",
    "profiles_data": "A1|25",
}


@pytest.fixture
def patient(context: Context, account: Demo) -> tuple[TestApp, World]:
    """An application that waits long for its turn to write."""
    context = replace(context, write_wait=PATIENCE)
    return TestApp(create_app(settings_for(context.database), context)), World(context, account)


@contextmanager
def nobody_writes(world: World) -> Iterator[None]:
    with world.context.database.writing() as connection:
        table = tables.account
        connection.execute(select(table).where(table.c.id == world.demo.number).with_for_update())
        yield


def at_once(client: TestApp, world: World, *requests: dict[str, str]) -> list[Reply]:
    """Send the requests one after another, each while all before are running still; then let them write."""
    encodings = [*Encoding, *Encoding]
    with ThreadPoolExecutor(len(requests)) as pool:
        running: list[Future[Reply]] = []
        with nobody_writes(world):
            for number, fields in enumerate(requests):
                pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
                running.append(pool.submit(send, client, pairs, encodings[number], Format.JSON))
                wait_until_running(world, number + 1)
        return [future.result(PATIENCE) for future in running]


def wait_until_running(world: World, count: int) -> None:
    """Until so many requests have come as far as they can."""
    deadline = time.monotonic() + PATIENCE
    while waiting(world) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def waiting(world: World) -> int:
    """How many requests wait for their turn to write, or for the copy that came before."""
    here = sum(_imports(thread, WAITING[world.context.database.kind]) for thread in threading.enumerate())
    if world.context.database.kind is Kind.SQLITE:
        return here
    with world.context.database.reading() as connection:
        return here + int(connection.execute(text(BLOCKED)).scalar_one())


def _imports(thread: threading.Thread, waiting: frozenset[tuple[str, str]]) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if (frame.f_code.co_filename, frame.f_code.co_name) in waiting:
            return True
        frame = frame.f_back
    return False


@pytest.mark.parametrize("more", [{}, {"request_id": "till-7-0001"}], ids=["without a key", "with a key"])
def test_a_copy_that_arrives_while_the_first_is_running_imports_nothing(
    patient: tuple[TestApp, World], more: dict[str, str]
) -> None:
    client, world = patient
    replies = at_once(client, world, *[{**FIELDS, **more}] * 3)
    assert {reply.body for reply in replies} == {replies[0].body}
    assert sorted(reply.headers.get("Idempotent-Replayed", "") for reply in replies) == ["", "true", "true"]
    assert world.count("batch") == 1
    assert world.customers([])[0]["campaigns"] == {"898989889": "25.00"}


@pytest.mark.parametrize("more", [{}, {"request_id": "till-7-0001"}], ids=["without a key", "with a key"])
def test_a_copy_that_arrives_while_the_first_is_being_queued_queues_nothing(
    patient: tuple[TestApp, World], more: dict[str, str]
) -> None:
    client, world = patient
    replies = at_once(client, world, *[{**FIELDS, **more, "async": "yes"}] * 3)
    assert {reply.body for reply in replies} == {replies[0].body}
    assert sorted(reply.headers.get("Idempotent-Replayed", "") for reply in replies) == ["", "true", "true"]
    assert (world.count("batch"), world.count("job")) == (1, 1)


def test_without_a_key_the_same_request_later_is_a_new_one(patient: tuple[TestApp, World]) -> None:
    client, world = patient
    for _ in range(2):
        at_once(client, world, FIELDS)
    assert world.count("batch") == 2
    assert world.customers([])[0]["campaigns"] == {"898989889": "50.00"}


def test_different_requests_at_once_are_all_imported(patient: tuple[TestApp, World]) -> None:
    client, world = patient
    replies = at_once(client, world, FIELDS, {**FIELDS, "profiles_data": "A1|5"}, {**FIELDS, "no_undo": "yes"})
    assert all(reply.json["status"] == "success" for reply in replies)
    assert world.count("batch") == 3
    assert world.customers([])[0]["campaigns"] == {"898989889": "55.00"}


def test_a_key_in_use_for_a_different_request_is_an_error(patient: tuple[TestApp, World]) -> None:
    client, world = patient
    first = {**FIELDS, "request_id": "k1"}
    replies = at_once(client, world, first, {**first, "profiles_data": "A1|5"})
    # Which of them comes first is open.
    refused, imported = sorted(replies, key=lambda reply: str(reply.json["status"]))
    assert refused.json["error"] == "The request_id k1 was used for a different request."
    assert imported.json["status"] == "success"
    assert world.count("batch") == 1


@pytest.mark.parametrize("at", ["the beginning", "the end"])
def test_a_copy_that_comes_while_the_first_is_written_is_its_repetition(
    patient: tuple[TestApp, World], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    client, world = patient
    pairs = [(name.encode(), value.encode()) for name, value in FIELDS.items()]
    written, sent, copied = import_batch._store_outcome, threading.Event(), threading.Event()
    second: list[Future[Reply]] = []

    def send_a_copy() -> None:
        if not sent.is_set():
            sent.set()
            second.append(pool.submit(send, client, pairs, Encoding.URLENCODED, Format.JSON))
            assert copied.wait(PATIENCE)

    def remembered(*arguments: object) -> None:
        if at == "the beginning":
            send_a_copy()
        written(*arguments)  # type: ignore[arg-type]
        if at == "the end":
            send_a_copy()

    database_class = type(world.context.database)
    lock_request = database_class.lock_request

    def waits(database: Database, key: int) -> AbstractContextManager[None]:
        if sent.is_set():
            copied.set()
        return lock_request(database, key)

    monkeypatch.setattr(import_batch, "_store_outcome", remembered)
    monkeypatch.setattr(database_class, "lock_request", waits)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(send, client, pairs, Encoding.URLENCODED, Format.JSON).result(PATIENCE)
        again = second[0].result(PATIENCE)
    assert again.json == first.json
    assert world.count("batch") == 1
    assert world.customers([])[0]["campaigns"] == {"898989889": "25.00"}
