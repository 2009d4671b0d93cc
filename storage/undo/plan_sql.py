"""Before-images, and what undo reads from them: which customers a batch touched, and what shall become of each.

`back` says for every customer that the changes of a batch touched (`change` is the one that did):
field   give fields back (`later`: the next change that wrote to the customer, NULL where none did)
remove  take away again: the change made the customer, or brought it back
keep    made by the change, but something else in force has touched it since
revive  the change took the customer away: bring it back
still   taken away before the change as it is now: nothing to do
gone    nothing can be given back: the customer has been taken away, or its code is somebody else's by now
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage import unique_values as unique_values
from storage.batch_transaction import BatchTransaction
from storage.tables import DOCUMENT_COLUMNS, IMAGE_COLUMNS, PROFILE_COLUMNS

ROWS_PER_CHUNK = 500
KEY_COLUMNS = ("code", "card_number", "username_key")
VALUE_COLUMNS = (
    *PROFILE_COLUMNS,
    "password_digest",
    "password_version",
    "pin_digest",
    "pin_version",
    *DOCUMENT_COLUMNS,
)


@dataclass(frozen=True, slots=True)
class ChangeRange:
    """Changes of a batch that are taken back at once: those from `oldest` to `newest`.

    `root` is the import that the batch descends from: itself, or what a chain of undos began with.
    """

    account: int
    batch_id: str
    root: str
    oldest: int
    newest: int

    @property
    def values(self) -> dict[str, object]:
        """What OURS names."""
        return {"account": self.account, "batch": self.batch_id, **self.range}

    @property
    def range(self) -> dict[str, object]:
        """Between which numbers the changes are."""
        return {"oldest": self.oldest, "newest": self.newest}


@dataclass(frozen=True, slots=True)
class CreatedCustomers:
    """All customers of the account from `first` to `last`: so many that the changes made, and nothing has touched since."""

    first: int
    last: int
    count: int

    @property
    def values(self) -> dict[str, object]:
        """What statements name."""
        return {"first": self.first, "last": self.last}


@dataclass(frozen=True, slots=True)
class UndoCounts:
    """How many of the gathered customers were written to since, shall have another key, miss a mark of `moved`, and were
    brought back or taken away by what is undone.

    `made` are taken away again and not in `back`: what is done to them is the same for all.
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
    return [
        number
        for (number,) in work.rows(
            "SELECT change FROM change WHERE account_id = :account AND batch_id = :batch ORDER BY change DESC",
            account=account,
            batch=batch_id,
        )
    ]


def have_common_customers(work: BatchTransaction, span: ChangeRange) -> bool:
    """Whether two changes of the batch touched the same customer, so that they have to be taken back one by one."""
    own = "change t ON t.account_id = n.account_id AND t.change = n.change AND t.batch_id = :batch"
    return bool(
        work.all(
            "SELECT 1 FROM change h {then} snapshot b ON b.account_id = h.account_id AND b.change = h.change "
            "{then} snapshot n ON n.account_id = b.account_id AND n.customer_id = b.customer_id AND n.change > b.change "
            f"{{then}} {own} WHERE {IN_RANGE} UNION ALL "
            "SELECT 1 FROM change h {then} snapshot n ON n.account_id = h.account_id "
            f"AND n.customer_id BETWEEN h.first_created AND h.last_created {{then}} {own} WHERE {IN_RANGE} UNION ALL "
            f"SELECT 1 FROM {_REMOVED_BY_CHANGE} {{then}} snapshot n ON n.account_id = h.account_id AND n.customer_id = c.id "
            f"{{then}} {own} WHERE {IN_RANGE} LIMIT 1",
            **span.values,
        )
    )


def gather_customers(work: BatchTransaction, span: ChangeRange, uniques: Sequence[int], *, ranges: bool) -> UndoCounts:
    """Fill `back`, which is empty, with the customers that the changes touched, each of which only one of them did.

    `ranges`: customers that they made may be told as a range.
    """
    # Most undos follow their batch at once: then nothing has to be looked for customer by customer.
    is_newest = not work.all(
        "SELECT 1 FROM change WHERE account_id = :account AND change > :oldest "
        "AND NOT (batch_id = :batch AND change <= :newest) LIMIT 1",
        **span.values,
    )
    touched = work.execute(_gather_changed(uniques, is_newest), **span.values)
    touched += work.execute(GATHER_REMOVED, **span.values)
    if not is_newest:
        work.execute("UPDATE undo_customer SET differs = 0 WHERE kind = 'field' AND later IS NOT NULL")
    later, key_changes, without_difference, revived, away = (
        map(int, work.one(COUNT_GATHERED)) if touched else (0, 0, 0, 0, 0)
    )
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
    """Empty what a plan is made in."""
    for table in ("undo_customer", "undo_value", "undo_key"):
        work.execute(f"DELETE FROM {table}")


