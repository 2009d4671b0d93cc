"""Match and plan by set: what each staged row meets in the store, and what shall happen to whom.

The statements are the same for 3 rows and for 3,000,000. Rows that meet another row of the batch, or the customer of
another row, are set aside as `dependent_row`;
importing/planning/dependent_rows.py takes those one by one and returns what became of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from storage import dependent_rows, unique_values
from storage.batch_transaction import BatchTransaction
from storage.sql_connection import PendingResult
from storage.write_modes import IGNORE, BatchShape, change_conditions


@dataclass(frozen=True, slots=True)
class DependentRow:
    """The keys of a careful row. `unique` maps "username" or a custom field's number to a value; "" gives it up.

    The user name is case-folded there; `username` is as it was given.
    """

    row: int
    code: str | None
    card_number: str | None
    unique: dict[str | int, str]
    username: str = ""


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """A stored customer that a careful row meets, with the keys that it holds."""

    id: int
    code: str | None
    card_number: str | None
    unique: dict[str | int, str] = field(default_factory=dict)


class MatchCounts(NamedTuple):
    """How many rows matched a stored customer, and whether there are careful ones, which do not count yet.

    Of the customers that they matched, how many are left `untouched` by the rows, campaigns apart, and how many `renamed`
    (given another code or card).
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
    """Find what each of so many staged rows matches, fill `target`, and set careful rows aside.

    `trusting`: do not look for new customers who would get the same code or card; the unique keys refuse those.
    """
    dependent = 0
    found: list[PendingResult] = []
    for statement in _match_statements(shape, work.sqlite):
        # PostgreSQL has only one, and is not asked in between.
        if not found or found[0].count < rows:
            found.append(work.send(statement, account=account))
    work.analyze("match")
    for number in shape.uniques:
        work.send(_claim_unique(number, work.sqlite))
    if shape.uniques:
        work.analyze("unique_claim")
    targets = _fill_target(work, shape, account, again=False)
    target_counts = work.send(COUNT_TARGETS)
    matches = sum(sent.count for sent in found)
    if targets.count < matches:
        dependent += work.execute(dependent_rows.SAME_CUSTOMER)
    unmarked, renamed = map(int, target_counts.rows[0])
    for statement in dependent_rows.statements(shape, renamed=renamed > 0):
        dependent += work.execute(statement, account=account)
    if dependent or (not assume_unique_keys and dependent_rows.has_shared_keys(work, shape)):
        for statement in dependent_rows.key_statements(shape):
            dependent += work.execute(statement, account=account)
    if dependent:
        work.analyze("dependent_row")
        work.execute('DELETE FROM match WHERE "row" IN (SELECT "row" FROM dependent_row)')
        work.execute('DELETE FROM target WHERE "row" IN (SELECT "row" FROM dependent_row)')
    return MatchCounts(matches, dependent > 0, unmarked, renamed)


def compare_dependent_rows(work: BatchTransaction, shape: BatchShape, account: int) -> None:
    """Fill `target` with the customers of careful rows too, as the first row of each compares."""
    _fill_target(work, shape, account, again=True)


def list_dependent_rows(work: BatchTransaction) -> Iterator[DependentRow]:
    """The careful rows in row order."""
    unique_claims = work.rows(
        'SELECT "row", number, value FROM unique_claim WHERE "row" IN (SELECT "row" FROM dependent_row) ORDER BY "row"'
    )
    next_claim = next(unique_claims, None)
    for row, code, card, username, given_username in work.rows(
        'SELECT "row", code, card_number, username_key, customer_username FROM stage '
        'WHERE "row" IN (SELECT "row" FROM dependent_row) ORDER BY "row"'
    ):
        unique: dict[str | int, str] = {} if username is None else {"username": username}
        while next_claim is not None and next_claim[0] == row:
            unique[next_claim[1]] = next_claim[2]
            next_claim = next(unique_claims, None)
        yield DependentRow(row, code, card, unique, given_username or "")


