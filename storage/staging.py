"""The temporary tables of a batch, filled outside the write lock. Together they are its plan.

stage    the good rows: NULL is "not given", "" is "given blank"; `row` is the number that messages name
hit      row → the stored customer that it matches
target   stored customer → the first row that acts on it, and what shall happen
made     the first rows of new customers, numbered from 1 in row order
follow   later rows of a customer that an earlier row of the batch acts on or makes
careful  rows that meet another row or another row's customer: taken one by one (importing/resolve.py)
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

from storage.models import DOCUMENTS, IMAGE, PROFILE
from storage.workspace import Workspace

TEXT_COLUMNS = (
    "code",
    "card_number",
    *PROFILE,
    "customer_username",
    "username_key",
    "password_digest",
    "pin_digest",
)
COLUMNS = ("row", *TEXT_COLUMNS, *DOCUMENTS, "amount", "item_id")

TABLES = (
    "stage",
    "hit",
    "target",
    "made",
    "follow",
    "careful",
    "keys",
    "folded",
    "bad",
    "fresh",
    "taken",
    "back",
    "restore",
    "rekey",
    "conflict",
    "fate",
)


def prepare(work: Workspace, info: MutableMapping[Any, Any]) -> None:
    """Begin the staging transaction with empty tables; they are made once a connection (`info` is the connection's)."""
    if not info.get("tillgate_staged"):
        # Outside of the batch's transaction: a rollback would take them away again.
        for statement in _definitions(work.sqlite):
            work.execute(statement)
        if work.sqlite:
            for statement in _small():
                work.execute(statement)
        work.commit()
        info["tillgate_staged"] = True
    work.begin(TABLES, info)


def fill(
    work: Workspace, columns: Sequence[str], chunks: Iterable[Sequence[Sequence[object]]], keys: Sequence[str] = ()
) -> None:
    """Stage the good rows. `columns` are some of COLUMNS, "row" first; narrower chunks have `keys`, which are some of them."""
    for width, alike in groupby(chunks, lambda chunk: len(chunk[0])):
        work.fill("stage", columns if width == len(columns) else keys, alike)
    work.analyze("stage")


def fill_again(work: Workspace, columns: Sequence[str], chunks: Iterable[Sequence[Sequence[Any]]]) -> None:
    """Stage the careful rows once more, with all of their columns. `chunks` are in row order, "row" first."""
    rows = array("q", (row for (row,) in work.rows('SELECT "row" FROM careful ORDER BY "row"')))
    work.execute('DELETE FROM stage WHERE "row" IN (SELECT "row" FROM careful)')
    fill(work, columns, _picked(chunks, rows))


def _picked(chunks: Iterable[Sequence[Sequence[Any]]], rows: Sequence[int]) -> Iterator[Sequence[Sequence[Any]]]:
    for chunk in chunks:
        wanted = set(rows[bisect_left(rows, chunk[0][0]) : bisect_right(rows, chunk[-1][0])])
        if wanted:
            yield [row for row in chunk if row[0] in wanted]


def _definitions(sqlite: bool) -> list[str]:
    text = "text" if sqlite else 'text COLLATE "C"'
    json = "text" if sqlite else "jsonb"
    number = "integer" if sqlite else "bigint"
    key = "integer PRIMARY KEY" if sqlite else "bigint"
    staged = ", ".join([*(f"{name} {text}" for name in TEXT_COLUMNS), *(f"{name} {json}" for name in DOCUMENTS)])
    bodies = {
        "stage": f'"row" {key}, {staged}, amount {number}, item_id {number}',
        "hit": f'"row" {key}, id {number}',
        "target": f'id {key}, "row" {number}, amount {number}, item_id {number}, points {number}, '
        f"new_code {text}, new_card {text}, changed {number}, touched {number}",
        "made": f'n {key}, "row" {number}, code {text}, card_number {text}, '
        f"amount {number}, item_id {number}, points {number}",
        "follow": f'"row" {key}, first_row {number}, id {number}, ignored {number}, amount {number}, item_id {number}',
        "careful": f'"row" {key}',
        "keys": f"kind {text}, ref {number}, code {text}, card_number {text}"
        + (", PRIMARY KEY (kind, ref)" if sqlite else ""),
        "folded": f'"row" {key}, {staged}, amount {number}, points {number}, changed {number}',
        "bad": f'"row" {key}',
        "fresh": f"kind {text}, ref {number}, value {text}" + (", PRIMARY KEY (kind, ref)" if sqlite else ""),
        "taken": f'"row" {number}, number {number}, value {text}',
    }
    image = ", ".join(
        f"{name} {json if name in DOCUMENTS else number if name.endswith('_version') else text}" for name in IMAGE
    )
    bodies |= {
        # With keys on PostgreSQL too: of the images of a recent batch it has no statistics, and expects none to be there.
        "back": f"id {number} PRIMARY KEY, change {number}, kind {text}, later {number}, moved {number}, keyed {number}, "
        f"blocked {number}",
        "restore": f"id {number} PRIMARY KEY, {image}",
        "rekey": f"id {number}, change {number}, kind {text}, value {text}, shown {text}, blocked {number}, "
        "PRIMARY KEY (id, kind)",
        "conflict": f"n {number} PRIMARY KEY, id {number}, field {text}, code {text}, written {text}, stands {text}",
        "fate": f"id {number} PRIMARY KEY, fate {number}",
    }
    # No keys on PostgreSQL: it joins these by hash, and an index would cost more than the join.
    return [f"CREATE TEMPORARY TABLE {name} ({body})" for name, body in bodies.items()]


def _small() -> Iterator[str]:
    """SQLite is told that these tables are small: else it expects a million rows, and reads all customers for a Bloom
    filter before it looks for three of them."""
    yield "ANALYZE temp"
    for name in TABLES:
        yield f"INSERT INTO temp.sqlite_stat1(tbl, idx, stat) VALUES ('{name}', NULL, '100')"
    yield "ANALYZE temp.sqlite_master"
