"""Statements are written once for both databases: `:name` for a value, `{word}` for what the two spell differently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

_SQLITE: Mapping[str, str] = {
    "then": "CROSS JOIN",  # SQLite joins in the order written when told so
    "most": "max",
    "differs": "IS NOT",
    "same": "IS",
    "json": "text",
    # The id alone is the primary key there. With the account in the condition, SQLite would filter by it and read the
    # whole table for a Bloom filter first.
    "customer": "customer c ON c.id",
    "or_all": "",
}
# For a statement whose error ends the whole transaction. SQLite then keeps no copy of the pages that the statement
# changes: 40 MB of them for 100,000 rows, half of all that an undo writes.
_SQLITE_OR_ROLLBACK: Mapping[str, str] = {**_SQLITE, "or_all": "OR ROLLBACK "}
_POSTGRES: Mapping[str, str] = {
    "then": "JOIN",
    "most": "greatest",
    "differs": "IS DISTINCT FROM",
    "same": "IS NOT DISTINCT FROM",
    "json": "jsonb",
    "customer": "customer c ON c.account_id = :account AND c.id",
    "or_all": "",
}

_VALUE = re.compile(r"(?<![:\w]):([a-z_]+)")
_WORD = re.compile(r"\{([a-z_]+)\}")


# A batch and an undo have some two hundred statements. Translated at each use, they would cost a small post a third more.
@lru_cache(maxsize=2000)
def sqlite_sql(statement: str, *, or_rollback: bool = False) -> str:
    """The statement for SQLite, which takes values by name itself. `or_rollback`: an error ends the transaction."""
    words = _SQLITE_OR_ROLLBACK if or_rollback else _SQLITE
    return _WORD.sub(lambda match: words[match.group(1)], statement)


@lru_cache(maxsize=2000)
def postgres_sql(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement for PostgreSQL, and the names of its values `$1`, `$2` and so on."""
    names: dict[str, int] = {}
    text = _WORD.sub(lambda match: _POSTGRES[match.group(1)], statement)
    text = _VALUE.sub(lambda match: f"${names.setdefault(match.group(1), len(names) + 1)}", text)
    return text.encode(), tuple(names)