def list_key_owners(work: BatchTransaction, shape: BatchShape, account: int) -> Iterator[KeyOwner]:
    """The stored customers that hold a key which a careful row gives."""
    found = [
        f'SELECT c.id FROM dependent_row k {{then}} stage s ON s."row" = k."row" '
        f"{{then}} customer c ON c.account_id = :account AND c.{key} = s.{key}"
        for key in ("code", "card_number", "username_key")
        if key in shape.columns
    ]
    if shape.uniques:
        found.append(
            'SELECT u.customer_id FROM dependent_row k {then} unique_claim t ON t."row" = k."row" '
            "{then} unique_value u ON u.account_id = :account AND u.number = t.number AND u.value = t.value"
        )
    ids = " UNION ".join(found)
    values = (
        work.rows(
            f"SELECT customer_id, number, value FROM unique_value WHERE account_id = :account AND customer_id IN ({ids}) "
            "ORDER BY customer_id",
            account=account,
        )
        if shape.account_uniques
        else iter(())
    )
    next_claim = next(values, None)
    for number, code, card, username in work.rows(
        f"SELECT id, code, card_number, username_key FROM customer WHERE account_id = :account AND id IN ({ids}) "
        "ORDER BY id",
        account=account,
    ):
        unique: dict[str | int, str] = {} if username is None else {"username": username}
        while next_claim is not None and next_claim[0] == number:
            unique[next_claim[1]] = next_claim[2]
            next_claim = next(values, None)
        yield KeyOwner(number, code, card, unique)


def store_resolved_rows(
    work: BatchTransaction,
    matches: Iterable[Sequence[tuple[int, int]]],
    later_rows: Iterable[Sequence[LaterRow]],
    bad_rows: Sequence[int],
) -> None:
    """Write down what became of the careful rows: (row, customer) hits, later rows, and rows that have a problem."""
    work.fill("match", ("row", "id"), matches)
    work.fill("later_row", ("row", "first_row", "id", "ignored"), later_rows)
    work.analyze("match", "later_row")
    work.execute(
        "UPDATE later_row SET amount = s.amount, item_id = s.item_id FROM stage s "
        'WHERE s."row" = later_row."row" AND later_row.ignored = 0'
    )
    work.fill("rejected_row", ("row",), [[(row,) for row in bad_rows]])
    work.analyze("rejected_row")
    work.execute('DELETE FROM stage WHERE "row" IN (SELECT "row" FROM rejected_row)')


def count_matched(work: BatchTransaction) -> int:
    """How many rows matched a customer, stored or made by an earlier row."""
    later = work.number("SELECT count(*) FROM later_row WHERE id IS NULL") if work.filled("later_row") else 0
    return later + (work.number("SELECT count(*) FROM match") if work.filled("match") else 0)


def clear_targets(work: BatchTransaction) -> None:
    """Leave every matched customer alone: mode `ignore`."""
    work.execute("DELETE FROM target")


def store_new_keys(work: BatchTransaction, stored: Sequence[tuple[int, str | None, str | None]]) -> None:
    """Say what keys careful customers end with: (customer, new code or None, new card or None)."""
    if not stored:
        return
    _store_keys(work, "stored", stored)
    work.execute(
        "UPDATE target SET new_code = k.code, new_card = k.card_number FROM keys k "
        "WHERE k.kind = 'stored' AND k.ref = target.id"
    )


