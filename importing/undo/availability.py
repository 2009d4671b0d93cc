"""Whether a batch can be undone, and why not. Source: docs/protocol.md, Undo."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from importing.context import Context
from importing.errors import ApiError
from storage.engine import now_ms
from storage.queries import batches
from storage.queries.batches import BatchRow
from storage.sql_connection import SqlConnection

DAY_MS = 86_400_000
# The state of a batch that cannot be undone, by the error that an undo of it would raise.
STATE_OF_ERROR = {"already_undone": "undone", "undo_expired": "expired"}

QueryResult = TypeVar("QueryResult")


def load_undoable(context: Context, work: SqlConnection, account: int, batch_id: str) -> BatchRow:
    """A batch that can be undone. Raises ApiError: unknown_batch, batch_running, already_undone, undo_unavailable,
    undo_expired.
    """
    batch = batches.load_batch(work, account, batch_id)
    if batch is None:
        raise ApiError("unknown_batch", value=batch_id)
    _check_undoable(context, account, batch, lambda: nullcontext(work))
    return batch


def undo_state(context: Context, account: int, batch: BatchRow) -> str:
    """Whether a batch, whose row was just read, can be undone: available, undone, expired or none."""
    try:
        # Most batches need no query, so each query opens a connection of its own.
        _check_undoable(context, account, batch, context.database.read_connection)
    except ApiError as error:
        return STATE_OF_ERROR.get(error.code, "none")
    return "available"


def _check_undoable(
    context: Context, account: int, batch: BatchRow, connect: Callable[[], AbstractContextManager[SqlConnection]]
) -> None:
    batch_id = batch["id"]
    if not batch["keep_undo"]:
        raise ApiError("undo_unavailable", value=batch_id)
    if batch["status"] == "undone":
        raise ApiError("already_undone", value=batch_id)

    def run_query(query: Callable[..., QueryResult], *values: object) -> QueryResult:
        with connect() as work:
            return query(work, account, *values)

    root = batch if batch["root"] == batch_id else run_query(batches.load_batch, batch["root"])
    assert root is not None
    if root["status"] in ("queued", "running"):
        raise ApiError("batch_running", value=root["id"])
    has_ended_early = batch["status"] in ("failed", "cancelled")
    if has_ended_early and not run_query(batches.has_changes, batch_id):
        raise ApiError("undo_unavailable", value=batch_id)
    is_redone = batch["undoes"] is not None and root["status"] != "undone"
    if is_redone and run_query(batches.has_grown_since, root["id"], batch["number"]):
        # The job was resumed since, and wrote more than this undo brought back: the job can be undone instead.
        raise ApiError("undo_unavailable", value=batch_id)
    is_old = now_ms() - batch["created_at"] > context.undo_days * DAY_MS
    if is_old and run_query(batches.count_newer, batch["number"], context.undo_keep) >= context.undo_keep:
        raise ApiError("undo_expired", value=batch_id)
