"""Apply what `back`, `restore` and `rekey` say (storage/history.py): an undo's writes, by set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage import uniques as unique_values
from storage.history import (
    FROM_IMAGES,
    FROM_RESTORE,
    KEYS,
    OURS,
    PLAIN,
    Gathered,
    Made,
    Source,
    Span,
    document,
    dumped,
)
from storage.models import DOCUMENTS, HAD, IMAGE
from storage.models import KEYS as ALL_KEYS
from storage.workspace import Workspace


def take_back(
    work: Workspace,
    span: Span,
    undo: int,
    now: int,
    campaigns: Sequence[int],
    sign: int,
    gathered: Gathered,
    *,
    rekeyed: bool,
) -> tuple[int, int]:
    """Apply `back`: images first, then removals, fields, keys, points and enrolments. `undo` is the undo's own change.

    `rekeyed`: whether `rekey` asks for anything. Returns between which numbers the removed customers lie.
    """
    values: dict[str, object] = {"account": span.account, "undo": undo, "now": now}
    work.execute(TAKE_IMAGES, **values)
    removed = _remove(work, gathered.made, values)
    if rekeyed:
        for name in KEYS:
            also = ", customer_username = NULL" if name == "username_key" else ""
            work.execute(
                f"UPDATE customer SET {name} = NULL{also} WHERE account_id = :account "
                f"AND id IN (SELECT id FROM rekey WHERE kind = '{name}' AND blocked = 0)",
                **values,
            )
    for source in (FROM_IMAGES, FROM_RESTORE) if work.filled("restore") else (FROM_IMAGES,):
        work.execute(_give_back(source, work.sqlite), **values, **span.range)
    if gathered.away:
        work.execute(REVIVE, **values)
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
        if gathered.away:
            for campaign in campaigns:
                work.execute(ENROL_AGAIN, account=span.account, campaign=campaign)
        _leave(work, span.account, undo, campaigns, sign, gathered.made)
    return removed


def _remove(work: Workspace, made: Made | None, values: dict[str, object]) -> tuple[int, int]:
    if made is not None:
        work.execute(f"{REMOVE} AND id BETWEEN :first AND :last", **(values | made.values))
        return made.first, made.last
    work.execute(f"{REMOVE} AND id IN (SELECT id FROM back WHERE kind = 'remove')", **values)
    first, last = work.one("SELECT coalesce(min(id), 0), coalesce(max(id), -1) FROM back WHERE kind = 'remove'")
    return int(first), int(last)


def _leave(work: Workspace, account: int, undo: int, campaigns: Sequence[int], sign: int, made: Made | None) -> None:
    """Give the uses of campaigns back, and of the first one its points: the undo's own entries are in the ledger by now."""
    first, last = (0, -1) if made is None else (made.first, made.last)
    if made is not None:
        # Whatever they have is of what is undone: nothing is left of it.
        work.execute(
            "DELETE FROM enrolment WHERE account_id = :account AND customer_id BETWEEN :first AND :last",
            account=account,
            **made.values,
        )
    for place, campaign in enumerate(campaigns):
        leave = _leave_one(points=place == 0, sqlite=work.sqlite)
        work.execute(leave, account=account, campaign=campaign, undo=undo, sign=sign, first=first, last=last)


def _leave_one(*, points: bool, sqlite: bool) -> str:
    sums = (
        "SELECT sum(e.amount) FROM ledger_entry e WHERE e.account_id = :account AND e.change = :undo "
        "AND e.customer_id = enrolment.customer_id"
    )
    if not points or sqlite:
        return (
            "UPDATE {or_all}enrolment SET uses = uses + :sign, "
            f"balance = balance + {f'coalesce(({sums}), 0)' if points else '0'} "
            "WHERE account_id = :account AND campaign_id = :campaign AND customer_id IN (SELECT id FROM back)"
        )
    # Here a sum for each enrolment costs three times as much as all of them at once. Of a ledger that was filled just now
    # PostgreSQL expects one row, and would go through all of them for each enrolment; not where it is joined fully.
    return (
        "UPDATE enrolment SET uses = uses + :sign, balance = balance + coalesce(k.points, 0) FROM (SELECT k.id, p.points "
        "FROM back k FULL JOIN (SELECT e.customer_id, sum(e.amount) AS points FROM ledger_entry e "
        "WHERE e.account_id = :account AND e.change = :undo AND e.customer_id NOT BETWEEN :first AND :last "
        "GROUP BY e.customer_id) p ON p.customer_id = k.id OFFSET 0) k "
        "WHERE enrolment.account_id = :account AND enrolment.campaign_id = :campaign AND enrolment.customer_id = k.id"
    )