def fill_new_customers(work: BatchTransaction, keys: Sequence[tuple[int, str | None, str | None]]) -> int:
    """Fill `made` with the rows that make a customer. `keys`: (row, code, card) of careful ones. Returns how many."""
    numbered = ('"row"', "") if work.sqlite else ('n, "row"', 'row_number() OVER (ORDER BY s."row"), ')
    # NOT EXISTS, never NOT IN: beyond what fits its memory PostgreSQL would read all of a list for every row.
    later = ' AND NOT EXISTS (SELECT 1 FROM later_row f WHERE f."row" = s."row")' if work.filled("later_row") else ""
    count = work.execute(
        f"INSERT INTO new_customer({numbered[0]}, amount, item_id, points) "
        f'SELECT {numbered[1]}s."row", s.amount, s.item_id, s.amount FROM stage s '
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
    work.fill("keys", ("kind", "ref", "code", "card_number"), [[(kind, *key) for key in keys]])
    work.analyze("keys")


def _fill_target(work: BatchTransaction, shape: BatchShape, account: int, *, again: bool) -> PendingResult:
    targets = work.send(_compare_statement(shape, work.sqlite, again), account=account)
    work.analyze("target")
    return targets


def mark_changed(work: BatchTransaction, account: int, campaigns: tuple[int, ...], unmarked: int | None = None) -> int:
    """Mark the customers on whom the batch leaves a trace: a field, points, or a campaign that they had not joined.

    Returns on how many it leaves none. `untouched` are those of them that are not marked yet, where that is known.
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
def _match_statements(shape: BatchShape, sqlite: bool) -> tuple[str, ...]:
    keys = [key for key in ("code", "card_number") if key in shape.columns]
    if sqlite:
        return tuple(_match_by(key, "code" in keys) for key in keys)
    if len(keys) < 2:
        return tuple(
            f'INSERT INTO match("row", id) SELECT s."row", c.id FROM stage s '
            f"JOIN customer c ON c.account_id = :account AND c.{key} = s.{key}"
            for key in keys
        )
    return (
        'INSERT INTO match("row", id) SELECT s."row", coalesce(a.id, b.id) FROM stage s '
        "LEFT JOIN customer a ON a.account_id = :account AND a.code = s.code "
        "LEFT JOIN customer b ON a.id IS NULL AND b.account_id = :account AND b.card_number = s.card_number "
        "WHERE a.id IS NOT NULL OR b.id IS NOT NULL",
    )


def _match_by(key: str, codes: bool) -> str:
    # In the order of the key, so that the index is walked and not jumped about in.
    rest = ' AND "row" NOT IN (SELECT "row" FROM match)' if key == "card_number" and codes else ""
    return (
        f'INSERT INTO match("row", id) SELECT s."row", c.id FROM '
        f'(SELECT "row", {key} FROM stage WHERE {key} IS NOT NULL{rest} ORDER BY {key}) s '
        f"CROSS JOIN customer c ON c.account_id = :account AND c.{key} = s.{key}"
    )


@lru_cache(maxsize=200)
def _claim_unique(number: int, sqlite: bool) -> str:
    value, present = unique_values.value_sql(number, "s", sqlite), unique_values.is_present_sql(number, "s", sqlite)
    return (
        f'INSERT INTO unique_claim("row", number, value) SELECT s."row", {number}, coalesce({value}, \'\') '
        f"FROM stage s WHERE {present}"
    )


@lru_cache(maxsize=500)
def _compare_statement(shape: BatchShape, sqlite: bool, again: bool) -> str:
    code = "CASE WHEN s.code <> c.code THEN s.code END" if "code" in shape.columns else "NULL"
    card = (
        "CASE WHEN s.card_number IS NOT NULL AND s.card_number {differs} c.card_number THEN s.card_number END"
        if "card_number" in shape.columns
        else "NULL"
    )
    conditions = []
    if shape.mode != IGNORE:
        conditions = [f"({key}) IS NOT NULL" for key in (code, card) if key != "NULL"]
        conditions += change_conditions(shape, sqlite)
        if shape.makes_cards:
            staged = "s.card_number IS NULL AND " if "card_number" in shape.columns else ""
            conditions.append(f"({staged}c.card_number IS NULL)")
    if shape.is_preview:
        conditions = ["s.amount IS NOT NULL", *conditions]
    changed = f"CASE WHEN {' OR '.join(conditions)} THEN 1 ELSE 0 END" if conditions else "0"
    rest = "WHERE NOT EXISTS (SELECT 1 FROM target t WHERE t.id = match.id)" if again else ""
    # The first row of a customer acts here; where there are several, all of them turn out to be careful.
    one_each, first = ("OR IGNORE ", "") if sqlite else ("", "DISTINCT ON (h.id) ")
    return (
        f'INSERT {one_each}INTO target(id, "row", amount, item_id, points, new_code, new_card, changed, touched) '
        f'SELECT {first}h.id, h."row", s.amount, s.item_id, s.amount, {code}, {card}, {changed}, '
        "CASE WHEN s.amount IS NOT NULL THEN 1 ELSE 0 END "
        f'FROM (SELECT id, "row" FROM match {rest} ORDER BY id, "row") h '
        '{then} {customer} = h.id {then} stage s ON s."row" = h."row" '
        f"{'' if sqlite else 'ORDER BY h.id, h.' + chr(34) + 'row' + chr(34)}"
    )


COUNT_TARGETS = (
    "SELECT coalesce(sum(CASE WHEN touched = 0 THEN 1 ELSE 0 END), 0), "
    "coalesce(sum(CASE WHEN new_code IS NOT NULL OR new_card IS NOT NULL THEN 1 ELSE 0 END), 0) FROM target"
)
NEWLY_ENROLLED = (
    "UPDATE target SET touched = 1 WHERE touched = 0 AND NOT EXISTS (SELECT 1 FROM enrolment e WHERE "
    "e.account_id = :account AND e.customer_id = target.id AND e.campaign_id = :campaign AND e.uses > 0)"
)
