"""What a sender learns of its rows: the codes and cards of rows that came without a code, and cards that were made."""

from __future__ import annotations

from collections.abc import Iterator

from storage.workspace import Workspace


def made(work: Workspace, account: int, base: int | None) -> Iterator[tuple[int, str, str | None]]:
    """(row, code, card number) in row order. `base`: new customers' numbers start after it; None: nothing was made up."""
    with work.sorting():
        yield from work.rows(REAL if base is not None else PREVIEW, account=account)


# Rows of stored customers, rows that make one, and later rows of those. Keys that the batch changes count as changed.
_STORED = (
    'SELECT s."row" AS r, coalesce(t.new_code, c.code) AS code, coalesce(t.new_card, c.card_number) AS card FROM hit h '
    '{{then}} stage s ON s."row" = h."row" {{then}} {{customer}} = h.id '
    "LEFT JOIN target t ON t.id = h.id{stored}"
)
_MADE = (
    'SELECT s."row", coalesce(m.code, g.code), coalesce(m.card_number, g.card_number) FROM made m '
    '{{then}} stage g ON g."row" = m."row" {{then}} stage s ON s."row" = m."row"{made}'
)
_LATER = (
    'SELECT s."row", coalesce(m.code, g.code), coalesce(m.card_number, g.card_number) FROM follow f '
    '{{then}} made m ON m."row" = f.first_row {{then}} stage g ON g."row" = m."row" '
    '{{then}} stage s ON s."row" = f."row" WHERE f.id IS NULL AND s.code IS NULL{later}'
)
_ALL = _STORED + " UNION ALL " + _MADE + " UNION ALL " + _LATER + " ORDER BY 1"

# Joined, for lists in an OR PostgreSQL would read from end to end for every row, once they do not fit its memory.
_ROW_CARD = " LEFT JOIN fresh r ON r.kind = 'row_card' AND r.ref = s.\"row\""

REAL = _ALL.format(
    stored=_ROW_CARD + ' LEFT JOIN fresh f ON f.kind = \'stored_card\' AND f.ref = t.id AND t."row" = h."row" '
    "WHERE s.code IS NULL OR r.ref IS NOT NULL OR f.ref IS NOT NULL",
    made=_ROW_CARD + " LEFT JOIN fresh f ON f.kind = 'made_card' AND f.ref = m.n "
    "WHERE s.code IS NULL OR r.ref IS NOT NULL OR f.ref IS NOT NULL",
    later="",
)
PREVIEW = _ALL.format(
    stored=" WHERE s.code IS NULL",
    made=" WHERE s.code IS NULL AND m.code IS NOT NULL",
    later=" AND coalesce(m.code, g.code) IS NOT NULL",
)
