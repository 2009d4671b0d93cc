"""Undo a batch: restore each field to its value before the batch, where the batch's own value is still there.

Source: docs/protocol.md, Undo.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from importing.batch import Conflict, Origin, UndoOutcome
from importing.context import Context
from importing.disk_list import DiskList
from importing.import_batch import batch_session
from importing.undo import availability
from storage import apply, unique_values
from storage.batch_transaction import BatchTransaction
from storage.engine import now_ms
from storage.queries import batches, webhooks
from storage.tables import DOCUMENT_COLUMNS, PROFILE_COLUMNS
from storage.undo import apply_undo, keys, plan_sql
from storage.undo.plan_sql import ChangeRange

FIELD_OF_KEY = {"username_key": "customer_username"}
SECRET_COLUMNS = {
    "customer_password": ("password_digest", "password_version"),
    "customer_PIN": ("pin_digest", "pin_version"),
}


def undo(
    context: Context, account: int, batch_id: str, user: str, protocol: str, origin: Origin = Origin()
) -> UndoOutcome:
    """Undo a batch, or an undo, in one transaction. The undo is an entry of the history and can be undone too.

    Raises ApiError: unknown_batch, batch_running, already_undone, undo_unavailable, undo_expired, busy.
    """
    started = time.perf_counter()
    with batch_session(context) as work, work.roomy(), work.writing(account, context.write_wait):
        batches.lock_root(work, account, batch_id)
        batch = availability.load_undoable(context, work, account, batch_id)
        request = _load_request(work, account, batch)
        first = _take_numbers(work, request)
        undo_id = secrets.token_hex(10)
        outcome = _undo_by_set(work, request, undo_id, first) or _undo_one_by_one(work, request, undo_id, first)
        values = {
            "number": first + len(request.changes),
            "face": protocol,
            "user_id": user,
            "duration_ms": round((time.perf_counter() - started) * 1000),
            **origin._asdict(),
        }
        _store_undo(work, account, batch, outcome, values)
        deliveries = webhooks.add_deliveries(work, account, undo_id, webhooks.WebhookEvent.UNDONE, now_ms())
    context.queue.put_deliveries(deliveries)
    return outcome


def preview(context: Context, account: int, batch_id: str) -> UndoOutcome:
    """What `undo` would do now; nothing is written. Raises what `undo` would raise.

    If the batch has several changes, and two of them touched the same customer, it is undone and the transaction rolled
    back, under the write lock. Other previews take no lock and are never busy.
    """
    with batch_session(context) as work:
        request = _load_request(work, account, availability.load_undoable(context, work, account, batch_id))
        outcome = _undo_by_set(work, request, "")
        if outcome is not None:
            return outcome
    try:
        with batch_session(context) as work, work.roomy(), work.writing(account, context.write_wait):
            request = _load_request(work, account, availability.load_undoable(context, work, account, batch_id))
            raise _PreviewRollback(_undo_one_by_one(work, request, "", _take_numbers(work, request)))
    except _PreviewRollback as rollback:
        return rollback.outcome


class _PreviewRollback(Exception):
    """Rolls back the undo that a preview had to make."""

    def __init__(self, outcome: UndoOutcome) -> None:
        super().__init__()
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class _UndoRequest:
    """What is undone. `changes` are newest first. `sign`: -1 removes uses of enrolments, 1 restores them."""

    account: int
    batch_id: str
    root: str
    changes: Sequence[int]
    campaigns: Sequence[int]
    sign: int
    uniques: Sequence[int]

    def span(self, newest: int, oldest: int) -> ChangeRange:
        return ChangeRange(self.account, self.batch_id, self.root, oldest, newest)


@dataclass(frozen=True, slots=True)
class _UndoPlan:
    """A plan in the temporary tables. `conflicts` and `counts` (restored, removed, kept) are of its own changes."""

    span: ChangeRange
    undo_counts: plan_sql.UndoCounts
    has_undo_keys: bool
    conflicts: int
    counts: tuple[int, int, int]


def _load_request(work: BatchTransaction, account: int, batch: batches.BatchRow) -> _UndoRequest:
    root = batches.load_batch(work, account, batch["root"])
    assert root is not None
    return _UndoRequest(
        account,
        batch["id"],
        batch["root"],
        plan_sql.list_changes(work, account, batch["id"]),
        batches.parse_numbers(root["campaigns"]),
        1 if root["status"] == "undone" else -1,
        unique_values.list_numbers(work, account),
    )


def _take_numbers(work: BatchTransaction, request: _UndoRequest) -> int:
    """Take a number for the undo of each change, and one for the entry in the history. Returns the first."""
    return apply.next_change(work, request.account, len(request.changes) + 1)


def _undo_by_set(work: BatchTransaction, request: _UndoRequest, undo_id: str, number: int = 0) -> UndoOutcome | None:
    """Undo all changes by set, as the change `number`; without `undo_id` only plan it. None: they depend on each other."""
    changes = request.changes
    if not changes:
        return UndoOutcome(undo_id, request.batch_id, 0, 0, 0, ())
    span = request.span(changes[0], changes[-1])
    if len(changes) > 1 and plan_sql.have_common_customers(work, span):
        return None
    plan = _plan_undo(work, request, span, 0, ranges=True)
    if len(changes) > 1 and plan.has_undo_keys and keys.has_rivals(work):
        plan_sql.clear_plan(work)
        work.execute("DELETE FROM conflict")
        return None
    conflicts = _load_conflicts(work, request.account) if plan.conflicts else DiskList[Conflict]()
    if undo_id:
        _apply_undo(work, request, plan, undo_id, number)
    return UndoOutcome(undo_id, request.batch_id, *plan.counts, conflicts)


def _undo_one_by_one(work: BatchTransaction, request: _UndoRequest, undo_id: str, first: int) -> UndoOutcome:
    """Undo one change after another, the newest first, each on what the undo of the newer ones left."""
    conflicts_so_far = 0
    for number, change in enumerate(request.changes, first):
        plan = _plan_undo(work, request, request.span(change, change), conflicts_so_far)
        conflicts_so_far += plan.conflicts
        plan_sql.add_outcomes(work)
        _apply_undo(work, request, plan, undo_id, number)
        plan_sql.clear_plan(work)
    conflicts = _load_conflicts(work, request.account) if conflicts_so_far else DiskList[Conflict]()
    return UndoOutcome(undo_id, request.batch_id, *plan_sql.count_outcomes(work), conflicts)


def _apply_undo(work: BatchTransaction, request: _UndoRequest, plan: _UndoPlan, undo_id: str, number: int) -> None:
    account, now, counts = request.account, now_ms(), plan.undo_counts
    campaigns, sign, has_keys = request.campaigns, request.sign, plan.has_undo_keys
    removed = apply_undo.apply_undo(work, plan.span, number, now, campaigns, sign, counts, has_undo_keys=has_keys)
    apply_undo.rewrite_unique_values(work, account, number, request.uniques, counts.made)
    apply.record_change(work, apply.ChangeContext(account, number, now, 0), undo_id, -1, removed)


def _plan_undo(
    work: BatchTransaction, request: _UndoRequest, span: ChangeRange, conflicts_so_far: int, *, ranges: bool = False
) -> _UndoPlan:
    """Plan what happens to the customers of some changes. `conflicts_so_far` are stored already, of newer changes.

    For `ranges` see `plan_sql.gather_customers`.
    """
    account = request.account
    undo_counts = plan_sql.gather_customers(work, span, request.uniques, ranges=ranges)
    field_conflicts: DiskList[plan_sql.ConflictRow] = DiskList()
    if undo_counts.later:
        plan_sql.store_undo_values(work, DiskList(_undo_values(work, account, field_conflicts)))
        plan_sql.mark_differing_fields(work, account)
    has_keys_to_check = undo_counts.later or undo_counts.key_changes
    has_undo_keys = bool(has_keys_to_check) and keys.fill_undo_keys(work, account, request.uniques) > 0
    if has_undo_keys:
        for number, code, kind, current in keys.list_blocked(work, account):
            field_conflicts.append((number, FIELD_OF_KEY.get(kind, kind), code or "", current or "", current or ""))
        keys.unmark_blocked_only(work, account)
    conflicts = plan_sql.add_conflicts(work, conflicts_so_far, field_conflicts)
    if conflicts > conflicts_so_far:
        plan_sql.mark_conflicts(work, conflicts_so_far)
    if undo_counts.without_difference or has_undo_keys:
        plan_sql.mark_differing_others(work, account, request.campaigns, request.sign)
    counts = plan_sql.count_planned(work, undo_counts.made)
    if counts[2]:
        kept = DiskList((number, "customer", code, "", "") for number, code in plan_sql.list_kept(work, account))
        conflicts = plan_sql.add_conflicts(work, conflicts, kept)
    return _UndoPlan(span, undo_counts, has_undo_keys, conflicts - conflicts_so_far, counts)


def _undo_values(
    work: BatchTransaction, account: int, field_conflicts: DiskList[plan_sql.ConflictRow]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for images in plan_sql.list_written_since(work, account):
        image, row_conflicts = plan_field_undo(images)
        for conflict in row_conflicts:
            field_conflicts.append((images.id, conflict.field, conflict.code, conflict.written, conflict.current))
        yield images.id, image


def _load_conflicts(work: BatchTransaction, account: int) -> DiskList[Conflict]:
    return DiskList(Conflict(*row) for row in plan_sql.list_conflicts(work, account))


def plan_field_undo(images: plan_sql.CustomerImages) -> tuple[dict[str, Any], list[Conflict]]:
    """What the values of a customer that was written to since shall be, and the fields that cannot be restored."""
    before, after, current = images.before, images.after, images.current
    image = dict(current)
    conflicts: list[Conflict] = []

    def can_restore(field: str, values: tuple[object, object, object], *, is_secret: bool = False) -> bool:
        """Whether to restore the value; a conflict where another value was written since."""
        before_value, written_value, current_value = values
        if _is_same(written_value, before_value):
            return False
        if _is_same(current_value, written_value):
            return True
        texts = ("", "") if is_secret else (_to_text(written_value), _to_text(current_value))
        conflicts.append(Conflict(current["code"] or "", field, *texts))
        return False

    for name in ("code", "card_number", *PROFILE_COLUMNS, "customer_username"):
        if can_restore(name, (before[name], after[name], current[name])):
            image[name] = before[name]
            if name == "customer_username":
                image["username_key"] = before["username_key"]
    for field, (digest, version) in SECRET_COLUMNS.items():
        if can_restore(field, (before[version], after[version], current[version]), is_secret=True):
            image[digest], image[version] = before[digest], before[version]
    for name in DOCUMENT_COLUMNS:
        document = dict(current[name])
        for key in sorted(before[name].keys() | after[name].keys()):
            if can_restore(key, (before[name].get(key), after[name].get(key), document.get(key))):
                document.pop(key, None)
                if key in before[name]:
                    document[key] = before[name][key]
        image[name] = document
    return image, conflicts


def _is_same(one: object, other: object) -> bool:
    # Attributes may be 1 or true, which are equal in Python.
    return one == other and (isinstance(one, str) or json.dumps(one) == json.dumps(other))


def _to_text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _store_undo(
    work: BatchTransaction, account: int, batch: batches.BatchRow, outcome: UndoOutcome, values: dict[str, object]
) -> None:
    batches.mark_chain_undone(work, account, batch["root"])
    batches.insert_batch(
        work,
        {
            "account_id": account,
            "id": outcome.batch_id,
            "kind": "undo",
            "status": "imported",
            "undoes": batch["id"],
            "root": batch["root"],
            "restored": outcome.restored,
            "removed": outcome.removed,
            "kept": outcome.kept,
            "created_at": now_ms(),
            **values,
        },
    )
    conflicts = (
        (n, conflict.field, conflict.code, conflict.current[:255], conflict.written[:255], "")
        for n, conflict in enumerate(outcome.conflicts, 1)
    )
    batches.insert_problems(work, account, outcome.batch_id, batches.CONFLICT, conflicts)
