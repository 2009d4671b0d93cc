"""Match and plan by set: what each staged row meets in the store, and what shall happen to whom.

The statements are the same for 3 rows and for 3,000,000. Rows that meet another row of the batch, or the customer of
another row, are set aside as `careful`; importing/resolve.py takes those one by one and hands back what it found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from storage import meetings, uniques
from storage.modes import IGNORE, Shape, changes
from storage.statements import Sent
from storage.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Claim:
    """The keys of a careful row. `unique` maps "username" or a custom field's number to a value; "" gives it up.

    The user name is case-folded there; `username` is as it was given.
    """

    row: int
    code: str | None
    card_number: str | None
    unique: dict[str | int, str]
    username: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """A stored customer that a careful row meets, with the keys that it holds."""

    id: int
    code: str | None
    card_number: str | None
    unique: dict[str | int, str] = field(default_factory=dict)


class Matched(NamedTuple):
    """How many rows matched a stored customer, and whether there are careful ones, which do not count yet.

    Of the customers that they matched, how many are left `untouched` by the rows, campaigns apart, and how many `renamed`
    (given another code or card).
    """

    hits: int
    careful: bool
    untouched: int
    renamed: int


# A later row of a customer: the row, the customer's first row, its number where it is stored, whether it is ignored (1).
Follow = tuple[int, int, int | None, int]


def match(work: Workspace, shape: Shape, account: int, rows: int, *, trusting: bool = False) -> Matched:
    """Find what each of so many staged rows matches, fill `target`, and set careful rows aside.

    `trusting`: do not look for new customers who would get the same code or card; the unique keys refuse those.
    """
    careful = 0
    found: list[Sent] = []
    for statement in _hits(shape, work.sqlite):
        # PostgreSQL has only one, and is not asked in between.
        if not found or found[0].count < rows:
            found.append(work.send(statement, account=account))
    work.analyze("hit")
    for number in shape.uniques:
        work.send(_take_unique(number, work.sqlite))
    if shape.uniques:
        work.analyze("taken")
    targets = _fill_target(work, shape, account, again=False)
    looked = work.send(LOOKED_OVER)
    hits = sum(sent.count for sent in found)
    if targets.count < hits:
        careful += work.execute(meetings.SAME_CUSTOMER)
    untouched, renamed = map(int, looked.rows[0])
    for statement in meetings.statements(shape, renamed=renamed > 0):
        careful += work.execute(statement, account=account)
    if careful or (not trusting and meetings.keys_shared(work, shape)):
        for statement in meetings.of_keys(shape):
            careful += work.execute(statement, account=account)
    if careful:
        work.analyze("careful")
        work.execute('DELETE FROM hit WHERE "row" IN (SELECT "row" FROM careful)')
        work.execute('DELETE FROM target WHERE "row" IN (SELECT "row" FROM careful)')
    return Matched(hits, careful > 0, untouched, renamed)


def compare_careful(work: Workspace, shape: Shape, account: int) -> None:
    """Fill `target` with the customers of careful rows too, as the first row of each compares."""
    _fill_target(work, shape, account, again=True)


def claims(work: Workspace) -> Iterator[Claim]:
    """The careful rows in row order."""
    taken = work.rows(
        'SELECT "row", number, value FROM taken WHERE "row" IN (SELECT "row" FROM careful) ORDER BY "row"'
    )
    waiting = next(taken, None)
    for row, code, card, username, shown in work.rows(
        'SELECT "row", code, card_number, username_key, customer_username FROM stage '
        'WHERE "row" IN (SELECT "row" FROM careful) ORDER BY "row"'
    ):
        unique: dict[str | int, str] = {} if username is None else {"username": username}
        while waiting is not None and waiting[0] == row:
            unique[waiting[1]] = waiting[2]
            waiting = next(taken, None)
        yield Claim(row, code, card, unique, shown or "")


def owners(work: Workspace, shape: Shape, account: int) -> Iterator[Owner]:
    """The stored customers that hold a key which a careful row gives."""
    found = [
        f'SELECT c.id FROM careful k {{then}} stage s ON s."row" = k."row" '
        f"{{then}} customer c ON c.account_id = :account AND c.{key} = s.{key}"
        for key in ("code", "card_number", "username_key")
        if key in shape.columns
    ]
    if shape.uniques:
        found.append(
            'SELECT u.customer_id FROM careful k {then} taken t ON t."row" = k."row" '
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
    waiting = next(values, None)
    for number, code, card, username in work.rows(
        f"SELECT id, code, card_number, username_key FROM customer WHERE account_id = :account AND id IN ({ids}) "
        "ORDER BY id",
        account=account,
    ):
        unique: dict[str | int, str] = {} if username is None else {"username": username}
        while waiting is not None and waiting[0] == number:
            unique[waiting[1]] = waiting[2]
            waiting = next(values, None)
        yield Owner(number, code, card, unique)


def settle(
    work: Workspace,
    hits: Iterable[Sequence[tuple[int, int]]],
    follows: Iterable[Sequence[Follow]],
    bad_rows: Sequence[int],
) -> None:
    """Write down what became of the careful rows: (row, customer) hits, later rows, and rows that have a problem."""
    work.fill("hit", ("row", "id"), hits)
    work.fill("follow", ("row", "first_row", "id", "ignored"), follows)
    work.analyze("hit", "follow")
    work.execute(
        "UPDATE follow SET amount = s.amount, item_id = s.item_id FROM stage s "
        'WHERE s."row" = follow."row" AND follow.ignored = 0'
    )
    work.fill("bad", ("row",), [[(row,) for row in bad_rows]])
    work.analyze("bad")
    work.execute('DELETE FROM stage WHERE "row" IN (SELECT "row" FROM bad)')


def matched_rows(work: Workspace) -> int:
    """How many rows matched a customer, stored or made by an earlier row."""
    later = work.number("SELECT count(*) FROM follow WHERE id IS NULL") if work.filled("follow") else 0
    return later + (work.number("SELECT count(*) FROM hit") if work.filled("hit") else 0)


def forget_targets(work: Workspace) -> None:
    """Leave every matched customer alone: mode `ignore`."""
    work.execute("DELETE FROM target")


def rename(work: Workspace, stored: Sequence[tuple[int, str | None, str | None]]) -> None:
    """Say what keys careful customers end with: (customer, new code or None, new card or None)."""
    if not stored:
        return
    _fill_keys(work, "stored", stored)
    work.execute(
        "UPDATE target SET new_code = k.code, new_card = k.card_number FROM keys k "
        "WHERE k.kind = 'stored' AND k.ref = target.id"
    )


def make(work: Workspace, keys: Sequence[tuple[int, str | None, str | None]]) -> int:
    """Fill `made` with the rows that make a customer. `keys`: (row, code, card) of careful ones. Returns how many."""
    numbered = ('"row"', "") if work.sqlite else ('n, "row"', 'row_number() OVER (ORDER BY s."row"), ')
    # NOT EXISTS, never NOT IN: beyond what fits its memory PostgreSQL would read all of a list for every row.
    later = ' AND NOT EXISTS (SELECT 1 FROM follow f WHERE f."row" = s."row")' if work.filled("follow") else ""
    count = work.execute(
        f"INSERT INTO made({numbered[0]}, amount, item_id, points) "
        f'SELECT {numbered[1]}s."row", s.amount, s.item_id, s.amount FROM stage s '
        f'WHERE NOT EXISTS (SELECT 1 FROM hit h WHERE h."row" = s."row"){later} ORDER BY s."row"'
    )
    if keys:
        _fill_keys(work, "made", keys)
        work.execute(
            "UPDATE made SET code = k.code, card_number = k.card_number FROM keys k "
            "WHERE k.kind = 'made' AND k.ref = made.\"row\""
        )
    work.analyze("made")
    return count


def _fill_keys(work: Workspace, kind: str, keys: Sequence[tuple[int, str | None, str | None]]) -> None:
    work.fill("keys", ("kind", "ref", "code", "card_number"), [[(kind, *key) for key in keys]])
    work.analyze("keys")


def _fill_target(work: Workspace, shape: Shape, account: int, *, again: bool) -> Sent:
    targets = work.send(_compare(shape, work.sqlite, again), account=account)
    work.analyze("target")
    return targets


def touch(work: Workspace, account: int, campaigns: tuple[int, ...], untouched: int | None = None) -> int:
    """Mark the customers on whom the batch leaves a trace: a field, points, or a campaign that they had not joined.

    Returns on how many it leaves none. `untouched` are those of them that are not marked yet, where that is known.
    """
    if untouched is None:
        untouched = int(work.one(LOOKED_OVER)[0]) if work.filled("target") else 0
    if untouched:
        untouched -= work.execute("UPDATE target SET touched = 1 WHERE touched = 0 AND changed = 1")
    for campaign in campaigns:
        if untouched:
            untouched -= work.execute(JOINING, account=account, campaign=campaign)
    return untouched


@lru_cache(maxsize=500)
def _hits(shape: Shape, sqlite: bool) -> tuple[str, ...]:
    keys = [key for key in ("code", "card_number") if key in shape.columns]
    if sqlite:
        return tuple(_hit_by(key, "code" in keys) for key in keys)
    if len(keys) < 2:
        return tuple(
            f'INSERT INTO hit("row", id) SELECT s."row", c.id FROM stage s '
            f"JOIN customer c ON c.account_id = :account AND c.{key} = s.{key}"
            for key in keys
        )
    return (
        'INSERT INTO hit("row", id) SELECT s."row", coalesce(a.id, b.id) FROM stage s '
        "LEFT JOIN customer a ON a.account_id = :account AND a.code = s.code "
        "LEFT JOIN customer b ON a.id IS NULL AND b.account_id = :account AND b.card_number = s.card_number "
        "WHERE a.id IS NOT NULL OR b.id IS NOT NULL",
    )


def _hit_by(key: str, codes: bool) -> str:
    # In the order of the key, so that the index is walked and not jumped about in.
    rest = ' AND "row" NOT IN (SELECT "row" FROM hit)' if key == "card_number" and codes else ""
    return (
        f'INSERT INTO hit("row", id) SELECT s."row", c.id FROM '
        f'(SELECT "row", {key} FROM stage WHERE {key} IS NOT NULL{rest} ORDER BY {key}) s '
        f"CROSS JOIN customer c ON c.account_id = :account AND c.{key} = s.{key}"
    )


@lru_cache(maxsize=200)
def _take_unique(number: int, sqlite: bool) -> str:
    value, present = uniques.value(number, "s", sqlite), uniques.present(number, "s", sqlite)
    return (
        f'INSERT INTO taken("row", number, value) SELECT s."row", {number}, coalesce({value}, \'\') '
        f"FROM stage s WHERE {present}"
    )


@lru_cache(maxsize=500)
def _compare(shape: Shape, sqlite: bool, again: bool) -> str:
    code = "CASE WHEN s.code <> c.code THEN s.code END" if "code" in shape.columns else "NULL"
    card = (
        "CASE WHEN s.card_number IS NOT NULL AND s.card_number {differs} c.card_number THEN s.card_number END"
        if "card_number" in shape.columns
        else "NULL"
    )
    conditions = []
    if shape.mode != IGNORE:
        conditions = [f"({key}) IS NOT NULL" for key in (code, card) if key != "NULL"]
        conditions += changes(shape, sqlite)
        if shape.makes_cards:
            staged = "s.card_number IS NULL AND " if "card_number" in shape.columns else ""
            conditions.append(f"({staged}c.card_number IS NULL)")
    if shape.foreseen:
        conditions = ["s.amount IS NOT NULL", *conditions]
    changed = f"CASE WHEN {' OR '.join(conditions)} THEN 1 ELSE 0 END" if conditions else "0"
    rest = "WHERE NOT EXISTS (SELECT 1 FROM target t WHERE t.id = hit.id)" if again else ""
    # The first row of a customer acts here; where there are several, all of them turn out to be careful.
    one_each, first = ("OR IGNORE ", "") if sqlite else ("", "DISTINCT ON (h.id) ")
    return (
        f'INSERT {one_each}INTO target(id, "row", amount, item_id, points, new_code, new_card, changed, touched) '
        f'SELECT {first}h.id, h."row", s.amount, s.item_id, s.amount, {code}, {card}, {changed}, '
        "CASE WHEN s.amount IS NOT NULL THEN 1 ELSE 0 END "
        f'FROM (SELECT id, "row" FROM hit {rest} ORDER BY id, "row") h '
        '{then} {customer} = h.id {then} stage s ON s."row" = h."row" '
        f"{'' if sqlite else 'ORDER BY h.id, h.' + chr(34) + 'row' + chr(34)}"
    )


LOOKED_OVER = (
    "SELECT coalesce(sum(CASE WHEN touched = 0 THEN 1 ELSE 0 END), 0), "
    "coalesce(sum(CASE WHEN new_code IS NOT NULL OR new_card IS NOT NULL THEN 1 ELSE 0 END), 0) FROM target"
)
JOINING = (
    "UPDATE target SET touched = 1 WHERE touched = 0 AND NOT EXISTS (SELECT 1 FROM enrolment e WHERE "
    "e.account_id = :account AND e.customer_id = target.id AND e.campaign_id = :campaign AND e.uses > 0)"
)
