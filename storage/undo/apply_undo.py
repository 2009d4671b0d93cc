"""Apply what `undo_customer`, `undo_value` and `undo_key` say (storage/undo/plan_sql.py): an undo's writes, by set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage import unique_values
from storage.batch_transaction import BatchTransaction
from storage.sql_dialect import dump_document, parse_document
from storage.tables import DOCUMENT_COLUMNS, HAD_COLUMNS, IMAGE_COLUMNS
from storage.tables import KEY_COLUMNS as ALL_KEYS
from storage.undo.plan_sql import (
    FROM_IMAGES,
    FROM_UNDO_VALUES,
    IN_RANGE,
    KEY_COLUMNS,
    ChangeRange,
    CreatedCustomers,
    UndoCounts,
    UndoKind,
)


def apply_undo(
    work: BatchTransaction,
    span: ChangeRange,
    undo: int,
    now: int,
    campaigns: Sequence[int],
    sign: int,
    undo_counts: UndoCounts,
    *,
    has_undo_keys: bool,
) -> tuple[int, int]:
    """Apply the plan: images first, then removals, fields, keys, points and enrolments. `undo` is the undo's own change.

    `has_undo_keys`: whether `undo_key` has any. Returns between which numbers the removed customers lie.
    """
    values: dict[str, object] = {**span.values, "undo": undo, "now": now}
    work.execute(TAKE_UNDO_IMAGES, **values)
    removed = _remove_created(work, undo_counts.made, values)
    if has_undo_keys:
        for statement in EMPTY_KEYS:
            work.execute(statement, **values)
    for source in (FROM_IMAGES, FROM_UNDO_VALUES) if work.filled("undo_value") else (FROM_IMAGES,):
        work.execute(work.dialect.restore_customers(source), **values)
    if undo_counts.away:
        work.execute(REVIVE_CUSTOMERS, **values)
    if has_undo_keys:
        for statement in RESTORE_KEYS:
            work.execute(statement, **values)
    if campaigns:
        work.execute(TAKE_POINTS_BACK, **values)
        if undo_counts.away:
            for campaign in campaigns:
                work.execute(ENROL_AGAIN, account=span.account, campaign=campaign)
        _undo_enrolments(work, span.account, undo, campaigns, sign, undo_counts.made)
    return removed


def _remove_created(
    work: BatchTransaction, made: CreatedCustomers | None, values: dict[str, object]
) -> tuple[int, int]:
    if made is not None:
        work.execute(f"{REMOVE_CUSTOMERS} AND id BETWEEN :first AND :last", **(values | made.values))
        return made.first, made.last
    work.execute(
        f"{REMOVE_CUSTOMERS} AND id IN (SELECT id FROM undo_customer WHERE kind = '{UndoKind.REMOVE}')", **values
    )
    first, last = work.one(
        f"SELECT coalesce(min(id), 0), coalesce(max(id), -1) FROM undo_customer WHERE kind = '{UndoKind.REMOVE}'"
    )
    return int(first), int(last)


def _undo_enrolments(
    work: BatchTransaction, account: int, undo: int, campaigns: Sequence[int], sign: int, made: CreatedCustomers | None
) -> None:
    """Take the uses of campaigns back, and the points of the first one: the undo's own entries are in the ledger by now."""
    first, last = (0, -1) if made is None else (made.first, made.last)
    if made is not None:
        # Whatever they have comes from what is undone.
        work.execute(
            "DELETE FROM enrolment WHERE account_id = :account AND customer_id BETWEEN :first AND :last",
            account=account,
            **made.values,
        )
    for position, campaign in enumerate(campaigns):
        statement = work.dialect.undo_enrolments(points=position == 0)
        work.execute(statement, account=account, campaign=campaign, undo=undo, sign=sign, first=first, last=last)


