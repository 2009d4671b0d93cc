"""While somebody writes for long, others wait only for what he holds."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import select

from importing import import_batch
from importing.batch import Batch, Delimited, Header, Mode, Outcome, Source
from importing.context import Context
from importing.errors import ApiError
from importing.fields import FIELD_BY_NAME
from storage import tables
from storage.engine import Kind
from tests.support.demo_accounts import Demo, open_accounts

SHORT, PATIENCE = 0.5, 30.0
# More than are at work at once.
MANY = 12


@pytest.fixture
def accounts(context: Context) -> tuple[Demo, Demo]:
    return open_accounts(context)


def batch(account: Demo, code: str) -> Batch:
    data = f"{code}|Ann".encode()
    headers = tuple(Header(position, FIELD_BY_NAME[name]) for position, name in enumerate(("code", "first_name"), 1))
    source = Source(io.BytesIO(data), "utf-8", len(data))
    return Batch(account.number, account.user_id, "legacy", headers, Delimited("|"), source, Mode.UPDATE)


@contextmanager
def somebody_writes(context: Context, account: Demo) -> Iterator[None]:
    """A long write transaction for an account; on SQLite for all of them."""
    with context.database.writing() as connection:
        table = tables.account
        connection.execute(select(table).where(table.c.id == account.number).with_for_update())
        yield


@contextmanager
def many_waiting(context: Context, account: Demo) -> Iterator[list[Future[Outcome]]]:
    """Small batches of an account for which somebody writes."""
    with ThreadPoolExecutor(MANY) as pool:
        with somebody_writes(context, account):
            waiting = [pool.submit(import_batch.run, context, batch(account, f"w{n}")) for n in range(MANY)]
            time.sleep(SHORT)
            yield waiting
        for future in waiting:
            future.exception(PATIENCE)


def test_all_of_them_are_imported_in_the_end(context: Context, accounts: tuple[Demo, Demo]) -> None:
    context = replace(context, write_wait=PATIENCE)
    with many_waiting(context, accounts[0]) as waiting:
        assert not any(future.done() for future in waiting)
    assert [future.result().counts.new for future in waiting] == [1] * MANY


def test_who_waits_in_vain_is_refused_in_time(context: Context, accounts: tuple[Demo, Demo]) -> None:
    impatient = replace(context, write_wait=2 * SHORT)
    with many_waiting(impatient, accounts[0]) as waiting:
        for future in waiting:
            error = future.exception(8 * SHORT)
            assert isinstance(error, ApiError)
            assert error.code == "busy"


@pytest.mark.parametrize("database", [Kind.POSTGRESQL.value], indirect=True)
def test_another_accounts_batches_do_not_wait(context: Context, accounts: tuple[Demo, Demo]) -> None:
    context = replace(context, write_wait=PATIENCE)
    with many_waiting(context, accounts[0]) as waiting:
        assert import_batch.run(replace(context, write_wait=SHORT), batch(accounts[1], "mine")).counts.new == 1
        assert not any(future.done() for future in waiting)


def test_a_dry_run_does_not_wait(context: Context, accounts: tuple[Demo, Demo]) -> None:
    context = replace(context, write_wait=PATIENCE)
    with many_waiting(context, accounts[0]) as waiting:
        assert import_batch.preview(context, batch(accounts[0], "perhaps")).counts.new == 1
        assert not any(future.done() for future in waiting)