def _give_back(source: Source, sqlite: bool) -> str:
    where = f"{source.where} AND k.moved = 1"
    if not sqlite:
        settings = ", ".join(f"{name} = b.{name}" for name in PLAIN)
        # Which of its keys to find images by is a guess while there are no statistics of new ones: it read the account's.
        near = " AND b.change BETWEEN :oldest AND :newest" if source is FROM_IMAGES else ""
        return (
            f"UPDATE customer c SET {settings}, removed = NULL, updated_at = :now FROM back k JOIN {source.joined} "
            f"WHERE c.account_id = :account AND c.id = k.id AND {where}{near}"
        )
    # No upsert as in storage/apply.py, of which SQLite would keep copies of all pages (see `whole` in spelling.py).
    names = ", ".join(f"b.{name}" for name in PLAIN)
    return (
        f"UPDATE {{or_all}}customer SET ({', '.join(PLAIN)}) = (SELECT {names} FROM back k {{then}} {source.joined} "
        "WHERE k.id = customer.id), removed = NULL, updated_at = :now "
        f"WHERE id IN (SELECT k.id FROM {source.listed} WHERE {where})"
    )


def rewrite_uniques(work: Workspace, account: int, undo: int, uniques: Sequence[int], made: Made | None) -> None:
    """Bring the table of unique values in line; a value that somebody else has by now stays what it was before the undo."""
    if not uniques:
        return
    blocked_rows = list(
        work.rows(
            f"SELECT r.id, r.kind, c.custom_fields, {_had('custom_fields')}, c.attributes, {_had('attributes')} "
            "FROM rekey r "
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
    if made is not None:
        work.execute(
            "DELETE FROM unique_value WHERE account_id = :account AND customer_id BETWEEN :first AND :last",
            account=account,
            **made.values,
        )
    for number in uniques:
        value = unique_values.value(number, "c", work.sqlite)
        work.execute(
            f"INSERT INTO unique_value(account_id, number, value, customer_id) SELECT :account, {number}, {value}, c.id "
            f"FROM back k {{then}} customer c ON c.account_id = :account AND c.id = k.id "
            f"WHERE c.removed IS NULL AND {value} IS NOT NULL",
            account=account,
        )


def _had(document: str) -> str:
    # Who was away had no unique values.
    return f"CASE WHEN i.removed IS NULL THEN i.{document} ELSE CAST('{{}}' AS {{json}}) END"


_KEPT = dict(zip(ALL_KEYS, HAD, strict=True))
_IMAGE = ", ".join(f"coalesce(c.{name}, c.{_KEPT[name]})" if name in _KEPT else f"c.{name}" for name in IMAGE)
TAKE_IMAGES = (
    f"INSERT {{or_all}}INTO snapshot(account_id, change, customer_id, {', '.join(IMAGE)}, removed) "
    f"SELECT :account, :undo, c.id, {_IMAGE}, c.removed FROM back k {{then}} {{customer}} = k.id "
    "WHERE k.kind <> 'remove'"
)
# Who is removed is an image already: a copy would cost a third of the undo.
REMOVE = (
    f"UPDATE {{or_all}}customer SET {', '.join(f'{had} = {name}, {name} = NULL' for name, had in _KEPT.items())}, "
    "removed = :undo, updated_at = :now WHERE account_id = :account"
)
ENROL_AGAIN = (
    "INSERT INTO enrolment(account_id, customer_id, campaign_id, balance, uses) SELECT :account, k.id, :campaign, 0, 0 "
    "FROM back k WHERE k.kind IN ('revive', 'gone') ON CONFLICT(account_id, customer_id, campaign_id) DO NOTHING"
)
REVIVE = (
    f"UPDATE {{or_all}}customer SET {', '.join(f'{had} = NULL' for had in HAD)}, removed = NULL, updated_at = :now "
    "WHERE account_id = :account AND id IN (SELECT id FROM back WHERE kind = 'revive')"
)
TAKE_POINTS_BACK = (
    'INSERT {or_all}INTO ledger_entry(account_id, change, customer_id, "row", campaign_id, item_id, amount, created_at) '
    'SELECT :account, :undo, e.customer_id, e."row", e.campaign_id, e.item_id, -e.amount, :now FROM change h '
    "{then} ledger_entry e ON e.account_id = :account AND e.change = h.change "
    f"WHERE {OURS}"
)
