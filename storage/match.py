"""Match and plan by set: which stored customer each staged row matches, and what shall happen to whom.

The statements are the same for 3 rows and for 3,000,000. Rows that share a customer or a key with another row, or take
another customer's key, are set aside in `dependent_row`; importing/planning/dependent_rows.py resolves those one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from storage import unique_values
from storage.batch_transaction import BatchTransaction
from storage.sql_connection import PendingResult
from storage.sql_dialect import Dialect
from storage.write_modes import IGNORE, BatchShape, change_conditions


@dataclass(frozen=True, slots=True)
class DependentRow:
    """The keys of a dependent row. `unique` maps "username" or a custom field's number to a value; "" gives it up.

    The user name is case-folded there; `username` is as the row gives it.
    """

    row: int
    code: str | None
    card_number: str | None
    unique: dict[str | int, str]
    username: str = ""


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """A stored customer that holds a key which a dependent row gives, with all of its keys."""

    id: int
    code: str | None
    card_number: str | None
    unique: dict[str | int, str] = field(default_factory=dict)


class MatchCounts(NamedTuple):
    """How many rows matched a stored customer, and whether there are dependent ones, which do not count yet.

    Of the matched customers, `unmarked` are not changed by the rows (campaigns apart), and `renamed` get another code or
    card.
    """

    matches: int
    dependent: bool
    unmarked: int
    renamed: int


# A later row of a customer: the row, the customer's first row, its number where it is stored, whether it is ignored (1).
LaterRow = tuple[int, int, int | None, int]


def match(
    work: BatchTransaction, shape: BatchShape, account: int, rows: int, *, assume_unique_keys: bool = False
) -> MatchCounts:
    """Find what each of so many staged rows matches, fill `target`, and set dependent rows aside.

    `assume_unique_keys`: do not look for new customers with the same code or card; the unique keys refuse those.
    """
    dependent = 0
    results: list[PendingResult] = []
    for statement in _match_statements(shape, work.dialect):
        # PostgreSQL has only one, and is not asked in between.
        if not results or results[0].count < rows:
            results.append(work.send(statement, account=account))
    work.analyze("match")
    for number in shape.uniques:
        work.send(_claim_unique(number))
    if shape.uniques:
        work.analyze("unique_claim")
    targets = _fill_target(work, shape, account, again=False)
    target_counts = work.send(COUNT_TARGETS)
    matches = sum(result.count for result in results)
    if targets.count < matches:
        dependent += work.execute(SAME_CUSTOMER)
    unmarked, renamed = map(int, target_counts.rows[0])
    for statement in _dependence_statements(shape, renamed=renamed > 0):
        dependent += work.execute(statement, account=account)
    if dependent or (not assume_unique_keys and _has_shared_keys(work, shape)):
        for statement in _shared_key_statements(shape):
            dependent += work.execute(statement, account=account)
    if dependent:
        work.analyze("dependent_row")
        work.execute('DELETE FROM match WHERE "row" IN (SELECT "row" FROM dependent_row)')
        work.execute('DELETE FROM target WHERE "row" IN (SELECT "row" FROM dependent_row)')
    return MatchCounts(matches, dependent > 0, unmarked, renamed)


def compare_dependent_rows(work: BatchTransaction, shape: BatchShape, account: int) -> None:
    """Fill `target` with the customers of dependent rows too, comparing each with its first row."""
    _fill_target(work, shape, account, again=True)


def list_dependent_rows(work: BatchTransaction) -> Iterator[DependentRow]:
    """The dependent rows in row order."""
    dependent = 'WHERE "row" IN (SELECT "row" FROM dependent_row) ORDER BY "row"'
    claims = work.rows(f'SELECT "row", number, value FROM unique_claim {dependent}')
    rows = work.rows(f'SELECT "row", code, card_number, username_key, customer_username FROM stage {dependent}')
    for (row, code, card, _key, username), unique in _with_unique_values(rows, claims):
        yield DependentRow(row, code, card, unique, username or "")


def _with_unique_values(
    rows: Iterator[tuple[Any, ...]], values: Iterator[tuple[int, int, str]]
) -> Iterator[tuple[tuple[Any, ...], dict[str | int, str]]]:
    """Rows (id, code, card number, user name's key, …) with their unique values, which are (id, number, value) by id."""
    next_value = next(values, None)
    for row in rows:
        unique: dict[str | int, str] = {} if row[3] is None else {"username": row[3]}
        while next_value is not None and next_value[0] == row[0]:
            unique[next_value[1]] = next_value[2]
            next_value = next(values, None)
        yield row, unique


def list_key_owners(work: BatchTransaction, shape: BatchShape, account: int) -> Iterator[KeyOwner]:
    """The stored customers that hold a key which a dependent row gives."""
    queries = [
        f'SELECT c.id FROM dependent_row k {{join}} stage s ON s."row" = k."row" '
        f"{{join}} customer c ON c.account_id = :account AND c.{key} = s.{key}"
        for key in ("code", "card_number", "username_key")
        if key in shape.columns
    ]
    if shape.uniques:
        queries.append(
            'SELECT u.customer_id FROM dependent_row k {join} unique_claim t ON t."row" = k."row" '
            "{join} unique_value u ON u.account_id = :account AND u.number = t.number AND u.value = t.value"
        )
    ids = " UNION ".join(queries)
    values: Iterator[tuple[Any, ...]] = iter(())
    if shape.account_uniques:
        values = work.rows(
            f"SELECT customer_id, number, value FROM unique_value WHERE account_id = :account AND customer_id IN ({ids}) "
            "ORDER BY customer_id",
            account=account,
        )
    rows = work.rows(
        f"SELECT id, code, card_number, username_key FROM customer WHERE account_id = :account AND id IN ({ids}) "
        "ORDER BY id",
        account=account,
    )
    for (number, code, card, _key), unique in _with_unique_values(rows, values):
        yield KeyOwner(number, code, card, unique)


def store_resolved_rows(
    work: BatchTransaction,
    matches: Iterable[Sequence[tuple[int, int]]],
    later_rows: Iterable[Sequence[LaterRow]],
    bad_rows: Sequence[int],
) -> None:
    """Store what became of the dependent rows: (row, customer) matches, later rows, and rows that have a problem."""
    work.fill("match", ("row", "id"), matches)
    work.fill("later_row", ("row", "first_row", "id", "ignored"), later_rows)
    work.analyze("match", "later_row")
    work.execute(
        "UPDATE later_row SET amount = s.amount, item_id = s.item_id FROM stage s "
        'WHERE s."row" = later_row."row" AND later_row.ignored = 0'
    )
    work.fill_rows("rejected_row", ("row",), ((row,) for row in bad_rows))
    work.analyze("rejected_row")
    work.execute('DELETE FROM stage WHERE "row" IN (SELECT "row" FROM rejected_row)')


def count_matched(work: BatchTransaction) -> int:
    """How many rows matched a customer, stored or created by an earlier row."""
    later = work.number("SELECT count(*) FROM later_row WHERE id IS NULL") if work.filled("later_row") else 0
    return later + (work.number("SELECT count(*) FROM match") if work.filled("match") else 0)


def clear_targets(work: BatchTransaction) -> None:
    """Leave every matched customer alone: mode `ignore`."""
    work.execute("DELETE FROM target")


def list_matched(work: BatchTransaction, account: int) -> Iterator[tuple[int, str | None, str | None, int]]:
    """The rows that matched, in order: row, code, card number, and 1 where it is the code that matched."""
    return work.rows(
        'SELECT h."row", s.code, s.card_number, CASE WHEN c.code = s.code THEN 1 ELSE 0 END FROM match h '
        '{join} stage s ON s."row" = h."row" {join} customer c ON c.account_id = :account AND c.id = h.id '
        'ORDER BY h."row"',
        account=account,
    )


def drop_matched(work: BatchTransaction) -> None:
    """Go on as if the matched rows had been rejected from the first: mode `create`."""
    work.execute('DELETE FROM stage WHERE "row" IN (SELECT "row" FROM match)')
    work.execute("DELETE FROM target")
    work.execute("DELETE FROM match")


def store_new_keys(work: BatchTransaction, stored: Sequence[tuple[int, str | None, str | None]]) -> None:
    """Store the keys that customers of dependent rows end with: (customer, new code or None, new card or None)."""
    if not stored:
        return
    _store_keys(work, "stored", stored)
    work.execute(
        "UPDATE target SET new_code = k.code, new_card = k.card_number FROM keys k "
        "WHERE k.kind = 'stored' AND k.ref = target.id"
    )


def fill_new_customers(work: BatchTransaction, keys: Sequence[tuple[int, str | None, str | None]]) -> int:
    """Fill `new_customer` with the rows that create one. `keys`: (row, code, card) of dependent ones. Returns how many."""
    # NOT EXISTS, never NOT IN: beyond what fits its memory PostgreSQL would read all of a list for every row.
    later = ' AND NOT EXISTS (SELECT 1 FROM later_row f WHERE f."row" = s."row")' if work.filled("later_row") else ""
    count = work.execute(
        'INSERT INTO new_customer(n, "row", amount, item_id, points) SELECT {next_n}, s."row", s.amount, s.item_id, s.amount '
        "FROM stage s "
        f'WHERE NOT EXISTS (SELECT 1 FROM match h WHERE h."row" = s."row"){later} ORDER BY s."row"'
    )
    if keys:
        _store_keys(work, "new_customer", keys)
        work.execute(
            "UPDATE new_customer SET code = k.code, card_number = k.card_number FROM keys k "
            "WHERE k.kind = 'new_customer' AND k.ref = new_customer.\"row\""
        )
    work.analyze("new_customer")
    return count


def _store_keys(work: BatchTransaction, kind: str, keys: Sequence[tuple[int, str | None, str | None]]) -> None:
    work.fill_rows("keys", ("kind", "ref", "code", "card_number"), ((kind, *key) for key in keys))
    work.analyze("keys")


def _fill_target(work: BatchTransaction, shape: BatchShape, account: int, *, again: bool) -> PendingResult:
    targets = work.send(_compare_statement(shape, work.dialect, again), account=account)
    work.analyze("target")
    return targets


def mark_changed(work: BatchTransaction, account: int, campaigns: tuple[int, ...], unmarked: int | None = None) -> int:
    """Mark the customers that the batch changes: a field, points, or a campaign that they had not joined.

    Returns how many it does not change. `unmarked`: how many are not marked yet, where that is known.
    """
    if unmarked is None:
        unmarked = int(work.one(COUNT_TARGETS)[0]) if work.filled("target") else 0
    if unmarked:
        unmarked -= work.execute("UPDATE target SET touched = 1 WHERE touched = 0 AND changed = 1")
    for campaign in campaigns:
        if unmarked:
            unmarked -= work.execute(NEWLY_ENROLLED, account=account, campaign=campaign)
    return unmarked


@lru_cache(maxsize=500)
def _match_statements(shape: BatchShape, dialect: Dialect) -> tuple[str, ...]:
    return dialect.match_statements([key for key in ("code", "card_number") if key in shape.columns])


@lru_cache(maxsize=200)
def _claim_unique(number: int) -> str:
    value, is_present = unique_values.value_sql(number, "s"), unique_values.is_present_sql(number, "s")
    return (
        f'INSERT INTO unique_claim("row", number, value) SELECT s."row", {number}, coalesce({value}, \'\') '
        f"FROM stage s WHERE {is_present}"
    )


@lru_cache(maxsize=500)
def _compare_statement(shape: BatchShape, dialect: Dialect, again: bool) -> str:
    code = "CASE WHEN s.code <> c.code THEN s.code END" if "code" in shape.columns else "NULL"
    card = (
        "CASE WHEN s.card_number IS NOT NULL AND s.card_number {differs} c.card_number THEN s.card_number END"
        if "card_number" in shape.columns
        else "NULL"
    )
    conditions = []
    if shape.mode != IGNORE:
        conditions = [f"({key}) IS NOT NULL" for key in (code, card) if key != "NULL"]
        conditions += change_conditions(shape, dialect)
        if shape.makes_cards:
            staged = "s.card_number IS NULL AND " if "card_number" in shape.columns else ""
            conditions.append(f"({staged}c.card_number IS NULL)")
    if shape.is_preview:
        conditions = ["s.amount IS NOT NULL", *conditions]
    changed = f"CASE WHEN {' OR '.join(conditions)} THEN 1 ELSE 0 END" if conditions else "0"
    rest = "WHERE NOT EXISTS (SELECT 1 FROM target t WHERE t.id = match.id)" if again else ""
    # The first row of a customer acts here; where there are several, all of them turn out to be dependent.
    return (
        'INSERT {or_ignore}INTO target(id, "row", amount, item_id, points, new_code, new_card, changed, touched) '
        f'SELECT {{distinct_customers}}h.id, h."row", s.amount, s.item_id, s.amount, {code}, {card}, {changed}, '
        "CASE WHEN s.amount IS NOT NULL THEN 1 ELSE 0 END "
        f'FROM (SELECT id, "row" FROM match {rest} ORDER BY id, "row") h '
        '{join} {customer} = h.id {join} stage s ON s."row" = h."row"{order_customers}'
    )


def _dependence_statements(shape: BatchShape, *, renamed: bool) -> Iterator[str]:
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


def _shared_key_statements(shape: BatchShape) -> Iterator[str]:
    """Statements that find rows which give the same code or take the same card."""
    if "code" in shape.columns:
        yield SHARED_CODES
    if "card_number" in shape.columns:
        yield SHARED_CARDS
        yield _set_aside_owners(DEPENDENT_CARDS_OF_OTHERS)


def _has_shared_keys(work: BatchTransaction, shape: BatchShape) -> bool:
    """Whether two rows give two customers the same code or card, where every customer has one row."""
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


# Half the work of finding the rows themselves, which few batches have: only keys that nobody has yet are compared.
HAS_SHARED_KEY = (
    "SELECT EXISTS (SELECT 1 FROM (SELECT {key} AS value FROM stage s WHERE {key} IS NOT NULL "
    'AND NOT EXISTS (SELECT 1 FROM match h WHERE h."row" = s."row") '
    "UNION ALL SELECT {new} FROM target WHERE {new} IS NOT NULL) q "
    "GROUP BY value HAVING count(*) > 1)"
)
SHARED_CODES = _set_aside(
    'SELECT "row" FROM stage WHERE code IN '
    "(SELECT code FROM stage WHERE code IS NOT NULL GROUP BY code HAVING count(*) > 1)"
)
SAME_CUSTOMER = _set_aside('SELECT "row" FROM match WHERE id IN (SELECT id FROM match GROUP BY id HAVING count(*) > 1)')
# Cards that a row would take: new customers' and changed ones, not a card that stays its customer's. `target` has a
# customer's first row only: where there are several, the cards of all of them count.
SHARED_CARDS = _set_aside(
    'SELECT "row" FROM stage WHERE card_number IN (SELECT card_number FROM ('
    'SELECT "row", card_number FROM stage s WHERE card_number IS NOT NULL '
    'AND NOT EXISTS (SELECT 1 FROM match h WHERE h."row" = s."row") '
    'UNION SELECT "row", new_card FROM target WHERE new_card IS NOT NULL '
    'UNION SELECT "row", card_number FROM stage WHERE card_number IS NOT NULL AND "row" IN (SELECT "row" FROM dependent_row)'
    ") q GROUP BY card_number HAVING count(*) > 1)"
)
CARDS_OF_OTHERS = (
    'SELECT t."row", c.id AS owner FROM target t {join} customer c ON c.account_id = :account '
    "AND c.card_number = t.new_card AND c.id <> t.id WHERE t.new_card IS NOT NULL"
)
DEPENDENT_CARDS_OF_OTHERS = (
    'SELECT s."row", c.id AS owner FROM dependent_row k {join} stage s ON s."row" = k."row" '
    "{join} customer c ON c.account_id = :account AND c.card_number = s.card_number"
)
SHARED_USERNAMES = _set_aside(
    "SELECT \"row\" FROM stage WHERE username_key IN (SELECT username_key FROM stage WHERE username_key <> '' "
    "GROUP BY username_key HAVING count(*) > 1)"
)
USERNAMES_OF_OTHERS = (
    'SELECT s."row", c.id AS owner FROM stage s {join} customer c ON c.account_id = :account '
    'AND c.username_key = s.username_key LEFT JOIN match h ON h."row" = s."row" '
    "WHERE s.username_key <> '' AND h.id {differs} c.id"
)
SHARED_VALUES = _set_aside(
    "SELECT t.\"row\" FROM unique_claim t {join} (SELECT number, value FROM unique_claim WHERE value <> '' "
    "GROUP BY number, value HAVING count(*) > 1) q ON q.number = t.number AND q.value = t.value"
)
VALUES_OF_OTHERS = (
    'SELECT t."row", u.customer_id AS owner FROM unique_claim t {join} unique_value u ON u.account_id = :account '
    'AND u.number = t.number AND u.value = t.value LEFT JOIN match h ON h."row" = t."row" '
    "WHERE h.id {differs} u.customer_id"
)
COUNT_TARGETS = (
    "SELECT count(*) FILTER (WHERE touched = 0), "
    "count(*) FILTER (WHERE new_code IS NOT NULL OR new_card IS NOT NULL) FROM target"
)
NEWLY_ENROLLED = (
    "UPDATE target SET touched = 1 WHERE touched = 0 AND NOT EXISTS (SELECT 1 FROM enrolment e WHERE "
    "e.account_id = :account AND e.customer_id = target.id AND e.campaign_id = :campaign AND e.uses > 0)"
)
