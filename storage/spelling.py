"""One spelling of SQL for both databases: `:name` for values, and `{…}` for the few words that they spell differently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

# What the two databases spell differently.
WORDS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "then": "CROSS JOIN",  # SQLite joins in the order written when told so
        "most": "max",
        "differs": "IS NOT",
        "same": "IS",
        "json": "text",
        # Its id alone is the primary key there. With the account said, SQLite would take that for a sieve and read the
        # whole table for a Bloom filter first.
        "customer": "customer c ON c.id",
        "or_all": "",
    },
    "postgresql": {
        "then": "JOIN",
        "most": "greatest",
        "differs": "IS DISTINCT FROM",
        "same": "IS NOT DISTINCT FROM",
        "json": "jsonb",
        "customer": "customer c ON c.account_id = :account AND c.id",
        "or_all": "",
    },
}
# A transaction of one batch or undo alone is taken back as a whole when one of its statements fails. Told so, SQLite need
# not keep a copy of every page that a statement changes: 40 MB of them for 100,000 rows, half of all that an undo writes.
ALONE = "sqlite alone"
# The same of a batch on a seat, which is taken back to its savepoint: what the statement wrote may stay until then.
SEATED = "sqlite seated"
WORDS = {
    **WORDS,
    ALONE: {**WORDS["sqlite"], "or_all": "OR ROLLBACK "},
    SEATED: {**WORDS["sqlite"], "or_all": "OR FAIL "},
}

_VALUE = re.compile(r"(?<![:\w]):([a-z_]+)")
_WORD = re.compile(r"\{([a-z_]+)\}")


@lru_cache(maxsize=2000)
def spelled(statement: str, kind: str) -> str:
    """The statement as the database's driver spells it."""
    words = WORDS[kind]
    statement = _WORD.sub(lambda match: words[match.group(1)], statement)
    if kind == "postgresql":
        statement = _VALUE.sub(r"%(\1)s", statement.replace("%", "%%"))
    return statement


@lru_cache(maxsize=2000)
def numbered(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement as PostgreSQL itself spells it, and the names of the values `$1`, `$2` and so on."""
    names: dict[str, int] = {}
    words = WORDS["postgresql"]
    text = _WORD.sub(lambda match: words[match.group(1)], statement)
    text = _VALUE.sub(lambda match: f"${names.setdefault(match.group(1), len(names) + 1)}", text)
    return text.encode(), tuple(names)
