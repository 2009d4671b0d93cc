"""PostgreSQL: several statements in one exchange, and what becomes of them when one fails."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from importing.batch import Mode
from storage.postgres.connection import _set_up
from storage.postgres.pipeline import Pipeline
from tests.support.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def url(postgresql_server: PostgresServer) -> Iterator[str]:
    name = postgresql_server.create()
    yield postgresql_server.url(name)
    postgresql_server.drop(name)


@pytest.fixture
def driver(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url) as connection:
        _set_up(connection, None)
        yield connection
        if not connection.closed:
            connection.rollback()


@pytest.fixture
def pipeline(driver: psycopg.Connection) -> Pipeline:
    return Pipeline(driver)


def status(driver: psycopg.Connection) -> TransactionStatus:
    return driver.info.transaction_status


def rows_of(pipeline: Pipeline, text: str, *values: object) -> list[tuple[object, ...]]:
    return pipeline.send(text.encode(), values).rows


def test_values_of_every_type_come_back_as_they_went(pipeline: Pipeline) -> None:
    values = ["é\u20ac'\\%s", "", 7, -(2**62), True, False, b"\0\xff", None, 0.25, Mode.UPDATE]
    types = ["text", "text", "bigint", "bigint", "bool", "bool", "bytea", "text", "float8", "text"]
    query = "SELECT " + ", ".join(f"${n}::{kind}" for n, kind in enumerate(types, 1))
    assert rows_of(pipeline, query, *values) == [tuple(values)]
    assert rows_of(pipeline, query, *values) == [tuple(values)]


def test_what_is_no_value_is_refused(pipeline: Pipeline, driver: psycopg.Connection) -> None:
    for value, error in ((object(), psycopg.ProgrammingError), ("a\0b", psycopg.DataError), ("\ud800", ValueError)):
        pipeline.send(b"SELECT 1", [])
        with pytest.raises(error):
            rows_of(pipeline, "SELECT $1::text", value)
        driver.rollback()
        assert rows_of(pipeline, "SELECT 1") == [(1,)]


def test_the_first_statement_begins_a_transaction_where_the_driver_would(
    pipeline: Pipeline, driver: psycopg.Connection
) -> None:
    rows_of(pipeline, "SELECT 1")
    assert status(driver) == TransactionStatus.INTRANS
    driver.rollback()
    driver.autocommit = True
    rows_of(pipeline, "SELECT 1")
    assert status(driver) == TransactionStatus.IDLE


def test_statements_go_in_their_order_with_the_one_whose_result_is_needed(pipeline: Pipeline) -> None:
    pipeline.send(b"CREATE TEMPORARY TABLE line (n bigint)", [])
    pending = [pipeline.send(b"INSERT INTO line VALUES ($1), ($2)", [n, n + 1]) for n in range(3)]
    assert not pending[0].is_over
    assert rows_of(pipeline, "SELECT count(*) FROM line") == [(6,)]
    assert pending[0].is_over
    assert [result.count for result in pending] == [2, 2, 2]


def test_the_first_error_is_raised_and_the_rest_is_not_done(
    pipeline: Pipeline, driver: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.send(b"CREATE TABLE kept (n bigint PRIMARY KEY)", [])
    pipeline.flush()
    driver.commit()
    pipeline.send(b"INSERT INTO kept VALUES ($1)", [1])
    pipeline.send(b"SAVEPOINT part", [])
    pipeline.send(b"INSERT INTO kept VALUES ($1)", [1])
    pipeline.send(b"INSERT INTO nowhere VALUES ($1)", [2])
    with pytest.raises(psycopg.errors.UniqueViolation, match="kept_pkey"):
        rows_of(pipeline, "SELECT n + $1 FROM kept", 0)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        rows_of(pipeline, "SELECT n + $1 FROM kept", 0)
    pipeline.send(b"ROLLBACK TO part", []).get()
    # What the exchange should have prepared behind its error is prepared now.
    assert rows_of(pipeline, "SELECT n + $1 FROM kept", 0) == [(1,)]
    pipeline.send(b"COMMIT", [])
    assert rows_of(pipeline, "SELECT n FROM kept") == [(1,)]
    driver.rollback()
    assert rows_of(pipeline, "SELECT n + $1 FROM kept", 0) == [(1,)]
    assert not caplog.records


def test_a_statement_is_prepared_once_for_each_set_of_types(pipeline: Pipeline) -> None:
    for value in (1, 2**20, 2**40):
        assert rows_of(pipeline, "SELECT pg_typeof($1)::text", value) == [("bigint",)]
        assert rows_of(pipeline, "SELECT pg_typeof($1)::text", True) == [("boolean",)]
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT pg_typeof%'"
    assert rows_of(pipeline, prepared) == [(2,)]


def test_only_so_many_stay_prepared(pipeline: Pipeline, driver: psycopg.Connection) -> None:
    driver.prepared_max = 3
    for _ in range(2):
        pipeline.send(b"SAVEPOINT part", [])
        for n in range(5):
            assert rows_of(pipeline, f"SELECT {n}") == [(n,)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            pipeline.send(b"SELECT 1 / 0", []).get()
        pipeline.send(b"ROLLBACK TO part", []).get()
        assert rows_of(pipeline, "SELECT 3") == [(3,)]
    for n in range(10):
        rows_of(pipeline, f"SELECT {n}")
    [(count,)] = rows_of(pipeline, "SELECT count(*) FROM pg_prepared_statements")
    assert count in (3, 4)


def test_a_result_that_is_there_is_read_without_the_connection(pipeline: Pipeline, driver: psycopg.Connection) -> None:
    there = pipeline.send(b"SELECT 7", [])
    pipeline.flush()
    pipeline.send(b"SELECT 1 / 0", [])
    assert there.rows == [(7,)]
    not_run = pipeline.send(b"SELECT 8", [])
    with pytest.raises(psycopg.errors.DivisionByZero):
        pipeline.flush()
    driver.rollback()
    pipeline.send(b"SELECT 9", [])
    with pytest.raises(psycopg.errors.PipelineAborted):
        not_run.get()
    assert rows_of(pipeline, "SELECT 10") == [(10,)]


@pytest.mark.parametrize("alone", [True, False])
def test_a_connection_that_is_lost_is_closed(
    pipeline: Pipeline, driver: psycopg.Connection, url: str, alone: bool
) -> None:
    rows_of(pipeline, "SELECT 7")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (driver.info.backend_pid,))
    if not alone:
        pipeline.send(b"SELECT 6", [])
    with pytest.raises(psycopg.OperationalError):
        rows_of(pipeline, "SELECT 7")
    assert driver.closed
    with pytest.raises(psycopg.OperationalError):
        rows_of(pipeline, "SELECT 7")
