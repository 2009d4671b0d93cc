"""Statements that find the rows of a batch which meet: another row, another row's customer, or somebody else's key.

They go into `careful`, and are taken one by one (importing/planning/dependent_rows.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from storage.batch_transaction import BatchTransaction
from storage.write_modes import BatchShape


def statements(shape: BatchShape, *, renamed: bool) -> Iterator[str]:
    """Statements that find rows with a key of another customer, that customer's rows, and two rows with one value.

    `renamed`: some row gives its customer another code or card.
    """
    if renamed and "card_number" in shape.columns:
        yield _set_aside_owners(CARDS_OF_OTHERS)
    if "username_key" in shape.columns:
        yield SHARED_USERNAMES
        yield _set_aside_owners(USERNAMES_OF_OTHERS)
    if shape.uniques:
        yield SHARED_VALUES
        yield _set_aside_owners(VALUES_OF_OTHERS)


def key_statements(shape: BatchShape) -> Iterator[str]:
    """Statements that find rows which give the same code or take the same card."""
    if "code" in shape.columns:
        yield SHARED_CODES
    if "card_number" in shape.columns:
        yield SHARED_CARDS
        yield _set_aside_owners(DEPENDENT_CARDS_OF_OTHERS)


def has_shared_keys(work: BatchTransaction, shape: BatchShape) -> bool:
    """Whether two rows would give their customers one code or card, where every customer has one row: the unique keys' view."""
    with work.sorting():
        return any(
            work.number(HAS_SHARED_KEY.format(key=key, new=new))
            for key, new in (("code", "new_code"), ("card_number", "new_card"))
            if key in shape.columns
        )


def _set_aside_owners(query: str) -> str:
    return _set_aside(
        f'SELECT "row" FROM ({query}) q UNION SELECT "row" FROM match WHERE id IN (SELECT owner FROM ({query}) o)'
    )


def _set_aside(query: str) -> str:
    return f'INSERT INTO dependent_row("row") {query} EXCEPT SELECT "row" FROM dependent_row'


# Half the work of finding the rows themselves, which few batches have: only keys that nobody has yet are looked at.
HAS_SHARED_KEY = (
    "SELECT EXISTS (SELECT 1 FROM (SELECT {key} AS given FROM stage s WHERE {key} IS NOT NULL "
    'AND NOT EXISTS (SELECT 1 FROM match h WHERE h."row" = s."row") '
    "UNION ALL SELECT {new} FROM target WHERE {new} IS NOT NULL) q "
    "GROUP BY given HAVING count(*) > 1)"
)
SHARED_CODES = _set_aside(
    'SELECT "row" FROM stage WHERE code IN '
    "(SELECT code FROM stage WHERE code IS NOT NULL GROUP BY code HAVING count(*) > 1)"
)
SAME_CUSTOMER = _set_aside('SELECT "row" FROM match WHERE id IN (SELECT id FROM match GROUP BY id HAVING count(*) > 1)')
# Cards that a row would take: new customers' and changed ones; a card that stays its customer's is no meeting. `target`
# tells of a customer's first row only: where there are several, the cards of all of them count.
SHARED_CARDS = _set_aside(
    'SELECT "row" FROM stage WHERE card_number IN (SELECT card_number FROM ('
    'SELECT "row", card_number FROM stage s WHERE card_number IS NOT NULL '
    'AND NOT EXISTS (SELECT 1 FROM match h WHERE h."row" = s."row") '
    'UNION SELECT "row", new_card FROM target WHERE new_card IS NOT NULL '
    'UNION SELECT "row", card_number FROM stage WHERE card_number IS NOT NULL AND "row" IN (SELECT "row" FROM dependent_row)'
    ") q GROUP BY card_number HAVING count(*) > 1)"
)
CARDS_OF_OTHERS = (
    'SELECT t."row", c.id AS owner FROM target t {then} customer c ON c.account_id = :account '
    "AND c.card_number = t.new_card AND c.id <> t.id WHERE t.new_card IS NOT NULL"
)
DEPENDENT_CARDS_OF_OTHERS = (
    'SELECT s."row", c.id AS owner FROM dependent_row k {then} stage s ON s."row" = k."row" '
    "{then} customer c ON c.account_id = :account AND c.card_number = s.card_number"
)
SHARED_USERNAMES = _set_aside(
    "SELECT \"row\" FROM stage WHERE username_key IN (SELECT username_key FROM stage WHERE username_key <> '' "
    "GROUP BY username_key HAVING count(*) > 1)"
)
USERNAMES_OF_OTHERS = (
    'SELECT s."row", c.id AS owner FROM stage s {then} customer c ON c.account_id = :account '
    'AND c.username_key = s.username_key LEFT JOIN match h ON h."row" = s."row" '
    "WHERE s.username_key <> '' AND h.id {differs} c.id"
)
SHARED_VALUES = _set_aside(
    "SELECT t.\"row\" FROM unique_claim t {then} (SELECT number, value FROM unique_claim WHERE value <> '' "
    "GROUP BY number, value HAVING count(*) > 1) q ON q.number = t.number AND q.value = t.value"
)
VALUES_OF_OTHERS = (
    'SELECT t."row", u.customer_id AS owner FROM unique_claim t {then} unique_value u ON u.account_id = :account '
    'AND u.number = t.number AND u.value = t.value LEFT JOIN match h ON h."row" = t."row" '
    "WHERE h.id {differs} u.customer_id"
)
