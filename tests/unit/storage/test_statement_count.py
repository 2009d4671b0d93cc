"""The count of statements of a batch and of its undo does not grow with its rows."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from importing import import_batch
from importing.batch import Batch, Campaign, CampaignType, Delimited, Header, Mode, Source
from importing.context import Context
from importing.fields import FIELD_BY_NAME
from importing.undo import undo_batch
from storage import tables
from storage.batch_transaction import BatchTransaction
from storage.engine import Kind
from storage.sql_connection import PendingResult
from tests.support.demo_accounts import Demo

NAMES = ("code", "card_number", "first_name", "customer_username", "auto_add")
# PostgreSQL is told the sizes of six temporary tables once there are many rows; for a few that would cost more than it saves.
TOLD_SIZES = 6
# Of a terminal's post; and those of them whose answers PostgreSQL is waited for: the others go along with the next one.
OF_A_POST = 27
WAITED_FOR = 8


def _batch(account: int, numbers: range) -> Batch:
    text = "".join(f"{n}|{10**6 + n}|Ann {n}|user {n}|25\n" for n in numbers)
    # Every other row a second time: folded, still by set.
    text += "".join(f"{n}|{10**6 + n}|Eve {n}|user {n}|5\n" for n in numbers if n % 2 == 0)
    data = text.encode()
    headers = tuple(Header(position, FIELD_BY_NAME[name]) for position, name in enumerate(NAMES, 1))
    campaigns = (Campaign(1, "898989889", "Club", CampaignType.POINTS),)
    source = Source(io.BytesIO(data), "utf-8", len(data))
    return Batch(account, "u", "legacy", headers, Delimited("|"), source, Mode.UPDATE, campaigns=campaigns)


def _terminal(account: int, text: str) -> Batch:
    names = ("code", "card_number", "first_name", "last_name", "auto_add")
    headers = tuple(Header(position, FIELD_BY_NAME[name]) for position, name in enumerate(names, 1))
    campaigns = (Campaign(1, "898989889", "Club", CampaignType.POINTS),)
    source = Source(io.BytesIO(text.encode()), "utf-8", len(text))
    return Batch(account, "u", "legacy", headers, Delimited("|"), source, Mode.UPDATE, campaigns=campaigns)


@contextmanager
def _counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that a batch gives the database, one for each call of the driver; rows of a call apart."""
    statements: list[str] = []
    within = 0
    with monkeypatch.context() as patched:
        for name in ("execute", "send", "rows", "all", "number", "one", "analyze", "many", "fill"):
            real = getattr(BatchTransaction, name)

            def counted(
                self: BatchTransaction, *args: object, _real: object = real, _name: str = name, **values: object
            ) -> object:
                nonlocal within
                assert callable(_real)
                if not within:
                    statements.append(f"{_name} {args[0]}")
                within += 1
                try:
                    return _real(self, *args, **values)
                finally:
                    within -= 1

            patched.setattr(BatchTransaction, name, counted)
        yield statements


