"""What an undo does to customers on the whole: conflicts, and where changes are taken back one by one, their fates.

A customer counts once: removed where it is gone in the end, else restored where anything came back, else kept. A conflict
counts once for a customer and a field; the newest change tells what the batch wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from storage.history import KEPT, REMOVED, RESTORED
from storage.workspace import Workspace

CHUNK = 500

# By what wins.
_KEPT, _RESTORED, _REMOVED = 1, 2, 3

Row = tuple[int, str, str, str, str]


def add_conflicts(work: Workspace, known: int, rows: Iterable[Row]) -> int:
    """Note conflicts: (customer, field, code, written, current) behind the `known` ones. Returns how many are known now."""
    waiting = iter(rows)

    def chunks() -> Iterator[Sequence[Sequence[object]]]:
        nonlocal known
        while chunk := list(islice(waiting, CHUNK)):
            yield [(known + n, *row) for n, row in enumerate(chunk)]
            known += len(chunk)

    work.fill("conflict", ("n", "id", "field", "code", "written", "stands"), chunks())
    return known


def mark_conflicts(work: Workspace, known: int) -> None:
    """Mark the customers that have a conflict which is not among the `known` ones, or miss a key somebody else has."""
    work.execute("UPDATE back SET blocked = 1 WHERE id IN (SELECT id FROM conflict WHERE n >= :known)", known=known)
    work.execute("UPDATE back SET blocked = 1 WHERE id IN (SELECT id FROM rekey WHERE blocked = 1)")


def conflicts(work: Workspace, account: int) -> Iterator[tuple[str, str, str, str]]:
    """(code, field, written, current), by customers, then those who are there or not. Nothing of who is removed.

    A customer is named by the code that it has afterwards, so that it can be looked up.
    """
    return work.rows(
        "SELECT coalesce(r.value, c.code, q.code), q.field, q.written, q.stands FROM (SELECT q.*, "
        "row_number() OVER (PARTITION BY q.id, q.field ORDER BY q.n) AS place FROM conflict q) q "
        "LEFT JOIN customer c ON c.account_id = :account AND c.id = q.id "
        "LEFT JOIN rekey r ON r.id = q.id AND r.kind = 'code' AND r.blocked = 0 "
        f"WHERE q.place = 1 AND NOT EXISTS (SELECT 1 FROM fate f WHERE f.id = q.id AND f.fate = {_REMOVED}) "
        "ORDER BY CASE WHEN q.field = 'customer' THEN 1 ELSE 0 END, q.id, q.n",
        account=account,
    )


def add_fates(work: Workspace) -> None:
    """Add what the plan in `back` makes of each customer to what became of it so far."""
    work.execute(
        f"INSERT INTO fate(id, fate) SELECT id, CASE WHEN {REMOVED} THEN {_REMOVED} WHEN {RESTORED} THEN {_RESTORED} "
        f"ELSE {_KEPT} END FROM back WHERE {REMOVED} OR ({RESTORED}) OR {KEPT} "
        "ON CONFLICT(id) DO UPDATE SET fate = excluded.fate WHERE excluded.fate > fate.fate"
    )


def count_fates(work: Workspace) -> tuple[int, int, int]:
    """How many customers were restored, removed and kept."""
    counts = dict(work.all("SELECT fate, count(*) FROM fate GROUP BY fate"))
    return counts.get(_RESTORED, 0), counts.get(_REMOVED, 0), counts.get(_KEPT, 0)
