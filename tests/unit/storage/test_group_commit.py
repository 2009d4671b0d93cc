"""Small batches on SQLite share a transaction: one commit for several, and each of them by itself all or nothing."""

from __future__ import annotations

import io
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from importing import import_batch
from importing.batch import Batch, Counts, Delimited, Header, Mode, Outcome, Source
from importing.context import Context
from importing.errors import ApiError
from importing.fields import FIELD_BY_NAME
from importing.queue import Queue
from storage import tables
from storage.batch_transaction import BatchTransaction
from storage.engine import Kind
from storage.fair_locks import FairLocks
from storage.sqlite import group_commit
from storage.sqlite.batch_transaction import SqliteBatchTransaction
from storage.sqlite.group_commit import CommitGroups
from tests.support.demo_accounts import Demo

PATIENCE = 30.0
MEMBERS = 6

pytestmark = pytest.mark.parametrize("database", [Kind.SQLITE.value], indirect=True)


def batch(account: Demo, row: str) -> Batch:
    data = row.encode()
    headers = tuple(Header(position, FIELD_BY_NAME[name]) for position, name in enumerate(("code", "first_name"), 1))
    source = Source(io.BytesIO(data), "utf-8", len(data))
    return Batch(account.number, account.user_id, "legacy", headers, Delimited("|"), source, Mode.UPDATE)


