"""Keys and unique values that an undo restores (`undo_key`), and whether another customer has them by now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from storage import unique_values
from storage.batch_transaction import BatchTransaction
from storage.sql_dialect import parse_document
from storage.tables import DOCUMENT_COLUMNS
from storage.undo.plan_sql import FROM_IMAGES, FROM_UNDO_VALUES, KEY_COLUMNS, VALUE_COLUMNS, UndoKind


def fill_undo_keys(work: BatchTransaction, account: int, uniques: Sequence[int]) -> int:
    """Fill `undo_key` with the keys and unique values that customers shall have again, and mark those another customer has.

    Returns how many they are.
    """
    kinds = [(name, f"b.{name}", f"c.{name}", f"b.{name}") for name in ("code", "card_number")]
    # A user name that is only spelled in another case has the same key.
    kinds.append(("username_key", "b.username_key", "c.username_key", "b.customer_username"))
    for number in uniques:
        before, current = (unique_values.value_sql(number, side) for side in ("b", "c"))
        kinds.append((unique_values.field_name(number), before, current, before))
    sources = [(FROM_IMAGES, "k.has_key = 1 AND ")] + [(FROM_UNDO_VALUES, "")] * work.filled("undo_value")
    queries = []
    for source, key_condition in sources:
        for kind, before, current, shown in kinds:
            differs = f"{before} {{differs}} {current}"
            if kind == "username_key":
                differs = f"({differs} OR b.customer_username {{differs}} c.customer_username)"
            condition = f"{key_condition}{source.where} AND {differs}"
            queries.append((kind, before, shown, f"{{join}} {source.joined} ", condition))
    for kind, before, shown in _keys_of_removed(uniques):
        queries.append((kind, before, shown, "", f"k.kind = '{UndoKind.REVIVE}' AND {before} IS NOT NULL"))
    keys_to_restore = sum(
        work.execute(
            f"INSERT INTO undo_key(id, change, kind, value, shown, blocked) SELECT k.id, k.change, '{kind}', {before}, "
            f"{shown}, 0 FROM undo_customer k {joined}{{join}} customer c ON c.account_id = :account AND c.id = k.id "
            f"WHERE {condition}",
            account=account,
        )
        for kind, before, shown, joined, condition in queries
    )
    if keys_to_restore:
        work.expect(keys_to_restore)
        work.analyze("undo_key")
        _mark_blocked(work, account, uniques)
    return keys_to_restore


def _keys_of_removed(uniques: Sequence[int]) -> Iterator[tuple[str, str, str]]:
    """(kind, where a removed customer has the key, the same as it is written) of keys and unique values."""
    for name in KEY_COLUMNS:
        yield name, f"c.had_{name}", "c.had_customer_username" if name == "username_key" else f"c.had_{name}"
    for number in uniques:
        value = unique_values.value_sql(number, "c")
        yield unique_values.field_name(number), value, value


def has_rivals(work: BatchTransaction) -> bool:
    """Whether two customers shall have the same key again, which the newer of their changes decides."""
    return bool(
        work.all("SELECT 1 FROM undo_key WHERE value IS NOT NULL GROUP BY kind, value HAVING count(*) > 1 LIMIT 1")
    )


def _mark_blocked(work: BatchTransaction, account: int, uniques: Sequence[int]) -> None:
    # A key is free when nobody holds it, or its holder gives it up. A blocked holder gives nothing up, so that this is
    # repeated until nothing changes. What a holder gives up for an older change comes too late.
    gives_up = (
        f"EXISTS (SELECT 1 FROM undo_customer g WHERE g.id = {{owner}} AND g.kind = '{UndoKind.REMOVE}' "
        "AND g.change >= undo_key.change) "
        "OR EXISTS (SELECT 1 FROM undo_key g WHERE g.id = {owner} AND g.kind = undo_key.kind AND g.blocked = 0 "
        "AND g.change >= undo_key.change)"
    )
    statements = [
        f"UPDATE undo_key SET blocked = 1 WHERE blocked = 0 AND kind = '{name}' AND value IS NOT NULL AND EXISTS ("
        f"SELECT 1 FROM customer o WHERE o.account_id = :account AND o.{name} = undo_key.value AND o.id <> undo_key.id "
        f"AND NOT ({gives_up.format(owner='o.id')}))"
        for name in KEY_COLUMNS
    ] + [
        f"UPDATE undo_key SET blocked = 1 WHERE blocked = 0 AND kind = '{unique_values.field_name(number)}' "
        f"AND value IS NOT NULL "
        f"AND EXISTS (SELECT 1 FROM unique_value o WHERE o.account_id = :account AND o.number = {number} "
        f"AND o.value = undo_key.value AND o.customer_id <> undo_key.id AND NOT ({gives_up.format(owner='o.customer_id')}))"
        for number in uniques
    ]
    # Without its code a customer cannot come back, and neither gives up nor needs its other keys.
    blocked_codes = "SELECT id FROM undo_key WHERE kind = 'code' AND blocked = 1"
    statements += [
        f"UPDATE undo_customer SET kind = '{UndoKind.LOST}', blocked = 1 WHERE kind = '{UndoKind.REVIVE}' "
        f"AND id IN ({blocked_codes})",
        "UPDATE undo_key SET blocked = 2 WHERE blocked <> 2 AND kind <> 'code' "
        f"AND id IN (SELECT id FROM undo_customer WHERE kind = '{UndoKind.LOST}' AND blocked = 1)",
    ]
    while sum(work.execute(statement, account=account) for statement in statements):
        pass


def list_blocked(work: BatchTransaction, account: int) -> Iterator[tuple[int, str, str, str | None]]:
    """(customer, its code, kind of key, what stands now) of keys to restore that another customer has by now."""
    uma = unique_values.UMA_ADDRESS
    attribute = f"WHEN '{unique_values.field_name(uma)}' THEN {unique_values.value_sql(uma, 'c')}"
    return work.rows(
        "SELECT r.id, coalesce(c.code, b.code, c.had_code), r.kind, CASE WHEN c.removed IS NOT NULL THEN NULL "
        "ELSE CASE r.kind WHEN 'code' THEN c.code "
        "WHEN 'card_number' THEN c.card_number WHEN 'username_key' THEN c.customer_username "
        f"{attribute} ELSE c.custom_fields ->> r.kind END END FROM undo_key r "
        "{join} customer c ON c.account_id = :account AND c.id = r.id "
        "LEFT JOIN snapshot b ON b.account_id = :account AND b.change = r.change AND b.customer_id = r.id "
        "WHERE r.blocked = 1 ORDER BY r.id, r.kind",
        account=account,
    )


def unmark_blocked_only(work: BatchTransaction, account: int) -> None:
    """Take the mark `differs` from customers in whom only a value differs that another customer has now."""
    blocked_values: dict[int, list[Any]] = {}
    names = ", ".join(f"{side}.{name}" for name in DOCUMENT_COLUMNS for side in ("b", "c"))
    for source in (FROM_IMAGES, FROM_UNDO_VALUES):
        for number, kind, *documents in work.rows(
            f"SELECT k.id, r.kind, {names} FROM undo_key r {{join}} undo_customer k ON k.id = r.id "
            f"AND k.kind = '{UndoKind.RESTORE}' "
            f"{{join}} {source.joined} {{join}} customer c ON c.account_id = :account AND c.id = k.id "
            f"WHERE r.blocked = 1 AND r.kind NOT IN ({_NAMED_KEYS}) AND {source.where} AND NOT ({_REST_DIFFERS})",
            account=account,
        ):
            sides = blocked_values.setdefault(number, [_document_values(documents[side::2]) for side in (0, 1)])
            for values in sides:
                values.pop((unique_values.document_of(kind), kind), None)
    without_difference = [number for number, (before, current) in blocked_values.items() if before == current]
    if without_difference:
        work.execute("DELETE FROM rejected_row")
        work.fill_rows("rejected_row", ("row",), ((number,) for number in without_difference))
        work.execute('UPDATE undo_customer SET differs = 0 WHERE id IN (SELECT "row" FROM rejected_row)')


_NAMED_KEYS = ", ".join(f"'{name}'" for name in KEY_COLUMNS)
_REST_DIFFERS = " OR ".join(
    f"b.{name} <> c.{name}" for name in VALUE_COLUMNS if not name.endswith("_digest") and name not in DOCUMENT_COLUMNS
)


def _document_values(documents: Sequence[Any]) -> dict[tuple[str, str], Any]:
    """All values of a customer's documents, by document and key."""
    return {
        (name, key): value
        for name, document_text in zip(DOCUMENT_COLUMNS, documents, strict=True)
        for key, value in parse_document(document_text).items()
    }
