"""Apply what `back`, `restore` and `rekey` say (storage/history.py): an undo's writes, by set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage import uniques as unique_values
from storage.history import FROM_IMAGES, FROM_RESTORE, KEYS, OURS, PLAIN, Source, Span, document, dumped
from storage.models import DOCUMENTS, IMAGE
from storage.workspace import Workspace


def take_back(
    work: Workspace, span: Span, undo: int, now: int, campaigns: Sequence[int], sign: int, *, rekeyed: bool
) -> None:
    """Apply `back`: images first, then removals, fields, keys, points and enrolments. `undo` is the undo's own change.

    `rekeyed`: whether `rekey` asks for anything.
    """
    values = {"account": span.account, "undo": undo, "now": now}
    for statement in (TAKE_IMAGES, REMOVE):
        work.execute(statement, **values)
    if rekeyed:
        for name in KEYS:
            also = ", customer_username = NULL" if name == "username_key" else ""
            work.execute(
                f"UPDATE customer SET {name} = NULL{also} WHERE account_id = :account "
                f"AND id IN (SELECT id FROM rekey WHERE kind = '{name}' AND blocked = 0)",
                **values,
            )
    for source in (FROM_IMAGES, FROM_RESTORE) if work.filled("restore") else (FROM_IMAGES,):
        work.execute(_give_back(source, work.sqlite), **values)
    if rekeyed:
        for name in KEYS:
            also = ", customer_username = r.shown" if name == "username_key" else ""
            work.execute(
                f"UPDATE customer SET {name} = r.value{also} FROM rekey r WHERE customer.account_id = :account "
                f"AND customer.id = r.id AND r.kind = '{name}' AND r.blocked = 0",
                **values,
            )
    if campaigns:
        work.execute(TAKE_POINTS_BACK, **(values | span.values))
        if not work.sqlite:
            work.execute("DELETE FROM points")
            work.execute(SUM_POINTS, account=span.account, undo=undo)
            work.analyze("points")
    for place, campaign in enumerate(campaigns):
        leave = _leave(points=place == 0, sqlite=work.sqlite)
        work.execute(leave, account=span.account, campaign=campaign, undo=undo, sign=sign)


def _leave(*, points: bool, sqlite: bool) -> str:
    """Give the uses of a campaign back, and of the first one its points: the undo's own entries are in the ledger by now."""
    sums = (
        "SELECT sum(e.amount) FROM ledger_entry e WHERE e.account_id = :account AND e.change = :undo "
        "AND e.customer_id = enrolment.customer_id"
    )
    if not points or sqlite:
        return (
            "UPDATE {whole} enrolment SET uses = uses + :sign, "
            f"balance = balance + {f'coalesce(({sums}), 0)' if points else '0'} "
            "WHERE account_id = :account AND campaign_id = :campaign AND customer_id IN (SELECT id FROM back)"
        )
    # Here a sum for each enrolment costs three times as much as all of them at once. They have a table with a key: of a
    # ledger that was filled just now PostgreSQL expects one row, and would go through all of them for each enrolment.
    return (
        "UPDATE enrolment SET uses = uses + :sign, balance = balance + coalesce(p.points, 0) "
        "FROM back k LEFT JOIN points p ON p.id = k.id "
        "WHERE enrolment.account_id = :account AND enrolment.campaign_id = :campaign AND enrolment.customer_id = k.id"
    )


def _give_back(source: Source, sqlite: bool) -> str:
    where = f"{source.where} AND k.moved = 1"
    if not sqlite:
        settings = ", ".join(f"{name} = b.{name}" for name in PLAIN)
        return (
            f"UPDATE customer c SET {settings}, removed = NULL, updated_at = :now FROM back k JOIN {source.joined} "
            f"WHERE c.account_id = :account AND c.id = k.id AND {where}"
        )
    # No upsert as in storage/apply.py, of which SQLite would keep copies of all pages (see `whole` in spelling.py).
    names = ", ".join(f"b.{name}" for name in PLAIN)
    return (
        f"UPDATE {{whole}} customer SET ({', '.join(PLAIN)}) = (SELECT {names} FROM back k {{then}} {source.joined} "
        "WHERE k.id = customer.id), removed = NULL, updated_at = :now "
        f"WHERE id IN (SELECT k.id FROM {source.listed} WHERE {where})"
    )