class Commits:
    """Counts the transactions, and lets nobody leave the connection before `expected` have taken it or wait for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = self.expected = self.members = 0
        self.before: Callable[[], None] = lambda: None
        self._commit, self._enter, self._leave = CommitGroups._commit, FairLocks.acquire, CommitGroups.leave_connection
        monkeypatch.setattr(CommitGroups, "_commit", lambda these: self.counted(these))
        monkeypatch.setattr(CommitGroups, "leave_connection", lambda these: self.leave(these))
        monkeypatch.setattr(FairLocks, "acquire", lambda lines, key, wait: self.enter(lines, key, wait))

    def counted(self, these: CommitGroups) -> None:
        self.count += 1
        self.before()
        self._commit(these)

    def enter(self, lines: FairLocks, key: Any, wait: float) -> None:
        self._enter(lines, key, wait)
        self.members += key == group_commit.CONNECTION

    def leave(self, these: CommitGroups) -> None:
        deadline = time.monotonic() + PATIENCE
        while (
            len(these._line._waiting[group_commit.CONNECTION]) + self.members < self.expected
            and time.monotonic() < deadline
        ):
            time.sleep(0.001)
        self._leave(these)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Commits:
    monkeypatch.setattr(group_commit, "SECONDS_AT_MOST", PATIENCE)
    return Commits(monkeypatch)


def together(context: Context, commits: Commits, batches: list[Batch]) -> list[Outcome | BaseException]:
    """What came of batches that share one transaction."""
    context = replace(context, write_wait=PATIENCE)
    commits.expected = commits.members + len(batches)

    def tried(one: Batch) -> Outcome | BaseException:
        try:
            return import_batch.run(context, one)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(batches)) as pool:
        return list(pool.map(tried, batches))


def failing(monkeypatch: pytest.MonkeyPatch, code: str, fail: Callable[[BatchTransaction], None]) -> None:
    """Have the batch of that customer fail when it has written almost everything."""
    remember = import_batch._store_outcome

    def remembered(work: BatchTransaction, one: Batch, *more: Any) -> None:
        remember(work, one, *more)
        one.source.file.seek(0)
        if one.source.file.read().startswith(f"{code}|".encode()):
            fail(work)

    monkeypatch.setattr(import_batch, "_store_outcome", remembered)


def several(account: Demo) -> list[Batch]:
    return [batch(account, f"c{n}|Ann") for n in range(MEMBERS)]


def counts(outcome: Outcome | BaseException) -> Counts:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome.counts


def codes(context: Context) -> set[str]:
    with context.database.reading() as connection:
        return set(connection.execute(select(tables.customer.c.code)).scalars())


def test_batches_that_wait_are_committed_at_once(context: Context, account: Demo, commits: Commits) -> None:
    outcomes = together(context, commits, several(account))
    assert [counts(outcome) for outcome in outcomes] == [Counts(new=1)] * MEMBERS
    assert codes(context) == {f"c{n}" for n in range(MEMBERS)}
    assert commits.count == 1


def test_nobody_is_told_before_the_commit(
    context: Context, account: Demo, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    told: list[int] = []
    monkeypatch.setattr(Queue, "put_deliveries", lambda *_: told.append(len(seen)))
    commits.before = lambda: seen.append(codes(context))
    together(context, commits, several(account))
    assert seen == [set()]
    assert told == [1] * MEMBERS


def test_one_that_fails_takes_back_only_its_own(
    context: Context, account: Demo, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: BatchTransaction) -> None:
        raise RuntimeError

    failing(monkeypatch, "c3", fail)
    outcomes = together(context, commits, several(account))
    assert isinstance(outcomes[3], RuntimeError)
    assert codes(context) == {f"c{n}" for n in range(MEMBERS)} - {"c3"}
    assert commits.count == 1


@pytest.mark.parametrize("bad", range(MEMBERS))
def test_one_that_is_refused_keeps_nobody_from_being_committed(
    context: Context, account: Demo, commits: Commits, bad: int
) -> None:
    batches = several(account)
    batches[bad] = batch(account, "c|1|2|3|4")
    outcomes = together(context, commits, batches)
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, ApiError)] == [bad]
    assert codes(context) == {f"c{n}" for n in range(MEMBERS)} - {f"c{bad}"}


def test_where_the_commit_fails_all_of_them_have_failed(
    context: Context, account: Demo, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def orphan(work: BatchTransaction) -> None:
        work.execute("PRAGMA defer_foreign_keys = ON")
        work.execute("INSERT INTO campaign_item(account_id, campaign_id, id, item_id, name) VALUES (1, 9, 1, 'x', 'x')")

    failing(monkeypatch, "c3", orphan)
    outcomes = together(context, commits, several(account))
    assert [type(outcome) for outcome in outcomes] == [sqlite3.IntegrityError] * MEMBERS
    assert codes(context) == set()
    # The next one finds everything in order.
    assert counts(import_batch.run(context, batch(account, "later|Ann"))) == Counts(new=1)


def full(work: BatchTransaction) -> None:
    """Write until there is no room."""
    pages = work.number("PRAGMA page_count")
    work.execute(f"PRAGMA max_page_count = {pages}")
    try:
        for number in range(pages):
            text = "x" * 5000
            work.execute("INSERT INTO account(account_id, name, created_at) VALUES (:n, :text, 0)", n=number, text=text)
    finally:
        work.execute("PRAGMA max_page_count = 1000000")


def gone(work: BatchTransaction) -> None:
    """What SQLite does by itself on some errors."""
    assert isinstance(work, SqliteBatchTransaction)
    work._driver.rollback()
    raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("fail", [full, gone])
def test_who_is_told_of_success_is_stored_whatever_sqlite_has_rolled_back(
    context: Context,
    account: Demo,
    commits: Commits,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[BatchTransaction], None],
) -> None:
    failing(monkeypatch, "c3", fail)
    outcomes = together(context, commits, several(account))
    failed = {n for n, outcome in enumerate(outcomes) if isinstance(outcome, sqlite3.OperationalError)}
    assert 3 in failed
    assert codes(context) == {f"c{n}" for n in range(MEMBERS) if n not in failed}
    assert counts(import_batch.run(context, batch(account, "later|Ann"))) == Counts(new=1)


def test_a_group_gives_the_turn_away(
    context: Context, account: Demo, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MEMBERS_AT_MOST", 2)
    outcomes = together(context, commits, several(account))
    assert [counts(outcome) for outcome in outcomes] == [Counts(new=1)] * MEMBERS
    assert commits.count >= MEMBERS // 2
