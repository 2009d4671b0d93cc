"""Undo a batch: give back, field by field, what was before where the batch's value still stands.

Source: docs/protocol.md, Undo.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from importing import undoable
from importing.batch import Conflict, Undone
from importing.core import Core
from importing.queue import put_deliveries
from importing.run import opened
from importing.spool import Spool
from storage import apply, batches, fates, history, rekeying, revert, uniques, webhooks
from storage.engine import now
from storage.history import Span
from storage.models import DOCUMENTS, PROFILE
from storage.workspace import Workspace

FIELD_OF = {"username_key": "customer_username"}
SECRETS = {"customer_password": ("password_digest", "password_version"), "customer_PIN": ("pin_digest", "pin_version")}


def undo(core: Core, account: int, batch_id: str, user: str, face: str) -> Undone:
    """Take a batch back, or an undo. One transaction; itself an entry of the history that can be undone.

    Raises Fault: unknown_batch, batch_running, already_undone, undo_unavailable, undo_expired, busy.
    """
    started = time.perf_counter()
    with opened(core) as work, work.roomy(), work.writing(account, core.write_wait):
        batches.hold_root(work, account, batch_id)
        batch = undoable.available(core, work, account, batch_id)
        undoing = _undoing(work, account, batch)
        first = _numbers(work, undoing)
        undone = _take_back(work, undoing, secrets.token_hex(10), first)
        took = round((time.perf_counter() - started) * 1000)
        _remember(work, account, batch, undone, first + len(undoing.changes), user, face, took)
        deliveries = webhooks.note(work, account, undone.batch_id, webhooks.Event.UNDONE, now())
    put_deliveries(core.queue, deliveries)
    return undone


def preview(core: Core, account: int, batch_id: str) -> Undone:
    """What `undo` would do now; nothing is written. Raises what `undo` would raise.

    Where the batch was written in several changes, and two of them touched the same customer, it is taken back and the
    transaction rolled back: that takes the turn to write. Other previews do not, and are never busy.
    """
    with opened(core) as work:
        undoing = _undoing(work, account, undoable.available(core, work, account, batch_id))
        undone = _at_once(work, undoing, "")
        if undone is not None:
            return undone
    try:
        with opened(core) as work, work.roomy(), work.writing(account, core.write_wait):
            undoing = _undoing(work, account, undoable.available(core, work, account, batch_id))
            raise _Foreseen(_one_by_one(work, undoing, "", _numbers(work, undoing)))
    except _Foreseen as foreseen:
        return foreseen.undone


class _Foreseen(Exception):
    """Rolls back what a preview had to do to know it."""

    def __init__(self, undone: Undone) -> None:
        self.undone = undone
        super().__init__()


@dataclass(frozen=True, slots=True)
class _Undoing:
    """What is undone. `changes` newest first; `sign`: -1 to take uses of enrolments away, 1 to give them back."""

    account: int
    batch_id: str
    root: str
    changes: Sequence[int]
    campaigns: Sequence[int]
    sign: int
    uniques: Sequence[int]

    def span(self, newest: int, oldest: int) -> Span:
        return Span(self.account, self.batch_id, self.root, oldest, newest)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A plan that stands in the workspace. `conflicts` and the counts are those of its own changes."""

    span: Span
    gathered: history.Gathered
    rekeyed: bool
    conflicts: int
    counts: tuple[int, int, int]


def _undoing(work: Workspace, account: int, batch: undoable.Batch) -> _Undoing:
    root = batches.load(work, account, batch["root"])
    assert root is not None
    return _Undoing(
        account,
        batch["id"],
        batch["root"],
        history.changes(work, account, batch["id"]),
        batches.numbers(root["campaigns"]),
        1 if root["status"] == "undone" else -1,
        uniques.numbers(work, account),
    )


def _numbers(work: Workspace, undoing: _Undoing) -> int:
    """A number for each change that takes one back, and one for the entry in the history. Returns the first."""
    return apply.next_change(work, undoing.account, len(undoing.changes) + 1)


def _take_back(work: Workspace, undoing: _Undoing, undo_id: str, first: int) -> Undone:
    """Take all changes back, in the write transaction. `first` is the first number of the undo's own changes."""
    return _at_once(work, undoing, undo_id, first) or _one_by_one(work, undoing, undo_id, first)


def _at_once(work: Workspace, undoing: _Undoing, undo_id: str, number: int = 0) -> Undone | None:
    """Take all changes back by set; without `undo_id` only tell. None where they have to be taken one after another."""
    changes = undoing.changes
    if not changes:
        return Undone(undo_id, undoing.batch_id, 0, 0, 0, ())
    span = undoing.span(changes[0], changes[-1])
    if len(changes) > 1 and history.meet(work, span):
        return None
    planned = _plan(work, undoing, span, 0, ranges=True)
    if len(changes) > 1 and planned.rekeyed and rekeying.rivals(work):
        history.clear(work)
        work.execute("DELETE FROM conflict")
        return None
    conflicts = _conflicts(work, undoing.account) if planned.conflicts else Spool[Conflict]()
    if undo_id:
        _apply(work, undoing, planned, undo_id, number)
    return Undone(undo_id, undoing.batch_id, *planned.counts, conflicts)


