"""What an undo does to customers on the whole: conflicts, and where changes are taken back one by one, their fates.

A customer counts once: removed where it is gone in the end, else restored where anything came back, else kept. A conflict
counts once for a customer and a field; the newest change tells what the batch wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from storage.batch_transaction import BatchTransaction
from storage.undo.plan_sql import IS_KEPT, IS_REMOVED, IS_RESTORED

ROWS_PER_CHUNK = 500

# By what wins.
_KEPT_OUTCOME, _RESTORED_OUTCOME, _REMOVED_OUTCOME = 1, 2, 3

ConflictRow = tuple[int, str, str, str, str]


def add_conflicts(work: BatchTransaction, conflicts_so_far: int, rows: Iterable[ConflictRow]) -> int:
    """Note conflicts: (customer, field, code, written, current) behind the `known` ones. Returns how many are known now."""
    remaining = iter(rows)

    def chunks() -> Iterator[Sequence[Sequence[object]]]:
        nonlocal conflicts_so_far
        while chunk := list(islice(remaining, ROWS_PER_CHUNK)):
            yield [(conflicts_so_far + n, *row) for n, row in enumerate(chunk)]
            conflicts_so_far += len(chunk)

    work.fill("conflict", ("n", "id", "field", "code", "written", "stands"), chunks())
    return conflicts_so_far


def mark_conflicts(work: BatchTransaction, conflicts_so_far: int) -> None:
    """Mark the customers that have a conflict which is not among the `known` ones, or miss a key somebody else has."""
    work.execute(
        "UPDATE undo_customer SET blocked = 1 WHERE id IN (SELECT id FROM conflict WHERE n >= :known)",
        known=conflicts_so_far,
    )
    work.execute("UPDATE undo_customer SET blocked = 1 WHERE id IN (SELECT id FROM undo_key WHERE blocked = 1)")


def list_conflicts(work: BatchTransaction, account: int) -> Iterator[tuple[str, str, str, str]]:
    """(code, field, written, current), by customers, then those who are there or not. Nothing of who is removed.

    A customer is named by the code that it has afterwards, so that it can be looked up.
    """
    return work.rows(
        "SELECT coalesce(r.value, c.code, q.code), q.field, q.written, q.stands FROM (SELECT q.*, "
        "row_number() OVER (PARTITION BY q.id, q.field ORDER BY q.n) AS place FROM conflict q) q "
        "LEFT JOIN customer c ON c.account_id = :account AND c.id = q.id "
        "LEFT JOIN undo_key r ON r.id = q.id AND r.kind = 'code' AND r.blocked = 0 "
        "WHERE q.place = 1 AND NOT EXISTS "
        f"(SELECT 1 FROM undo_outcome f WHERE f.id = q.id AND f.outcome = {_REMOVED_OUTCOME}) "
        "ORDER BY CASE WHEN q.field = 'customer' THEN 1 ELSE 0 END, q.id, q.n",
        account=account,
    )


def add_outcomes(work: BatchTransaction) -> None:
    """Add what the plan in `back` makes of each customer to what became of it so far."""
    work.execute(
        f"INSERT INTO undo_outcome(id, outcome) SELECT id, CASE WHEN {IS_REMOVED} THEN {_REMOVED_OUTCOME} "
        f"WHEN {IS_RESTORED} THEN {_RESTORED_OUTCOME} ELSE {_KEPT_OUTCOME} END "
        f"FROM undo_customer WHERE {IS_REMOVED} OR ({IS_RESTORED}) OR {IS_KEPT} "
        "ON CONFLICT(id) DO UPDATE SET outcome = excluded.outcome WHERE excluded.outcome > undo_outcome.outcome"
    )


def count_outcomes(work: BatchTransaction) -> tuple[int, int, int]:
    """How many customers were restored, removed and kept."""
    counts = dict(work.all("SELECT outcome, count(*) FROM undo_outcome GROUP BY outcome"))
    return counts.get(_RESTORED_OUTCOME, 0), counts.get(_REMOVED_OUTCOME, 0), counts.get(_KEPT_OUTCOME, 0)
