"""PostgreSQL by libpq: several statements in one exchange, and what becomes of them when one fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from importing.batch import Mode
from storage import wire as wires
from storage.statements import Waiting
from storage.wire import Wire
from tests.support.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def url(postgresql_server: PostgresServer) -> Iterator[str]:
    name = postgresql_server.create()
    yield postgresql_server.url(name)
    postgresql_server.drop(name)


@pytest.fixture
def driver(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url) as connection:
        connection.prepare_threshold = None
        yield connection
        if not connection.closed:
            connection.rollback()


@pytest.fixture
def wire(driver: psycopg.Connection) -> Wire:
    return Wire(driver)


def status(driver: psycopg.Connection) -> TransactionStatus:
    return driver.info.transaction_status


def asked(wire: Wire, text: str, *values: object) -> list[tuple[object, ...]]:
    return wire.ask(text.encode(), values).rows


def test_values_of_every_type_come_back_as_they_went(wire: Wire) -> None:
    sent = ["é\u20ac'\\%s", "", 7, -(2**62), True, False, b"\0\xff", None, 0.25, Mode.UPDATE]
    types = ["text", "text", "bigint", "bigint", "bool", "bool", "bytea", "text", "float8", "text"]
    query = "SELECT " + ", ".join(f"${n}::{kind}" for n, kind in enumerate(types, 1))
    assert asked(wire, query, *sent) == [tuple(sent)]
    assert asked(wire, query, *sent) == [tuple(sent)]


def test_what_is_no_value_is_refused_and_nothing_has_begun(wire: Wire, driver: psycopg.Connection) -> None:
    with pytest.raises(TypeError, match="list"):
        wire.send(b"SELECT $1", [["x"]])
    with pytest.raises(psycopg.DataError, match="NUL"):
        wire.ask(b"SELECT $1::text", ["a\0b"])
    with pytest.raises(UnicodeEncodeError):
        wire.ask(b"SELECT $1::text", ["\ud800"])
    assert status(driver) == TransactionStatus.IDLE
    assert asked(wire, "SELECT 1") == [(1,)]


def test_the_first_statement_begins_a_transaction_where_the_driver_would(
    wire: Wire, driver: psycopg.Connection
) -> None:
    asked(wire, "SELECT 1")
    assert status(driver) == TransactionStatus.INTRANS
    driver.rollback()
    driver.autocommit = True
    asked(wire, "SELECT 1")
    assert status(driver) == TransactionStatus.IDLE


def test_statements_go_in_their_order_with_the_one_that_is_waited_for(wire: Wire) -> None:
    wire.send(b"CREATE TEMPORARY TABLE line (n bigint)", [])
    sent: list[Waiting] = [wire.send(b"INSERT INTO line VALUES ($1), ($2)", [n, n + 1]) for n in range(3)]
    assert sent[0].found is None
    assert asked(wire, "SELECT count(*) FROM line") == [(6,)]
    assert [wire.answer(waiting).count for waiting in sent] == [2, 2, 2]


def test_the_first_error_of_an_exchange_is_raised_and_the_rest_is_not_done(
    wire: Wire, driver: psycopg.Connection
) -> None:
    wire.send(b"CREATE TABLE kept (n bigint PRIMARY KEY)", [])
    wire.settle()
    driver.commit()
    wire.send(b"INSERT INTO kept VALUES ($1)", [1])
    wire.send(b"SAVEPOINT part", [])
    wire.send(b"INSERT INTO kept VALUES ($1)", [1])
    wire.send(b"INSERT INTO nowhere VALUES ($1)", [2])
    with pytest.raises(psycopg.errors.UniqueViolation, match="kept_pkey"):
        wire.ask(b"SELECT n + $1 FROM kept", [0])
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        wire.ask(b"SELECT n + $1 FROM kept", [0])
    wire.ask(b"ROLLBACK TO part", [])
    # What the exchange should have prepared behind its error is prepared now.
    assert asked(wire, "SELECT n + $1 FROM kept", 0) == [(1,)]
    wire.send(b"COMMIT", [])
    assert asked(wire, "SELECT n FROM kept") == [(1,)]
    driver.rollback()
    assert asked(wire, "SELECT n + $1 FROM kept", 0) == [(1,)]


def test_a_statement_is_prepared_once_for_each_set_of_types(wire: Wire) -> None:
    for _ in range(3):
        assert asked(wire, "SELECT pg_typeof($1)::text", 1) == [("bigint",)]
        assert asked(wire, "SELECT pg_typeof($1)::text", True) == [("boolean",)]
    assert asked(wire, "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT pg_typeof%'") == [(2,)]
    wire.send(b"CREATE TEMPORARY TABLE fitting (t text, n bigint)", [])
    for values in (("a", 1), (None, 2), ("c", None)):
        wire.send(b"INSERT INTO fitting VALUES ($1, $2)", values, fits=True)
    assert asked(wire, "SELECT * FROM fitting") == [("a", 1), (None, 2), ("c", None)]
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'INSERT INTO fitting%'"
    assert asked(wire, prepared) == [(1,)]


def test_only_so_many_stay_prepared(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "KEPT", 3)
    for _ in range(2):
        for n in range(5):
            assert asked(wire, f"SELECT {n}") == [(n,)]
    [(count,)] = asked(wire, "SELECT count(*) FROM pg_prepared_statements")
    assert count == 3


def test_where_the_most_are_prepared_an_aborted_transaction_can_be_taken_back(
    wire: Wire, driver: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wires, "KEPT", 3)
    for _ in range(2):
        wire.send(b"SAVEPOINT part", [])
        for n in range(4):
            asked(wire, f"SELECT {n}")
        with pytest.raises(psycopg.errors.DivisionByZero):
            wire.ask(b"SELECT 1 / 0", [])
        wire.ask(b"ROLLBACK TO part", [])
        assert asked(wire, "SELECT 3") == [(3,)]
    driver.rollback()
    # Those that an aborted exchange should have made room by are known still, and go later on.
    for n in range(10):
        asked(wire, f"SELECT {n}")
    assert asked(wire, "SELECT count(*) FROM pg_prepared_statements") == [(3,)]


def test_an_answer_that_is_there_is_read_without_the_connection(wire: Wire) -> None:
    waiting = wire.send(b"SELECT 7", [])
    wire.settle()
    wire.send(b"SELECT 1 / 0", [])
    assert wire.answer(waiting).rows == [(7,)]
    not_run = wire.send(b"SELECT 8", [])
    with pytest.raises(psycopg.errors.DivisionByZero):
        wire.settle()
    wire.ask(b"ROLLBACK", [])
    wire.send(b"SELECT 9", [])
    with pytest.raises(psycopg.errors.PipelineAborted):
        wire.answer(not_run)
    assert asked(wire, "SELECT 10") == [(10,)]


def test_the_interpreter_is_free_while_postgresql_works(wire: Wire) -> None:
    def ticks(work: str) -> int:
        count = 0
        ended = threading.Event()

        def tick() -> None:
            nonlocal count
            while not ended.wait(0.001):
                count += 1

        ticking = threading.Thread(target=tick)
        ticking.start()
        asked(wire, work, 0.5)
        ended.set()
        ticking.join()
        return count

    # Prepared in an exchange, and then by itself.
    assert ticks("SELECT pg_sleep($1)::text") > 5
    assert ticks("SELECT pg_sleep($1)::text") > 5


@pytest.mark.parametrize("known", [True, False])
def test_a_connection_that_is_lost_is_closed(wire: Wire, driver: psycopg.Connection, url: str, known: bool) -> None:
    if known:
        asked(wire, "SELECT 7")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (driver.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        asked(wire, "SELECT 7")
    assert driver.closed
    with pytest.raises(psycopg.OperationalError):
        asked(wire, "SELECT 7")
