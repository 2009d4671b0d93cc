"""SQLite's statistics of the file. No statement here needs them, since each says in which order to join.

An ANALYZE by an operator or a tool does harm: a table that had one row then is assumed to have one for ever, and is read
whole for each row of a batch when it has a million.
"""

from __future__ import annotations

from sqlalchemy import text

from storage.engine import Database, Kind

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('sqlite_stat1', 'sqlite_stat4')"


def drop_statistics(database: Database, wait: float) -> bool:
    """Drop them, for connections that are open too. Returns whether there were any. Raises Busy."""
    if database.kind is not Kind.SQLITE:
        return False
    with database.reading() as connection:
        if connection.execute(text(_TABLES)).first() is None:
            return False
    with database.writing(wait) as connection:
        for name in connection.execute(text(_TABLES)).scalars().all():
            # Dropped, not emptied: other connections notice a change of the schema only.
            connection.execute(text(f"DROP TABLE {name}"))
    return True
