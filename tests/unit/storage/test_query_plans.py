"""What people look at is found by an index, however much there is: the database's own plans say so."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event, select, text

from auth import authenticate
from importing import batch_status, import_batch
from importing.batch import Batch, Delimited, Header, Mode, OnError, Source
from importing.context import Context
from importing.fields import FIELD_BY_NAME
from importing.jobs import lifecycle
from importing.undo import availability
from server import maintenance
from storage.engine import Database, Kind
from storage.postgres.connection import WHOLE_TABLE_PLANS
from storage.postgres.dialect import postgres_sql
from storage.queries import batches, customers
from storage.sql_connection import SqlConnection
from storage.sqlite.dialect import sqlite_sql
from storage.tables import customer
from tests.support.demo_accounts import Demo

NAMES = ("code", "card_number", "first_name", "custom_date")
CUSTOMERS = 3000
BATCHES = 300
# Tables that are never long: planned as the database likes.
SHORT = {"account", "campaign"}

Statement = tuple[str, Any]
Look = Callable[[Connection, Demo, str], object]
Ask = Callable[[Context, int, str], object]


@pytest.fixture
def batch_id(context: Context, account: Demo) -> str:
    """Many customers, many batches, and one of them (this one) with many problems; the planner knows how many."""
    good = "".join(f"{n}|{10**6 + n}|Ann {n}|2001-02-03\n" for n in range(CUSTOMERS))
    bad = "".join(f"b{n}|{10**7 + n}|Bob|no date\n" for n in range(CUSTOMERS))
    # Rows without a code get one, which is an assigned key.
    without_code = "".join(f"|{2 * 10**6 + n}|Cid {n}|\n" for n in range(CUSTOMERS))
    found = _import(context, account, good + bad + without_code)
    for number in range(BATCHES):
        _import(context, account, f"{number}||Eve|\n")
        lifecycle.submit(context, _batch(account, f"{number}||Eve|\n"))
    with context.database.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()
    return found


def _import(context: Context, account: Demo, rows: str) -> str:
    return import_batch.run(context, _batch(account, rows)).batch_id


def _batch(account: Demo, rows: str) -> Batch:
    headers = tuple(Header(position, FIELD_BY_NAME[name]) for position, name in enumerate(NAMES, 1))
    source = Source(io.BytesIO(rows.encode()), "utf-8", len(rows))
    return Batch(account.number, "u", "cli", headers, Delimited("|"), source, Mode.UPDATE, OnError.SKIP)


def _code(number: int) -> Callable[[Connection, Demo, str], object]:
    return lambda connection, account, _: customers.find_customer(connection, account.number, code=str(number))


LOOKS: dict[str, Look] = {
    "one customer by code": _code(1500),
    "one customer by card": lambda connection, account, _: customers.find_customer(
        connection, account.number, card_number=str(10**6 + 7)
    ),
    "one customer by both": lambda connection, account, _: customers.find_customer(
        connection, account.number, code="7", card_number=str(10**6 + 7)
    ),
    "start of the export": lambda connection, account, _: next(customers.stream_customers(connection, account.number)),
    "a later page of the export": lambda connection, account, _: list(
        islice(customers.stream_customers(connection, account.number), 1500)
    ),
    "a batch by its id": lambda connection, _, batch: batches.find_anywhere(connection, batch),
    "problems of a batch": lambda connection, account, batch: list(
        batches.stream_problems(connection, account.number, batch)
    ),
}


def _undo_state(context: Context, account: int, batch_id: str) -> str:
    """Of a batch whose own row does not tell: one that ended before its time."""
    found = batch_status.find_batch(context, account, batch_id)
    assert found is not None
    return availability.undo_state(context, account, {**found.row, "status": "failed"})


ASKER = ("john1970", "1959caadac9b13dcb3", "greatwidgets", "192.0.2.1")
# What is asked by the driver's own cursor.
ASKED: dict[str, Ask] = {
    "newest batches": lambda context, account, _: batch_status.list_batches(context, account),
    "a later page of batches": lambda context, account, _: batch_status.list_batches(context, account, offset=40),
    "a batch and its job": batch_status.find_batch,
    "who asks": lambda context, _account, _batch: authenticate.authenticate(context, *ASKER),
    "the first problems of a batch": lambda context, account, batch: next(
        iter(batch_status.paged_problems(context, account, batch))
    ),
    "later problems of a batch": lambda context, account, batch: list(
        islice(batch_status.paged_problems(context, account, batch), 1500)
    ),
    "whether it can be undone": _undo_state,
}


def test_they_are_found_by_an_index(
    context: Context, account: Demo, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[str]] = {}
    asked = _heard(monkeypatch)
    for name, ask in ASKED.items():
        asked.clear()
        ask(context, account.number, batch_id)
        assert asked
        with context.database.reading() as connection:
            for statement in asked:
                if faults := _faults(context.database, connection, statement, asked=True):
                    found[name] = [*faults, statement[0]]
    with context.database.reading() as connection:
        for name, look in LOOKS.items():
            statements = list(_statements(connection, lambda look=look: look(connection, account, batch_id)))  # type: ignore[misc]
            assert statements
            for statement in statements:
                if faults := _faults(context.database, connection, statement):
                    found[name] = [*faults, statement[0]]
    assert found == {}


def test_a_plan_that_was_made_of_one_batch_is_good_for_many(
    context: Context, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection keeps it."""
    batch_id = _import(context, account, "1||Eve|\n")
    with context.database.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()
    asked = _heard(monkeypatch)
    for name in ("a batch and its job", "who asks"):
        ASKED[name](context, account.number, batch_id)
    assert len(asked) == 2
    with context.database.reading() as connection:
        assert [_faults(context.database, connection, statement, asked=True) for statement in asked] == [[], []]