def rewrite_uniques(work: Workspace, account: int, undo: int, uniques: Sequence[int]) -> None:
    """Bring the table of unique values in line; a value that somebody else has by now stays what it was before the undo."""
    if not uniques:
        return
    blocked_rows = list(
        work.rows(
            "SELECT r.id, r.kind, c.custom_fields, i.custom_fields, c.attributes, i.attributes FROM rekey r "
            "{then} customer c ON c.account_id = :account AND c.id = r.id "
            "{then} snapshot i ON i.account_id = :account AND i.change = :undo AND i.customer_id = r.id "
            "WHERE r.blocked = 1 AND r.kind NOT IN ('code', 'card_number', 'username_key') AND c.removed IS NULL",
            account=account,
            undo=undo,
        )
    )
    documents: dict[tuple[str, int], dict[str, Any]] = {}
    for number, key, *held in blocked_rows:
        name = unique_values.document_of(key)
        current, before = held[:2] if name == "custom_fields" else held[2:]
        kept = documents.setdefault((name, number), dict(document(current)))
        kept.pop(key, None)
        if key in document(before):
            kept[key] = document(before)[key]
    for name in DOCUMENTS:
        work.many(
            f"UPDATE customer SET {name} = CAST(:document AS {{json}}) WHERE account_id = :account AND id = :id",
            [
                {"id": number, "account": account, "document": dumped(kept)}
                for (place, number), kept in documents.items()
                if place == name
            ],
        )
    work.execute(
        "DELETE FROM unique_value WHERE account_id = :account AND customer_id IN (SELECT id FROM back)", account=account
    )
    for number in uniques:
        value = unique_values.value(number, "c", work.sqlite)
        work.execute(
            f"INSERT INTO unique_value(account_id, number, value, customer_id) SELECT :account, {number}, {value}, c.id "
            f"FROM back k {{then}} customer c ON c.account_id = :account AND c.id = k.id WHERE {value} IS NOT NULL",
            account=account,
        )


TAKE_IMAGES = (
    f"INSERT {{whole}} INTO snapshot(account_id, change, customer_id, {', '.join(IMAGE)}, removed) "
    f"SELECT :account, :undo, c.id, {', '.join(f'c.{name}' for name in IMAGE)}, c.removed FROM back k "
    "{then} {customer} = k.id"
)
_BLANK = ", ".join(
    f"{name} = " + ("'{}'" if name in DOCUMENTS else "0" if name.endswith("_version") else "''") for name in PLAIN
)
REMOVE = (
    "UPDATE {whole} customer SET code = NULL, card_number = NULL, customer_username = NULL, username_key = NULL, "
    f"{_BLANK}, removed = :undo, updated_at = :now "
    "WHERE account_id = :account AND id IN (SELECT id FROM back WHERE kind = 'remove')"
)
SUM_POINTS = (
    "INSERT INTO points(id, points) SELECT e.customer_id, sum(e.amount) FROM ledger_entry e "
    "WHERE e.account_id = :account AND e.change = :undo GROUP BY e.customer_id"
)
TAKE_POINTS_BACK = (
    'INSERT {whole} INTO ledger_entry(account_id, change, customer_id, "row", campaign_id, item_id, amount, created_at) '
    'SELECT :account, :undo, e.customer_id, e."row", e.campaign_id, e.item_id, -e.amount, :now FROM change h '
    "{then} ledger_entry e ON e.account_id = :account AND e.change = h.change "
    f"WHERE {OURS}"
)
