"""Made-up codes and card numbers: who needs one, which of those drawn are taken, and handing them out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from storage.batch_transaction import BatchTransaction

ROWS_PER_CHUNK = 1000
CODE, NEW_CARD, STORED_CARD, ROW_CARD = "code", "made_card", "stored_card", "row_card"

_SELECT_NEEDING = {
    CODE: 'SELECT m.n FROM new_customer m {then} stage s ON s."row" = m."row" '
    "WHERE coalesce(m.code, s.code) IS NULL ORDER BY m.n",
    NEW_CARD: 'SELECT m.n FROM new_customer m {then} stage s ON s."row" = m."row" '
    "WHERE coalesce(m.card_number, s.card_number) IS NULL ORDER BY m.n",
    STORED_CARD: "SELECT t.id FROM target t {then} {customer} = t.id "
    "WHERE t.new_card IS NULL AND c.card_number IS NULL ORDER BY t.id",
}


def list_needing(work: BatchTransaction, kind: str, account: int) -> Iterator[int]:
    """Who needs a number made: `n` of made, or the customer's id for STORED_CARD."""
    for (ref,) in work.rows(_SELECT_NEEDING[kind], account=account):
        yield ref


def store_drawn(work: BatchTransaction, kind: str, drawn: Iterable[tuple[int, str]]) -> None:
    """Note drawn numbers: (who, number)."""
    rows = iter(drawn)
    chunks = iter(lambda: [(kind, ref, value) for ref, value in islice(rows, ROWS_PER_CHUNK)], [])
    work.fill("generated_key", ("kind", "ref", "value"), chunks)
    work.analyze("generated_key")


def store_card_rows(work: BatchTransaction, rows: Iterable[int]) -> None:
    """Note rows that get a card made, whether or not a later row of the batch gives another."""
    work.fill("generated_key", ("kind", "ref", "value"), [[(ROW_CARD, row, "") for row in rows]])


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
    """Give the drawn numbers to those who needed them."""
    if not work.filled("generated_key"):
        return
    work.execute(
        f"UPDATE new_customer SET code = f.value FROM generated_key f WHERE f.kind = '{CODE}' AND f.ref = new_customer.n"
    )
    work.execute(
        "UPDATE new_customer SET card_number = f.value FROM generated_key f "
        f"WHERE f.kind = '{NEW_CARD}' AND f.ref = new_customer.n"
    )
    work.execute(
        f"UPDATE target SET new_card = f.value FROM generated_key f WHERE f.kind = '{STORED_CARD}' AND f.ref = target.id"
    )
