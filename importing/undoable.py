"""Whether a batch can be undone, and why not. Source: docs/protocol.md, Undo."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from importing.core import Core
from importing.faults import Fault
from storage import batches
from storage.engine import now
from storage.workspace import Workspace

DAY = 86_400_000
# What is told of a batch that cannot be undone, by the fault that an undo of it would raise.
STATES = {"already_undone": "undone", "undo_expired": "expired"}

Batch = batches.Known
Found = TypeVar("Found")


def available(core: Core, work: Workspace, account: int, batch_id: str) -> Batch:
    """The batch, which can be undone. Raises Fault: unknown_batch, batch_running, already_undone, undo_unavailable,
    undo_expired.
    """
    batch = batches.load(work, account, batch_id)
    if batch is None:
        raise Fault("unknown_batch", value=batch_id)
    _judge(core, account, batch, lambda: nullcontext(work))
    return batch


def state(core: Core, account: int, batch: Batch) -> str:
    """Whether a batch, as it was read just now, can be undone: available, undone, expired or none."""
    try:
        # Of most batches their own row tells it.
        _judge(core, account, batch, core.database.looking)
    except Fault as fault:
        return STATES.get(fault.code, "none")
    return "available"


def _judge(core: Core, account: int, batch: Batch, looking: Callable[[], AbstractContextManager[Workspace]]) -> None:
    batch_id = batch["id"]
    if not batch["keep_undo"]:
        raise Fault("undo_unavailable", value=batch_id)
    if batch["status"] == "undone":
        raise Fault("already_undone", value=batch_id)

    def ask(query: Callable[..., Found], *values: object) -> Found:
        with looking() as work:
            return query(work, account, *values)

    root = batch if batch["root"] == batch_id else ask(batches.load, batch["root"])
    assert root is not None
    if root["status"] in ("queued", "running"):
        raise Fault("batch_running", value=root["id"])
    if batch["status"] in ("failed", "cancelled") and not ask(batches.has_changes, batch_id):
        # It wrote nothing.
        raise Fault("undo_unavailable", value=batch_id)
    brought_back = batch["undoes"] is not None and root["status"] != "undone"
    if brought_back and ask(batches.grown_since, root["id"], batch["number"]):
        # A job that was resumed since is more than what this undo brought back: it is the job that can be undone.
        raise Fault("undo_unavailable", value=batch_id)
    old = now() - batch["created_at"] > core.undo_days * DAY
    if old and ask(batches.newer, batch["number"], core.undo_keep) >= core.undo_keep:
        raise Fault("undo_expired", value=batch_id)