def rewrite_unique_values(
    work: BatchTransaction, account: int, undo: int, uniques: Sequence[int], made: CreatedCustomers | None
) -> None:
    """Write the table of unique values anew; a value that another customer has by now stays what it was before the undo."""
    if not uniques:
        return
    blocked_rows = list(
        work.rows(
            f"SELECT r.id, r.kind, c.custom_fields, {_had_document('custom_fields')}, c.attributes, "
            f"{_had_document('attributes')} "
            "FROM undo_key r "
            "{join} customer c ON c.account_id = :account AND c.id = r.id "
            "{join} snapshot i ON i.account_id = :account AND i.change = :undo AND i.customer_id = r.id "
            "WHERE r.blocked = 1 AND r.kind NOT IN ('code', 'card_number', 'username_key') AND c.removed IS NULL",
            account=account,
            undo=undo,
        )
    )
    documents: dict[tuple[str, int], dict[str, Any]] = {}
    for number, key, *documents_of_row in blocked_rows:
        name = unique_values.document_of(key)
        current, before = documents_of_row[:2] if name == "custom_fields" else documents_of_row[2:]
        restored_document = documents.setdefault((name, number), dict(parse_document(current)))
        restored_document.pop(key, None)
        if key in parse_document(before):
            restored_document[key] = parse_document(before)[key]
    for name in DOCUMENT_COLUMNS:
        work.many(
            f"UPDATE customer SET {name} = CAST(:document AS {{json}}) WHERE account_id = :account AND id = :id",
            [
                {"id": number, "account": account, "document": dump_document(restored_document)}
                for (document, number), restored_document in documents.items()
                if document == name
            ],
        )
    work.execute(
        "DELETE FROM unique_value WHERE account_id = :account AND customer_id IN (SELECT id FROM undo_customer)",
        account=account,
    )
    if made is not None:
        work.execute(
            "DELETE FROM unique_value WHERE account_id = :account AND customer_id BETWEEN :first AND :last",
            account=account,
            **made.values,
        )
    for number in uniques:
        value = unique_values.value_sql(number, "c")
        work.execute(
            f"INSERT INTO unique_value(account_id, number, value, customer_id) SELECT :account, {number}, {value}, c.id "
            f"FROM undo_customer k {{join}} customer c ON c.account_id = :account AND c.id = k.id "
            f"WHERE c.removed IS NULL AND {value} IS NOT NULL",
            account=account,
        )


def _had_document(document: str) -> str:
    # A removed customer has no unique values.
    return f"CASE WHEN i.removed IS NULL THEN i.{document} ELSE CAST('{{}}' AS {{json}}) END"


# The user name goes with its key.
EMPTY_KEYS = tuple(
    f"UPDATE customer SET {name} = NULL{', customer_username = NULL' * (name == 'username_key')} "
    f"WHERE account_id = :account AND id IN (SELECT id FROM undo_key WHERE kind = '{name}' AND blocked = 0)"
    for name in KEY_COLUMNS
)
RESTORE_KEYS = tuple(
    f"UPDATE customer SET {name} = r.value{', customer_username = r.shown' * (name == 'username_key')} FROM undo_key r "
    f"WHERE customer.account_id = :account AND customer.id = r.id AND r.kind = '{name}' AND r.blocked = 0"
    for name in KEY_COLUMNS
)
_HAD_COLUMN_OF = dict(zip(ALL_KEYS, HAD_COLUMNS, strict=True))
_IMAGE_VALUES = ", ".join(
    f"coalesce(c.{name}, c.{_HAD_COLUMN_OF[name]})" if name in _HAD_COLUMN_OF else f"c.{name}" for name in IMAGE_COLUMNS
)
TAKE_UNDO_IMAGES = (
    f"INSERT {{or_rollback}}INTO snapshot(account_id, change, customer_id, {', '.join(IMAGE_COLUMNS)}, removed) "
    f"SELECT :account, :undo, c.id, {_IMAGE_VALUES}, c.removed FROM undo_customer k {{join}} {{customer}} = k.id "
    f"WHERE k.kind <> '{UndoKind.REMOVE}'"
)
# A removed customer is its own image: a copy would cost a third of the undo.
REMOVE_CUSTOMERS = (
    f"UPDATE {{or_rollback}}customer SET {', '.join(f'{had} = {name}, {name} = NULL' for name, had in _HAD_COLUMN_OF.items())}"
    ", removed = :undo, updated_at = :now WHERE account_id = :account"
)
ENROL_AGAIN = (
    "INSERT INTO enrolment(account_id, customer_id, campaign_id, balance, uses) SELECT :account, k.id, :campaign, 0, 0 "
    f"FROM undo_customer k WHERE k.kind IN ('{UndoKind.REVIVE}', '{UndoKind.LOST}') "
    "ON CONFLICT(account_id, customer_id, campaign_id) DO NOTHING"
)
REVIVE_CUSTOMERS = (
    f"UPDATE {{or_rollback}}customer SET {', '.join(f'{had} = NULL' for had in HAD_COLUMNS)}, removed = NULL, "
    f"updated_at = :now WHERE account_id = :account AND id IN (SELECT id FROM undo_customer WHERE kind = '{UndoKind.REVIVE}')"
)
TAKE_POINTS_BACK = (
    'INSERT {or_rollback}INTO ledger_entry(account_id, change, customer_id, "row", campaign_id, item_id, amount, created_at) '
    'SELECT :account, :undo, e.customer_id, e."row", e.campaign_id, e.item_id, -e.amount, :now FROM change h '
    "{join} ledger_entry e ON e.account_id = :account AND e.change = h.change "
    f"WHERE {IN_RANGE}"
)