def list_written_since(work: BatchTransaction, account: int) -> Iterator[CustomerImages]:
    """The customers of kind `field` that something has written to since, in order."""
    sides = ("b", "a", "c")
    names = ", ".join(f"{side}.{name}" for side in sides for name in IMAGE_COLUMNS)
    for number, *values in work.rows(
        f"SELECT k.id, {names} FROM undo_customer k "
        "{then} snapshot b ON b.account_id = :account AND b.change = k.change AND b.customer_id = k.id "
        "{then} snapshot a ON a.account_id = :account AND a.change = k.later AND a.customer_id = k.id "
        "{then} customer c ON c.account_id = :account AND c.id = k.id "
        "WHERE k.kind = 'field' AND k.later IS NOT NULL ORDER BY k.id",
        account=account,
    ):
        size = len(IMAGE_COLUMNS)
        yield CustomerImages(number, *(_image(values[start : start + size]) for start in range(0, 3 * size, size)))


def store_undo_values(work: BatchTransaction, images: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Note what a customer that was written to since shall be: (id, IMAGE columns)."""
    chunks = _chunks((number, *(dump_document(image[name]) for name in IMAGE_COLUMNS)) for number, image in images)
    work.fill("undo_value", ("id", *IMAGE_COLUMNS), chunks)
    work.analyze("undo_value")


def list_kept(work: BatchTransaction, account: int) -> Iterator[tuple[int, str]]:
    """(customer, code) of the customers that stay though the change made them, or stay away for another reason."""
    return work.rows(
        "SELECT k.id, coalesce(c.code, b.code, c.had_code, '') FROM undo_customer k "
        "{then} customer c ON c.account_id = :account AND c.id = k.id "
        "LEFT JOIN snapshot b ON b.account_id = :account AND b.change = k.change AND b.customer_id = k.id "
        "WHERE k.kind IN ('keep', 'gone') AND k.blocked = 0 ORDER BY k.id",
        account=account,
    )


def mark_differing_fields(work: BatchTransaction, account: int) -> None:
    """Mark the customers to whom a field comes back though something has written to them since."""
    work.execute(
        "UPDATE undo_customer SET differs = 1 WHERE differs = 0 AND kind = 'field' AND id IN (SELECT b.id FROM undo_value b "
        f"{{then}} customer c ON c.account_id = :account AND c.id = b.id WHERE {_VALUE_DIFFERS})",
        account=account,
    )


def mark_differing_others(work: BatchTransaction, account: int, campaigns: Sequence[int], sign: int) -> None:
    """Mark the customers to whom something else than a field comes back: a key, points, an enrolment."""
    work.execute(
        "UPDATE undo_customer SET differs = 1 WHERE differs = 0 AND EXISTS (SELECT 1 FROM ledger_entry e "
        "WHERE e.account_id = :account AND e.change = undo_customer.change AND e.customer_id = undo_customer.id)",
        account=account,
    )
    for campaign in campaigns:
        work.execute(
            "UPDATE undo_customer SET differs = 1 WHERE differs = 0 AND EXISTS (SELECT 1 FROM enrolment e "
            "WHERE e.account_id = :account AND e.customer_id = undo_customer.id AND e.campaign_id = :campaign "
            "AND e.uses = :uses)",
            account=account,
            campaign=campaign,
            uses=1 if sign < 0 else 0,
        )
    work.execute(
        "UPDATE undo_customer SET differs = 1 WHERE differs = 0 AND id IN (SELECT id FROM undo_key WHERE blocked = 0)"
    )


def count_outcomes(work: BatchTransaction, made: CreatedCustomers | None) -> tuple[int, int, int]:
    """How many customers are restored, removed, and kept as they are against the undo's wish."""
    sums = ", ".join(
        f"sum(CASE WHEN {condition} THEN 1 ELSE 0 END)" for condition in (IS_RESTORED, IS_REMOVED, IS_KEPT)
    )
    restored, removed, kept_customers = work.one(f"SELECT {sums} FROM undo_customer")
    return int(restored or 0), int(removed or 0) + (made.count if made is not None else 0), int(kept_customers or 0)


# What becomes of a row of `back`.
IS_RESTORED = "differs = 1 AND kind IN ('field', 'revive')"
IS_REMOVED = "kind = 'remove'"
IS_KEPT = "(kind IN ('keep', 'gone') OR (kind = 'field' AND differs = 0 AND blocked = 1))"


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where `b`, what a customer shall be again, comes from, and for whom: `where` of the `listed` ones."""

    joined: str
    listed: str
    where: str


FROM_IMAGES = ImageSource(
    "snapshot b ON b.account_id = :account AND b.change = k.change AND b.customer_id = k.id",
    "undo_customer k",
    "k.kind = 'field' AND k.later IS NULL",
)
FROM_UNDO_VALUES = ImageSource(
    "undo_value b ON b.id = k.id", "undo_value b {then} undo_customer k ON k.id = b.id", "k.kind = 'field'"
)

IN_RANGE = "h.account_id = :account AND h.batch_id = :batch AND h.change BETWEEN :oldest AND :newest"

COUNT_GATHERED = (
    "SELECT coalesce(sum(CASE WHEN kind = 'field' AND later IS NOT NULL THEN 1 ELSE 0 END), 0), "
    "coalesce(sum(has_key), 0), coalesce(sum(CASE WHEN differs = 0 AND kind = 'field' THEN 1 ELSE 0 END), 0), "
    "coalesce(sum(CASE WHEN kind = 'remove' THEN 1 ELSE 0 END), 0), "
    "coalesce(sum(CASE WHEN kind = 'revive' THEN 1 ELSE 0 END), 0) FROM undo_customer"
)

# Numbers of changes are an account's, and customers of others may lie between those that were taken away. (SQLite would
# take the account for a sieve, as in spelling.py.)
_REMOVED_BY_CHANGE = (
    "change h {then} {customer} BETWEEN h.first_removed AND h.last_removed AND c.removed = h.change "
    "AND +c.account_id = h.account_id"
)
GATHER_REMOVED = (
    "INSERT INTO undo_customer(id, change, kind, later, differs, has_key, blocked) "
    "SELECT c.id, c.removed, 'revive', NULL, 1, 1, 0 "
    f"FROM {_REMOVED_BY_CHANGE} WHERE {IN_RANGE}"
)

# Who has been taken away since, and could not come back, has points and uses all the same.
GATHER_CREATED = (
    "INSERT INTO undo_customer(id, change, kind, later, differs, has_key, blocked) SELECT c.id, c.created, "
    "CASE WHEN c.removed IS NULL THEN 'remove' ELSE 'still' END, NULL, 1, 0, 0 "
    "FROM change h {then} {customer} BETWEEN h.first_created AND h.last_created AND c.created = h.change "
    f"WHERE {IN_RANGE} AND h.last_created >= h.first_created"
)

# Touched, since it was made, by a batch in force that is not of this one's own chain of undos: whether that was before or
# after an undo brought the customer back.
MARK_KEPT = (
    "UPDATE undo_customer SET kind = 'keep', differs = 0 WHERE kind = 'remove' AND EXISTS (SELECT 1 FROM snapshot n "
    "{then} change h ON h.account_id = n.account_id AND h.change = n.change "
    "{then} batch t ON t.account_id = h.account_id AND t.id = h.batch_id "
    "{then} batch r ON r.account_id = t.account_id AND r.id = t.root "
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


# It was gone before the change and after it: others have brought it back since.
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
        f"CASE WHEN c.removed IS NULL THEN CASE WHEN b.removed IS NULL OR {stayed_removed} THEN 'field' ELSE 'remove' END "
        "WHEN b.removed IS NOT NULL THEN 'still' ELSE 'gone' END, "
        f"{'NULL' if is_newest else _LATER_CHANGE}, "
        f"CASE WHEN c.removed IS NULL AND (b.removed IS NOT NULL OR {_VALUE_DIFFERS}) THEN 1 ELSE 0 END, "
        f"CASE WHEN {key_changes} THEN 1 ELSE 0 END, 0 "
        "FROM change h {then} snapshot b ON b.account_id = :account AND b.change = h.change "
        f"{{then}} {{customer}} = b.customer_id WHERE {IN_RANGE}"
    )


def _image(values: Sequence[Any]) -> dict[str, Any]:
    image = dict(zip(IMAGE_COLUMNS, values, strict=True))
    for name in DOCUMENT_COLUMNS:
        image[name] = parse_document(image[name])
    return image


def parse_document(value: Any) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = json.loads(value) if isinstance(value, str) else value
    return parsed


def dump_document(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if isinstance(value, Mapping) else value


def _chunks(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    chunk: list[tuple[Any, ...]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS_PER_CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
