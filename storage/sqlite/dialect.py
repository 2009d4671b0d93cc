"""SQLite's dialect (see storage/sql_dialect.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from storage.sql_dialect import EMPTY_DOCUMENT, Dialect, with_words
from storage.undo.plan_sql import VALUE_COLUMNS, ImageSource
from storage.write_modes import BatchShape, document_values, update_values

_WORDS: Mapping[str, str] = {
    # SQLite joins in the order written when the join is a cross join.
    "join": "CROSS JOIN",
    "greatest": "max",
    "differs": "IS NOT",
    "json": "text",
    "key_text": "text",
    "number": "integer",
    "row_key": "integer PRIMARY KEY",
    "pair_key": ", PRIMARY KEY (kind, ref)",
    # The id alone is the primary key there. With the account in the condition, SQLite would filter by it and read the
    # whole table for a Bloom filter first.
    "customer": "customer c ON c.id",
    # Customers of all accounts are numbered together.
    "last_customer": "(SELECT max(id) FROM customer)",
    "next_n": "NULL",
    "or_ignore": "OR IGNORE ",
    "distinct_customers": "",
    "order_customers": "",
    "or_rollback": "",
}
# For a statement whose error ends the whole transaction. SQLite then keeps no copy of the pages that the statement
# changes: 40 MB of them for 100,000 rows, half of all that an undo writes.
_WORDS_OR_ROLLBACK: Mapping[str, str] = {**_WORDS, "or_rollback": "OR ROLLBACK "}


# A batch and an undo have some two hundred statements. Translated at each use, they would cost a small post a third more.
@lru_cache(maxsize=2000)
def sqlite_sql(statement: str, *, or_rollback: bool = False) -> str:
    """The statement for SQLite, which takes values by name itself. `or_rollback`: an error ends the transaction."""
    return with_words(statement, _WORDS_OR_ROLLBACK if or_rollback else _WORDS)


class SqliteDialect(Dialect):
    def match_statements(self, keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(_match_by(key, keys[:place]) for place, key in enumerate(keys))

    def merge_document(self, stored: str, staged: str, clears: bool) -> str:
        if stored == EMPTY_DOCUMENT and not clears:
            return f"coalesce({staged}, '{{}}')"
        if stored == EMPTY_DOCUMENT:
            # Most documents have no null: only those are taken apart.
            return f"CASE WHEN instr({staged}, ':null') THEN json_patch('{{}}', {staged}) ELSE coalesce({staged}, '{{}}') END"
        return (
            f"CASE WHEN {staged} = {stored} THEN {stored} WHEN {_is_result(stored, staged, clears)} "
            f"THEN coalesce({staged}, '{{}}') ELSE json_patch({stored}, coalesce({staged}, '{{}}')) END"
        )

    def document_differs(self, stored: str, staged: str, clears: bool, *, replaces: bool) -> str:
        given = f"coalesce({staged}, '{{}}')"
        differs = f"({_is_result(stored, staged, clears)} OR json_patch({stored}, {given}) <> {stored})"
        if replaces:
            # The order of the keys may differ: every given one is stored already, and none besides.
            keys = "(SELECT count(*) FROM json_each({}))"
            given_keys = keys.format(f"json_patch('{{}}', {given})")
            differs = f"({differs} OR {given_keys} <> {keys.format(stored)})"
        return f"({given} <> {stored} AND {differs})"

    def update_customers(self, shape: BatchShape) -> str:
        # An upsert walks the table in key order, once; UPDATE … FROM would collect everything first. The upsert reads the
        # stored documents by itself; other values that depend on the stored ones need a join.
        values, documents = update_values(shape), document_values(shape, self, "customer", "excluded")
        selected = values | {name: f"coalesce(s.{name}, '{{}}')" for name in documents if name in shape.columns}
        updates = {name: f"excluded.{name}" for name in ("updated_at", *values)} | documents
        stored = "{join} {customer} = t.id" if shape.reads_stored else ""
        columns = ", ".join(["id", "account_id", "created", "created_at", "updated_at", *selected])
        return (
            f"INSERT INTO customer({columns}) SELECT t.id, :account, 0, 0, {', '.join([':now', *selected.values()])} "
            f'FROM target t {{join}} stage s ON s."row" = t."row" {stored} WHERE t.changed = 1 ORDER BY t.id '
            f"ON CONFLICT(id) DO UPDATE SET {', '.join(f'{name} = {value}' for name, value in updates.items())}"
        )

    def restore_customers(self, source: ImageSource) -> str:
        # No upsert as in `update_customers`, of which SQLite would keep copies of all pages (see `_WORDS_OR_ROLLBACK`).
        return (
            f"UPDATE {{or_rollback}}customer SET ({', '.join(VALUE_COLUMNS)}) = "
            f"(SELECT {', '.join(f'b.{name}' for name in VALUE_COLUMNS)} FROM undo_customer k {{join}} {source.joined} "
            "WHERE k.id = customer.id), removed = NULL, updated_at = :now "
            f"WHERE id IN (SELECT k.id FROM {source.listed} WHERE {source.where} AND k.differs = 1)"
        )


def _match_by(key: str, keys_before: Sequence[str]) -> str:
    # In the order of the key, so that the index is walked and not jumped about in.
    unmatched = ' AND "row" NOT IN (SELECT "row" FROM match)' if keys_before else ""
    return (
        f'INSERT INTO match("row", id) SELECT s."row", c.id FROM '
        f'(SELECT "row", {key} FROM stage WHERE {key} IS NOT NULL{unmatched} ORDER BY {key}) s '
        f"CROSS JOIN customer c ON c.account_id = :account AND c.{key} = s.{key}"
    )


def _is_result(stored: str, staged: str, clears: bool) -> str:
    """Whether nothing is stored and nothing is cleared: then the staged document is what comes out."""
    return f"{stored} = {EMPTY_DOCUMENT}" + (f" AND NOT instr({staged}, ':null')" if clears else "")
