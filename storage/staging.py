"""The temporary tables of a batch, filled outside the write lock. Together they are its plan.

stage    the good rows: NULL is "not given", "" is "given blank"; `row` is the number that messages name
hit      row → the stored customer that it matches
target   stored customer → the first row that acts on it, and what shall happen
made     the first rows of new customers, numbered from 1 in row order
follow   later rows of a customer that an earlier row of the batch acts on or makes
careful  rows that meet another row or another row's customer: taken one by one (importing/planning/dependent_rows.py)
keys     the codes and cards that customers of careful rows end with
folded   what stands for all rows of a customer that has several
bad      rows that have a problem after all, or customers with a conflict
fresh    made-up codes and card numbers before they are known to be free
taken    the unique custom values that rows give
back     the customers that an undo concerns, and what shall become of them
restore  what an undo writes to customers that something else has written to since
rekey    keys and unique values that an undo gives back, and whether somebody else has them by now
conflict what an undo cannot give back, the newest change first
fate     what became of customers so far, where an undo takes its changes back one by one
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from itertools import groupby
from typing import Any

from storage.batch_transaction import BatchTransaction
from storage.tables import DOCUMENT_COLUMNS, IMAGE_COLUMNS, PROFILE_COLUMNS

TEXT_COLUMNS = (
    "code",
    "card_number",
    *PROFILE_COLUMNS,
    "customer_username",
    "username_key",
    "password_digest",
    "pin_digest",
)
STAGED_COLUMNS = ("row", *TEXT_COLUMNS, *DOCUMENT_COLUMNS, "amount", "item_id")

TEMPORARY_TABLES = (
    "stage",
    "match",
    "target",
    "new_customer",
    "later_row",
    "dependent_row",
    "keys",
    "merged_row",
    "rejected_row",
    "generated_key",
    "unique_claim",
    "undo_customer",
    "undo_value",
    "undo_key",
    "conflict",
    "undo_outcome",
)


def prepare_tables(work: BatchTransaction, info: MutableMapping[Any, Any]) -> None:
    """Begin the staging transaction with empty tables; they are made once a connection (`info` is the connection's)."""
    if not info.get("tillgate_staged"):
        # Before the batch's transaction: a rollback would take them away again.
        for statement in _create_statements(work.sqlite):
            work.execute(statement)
        if work.sqlite:
            for statement in _smallness_statements():
                work.execute(statement)
        info["tillgate_staged"] = True
    work.begin(TEMPORARY_TABLES, info)


def stage_rows(
    work: BatchTransaction,
    columns: Sequence[str],
    chunks: Iterable[Sequence[Sequence[object]]],
    keys: Sequence[str] = (),
) -> None:
    """Stage the good rows. `columns` are some of COLUMNS, "row" first; narrower chunks have `keys`, which are some of them."""
    for width, same_width in groupby(chunks, lambda chunk: len(chunk[0])):
        work.fill("stage", columns if width == len(columns) else keys, same_width)
    work.analyze("stage")


def stage_dependent_rows(
    work: BatchTransaction, columns: Sequence[str], chunks: Iterable[Sequence[Sequence[Any]]]
) -> None:
    """Stage the careful rows once more, with all of their columns. `chunks` are in row order, "row" first."""
    rows = array("q", (row for (row,) in work.rows('SELECT "row" FROM dependent_row ORDER BY "row"')))
    work.execute('DELETE FROM stage WHERE "row" IN (SELECT "row" FROM dependent_row)')
    stage_rows(work, columns, _pick_rows(chunks, rows))


def _pick_rows(chunks: Iterable[Sequence[Sequence[Any]]], rows: Sequence[int]) -> Iterator[Sequence[Sequence[Any]]]:
    for chunk in chunks:
        picked = set(rows[bisect_left(rows, chunk[0][0]) : bisect_right(rows, chunk[-1][0])])
        if picked:
            yield [row for row in chunk if row[0] in picked]


def _create_statements(sqlite: bool) -> list[str]:
    text = "text" if sqlite else 'text COLLATE "C"'
    json = "text" if sqlite else "jsonb"
    number = "integer" if sqlite else "bigint"
    key = "integer PRIMARY KEY" if sqlite else "bigint"
    staged = ", ".join([*(f"{name} {text}" for name in TEXT_COLUMNS), *(f"{name} {json}" for name in DOCUMENT_COLUMNS)])
    bodies = {
        "stage": f'"row" {key}, {staged}, amount {number}, item_id {number}',
        "match": f'"row" {key}, id {number}',
        "target": f'id {key}, "row" {number}, amount {number}, item_id {number}, points {number}, '
        f"new_code {text}, new_card {text}, changed {number}, touched {number}",
        "new_customer": f'n {key}, "row" {number}, code {text}, card_number {text}, '
        f"amount {number}, item_id {number}, points {number}",
        "later_row": f'"row" {key}, first_row {number}, id {number}, ignored {number}, amount {number}, item_id {number}',
        "dependent_row": f'"row" {key}',
        "keys": f"kind {text}, ref {number}, code {text}, card_number {text}"
        + (", PRIMARY KEY (kind, ref)" if sqlite else ""),
        "merged_row": f'"row" {key}, {staged}, amount {number}, points {number}, changed {number}',
        "rejected_row": f'"row" {key}',
        "generated_key": f"kind {text}, ref {number}, value {text}" + (", PRIMARY KEY (kind, ref)" if sqlite else ""),
        "unique_claim": f'"row" {number}, number {number}, value {text}',
    }
    image = ", ".join(
        f"{name} {json if name in DOCUMENT_COLUMNS else number if name.endswith('_version') else text}"
        for name in IMAGE_COLUMNS
    )
    bodies |= {
        # With keys on PostgreSQL too: of the images of a recent batch it has no statistics, and expects none to be there.
        "undo_customer": f"id {number} PRIMARY KEY, change {number}, kind {text}, later {number}, differs {number}, "
        f"has_key {number}, blocked {number}",
        "undo_value": f"id {number} PRIMARY KEY, {image}",
        "undo_key": f"id {number}, change {number}, kind {text}, value {text}, shown {text}, blocked {number}, "
        "PRIMARY KEY (id, kind)",
        "conflict": f"n {number} PRIMARY KEY, id {number}, field {text}, code {text}, written {text}, stands {text}",
        "undo_outcome": f"id {number} PRIMARY KEY, outcome {number}",
    }
    # No keys on PostgreSQL: it joins these by hash, and an index would cost more than the join.
    return [f"CREATE TEMPORARY TABLE {name} ({body})" for name, body in bodies.items()]


def _smallness_statements() -> Iterator[str]:
    """SQLite is told that these tables are small: else it expects a million rows, and reads all customers for a Bloom
    filter before it looks for three of them."""
    yield "ANALYZE temp"
    for name in TEMPORARY_TABLES:
        yield f"INSERT INTO temp.sqlite_stat1(tbl, idx, stat) VALUES ('{name}', NULL, '100')"
    yield "ANALYZE temp.sqlite_master"
