"""One spelling of SQL for both databases: `:name` for values, and `{…}` for the few words that they spell differently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

# What the two databases spell differently.
WORDS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "then": "CROSS JOIN",  # SQLite joins in the order written when told so
        "differs": "IS NOT",
        "same": "IS",
        "json": "text",
        # Of a statement that may fail halfway SQLite keeps a copy of every page that it changes, to take its part back.
        # In a transaction that an error takes back as a whole nobody needs that: half of all that a large undo writes.
        "whole": "OR FAIL",
        # Its id alone is the primary key there. With the account said, SQLite would take that for a sieve and read the
        # whole table for a Bloom filter first.
        "customer": "customer c ON c.id",
    },
    "postgresql": {
        "then": "JOIN",
        "differs": "IS DISTINCT FROM",
        "same": "IS NOT DISTINCT FROM",
        "json": "jsonb",
        "whole": "",
        "customer": "customer c ON c.account_id = :account AND c.id",
    },
}

_VALUE = re.compile(r"(?<![:\w]):([a-z_]+)")
_WORD = re.compile(r"\{([a-z_]+)\}")


@lru_cache(maxsize=2000)
def spelled(statement: str, kind: str) -> str:
    """The statement as the database spells it."""
    words = WORDS[kind]
    statement = _WORD.sub(lambda match: words[match.group(1)], statement)
    if kind == "postgresql":
        statement = _VALUE.sub(r"%(\1)s", statement.replace("%", "%%"))
    return statement
