"""Undo a batch: give back, field by field, what was before where the batch's value still stands.

Source: docs/protocol.md, Undo.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import itemgetter
from typing import Any

from importing.batch import Conflict, Undone
from importing.core import Core
from importing.faults import Fault
from importing.run import opened
from importing.spool import Spool
from storage import apply, batches, history, revert
from storage.engine import now
from storage.models import DOCUMENTS, PROFILE
from storage.workspace import Workspace

DAY = 86_400_000
FIELD_OF = {"username_key": "customer_username"}
SECRETS = {"customer_password": ("password_digest", "password_version"), "customer_PIN": ("pin_digest", "pin_version")}


def undo(core: Core, account: int, batch_id: str, user: str, face: str) -> Undone:
    """Take a batch back, or an undo. One transaction; itself an entry of the history that can be undone.

    Raises Fault: unknown_batch, already_undone, undo_unavailable, undo_expired, busy.
    """
    started = time.perf_counter()
    with opened(core) as work, work.writing(account, core.write_wait):
        batch = _available(core, work, account, batch_id)
        undone = _take_back(work, account, batch, secrets.token_hex(10))
        _remember(work, account, batch, undone, user, face, round((time.perf_counter() - started) * 1000))
        return undone


def preview(core: Core, account: int, batch_id: str) -> Undone:
    """What `undo` would do now; nothing is written. Raises what `undo` would raise, busy apart."""
    with opened(core) as work:
        batch = _available(core, work, account, batch_id)
        return _take_back(work, account, batch, "")


def state(core: Core, account: int, batch_id: str) -> str:
    """Whether a batch can be undone: available, undone, expired or none."""
    with opened(core) as work:
        try:
            _available(core, work, account, batch_id)
        except Fault as fault:
            return {"already_undone": "undone", "undo_expired": "expired"}.get(fault.code, "none")
        return "available"


def _available(core: Core, work: Workspace, account: int, batch_id: str) -> Mapping[str, Any]:
    batch = batches.load(work, account, batch_id)
    if batch is None:
        raise Fault("unknown_batch", value=batch_id)
    if not batch["keep_undo"]:
        raise Fault("undo_unavailable", value=batch_id)
    if batch["status"] == "undone":
        raise Fault("already_undone", value=batch_id)
    old = now() - batch["created_at"] > core.undo_days * DAY
    if old and batches.newer(work, account, batch["number"]) >= core.undo_keep:
        raise Fault("undo_expired", value=batch_id)
    return batch


def _take_back(work: Workspace, account: int, batch: Mapping[str, Any], undo_id: str) -> Undone:
    root = batches.load(work, account, batch["root"])
    assert root is not None
    sign = -1 if root["status"] == "imported" else 1
    campaigns: list[int] = batches.numbers(root["campaigns"])
    uniques = [
        number
        for (number,) in work.rows(
            "SELECT number FROM custom_field WHERE account_id = :account AND is_unique ORDER BY number", account=account
        )
    ]
    conflicts: Spool[Conflict] = Spool()
    restored = removed = kept = 0
    for change in history.changes(work, account, batch["id"]):
        _plan(work, account, change, batch["root"], uniques, conflicts)
        history.mark_moved(work, account, change.change, campaigns, sign)
        counts = history.count(work)
        restored, removed, kept = restored + counts[0], removed + counts[1], kept + counts[2]
        if undo_id:
            number = apply.next_change(work, account)
            moment = now()
            revert.take_back(work, account, change.change, number, moment, campaigns, sign)
            revert.rewrite_uniques(work, account, number, uniques)
            apply.record_change(work, apply.Stamp(account, number, moment, 0), undo_id, -1)
    return Undone(undo_id, batch["id"], restored, removed, kept, conflicts)


def _plan(
    work: Workspace,
    account: int,
    change: history.Change,
    root: str,
    uniques: list[int],
    conflicts: Spool[Conflict],
) -> None:
    history.gather(work, account, change, root, uniques)
    found: list[tuple[int, Conflict]] = []

    def given_back() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for images in history.written_since(work, account, change.change):
            image, standing = without(images)
            found.extend((images.id, conflict) for conflict in standing)
            yield images.id, image

    history.restore(work, Spool(given_back()))
    history.ask_keys(work, account, change.change, uniques)
    for number, code, kind, current in history.blocked(work, account, change.change):
        found.append((number, Conflict(code or "", FIELD_OF.get(kind, kind), current or "", current or "")))
    history.mark_conflicts(work, {number for number, _ in found})
    # A customer is named by the code that it has afterwards, so that it can be looked up.
    codes = dict(history.codes_given_back(work)) if found else {}
    for number, conflict in sorted(found, key=itemgetter(0)):
        conflicts.append(replace(conflict, code=codes.get(number, conflict.code)))
    for _number, code in history.kept(work, account, change.change):
        conflicts.append(Conflict(code, "customer", "", ""))


def without(images: history.Images) -> tuple[dict[str, Any], list[Conflict]]:
    """What a customer that was written to since shall be, and what cannot be given back."""
    before, after, current = images.before, images.after, images.current
    image = dict(current)
    conflicts: list[Conflict] = []

    def give_back(field: str, was: object, wrote: object, stands: object, *, shown: bool = True) -> bool:
        if wrote == was:
            return False
        if stands == wrote:
            return True
        written, now_there = (str(wrote or ""), str(stands or "")) if shown else ("", "")
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


def _remember(
    work: Workspace, account: int, batch: Mapping[str, Any], undone: Undone, user: str, face: str, took: int
) -> None:
    root_status = "imported" if batch["undoes"] is not None and _undone(work, account, batch["root"]) else "undone"
    batches.close_chain(work, account, batch["root"], root_status)
    batches.insert(
        work,
        {
            "account_id": account,
            "id": undone.batch_id,
            "number": apply.next_change(work, account),
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
            (n, conflict.field, conflict.code, conflict.current[:255], conflict.written[:255])
            for n, conflict in enumerate(undone.conflicts, 1)
        ),
    )


def _undone(work: Workspace, account: int, batch_id: str) -> bool:
    batch = batches.load(work, account, batch_id)
    return batch is not None and batch["status"] == "undone"
