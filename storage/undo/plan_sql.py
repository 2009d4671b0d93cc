"""The plan of an undo: what it does with each customer that the changes of a batch touched, from their before-images.

`undo_customer` has a row for each; `change` is the one that touched it, `kind` an UndoKind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from storage import unique_values
from storage.batch_transaction import BatchTransaction
from storage.sql_dialect import dump_document, parse_document
from storage.tables import DOCUMENT_COLUMNS, IMAGE_COLUMNS, PROFILE_COLUMNS, SECRET_COLUMNS

KEY_COLUMNS = ("code", "card_number", "username_key")
VALUE_COLUMNS = (*PROFILE_COLUMNS, *SECRET_COLUMNS, *DOCUMENT_COLUMNS)
# Of a customer after several changes, the greatest one counts.
_KEPT_OUTCOME, _RESTORED_OUTCOME, _REMOVED_OUTCOME = 1, 2, 3

# Customer, field, code, what the batch wrote, what stands now.
ConflictRow = tuple[int, str, str, str, str]


class UndoKind(StrEnum):
    """What an undo does with a customer, before a code that another customer has by now may change it."""

    # Restore fields. `later` is the next change that wrote to the customer, NULL where none did.
    RESTORE = "restore"
    # Remove it again: the change created it, or brought it back.
    REMOVE = "remove"
    # Keep it though the change created it: something else in force has touched it since.
    KEEP = "keep"
    # Bring it back: the change removed it.
    REVIVE = "revive"
    # It was removed before the change as it is now.
    NOTHING = "nothing"
    # Nothing can be restored: it has been removed since, or its code is another customer's by now.
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class ChangeRange:
    """Changes of a batch that are undone at once: those from `oldest` to `newest`.

    `root` is the import that the batch descends from: itself, or what a chain of undos began with.
    """

    account: int
    batch_id: str
    root: str
    oldest: int
    newest: int

    @property
    def values(self) -> dict[str, object]:
        """The values that IN_RANGE names."""
        return {"account": self.account, "batch": self.batch_id, "oldest": self.oldest, "newest": self.newest}


@dataclass(frozen=True, slots=True)
class CreatedCustomers:
    """All customers of the account from `first` to `last`: `count`, created by the changes, and not touched since."""

    first: int
    last: int
    count: int

    @property
    def values(self) -> dict[str, object]:
        return {"first": self.first, "last": self.last}


@dataclass(frozen=True, slots=True)
class UndoCounts:
    """How many of the gathered customers were written to since, get another key, are not marked as `differs`, and were
    brought back or removed by what is undone.

    `made` are removed again and not in `undo_customer`: what is done to them is the same for all.
    """

    later: int
    key_changes: int
    without_difference: int
    revived: int
    away: int
    made: CreatedCustomers | None


@dataclass(frozen=True, slots=True)
class CustomerImages:
    """A customer that something has written to since: before the change, after it, and now. Each maps IMAGE columns."""

    id: int
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    current: Mapping[str, Any]


def list_changes(work: BatchTransaction, account: int, batch_id: str) -> list[int]:
    """The changes of a batch, newest first."""
    query = "SELECT change FROM change WHERE account_id = :account AND batch_id = :batch ORDER BY change DESC"
    return [number for (number,) in work.rows(query, account=account, batch=batch_id)]


def have_common_customers(work: BatchTransaction, span: ChangeRange) -> bool:
    """Whether two changes of the batch touched the same customer, so that these have to be undone one by one."""
    own = "change t ON t.account_id = n.account_id AND t.change = n.change AND t.batch_id = :batch"
    return bool(
        work.all(
            "SELECT 1 FROM change h {join} snapshot b ON b.account_id = h.account_id AND b.change = h.change "
            "{join} snapshot n ON n.account_id = b.account_id AND n.customer_id = b.customer_id AND n.change > b.change "
            f"{{join}} {own} WHERE {IN_RANGE} UNION ALL "
            "SELECT 1 FROM change h {join} snapshot n ON n.account_id = h.account_id "
            f"AND n.customer_id BETWEEN h.first_created AND h.last_created {{join}} {own} WHERE {IN_RANGE} UNION ALL "
            f"SELECT 1 FROM {_REMOVED_BY_CHANGE} {{join}} snapshot n ON n.account_id = h.account_id AND n.customer_id = c.id "
            f"{{join}} {own} WHERE {IN_RANGE} LIMIT 1",
            **span.values,
        )
    )


def gather_customers(work: BatchTransaction, span: ChangeRange, uniques: Sequence[int], *, ranges: bool) -> UndoCounts:
    """Fill `undo_customer`, which is empty, with the customers that the changes touched, each touched by one of them only.

    `ranges`: customers that they created may be returned as a range.
    """
    # Most undos follow their batch at once: then no later change has to be found customer by customer.
    is_newest = not work.all(
        "SELECT 1 FROM change WHERE account_id = :account AND change > :oldest "
        "AND NOT (batch_id = :batch AND change <= :newest) LIMIT 1",
        **span.values,
    )
    touched = work.execute(_gather_changed(uniques, is_newest), **span.values)
    touched += work.execute(GATHER_REMOVED, **span.values)
    if not is_newest:
        work.execute(f"UPDATE undo_customer SET differs = 0 WHERE kind = '{UndoKind.RESTORE}' AND later IS NOT NULL")
    later, key_changes, without_difference, revived, away = work.one(COUNT_GATHERED) if touched else (0, 0, 0, 0, 0)
    made = _created_customers(work, span) if ranges and is_newest and not (key_changes or revived) else None
    rows = 0 if made else work.execute(GATHER_CREATED, **span.values)
    work.expect(touched + (made.count if made else rows))
    work.analyze("undo_customer")
    if not is_newest or revived:
        work.execute(MARK_KEPT, account=span.account, root=span.root)
    return UndoCounts(later, key_changes, without_difference, revived, away, made)


def _created_customers(work: BatchTransaction, span: ChangeRange) -> CreatedCustomers | None:
    first, last, count = work.one(
        "SELECT min(h.first_created), max(h.last_created), sum(h.last_created - h.first_created + 1) FROM change h "
        f"WHERE {IN_RANGE} AND h.last_created >= h.first_created",
        **span.values,
    )
    # On SQLite other accounts' customers may lie between them.
    return CreatedCustomers(first, last, int(count)) if count and last - first < 2 * count else None


def clear_plan(work: BatchTransaction) -> None:
    """Empty the tables of a plan."""
    for table in ("undo_customer", "undo_value", "undo_key"):
        work.execute(f"DELETE FROM {table}")


def list_written_since(work: BatchTransaction, account: int) -> Iterator[CustomerImages]:
    """The customers to restore that something has written to since, in order."""
    sides = ("b", "a", "c")
    names = ", ".join(f"{side}.{name}" for side in sides for name in IMAGE_COLUMNS)
    for number, *values in work.rows(
        f"SELECT k.id, {names} FROM undo_customer k "
        "{join} snapshot b ON b.account_id = :account AND b.change = k.change AND b.customer_id = k.id "
        "{join} snapshot a ON a.account_id = :account AND a.change = k.later AND a.customer_id = k.id "
        "{join} customer c ON c.account_id = :account AND c.id = k.id "
        f"WHERE k.kind = '{UndoKind.RESTORE}' AND k.later IS NOT NULL ORDER BY k.id",
        account=account,
    ):
        size = len(IMAGE_COLUMNS)
        yield CustomerImages(number, *(_image(values[start : start + size]) for start in range(0, 3 * size, size)))


def store_undo_values(work: BatchTransaction, images: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Store what a customer that was written to since shall be: (id, IMAGE columns)."""
    rows = ((number, *(dump_document(image[name]) for name in IMAGE_COLUMNS)) for number, image in images)
    work.fill_rows("undo_value", ("id", *IMAGE_COLUMNS), rows)
    work.analyze("undo_value")


