"""Apply what `back`, `restore` and `rekey` say (storage/history.py): an undo's writes, by set."""

from __future__ import annotations

from collections.abc import Sequence

from storage.history import KEYS, PLAIN, SOURCES, Source, document, dumped, unique_of
from storage.models import DOCUMENTS, IMAGE
from storage.workspace import Workspace


def take_back(
    work: Workspace, account: int, change: int, undo: int, now: int, campaigns: Sequence[int], sign: int
) -> None:
    """Apply `back`: images first, then removals, fields, keys, points and enrolments. `undo` is the undo's own change."""
    values = {"account": account, "change": change, "undo": undo, "now": now}
    for statement in (TAKE_IMAGES, REMOVE):
        work.execute(statement, **values)
    for name in KEYS:
        also = ", customer_username = NULL" if name == "username_key" else ""
        work.execute(
            f"UPDATE customer SET {name} = NULL{also} WHERE account_id = :account "
            f"AND id IN (SELECT id FROM rekey WHERE kind = '{name}' AND blocked = 0)",
            **values,
        )
    for source in SOURCES:
        work.execute(_give_back(source, work.sqlite), **values)
    for name in KEYS:
        also = ", customer_username = r.shown" if name == "username_key" else ""
        work.execute(
            f"UPDATE customer SET {name} = r.value{also} FROM rekey r WHERE customer.account_id = :account "
            f"AND customer.id = r.id AND r.kind = '{name}' AND r.blocked = 0",
            **values,
        )
    if campaigns:
        work.execute(TAKE_POINTS_BACK, **values)
    points = (
        "coalesce((SELECT sum(e.amount) FROM ledger_entry e WHERE e.account_id = :account "
        "AND e.customer_id = enrolment.customer_id AND e.change = :change), 0)"
    )
    for place, campaign in enumerate(campaigns):
        work.execute(
            f"UPDATE enrolment SET uses = uses + :sign, balance = balance - {'0' if place else points} "
            "WHERE account_id = :account AND campaign_id = :campaign AND customer_id IN (SELECT id FROM back)",
            account=account,
            campaign=campaign,
            change=change,
            sign=sign,
        )


def _give_back(source: Source, sqlite: bool) -> str:
    where = f"{source.where} AND k.moved = 1"
    if not sqlite:
        settings = ", ".join(f"{name} = b.{name}" for name in PLAIN)
        return (
            f"UPDATE customer c SET {settings}, removed = NULL, updated_at = :now FROM back k JOIN {source.joined} "
            f"WHERE c.account_id = :account AND c.id = k.id AND {where}"
        )
    # An upsert walks the table in key order, once (as in storage/apply.py).
    settings = ", ".join(f"{name} = excluded.{name}" for name in (*PLAIN, "removed", "updated_at"))
    return (
        f"INSERT INTO customer(id, account_id, created, created_at, updated_at, removed, {', '.join(PLAIN)}) "
        f"SELECT k.id, :account, 0, 0, :now, NULL, {', '.join(f'b.{name}' for name in PLAIN)} "
        f"FROM back k {{then}} {source.joined} WHERE {where} ORDER BY k.id ON CONFLICT(id) DO UPDATE SET {settings}"
    )


def rewrite_uniques(work: Workspace, account: int, undo: int, uniques: Sequence[int]) -> None:
    """Bring the table of unique values in line; a value that somebody else has by now stays what it was before the undo."""
    if not uniques:
        return
    blocked_rows = list(
        work.rows(
            "SELECT r.id, r.kind, c.custom_fields, i.custom_fields FROM rekey r "
            "{then} customer c ON c.account_id = :account AND c.id = r.id "
            "{then} snapshot i ON i.account_id = :account AND i.change = :undo AND i.customer_id = r.id "
            "WHERE r.blocked = 1 AND r.kind LIKE 'custom_field_%' AND c.removed IS NULL",
            account=account,
            undo=undo,
        )
    )
    documents: dict[int, dict[str, str]] = {}
    for number, name, current, before in blocked_rows:
        kept = documents.setdefault(number, dict(document(current)))
        kept.pop(name, None)
        if name in document(before):
            kept[name] = document(before)[name]
    work.many(
        "UPDATE customer SET custom_fields = CAST(:document AS {json}) WHERE account_id = :account AND id = :id",
        [{"id": number, "account": account, "document": dumped(kept)} for number, kept in documents.items()],
    )
    work.execute(
        "DELETE FROM unique_value WHERE account_id = :account AND customer_id IN (SELECT id FROM back)", account=account
    )
    for number in uniques:
        value = unique_of("c", number, work.sqlite)
        work.execute(
            f"INSERT INTO unique_value(account_id, number, value, customer_id) SELECT :account, {number}, {value}, c.id "
            f"FROM back k {{then}} customer c ON c.account_id = :account AND c.id = k.id WHERE {value} IS NOT NULL",
            account=account,
        )


TAKE_IMAGES = (
    f"INSERT INTO snapshot(account_id, change, customer_id, {', '.join(IMAGE)}, removed) SELECT :account, :undo, c.id, "
    f"{', '.join(f'c.{name}' for name in IMAGE)}, c.removed FROM back k "
    "{then} customer c ON c.account_id = :account AND c.id = k.id"
)
_BLANK = ", ".join(
    f"{name} = " + ("'{}'" if name in DOCUMENTS else "0" if name.endswith("_version") else "''") for name in PLAIN
)
REMOVE = (
    "UPDATE customer SET code = NULL, card_number = NULL, customer_username = NULL, username_key = NULL, "
    f"{_BLANK}, removed = :undo, updated_at = :now "
    "WHERE account_id = :account AND id IN (SELECT id FROM back WHERE kind = 'remove')"
)
TAKE_POINTS_BACK = (
    'INSERT INTO ledger_entry(account_id, change, customer_id, "row", campaign_id, item_id, amount, created_at) '
    'SELECT :account, :undo, e.customer_id, e."row", e.campaign_id, e.item_id, -e.amount, :now FROM back k '
    "{then} ledger_entry e ON e.account_id = :account AND e.customer_id = k.id AND e.change = :change"
)
