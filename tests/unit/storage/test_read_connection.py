"""Connections for reads of a few rows, which are kept and used again."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import text

from storage.engine import Database, Kind
from storage.queries import accounts


def test_a_read_sees_what_was_written_since_the_last_one(database: Database) -> None:
    def names() -> list[object]:
        with database.read_connection() as connection:
            # Not read to its end.
            connection.number("SELECT a.id FROM account a, account b ORDER BY a.id")
        with database.read_connection() as connection:
            return [name for (name,) in connection.all("SELECT public_id FROM account ORDER BY id")]

    for number in range(3):
        with database.writing() as connection:
            accounts.create_account(connection, f"shop{number}", "A shop")
        assert names() == [f"shop{n}" for n in range(number + 1)]


def test_a_read_that_failed_does_no_harm_to_the_next(database: Database) -> None:
    with pytest.raises(Exception, match="no_such_table"), database.read_connection() as connection:
        connection.send("SELECT 1")
        connection.all("SELECT 1 FROM no_such_table")
    with database.read_connection() as connection:
        assert connection.number("SELECT 7") == 7


@pytest.mark.parametrize("database", [Kind.POSTGRESQL.value], indirect=True)
def test_where_postgresql_was_away_one_read_fails_and_the_next_one_connects(database: Database) -> None:
    with database.read_connection() as connection, database.read_connection() as other:
        connection.number("SELECT 1")
        other.number("SELECT 1")
    with database.writing() as writer:
        writer.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                "AND datname = current_database()"
            )
        )
    with pytest.raises(psycopg.OperationalError), database.read_connection() as connection:
        connection.number("SELECT 7")
    with database.read_connection() as connection:
        assert connection.number("SELECT 7") == 7