def test_a_terminals_post_takes_few_statements(
    context: Context, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "1|7001|Ann||25\n2|7002|Bob||25\n3|7003|Cid||25\n"
    import_batch.run(context, _terminal(account.number, "1|7001|Eve||5\n"))
    with _counted(monkeypatch) as statements:
        outcome = import_batch.run(context, _terminal(account.number, rows))
    assert (outcome.counts.new, outcome.counts.updated) == (2, 1)
    # Sizes are told of no few rows, and there are no problems, warnings or made codes to be written down.
    nothing = ("analyze", "fill batch_problem")
    given = [statement for statement in statements if not statement.startswith(nothing)]
    assert len(given) <= OF_A_POST, "\n".join(given)
    assert len([statement for statement in given if not statement.startswith("send")]) <= WAITED_FOR, "\n".join(given)


@pytest.mark.parametrize("database", [Kind.SQLITE.value], indirect=True)
def test_a_small_batch_reads_only_its_own_customers(
    context: Context, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where somebody told SQLite how many there are: it likes to read all of them for a Bloom filter."""
    import_batch.run(context, _batch(account.number, range(3000)))
    with context.database.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
    context.database.dispose()
    plans: list[str] = []
    real = BatchTransaction.send

    def explained(self: BatchTransaction, statement: str, /, **values: object) -> PendingResult:
        if statement.startswith(("INSERT", "UPDATE", "SELECT")):
            plans.extend(row[3] for row in self.rows(f"EXPLAIN QUERY PLAN {statement}", **values))
        return real(self, statement, **values)

    monkeypatch.setattr(BatchTransaction, "send", explained)
    outcome = import_batch.run(
        context, _terminal(account.number, "1|1000001|Ann||25\n2|1000002|Bob||25\nnew|7|Cid||25\n")
    )
    assert (outcome.counts.new, outcome.counts.updated) == (1, 2)
    assert any(step.startswith("SEARCH c USING") for step in plans)
    assert not [step for step in plans if step.startswith(("BLOOM", "SCAN c"))]


@pytest.mark.parametrize("database", [Kind.POSTGRESQL.value], indirect=True)
def test_batches_leave_the_accounts_row_as_it_is(context: Context, account: Demo) -> None:
    """While anybody's transaction goes on, PostgreSQL keeps all of its versions, and every batch would go through them."""

    def version() -> object:
        with context.database.reading() as connection:
            return connection.execute(text("SELECT ctid FROM account WHERE id = :id"), {"id": account.number}).scalar()

    before = version()
    made = [
        import_batch.run(context, _terminal(account.number, f"{n}|{7000 + n}|Ann||25\n1|7001|Bob||5\n"))
        for n in range(1, 4)
    ]
    undo_batch.undo(context, account.number, made[-1].batch_id, "u", "cli")
    assert version() == before


@pytest.mark.parametrize("database", [Kind.POSTGRESQL.value], indirect=True)
def test_a_small_batch_is_planned_for_many_however_few_there_are(
    context: Context, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection keeps its plans, and a database that was empty when it was opened may have thousands by the evening."""
    rows = "1|7001|Ann||25\n2|7002|Bob||25\n"
    import_batch.run(context, _terminal(account.number, rows))
    with context.database.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()
    plans: list[str] = []
    real = BatchTransaction.send

    def explained(self: BatchTransaction, statement: str, /, **values: object) -> PendingResult:
        sent = real(self, statement, **values)
        if re.match("(INSERT|UPDATE|DELETE|SELECT) ", statement):
            plans.extend(str(row[0]) for row in self.all(f"EXPLAIN {statement}", **values))
        return sent

    monkeypatch.setattr(BatchTransaction, "send", explained)
    batch = _terminal(account.number, f"{rows}3|7003|Eve||5\n")._replace(request_digest=b"d", last_change=0)
    outcome = import_batch.run(context, batch)
    assert (outcome.counts.new, outcome.counts.updated) == (1, 2)
    assert any("Index Scan using customer_code" in step for step in plans)
    stored = "|".join(sorted(tables.metadata.tables))
    assert not [step for step in plans if re.search(rf"Seq Scan on ({stored})\b", step)]


def test_a_batch_of_3000_rows_takes_the_statements_of_one_of_30(
    context: Context, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: dict[int, tuple[int, int, int]] = {}
    number = account.number
    # A connection makes its temporary tables once; on SQLite small batches have one of their own.
    import_batch.run(context, _batch(number, range(1)))
    import_batch.preview(context, _batch(number, range(1)))
    for size in (30, 300, 3000):
        import_batch.run(context, _batch(number, range(size * 10, size * 10 + size // 2)))
        with _counted(monkeypatch) as imported:
            outcome = import_batch.run(context, _batch(number, range(size * 10, size * 10 + size)))
        assert (outcome.counts.new, outcome.counts.updated) == (size // 2, size)
        with _counted(monkeypatch) as previewed:
            undo_batch.preview(context, number, outcome.batch_id)
        with _counted(monkeypatch) as undone:
            undo_batch.undo(context, number, outcome.batch_id, "u", "cli")
        counts[size] = (len(imported), len(previewed), len(undone))
    assert max(counts.values())[0] - counts[30][0] <= TOLD_SIZES
    assert counts[3000][1:] == counts[30][1:]


def test_a_large_batch_whose_first_plan_was_wrong_is_taken_back_and_planned_again(
    context: Context, account: Demo
) -> None:
    # New customers of one code and of one card: what the first plan trusts in, the unique keys refuse.
    import_batch.run(context, _terminal(account.number, "stored|9999999|Ann|Lee|25\n"))
    rows = "".join(f"{n}|{10**6 + n}|Ann|{'x' * 20}|25\n" for n in range(1000))
    rows += "7|1000007|Eve|Lee|25\nnew|1000008|Eve|Lee|25\nstored|9999999|Eve|Lee|25\n"
    outcome = import_batch.run(context, _terminal(account.number, rows))
    assert (outcome.counts.new, outcome.counts.updated) == (1000, 3)
    assert [problem.code for problem in outcome.problems] == []
    with context.database.reading() as connection:
        found = connection.execute(text("SELECT code, last_name FROM customer WHERE first_name = 'Eve' ORDER BY code"))
        assert [tuple(row) for row in found] == [("7", "Lee"), ("new", "Lee"), ("stored", "Lee")]
        assert connection.execute(text("SELECT count(*), sum(balance) FROM enrolment")).one() == (1001, 1004 * 2500)
        assert connection.execute(text("SELECT max(change) FROM change WHERE account_id = 1")).scalar() == 2
        assert connection.execute(text("SELECT count(*) FROM snapshot")).scalar() == 1