def list_kept(work: BatchTransaction, account: int) -> Iterator[tuple[int, str]]:
    """(customer, code) of the customers that are kept though the change created them, or cannot be brought back."""
    return work.rows(
        "SELECT k.id, coalesce(c.code, b.code, c.had_code, '') FROM undo_customer k "
        "{join} customer c ON c.account_id = :account AND c.id = k.id "
        "LEFT JOIN snapshot b ON b.account_id = :account AND b.change = k.change AND b.customer_id = k.id "
        f"WHERE k.kind IN ('{UndoKind.KEEP}', '{UndoKind.LOST}') AND k.blocked = 0 ORDER BY k.id",
        account=account,
    )


def mark_differing_fields(work: BatchTransaction, account: int) -> None:
    """Mark the customers of whom a field is restored though something has written to them since."""
    work.execute(
        f"UPDATE undo_customer SET differs = 1 WHERE differs = 0 AND kind = '{UndoKind.RESTORE}' "
        f"AND id IN (SELECT b.id FROM undo_value b "
        f"{{join}} customer c ON c.account_id = :account AND c.id = b.id WHERE {_VALUE_DIFFERS})",
        account=account,
    )


def mark_differing_others(work: BatchTransaction, account: int, campaigns: Sequence[int], sign: int) -> None:
    """Mark the customers of whom something else than a field is restored: a key, points, an enrolment."""
    mark = "UPDATE undo_customer SET differs = 1 WHERE differs = 0 AND "
    work.execute(
        f"{mark}EXISTS (SELECT 1 FROM ledger_entry e WHERE e.account_id = :account AND e.change = undo_customer.change "
        "AND e.customer_id = undo_customer.id)",
        account=account,
    )
    for campaign in campaigns:
        work.execute(
            f"{mark}EXISTS (SELECT 1 FROM enrolment e WHERE e.account_id = :account AND e.customer_id = undo_customer.id "
            "AND e.campaign_id = :campaign AND e.uses = :uses)",
            account=account,
            campaign=campaign,
            uses=1 if sign < 0 else 0,
        )
    work.execute(f"{mark}id IN (SELECT id FROM undo_key WHERE blocked = 0)")


