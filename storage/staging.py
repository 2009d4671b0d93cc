"""The temporary tables of a batch, filled outside the write lock. Together they are its plan.

stage          the good rows: NULL is "not given", "" is "given blank"; `row` is the number that messages name
match          row → the stored customer that it matches
target         stored customer → the first row that acts on it, and what shall happen
new_customer   the first rows of new customers, numbered from 1 in row order
later_row      later rows of a customer that an earlier row of the batch acts on or creates
dependent_row  rows that share a customer or a key with another row: resolved one by one
               (importing/planning/dependent_rows.py)
keys           the codes and cards that customers of dependent rows end with
merged_row     one row in place of all rows of a customer that has several
rejected_row   rows that have a problem after all, or customers with a conflict
generated_key  generated codes and card numbers before they are known to be free
unique_claim   the unique custom values that rows give
undo_customer  the customers that an undo concerns, and what it does with each
undo_value     what an undo writes to customers that something else has written to since
undo_key       keys and unique values that an undo restores, and whether another customer has them by now
conflict       what an undo cannot restore, the newest change first
undo_outcome   what became of customers so far, where an undo reverts its changes one by one
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from storage.batch_transaction import BatchTransaction
from storage.tables import DOCUMENT_COLUMNS, IMAGE_COLUMNS, PROFILE_COLUMNS

_KEYS, _SECRETS = ("code", "card_number"), ("customer_username", "username_key", "password_digest", "pin_digest")
TEXT_COLUMNS = (*_KEYS, *PROFILE_COLUMNS, *_SECRETS)
STAGED_COLUMNS = ("row", *TEXT_COLUMNS, *DOCUMENT_COLUMNS, "amount", "item_id")

_STAGED = ", ".join(
    [*(f"{name} {{key_text}}" for name in TEXT_COLUMNS), *(f"{name} {{json}}" for name in DOCUMENT_COLUMNS)]
)
_IMAGE = ", ".join(
    f"{name} {'{json}' if name in DOCUMENT_COLUMNS else '{number}' if name.endswith('_version') else '{key_text}'}"
    for name in IMAGE_COLUMNS
)
_POINTS = "amount {number}, item_id {number}, points {number}"
TEMPORARY_TABLES = {
    "stage": f'"row" {{row_key}}, {_STAGED}, amount {{number}}, item_id {{number}}',
    "match": '"row" {row_key}, id {number}',
    "target": f'id {{row_key}}, "row" {{number}}, {_POINTS}, new_code {{key_text}}, new_card {{key_text}}, '
    "changed {number}, touched {number}",
    "new_customer": f'n {{row_key}}, "row" {{number}}, code {{key_text}}, card_number {{key_text}}, {_POINTS}',
    "later_row": '"row" {row_key}, first_row {number}, id {number}, ignored {number}, amount {number}, item_id {number}',
    "dependent_row": '"row" {row_key}',
    "keys": "kind {key_text}, ref {number}, code {key_text}, card_number {key_text}{pair_key}",
    "merged_row": f'"row" {{row_key}}, {_STAGED}, amount {{number}}, points {{number}}, changed {{number}}',
    "rejected_row": '"row" {row_key}',
    "generated_key": "kind {key_text}, ref {number}, value {key_text}{pair_key}",
    "unique_claim": '"row" {number}, number {number}, value {key_text}',
    # With keys on PostgreSQL too: of the images of a recent batch it has no statistics, and expects none to be there.
    "undo_customer": "id {number} PRIMARY KEY, change {number}, kind {key_text}, later {number}, differs {number}, "
    "has_key {number}, blocked {number}",
    "undo_value": f"id {{number}} PRIMARY KEY, {_IMAGE}",
    "undo_key": "id {number}, change {number}, kind {key_text}, value {key_text}, shown {key_text}, blocked {number}, "
    "PRIMARY KEY (id, kind)",
    "conflict": "n {number} PRIMARY KEY, id {number}, field {key_text}, code {key_text}, written {key_text}, "
    "stands {key_text}",
    "undo_outcome": "id {number} PRIMARY KEY, outcome {number}",
}


@contextmanager
def prepared(work: BatchTransaction, info: MutableMapping[Any, Any]) -> Iterator[BatchTransaction]:
    """The staging transaction with empty tables, which are created once a connection (`info` is the connection's)."""
    try:
        if not info.get("tillgate_staged"):
            # Before the batch's transaction: a rollback would drop them again.
            for name, columns in TEMPORARY_TABLES.items():
                work.execute(f"CREATE TEMPORARY TABLE {name} ({columns})")
            work.expect_few_rows(TEMPORARY_TABLES)
            info["tillgate_staged"] = True
        work.begin(TEMPORARY_TABLES, info)
        yield work
    finally:
        work.close()


def stage_rows(
    work: BatchTransaction,
    columns: Sequence[str],
    chunks: Iterable[Sequence[Sequence[object]]],
    keys: Sequence[str] = (),
) -> None:
    """Stage the good rows. `columns` are some of COLUMNS, "row" first; narrower chunks have only `keys`, some of them."""
    for width, same_width in groupby(chunks, lambda chunk: len(chunk[0])):
        work.fill("stage", columns if width == len(columns) else keys, same_width)
    work.analyze("stage")


def stage_dependent_rows(
    work: BatchTransaction, columns: Sequence[str], chunks: Iterable[Sequence[Sequence[Any]]]
) -> None:
    """Stage the dependent rows once more, with all of their columns. `chunks` are in row order, "row" first."""
    rows = array("q", (row for (row,) in work.rows('SELECT "row" FROM dependent_row ORDER BY "row"')))
    work.execute('DELETE FROM stage WHERE "row" IN (SELECT "row" FROM dependent_row)')
    stage_rows(work, columns, _pick_rows(chunks, rows))


def _pick_rows(chunks: Iterable[Sequence[Sequence[Any]]], rows: Sequence[int]) -> Iterator[Sequence[Sequence[Any]]]:
    for chunk in chunks:
        picked = set(rows[bisect_left(rows, chunk[0][0]) : bisect_right(rows, chunk[-1][0])])
        if picked:
            yield [row for row in chunk if row[0] in picked]
