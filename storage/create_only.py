"""Mode `create`: remove the rows that match a stored customer from the plan.

importing/planning/dependent_rows.py refuses the dependent ones.
"""

from __future__ import annotations

from collections.abc import Iterator

from storage.batch_transaction import BatchTransaction


def list_matched(work: BatchTransaction, account: int) -> Iterator[tuple[int, str | None, str | None, int]]:
    """The rows that matched, in order: row, code, card number, and 1 where it is the code that matched."""
    return work.rows(
        'SELECT h."row", s.code, s.card_number, CASE WHEN c.code = s.code THEN 1 ELSE 0 END FROM match h '
        '{then} stage s ON s."row" = h."row" {then} customer c ON c.account_id = :account AND c.id = h.id '
        'ORDER BY h."row"',
        account=account,
    )


def drop_matched(work: BatchTransaction) -> None:
    """Go on as if the matched rows had been bad from the first."""
    work.execute('DELETE FROM stage WHERE "row" IN (SELECT "row" FROM match)')
    work.execute("DELETE FROM target")
    work.execute("DELETE FROM match")