def count_planned(work: BatchTransaction, made: CreatedCustomers | None) -> tuple[int, int, int]:
    """How many customers the plan restores, removes, and keeps for a conflict."""
    counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in (IS_RESTORED, IS_REMOVED, IS_KEPT))
    restored, removed, kept = work.one(f"SELECT {counts} FROM undo_customer")
    return restored, removed + (made.count if made is not None else 0), kept


def add_conflicts(work: BatchTransaction, conflicts_so_far: int, rows: Iterable[ConflictRow]) -> int:
    """Store conflicts: (customer, field, code, written, current) behind those so far. Returns how many there are now."""
    count = conflicts_so_far

    def numbered_rows() -> Iterator[tuple[object, ...]]:
        nonlocal count
        for row in rows:
            yield (count, *row)
            count += 1

    work.fill_rows("conflict", ("n", "id", "field", "code", "written", "stands"), numbered_rows())
    return count


def mark_conflicts(work: BatchTransaction, conflicts_so_far: int) -> None:
    """Mark the customers that have a conflict behind those so far, or miss a key that another customer has."""
    work.execute(
        "UPDATE undo_customer SET blocked = 1 WHERE id IN (SELECT id FROM conflict WHERE n >= :first)",
        first=conflicts_so_far,
    )
    work.execute("UPDATE undo_customer SET blocked = 1 WHERE id IN (SELECT id FROM undo_key WHERE blocked = 1)")


def list_conflicts(work: BatchTransaction, account: int) -> Iterator[tuple[str, str, str, str]]:
    """(code, field, written, current) by customer, those of whole customers last, and none of removed customers.

    One for a customer and a field: the newest change says what the batch wrote. A customer is named by the code that it
    has afterwards, so that it can be looked up.
    """
    return work.rows(
        "SELECT coalesce(r.value, c.code, q.code), q.field, q.written, q.stands FROM (SELECT q.*, "
        "row_number() OVER (PARTITION BY q.id, q.field ORDER BY q.n) AS position FROM conflict q) q "
        "LEFT JOIN customer c ON c.account_id = :account AND c.id = q.id "
        "LEFT JOIN undo_key r ON r.id = q.id AND r.kind = 'code' AND r.blocked = 0 "
        "WHERE q.position = 1 AND NOT EXISTS "
        f"(SELECT 1 FROM undo_outcome f WHERE f.id = q.id AND f.outcome = {_REMOVED_OUTCOME}) "
        "ORDER BY CASE WHEN q.field = 'customer' THEN 1 ELSE 0 END, q.id, q.n",
        account=account,
    )


def add_outcomes(work: BatchTransaction) -> None:
    """Add what the plan does with each customer to what became of it so far.

    A customer counts once: removed where it is removed in the end, else restored where anything came back, else kept.
    """
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


