"""The rows of customers that have several in one batch: read for merging, and the merged row written back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from storage.batch_transaction import BatchTransaction
from storage.sql_dialect import dump_document, parse_document
from storage.tables import DOCUMENT_COLUMNS, PROFILE_COLUMNS
from storage.write_modes import BatchShape

KEY_COLUMNS = ("row", "code", "card_number", "username_key")
STATE_COLUMNS = (*PROFILE_COLUMNS, "customer_username", "password_digest", "pin_digest", *DOCUMENT_COLUMNS)
# First row, stored customer or None, and (row, values) of all its rows.
CustomerRows = tuple[int, Mapping[str, Any] | None, Iterator[tuple[int, Mapping[str, Any]]]]


def stream_customer_rows(work: BatchTransaction, shape: BatchShape, account: int) -> Iterator[CustomerRows]:
    """Each customer with several rows, by first row. Its rows are streamed, and gone when the next customer comes."""
    names = _merged_columns(shape)
    selected = "".join(f", s.{name}" for name in names)
    stored = _stream_stored(work, account)
    next_stored = next(stored, None)
    rows_by_customer = work.rows(
        f'SELECT f.first_row, s."row"{selected} FROM later_row f {{join}} stage s ON s."row" = f."row" UNION ALL '
        f'SELECT s."row", s."row"{selected} FROM stage s WHERE s."row" IN (SELECT first_row FROM later_row) ORDER BY 1, 2'
    )
    for first, rows in groupby(rows_by_customer, key=itemgetter(0)):
        base = None
        if next_stored is not None and next_stored[0] == first:
            base, next_stored = next_stored[1], next(stored, None)
        yield first, base, ((row, _parse_documents(dict(zip(names, values, strict=True)))) for _, row, *values in rows)


def store_merged_rows(work: BatchTransaction, shape: BatchShape, merged: Iterable[Mapping[str, Any]]) -> None:
    """Write merged rows over the first rows. Each mapping: first_row, points, changed, and the staged columns.

    All of `stream_customer_rows` must have been read before: PostgreSQL does one thing at a time on a connection.
    """
    names = _merged_columns(shape)
    columns = [*names, *(["username_key"] if "username_key" in shape.columns else []), "points", "changed"]
    tuples = ((row["first_row"], *(dump_document(row[name]) for name in columns)) for row in merged)
    work.fill_rows("merged_row", ("row", *columns), tuples)
    work.analyze("merged_row")
    settings = ", ".join(f"{name} = f.{name}" for name in columns[:-2] if name != "amount")
    if settings:
        work.execute(f'UPDATE stage SET {settings} FROM merged_row f WHERE f."row" = stage."row"')
    work.execute(
        "UPDATE target SET points = f.points, "
        "changed = CASE WHEN f.changed = 1 THEN 1 ELSE target.changed END, "
        "touched = CASE WHEN f.changed = 1 THEN 1 ELSE target.touched END "
        'FROM merged_row f WHERE f."row" = target."row"'
    )
    work.execute('UPDATE new_customer SET points = f.points FROM merged_row f WHERE f."row" = new_customer."row"')


def _merged_columns(shape: BatchShape) -> list[str]:
    return [name for name in sorted(shape.columns) if name not in (*KEY_COLUMNS, "item_id")]


def _stream_stored(work: BatchTransaction, account: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for first_row, *values in work.rows(
        f"SELECT f.first_row, {', '.join(f'c.{name}' for name in STATE_COLUMNS)} FROM "
        "(SELECT DISTINCT first_row, id FROM later_row WHERE id IS NOT NULL) f "
        "{join} {customer} = f.id ORDER BY f.first_row",
        account=account,
    ):
        yield first_row, _parse_documents(dict(zip(STATE_COLUMNS, values, strict=True)))


def _parse_documents(values: dict[str, Any]) -> dict[str, Any]:
    return values | {name: parse_document(values[name]) for name in DOCUMENT_COLUMNS if name in values}
