"""What a sender learns of its rows: the codes and cards of rows that came without a code, and cards that were made."""

from __future__ import annotations

from collections.abc import Iterator

from storage.batch_transaction import BatchTransaction


def list_assigned_keys(work: BatchTransaction, account: int, base: int | None) -> Iterator[tuple[int, str, str | None]]:
    """(row, code, card number) in row order. `base`: new customers' numbers start after it; None: nothing was made up."""
    with work.sorting():
        yield from work.rows(SELECT_ASSIGNED if base is not None else SELECT_PREVIEW, account=account)


# Rows of stored customers, rows that make one, and later rows of those. Keys that the batch changes count as changed.
_OF_STORED = (
    'SELECT s."row" AS r, coalesce(t.new_code, c.code) AS code, coalesce(t.new_card, c.card_number) AS card FROM match h '
    '{{then}} stage s ON s."row" = h."row" {{then}} {{customer}} = h.id '
    "LEFT JOIN target t ON t.id = h.id{stored}"
)
_OF_NEW = (
    'SELECT s."row", coalesce(m.code, g.code), coalesce(m.card_number, g.card_number) FROM new_customer m '
    '{{then}} stage g ON g."row" = m."row" {{then}} stage s ON s."row" = m."row"{new_customer}'
)
_OF_LATER_ROWS = (
    'SELECT s."row", coalesce(m.code, g.code), coalesce(m.card_number, g.card_number) FROM later_row f '
    '{{then}} new_customer m ON m."row" = f.first_row {{then}} stage g ON g."row" = m."row" '
    '{{then}} stage s ON s."row" = f."row" WHERE f.id IS NULL AND s.code IS NULL{later}'
)
_ALL_ROWS = _OF_STORED + " UNION ALL " + _OF_NEW + " UNION ALL " + _OF_LATER_ROWS + " ORDER BY 1"

# Joined, for lists in an OR PostgreSQL would read from end to end for every row, once they do not fit its memory.
_JOIN_ROW_CARD = " LEFT JOIN generated_key r ON r.kind = 'row_card' AND r.ref = s.\"row\""

SELECT_ASSIGNED = _ALL_ROWS.format(
    stored=_JOIN_ROW_CARD
    + ' LEFT JOIN generated_key f ON f.kind = \'stored_card\' AND f.ref = t.id AND t."row" = h."row" '
    "WHERE s.code IS NULL OR r.ref IS NOT NULL OR f.ref IS NOT NULL",
    new_customer=_JOIN_ROW_CARD + " LEFT JOIN generated_key f ON f.kind = 'made_card' AND f.ref = m.n "
    "WHERE s.code IS NULL OR r.ref IS NOT NULL OR f.ref IS NOT NULL",
    later="",
)
SELECT_PREVIEW = _ALL_ROWS.format(
    stored=" WHERE s.code IS NULL",
    new_customer=" WHERE s.code IS NULL AND m.code IS NOT NULL",
    later=" AND coalesce(m.code, g.code) IS NOT NULL",
)
