"""Generated codes and card numbers: who needs one, which of those drawn are taken, and what senders learn of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from storage.batch_transaction import BatchTransaction

CODE, NEW_CARD, STORED_CARD, ROW_CARD = "code", "new_card", "stored_card", "row_card"

_SELECT_NEEDING = {
    CODE: 'SELECT m.n FROM new_customer m {join} stage s ON s."row" = m."row" '
    "WHERE coalesce(m.code, s.code) IS NULL ORDER BY m.n",
    NEW_CARD: 'SELECT m.n FROM new_customer m {join} stage s ON s."row" = m."row" '
    "WHERE coalesce(m.card_number, s.card_number) IS NULL ORDER BY m.n",
    STORED_CARD: "SELECT t.id FROM target t {join} {customer} = t.id "
    "WHERE t.new_card IS NULL AND c.card_number IS NULL ORDER BY t.id",
}


def list_needing(work: BatchTransaction, kind: str, account: int) -> Iterator[int]:
    """Who needs a number: `n` of `new_customer`, or the customer's id for STORED_CARD."""
    for (ref,) in work.rows(_SELECT_NEEDING[kind], account=account):
        yield ref


def store_drawn(work: BatchTransaction, kind: str, drawn: Iterable[tuple[int, str]]) -> None:
    """Store drawn numbers: (who, number)."""
    work.fill_rows("generated_key", ("kind", "ref", "value"), ((kind, ref, value) for ref, value in drawn))
    work.analyze("generated_key")


def store_card_rows(work: BatchTransaction, rows: Iterable[int]) -> None:
    """Store rows that get a generated card, whether or not a later row of the batch gives another."""
    work.fill_rows("generated_key", ("kind", "ref", "value"), ((ROW_CARD, row, "") for row in rows))


def replace_drawn(work: BatchTransaction, drawn: Iterable[tuple[str, int, str]]) -> None:
    """Replace drawn numbers: (kind, who, number)."""
    work.many(
        "UPDATE generated_key SET value = :value WHERE kind = :kind AND ref = :ref",
        [{"kind": kind, "ref": ref, "value": value} for kind, ref, value in drawn],
    )


def list_taken(work: BatchTransaction, key: str, account: int) -> list[tuple[str, int]]:
    """(kind, who) of the drawn codes or card numbers that the store, the batch or another draw has already."""
    kinds = f"('{CODE}')" if key == "code" else f"('{NEW_CARD}', '{STORED_CARD}')"
    # Three queries, not one with OR: beyond what fits its memory PostgreSQL would read all of a list for every draw.
    conditions = (
        f"EXISTS (SELECT 1 FROM customer c WHERE c.account_id = :account AND c.{key} = f.value)",
        f"f.value IN (SELECT {key} FROM stage WHERE {key} IS NOT NULL)",
        f"f.value IN (SELECT value FROM generated_key WHERE kind IN {kinds} GROUP BY value HAVING count(*) > 1)",
    )
    queries = (f"SELECT f.kind, f.ref FROM generated_key f WHERE f.kind IN {kinds} AND {each}" for each in conditions)
    with work.sorting():
        return [(kind, ref) for kind, ref in work.rows(" UNION ".join(queries), account=account)]


def numbers_in_use(work: BatchTransaction, digits: int, account: int) -> Iterator[str]:
    """All card numbers of a length that the store or the batch has; not the drawn ones."""
    for (value,) in work.rows(
        "SELECT card_number FROM customer WHERE account_id = :account AND length(card_number) = :digits "
        "UNION SELECT card_number FROM stage WHERE length(card_number) = :digits",
        account=account,
        digits=digits,
    ):
        yield value


def assign_drawn(work: BatchTransaction) -> None:
    """Give the drawn numbers to those who need them."""
    if not work.filled("generated_key"):
        return
    for kind, table, column, ref in (
        (CODE, "new_customer", "code", "n"),
        (NEW_CARD, "new_customer", "card_number", "n"),
        (STORED_CARD, "target", "new_card", "id"),
    ):
        work.execute(
            f"UPDATE {table} SET {column} = f.value FROM generated_key f WHERE f.kind = '{kind}' AND f.ref = {table}.{ref}"
        )


def list_assigned_keys(
    work: BatchTransaction, account: int, *, is_preview: bool
) -> Iterator[tuple[int, str, str | None]]:
    """What the sender learns of its rows without a code, or with a generated card: (row, code, card number) in row order.

    `is_preview`: nothing was generated.
    """
    with work.sorting():
        yield from work.rows(SELECT_PREVIEW if is_preview else SELECT_ASSIGNED, account=account)


# Rows of stored customers, rows that create one, and later rows of those. Keys that the batch changes count as changed.
_OF_STORED = (
    'SELECT s."row" AS r, coalesce(t.new_code, c.code) AS code, coalesce(t.new_card, c.card_number) AS card FROM match h '
    '{{join}} stage s ON s."row" = h."row" {{join}} {{customer}} = h.id '
    "LEFT JOIN target t ON t.id = h.id{stored}"
)
_OF_NEW = (
    'SELECT s."row", coalesce(m.code, g.code), coalesce(m.card_number, g.card_number) FROM new_customer m '
    '{{join}} stage g ON g."row" = m."row" {{join}} stage s ON s."row" = m."row"{new_customer}'
)
_OF_LATER_ROWS = (
    'SELECT s."row", coalesce(m.code, g.code), coalesce(m.card_number, g.card_number) FROM later_row f '
    '{{join}} new_customer m ON m."row" = f.first_row {{join}} stage g ON g."row" = m."row" '
    '{{join}} stage s ON s."row" = f."row" WHERE f.id IS NULL AND s.code IS NULL{later}'
)
_ALL_ROWS = _OF_STORED + " UNION ALL " + _OF_NEW + " UNION ALL " + _OF_LATER_ROWS + " ORDER BY 1"

# Joined, for lists in an OR PostgreSQL would read from end to end for every row, once they do not fit its memory.
_JOIN_ROW_CARD = " LEFT JOIN generated_key r ON r.kind = 'row_card' AND r.ref = s.\"row\""

SELECT_ASSIGNED = _ALL_ROWS.format(
    stored=_JOIN_ROW_CARD
    + ' LEFT JOIN generated_key f ON f.kind = \'stored_card\' AND f.ref = t.id AND t."row" = h."row" '
    "WHERE s.code IS NULL OR r.ref IS NOT NULL OR f.ref IS NOT NULL",
    new_customer=_JOIN_ROW_CARD + " LEFT JOIN generated_key f ON f.kind = 'new_card' AND f.ref = m.n "
    "WHERE s.code IS NULL OR r.ref IS NOT NULL OR f.ref IS NOT NULL",
    later="",
)
SELECT_PREVIEW = _ALL_ROWS.format(
    stored=" WHERE s.code IS NULL",
    new_customer=" WHERE s.code IS NULL AND m.code IS NOT NULL",
    later=" AND coalesce(m.code, g.code) IS NOT NULL",
)