def _heard(monkeypatch: pytest.MonkeyPatch) -> list[Statement]:
    """What is asked by the driver's own cursor, as it happens."""
    asked: list[Statement] = []
    real = SqlConnection._run

    def heard(self: SqlConnection, statement: str, values: Mapping[str, object]) -> object:
        asked.append((statement, values))
        return real(self, statement, values)

    monkeypatch.setattr(SqlConnection, "_run", heard)
    return asked


@pytest.mark.usefixtures("account")
def test_statistics_of_a_file_that_was_nearly_empty_are_forgotten(context: Context) -> None:
    """Whoever ran ANALYZE then would have had all customers read for every row."""
    if context.database.kind is not Kind.SQLITE:
        assert not context.database.drop_statistics(1.0)
        return
    plan = "EXPLAIN QUERY PLAN SELECT a.id FROM api_user u JOIN account a ON a.id = u.account_id WHERE u.user_id = 'x'"
    with context.database.read_connection() as work:  # open all the time
        for statement in ("ANALYZE", "UPDATE sqlite_stat1 SET stat = '1 1 1'", "ANALYZE sqlite_schema"):
            work.all(statement)
        assert any(row[3].startswith("SCAN") for row in work.all(plan))
        maintenance.run_once(context)
        # EXPLAIN runs nothing, and does not notice: the next statement does.
        work.all("SELECT id FROM account")
        assert not any(row[3].startswith("SCAN") for row in work.all(f"{plan} "))
    assert not context.database.drop_statistics(1.0)


def test_a_search_that_has_no_index_would_be_noticed(context: Context, account: Demo, batch_id: str) -> None:
    query = select(customer).where(customer.c.account_id == account.number)
    with context.database.reading() as connection:
        for bad in (query.where(customer.c.email == batch_id), query.order_by(customer.c.first_name)):
            [statement] = _statements(connection, lambda bad=bad: connection.execute(bad).all())  # type: ignore[misc]
            assert _faults(context.database, connection, statement)


def _statements(connection: Connection, look: Callable[[], object]) -> Iterator[Statement]:
    """What the look asks the database, as the driver gets it."""
    heard: list[Statement] = []

    def hear(_connection: object, _cursor: object, statement: str, values: Any, *_rest: object) -> None:
        heard.append((statement, values))

    event.listen(connection, "before_cursor_execute", hear)
    try:
        look()
    finally:
        event.remove(connection, "before_cursor_execute", hear)
    yield from heard


def _faults(database: Database, connection: Connection, statement: Statement, *, asked: bool = False) -> list[str]:
    """What a plan has that grows with a table: a scan of it, or a sort. `asked`: on a connection for reads."""
    query, values = statement
    driver: Any = connection.connection.driver_connection
    cursor = driver.cursor()
    try:
        if database.kind is Kind.SQLITE:
            query = sqlite_sql(query) if asked else query
            return _sqlite_faults([row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {query}", values)])
        for plans in WHOLE_TABLE_PLANS if asked else WHOLE_TABLE_PLANS[:1]:
            cursor.execute(f"SET LOCAL {plans} = off")
        if asked:
            raw, names = postgres_sql(query)
            query, values, cursor = raw.decode(), [values[name] for name in names], psycopg.RawCursor(driver)
        [[[plan]]] = cursor.execute(f"EXPLAIN (FORMAT JSON) {query}", values).fetchall()
        return list(_postgresql_faults(plan["Plan"], sorts=" campaign" not in query))
    finally:
        cursor.close()


def _sqlite_faults(plan: list[str]) -> list[str]:
    # One row found by a unique key, and the balances of one page, are put in order; nothing else is sorted.
    one = any(re.search(r"USING INDEX customer_\w+ \(account_id=\? AND \w+=\?\)", step) for step in plan)
    page = any("enrolment" in step for step in plan)
    sorts = [step for step in plan if "TEMP B-TREE" in step and not one and not page]
    scans = [step for step in plan if step.startswith("SCAN") and step.split()[1] not in SHORT]
    # All that an account has is a search to SQLite, and is nearly a scan.
    wide = [step for step in plan if step.startswith("SEARCH customer ") and step.endswith("(account_id=?)")]
    return scans + sorts + wide


def _postgresql_faults(node: dict[str, Any], *, sorts: bool) -> Iterator[str]:
    kind, table = node["Node Type"], node.get("Relation Name", "")
    if table not in SHORT:
        if kind == "Seq Scan" or ("Index" in kind and "Index Cond" not in node):
            yield f"{kind} of {table or node.get('Index Name')}"
        if "Filter" in node and not _narrow(node):
            yield f"{kind} of {table} looks at rows that it does not want: {node['Filter']}"
    if "Sort" in kind and sorts and node["Plan Rows"] > 1:
        yield kind
    for child in node.get("Plans", ()):
        yield from _postgresql_faults(child, sorts=sorts)


def _narrow(node: dict[str, Any]) -> bool:
    """Whether the rows that are left out are few: those of removed customers, or the other half of a pair of keys."""
    condition = str(node.get("Index Cond", ""))
    if re.match(r"\(\(?(id|batch_id) = ", condition) and node["Relation Name"] in ("batch", "job"):
        # Of a batch's id there is only one.
        return True
    return "account_id" in condition and any(
        key in condition for key in ("code", "card_number", " id ", "(id ", "customer_id")
    )