def _one_by_one(work: Workspace, undoing: _Undoing, undo_id: str, first: int) -> Undone:
    """Take one change back after another, the newest first: each finds what the ones before it left."""
    known = 0
    for number, change in enumerate(undoing.changes, first):
        planned = _plan(work, undoing, undoing.span(change, change), known)
        known += planned.conflicts
        fates.add_fates(work)
        _apply(work, undoing, planned, undo_id, number)
        history.clear(work)
    conflicts = _conflicts(work, undoing.account) if known else Spool[Conflict]()
    return Undone(undo_id, undoing.batch_id, *fates.count_fates(work), conflicts)


def _apply(work: Workspace, undoing: _Undoing, planned: _Planned, undo_id: str, number: int) -> None:
    account, moment = undoing.account, now()
    removed = revert.take_back(
        work,
        planned.span,
        number,
        moment,
        undoing.campaigns,
        undoing.sign,
        planned.gathered,
        rekeyed=planned.rekeyed,
    )
    revert.rewrite_uniques(work, account, number, undoing.uniques, planned.gathered.made)
    apply.record_change(work, apply.Stamp(account, number, moment, 0), undo_id, -1, removed)


def _plan(work: Workspace, undoing: _Undoing, span: Span, known: int, *, ranges: bool = False) -> _Planned:
    """Plan what becomes of the customers of some changes. `known` conflicts are noted of others already.

    `ranges`: see `history.gather`.
    """
    account = undoing.account
    gathered = history.gather(work, span, undoing.uniques, ranges=ranges)
    found: Spool[fates.Row] = Spool()
    if gathered.later:
        history.restore(work, Spool(_given_back(work, account, found)))
        history.mark_restored(work, account)
    asked = gathered.later or gathered.keyed
    rekeyed = bool(asked) and rekeying.ask_keys(work, account, undoing.uniques) > 0
    if rekeyed:
        for number, code, kind, current in rekeying.blocked(work, account):
            found.append((number, FIELD_OF.get(kind, kind), code or "", current or "", current or ""))
        rekeying.unmark_blocked(work, account)
    conflicts = fates.add_conflicts(work, known, found)
    if conflicts > known:
        fates.mark_conflicts(work, known)
    if gathered.unmoved or rekeyed:
        history.mark_moved(work, account, undoing.campaigns, undoing.sign)
    counts = history.count(work, gathered.made)
    if counts[2]:
        kept = Spool((number, "customer", code, "", "") for number, code in history.kept(work, account))
        conflicts = fates.add_conflicts(work, conflicts, kept)
    return _Planned(span, gathered, rekeyed, conflicts - known, counts)


def _given_back(work: Workspace, account: int, found: Spool[fates.Row]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for images in history.written_since(work, account):
        image, standing = without(images)
        for conflict in standing:
            found.append((images.id, conflict.field, conflict.code, conflict.written, conflict.current))
        yield images.id, image


def _conflicts(work: Workspace, account: int) -> Spool[Conflict]:
    return Spool(Conflict(*row) for row in fates.conflicts(work, account))


def without(images: history.Images) -> tuple[dict[str, Any], list[Conflict]]:
    """What a customer that was written to since shall be, and what cannot be given back."""
    before, after, current = images.before, images.after, images.current
    image = dict(current)
    conflicts: list[Conflict] = []

    def give_back(field: str, was: object, wrote: object, stands: object, *, shown: bool = True) -> bool:
        if _same(wrote, was):
            return False
        if _same(stands, wrote):
            return True
        written, now_there = (_text(wrote), _text(stands)) if shown else ("", "")
        conflicts.append(Conflict(current["code"] or "", field, written, now_there))
        return False

    for name in ("code", "card_number", *PROFILE, "customer_username"):
        if give_back(name, before[name], after[name], current[name]):
            image[name] = before[name]
            if name == "customer_username":
                image["username_key"] = before["username_key"]
    for field, (digest, version) in SECRETS.items():
        if give_back(field, before[version], after[version], current[version], shown=False):
            image[digest], image[version] = before[digest], before[version]
    for name in DOCUMENTS:
        document = dict(current[name])
        for key in sorted(before[name].keys() | after[name].keys()):
            if give_back(key, before[name].get(key), after[name].get(key), document.get(key)):
                document.pop(key, None)
                if key in before[name]:
                    document[key] = before[name][key]
        image[name] = document
    return image, conflicts


def _same(one: object, other: object) -> bool:
    # Attributes may be 1 or true, which Python calls equal.
    return one == other and (isinstance(one, str) or json.dumps(one) == json.dumps(other))


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _remember(
    work: Workspace, account: int, batch: undoable.Batch, undone: Undone, number: int, user: str, face: str, took: int
) -> None:
    batches.close_chain(work, account, batch["root"])
    batches.insert(
        work,
        {
            "account_id": account,
            "id": undone.batch_id,
            "number": number,
            "kind": "undo",
            "status": "imported",
            "face": face,
            "user_id": user,
            "undoes": batch["id"],
            "root": batch["root"],
            "rows": undone.restored + undone.removed + undone.kept,
            "updated": undone.restored,
            "ignored": undone.removed,
            "failed": undone.kept,
            "seconds": took,
            "created_at": now(),
        },
    )
    batches.insert_problems(
        work,
        account,
        undone.batch_id,
        batches.CONFLICT,
        (
            (n, conflict.field, conflict.code, conflict.current[:255], conflict.written[:255], "")
            for n, conflict in enumerate(undone.conflicts, 1)
        ),
    )