# What becomes of a row of `undo_customer`.
IS_RESTORED = f"differs = 1 AND kind IN ('{UndoKind.RESTORE}', '{UndoKind.REVIVE}')"
IS_REMOVED = f"kind = '{UndoKind.REMOVE}'"
IS_KEPT = (
    f"(kind IN ('{UndoKind.KEEP}', '{UndoKind.LOST}') OR (kind = '{UndoKind.RESTORE}' AND differs = 0 AND blocked = 1))"
)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where `b`, what a customer shall be again, comes from, and for whom: `where` of the `listed` ones."""

    joined: str
    listed: str
    where: str


FROM_IMAGES = ImageSource(
    "snapshot b ON b.account_id = :account AND b.change = k.change AND b.customer_id = k.id",
    "undo_customer k",
    f"k.kind = '{UndoKind.RESTORE}' AND k.later IS NULL",
)
FROM_UNDO_VALUES = ImageSource(
    "undo_value b ON b.id = k.id",
    "undo_value b {join} undo_customer k ON k.id = b.id",
    f"k.kind = '{UndoKind.RESTORE}'",
)

IN_RANGE = "h.account_id = :account AND h.batch_id = :batch AND h.change BETWEEN :oldest AND :newest"

COUNT_GATHERED = (
    f"SELECT count(*) FILTER (WHERE kind = '{UndoKind.RESTORE}' AND later IS NOT NULL), count(*) FILTER (WHERE has_key = 1), "
    f"count(*) FILTER (WHERE differs = 0 AND kind = '{UndoKind.RESTORE}'), "
    f"count(*) FILTER (WHERE kind = '{UndoKind.REMOVE}'), count(*) FILTER (WHERE kind = '{UndoKind.REVIVE}') "
    "FROM undo_customer"
)

# Numbers of changes are an account's, and customers of others may lie between those that were removed. The `+` keeps
# SQLite from filtering by the account first (see `customer` in storage/sqlite/dialect.py).
_REMOVED_BY_CHANGE = (
    "change h {join} {customer} BETWEEN h.first_removed AND h.last_removed AND c.removed = h.change "
    "AND +c.account_id = h.account_id"
)
GATHER_REMOVED = (
    "INSERT INTO undo_customer(id, change, kind, later, differs, has_key, blocked) "
    f"SELECT c.id, c.removed, '{UndoKind.REVIVE}', NULL, 1, 1, 0 "
    f"FROM {_REMOVED_BY_CHANGE} WHERE {IN_RANGE}"
)

# A customer that has been removed since, and could not come back, has points and uses all the same.
GATHER_CREATED = (
    "INSERT INTO undo_customer(id, change, kind, later, differs, has_key, blocked) SELECT c.id, c.created, "
    f"CASE WHEN c.removed IS NULL THEN '{UndoKind.REMOVE}' ELSE '{UndoKind.NOTHING}' END, NULL, 1, 0, 0 "
    "FROM change h {join} {customer} BETWEEN h.first_created AND h.last_created AND c.created = h.change "
    f"WHERE {IN_RANGE} AND h.last_created >= h.first_created"
)

# Touched, since it was created, by a batch in force outside of this one's chain of undos, whether before or after an undo
# brought the customer back.
MARK_KEPT = (
    f"UPDATE undo_customer SET kind = '{UndoKind.KEEP}', differs = 0 WHERE kind = '{UndoKind.REMOVE}' AND EXISTS ("
    "SELECT 1 FROM snapshot n {join} change h ON h.account_id = n.account_id AND h.change = n.change "
    "{join} batch t ON t.account_id = h.account_id AND t.id = h.batch_id "
    "{join} batch r ON r.account_id = t.account_id AND r.id = t.root "
    "WHERE n.account_id = :account AND n.customer_id = undo_customer.id "
    "AND t.root <> :root AND r.status <> 'undone')"
)

# Secrets are compared by version, which raising a digest does not change.
_VALUE_DIFFERS = " OR ".join(f"b.{name} <> c.{name}" for name in VALUE_COLUMNS if not name.endswith("_digest"))
_KEY_DIFFERS = " OR ".join(f"b.{name} {{differs}} c.{name}" for name in (*KEY_COLUMNS, "customer_username"))
_LATER_CHANGE = (
    "(SELECT min(n.change) FROM snapshot n "
    "WHERE n.account_id = :account AND n.customer_id = b.customer_id AND n.change > b.change)"
)

# It was removed before the change and after it: others have brought it back since.
_STAYED_REMOVED = (
    "EXISTS (SELECT 1 FROM snapshot a WHERE a.account_id = :account AND a.customer_id = b.customer_id "
    f"AND a.change = {_LATER_CHANGE} AND a.removed = b.removed)"
)


def _gather_changed(uniques: Sequence[int], is_newest: bool) -> str:
    documents = sorted({unique_values.json_path(number)[0] for number in uniques})
    stayed_removed = "1 = 0" if is_newest else _STAYED_REMOVED
    key_changes = " OR ".join([_KEY_DIFFERS, *(f"b.{name} <> c.{name}" for name in documents)])
    return (
        "INSERT INTO undo_customer(id, change, kind, later, differs, has_key, blocked) SELECT b.customer_id, b.change, "
        f"CASE WHEN c.removed IS NULL THEN CASE WHEN b.removed IS NULL OR {stayed_removed} THEN '{UndoKind.RESTORE}' "
        f"ELSE '{UndoKind.REMOVE}' END WHEN b.removed IS NOT NULL THEN '{UndoKind.NOTHING}' ELSE '{UndoKind.LOST}' END, "
        f"{'NULL' if is_newest else _LATER_CHANGE}, "
        f"CASE WHEN c.removed IS NULL AND (b.removed IS NOT NULL OR {_VALUE_DIFFERS}) THEN 1 ELSE 0 END, "
        f"CASE WHEN {key_changes} THEN 1 ELSE 0 END, 0 "
        "FROM change h {join} snapshot b ON b.account_id = :account AND b.change = h.change "
        f"{{join}} {{customer}} = b.customer_id WHERE {IN_RANGE}"
    )


def _image(values: Sequence[Any]) -> dict[str, Any]:
    image = dict(zip(IMAGE_COLUMNS, values, strict=True))
    for name in DOCUMENT_COLUMNS:
        image[name] = parse_document(image[name])
    return image
