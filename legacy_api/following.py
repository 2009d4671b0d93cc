"""What became of a batch -> a reply tree. Source: docs/protocol.md, Jobs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from importing import batch_status
from importing.batch import AssignedKey
from importing.batch_status import BatchProgress, BatchStatus
from importing.context import Context
from importing.errors import Problem
from importing.undo import availability
from legacy_api.replies import Answer, Group, Groups, Node, Text, customers, problems, success

# The statuses of a batch whose codes and cards stand in the store, and do not grow any more.
TELLS_MADE = frozenset(("imported", "failed", "cancelled"))


def status(context: Context, account: int, found: BatchStatus) -> Answer:
    """The reply that tells of one batch."""
    return Answer(success(_batch(context, account, found)))


def history(context: Context, account: int, found: Iterable[BatchStatus]) -> Answer:
    """The reply that tells of several. The lists of each are read when it is written out."""
    return Answer(success(Groups("batches", (_batch(context, account, batch) for batch in found))))


def changed(found: BatchStatus) -> Answer:
    """The reply to a cancel and a resume: the first two elements of a status."""
    return Answer(success(Group("batch", _head(found))))


@lru_cache(maxsize=1024)
def stamp(milliseconds: int) -> str:
    """A time as this protocol writes it, in UTC.

    >>> stamp(1795251600000)
    '2026-11-21 09:00:00'
    """
    return str(datetime.fromtimestamp(milliseconds // 1000, UTC))[: len("2026-11-21 09:00:00")]


def tree(found: BatchStatus, made: Iterable[AssignedKey], wrong: Iterable[Problem], undo_state: str) -> Group:
    """A batch with what is known of its rows, and whether it can be undone."""
    members: list[Node] = [
        *_head(found),
        Text("created_stamp", stamp(found.created_at)),
        Text("user_id", found.user_id),
        _progress(found),
        Group("customers", tuple(customers(found.counts, made, details=True))),
        problems("problem", wrong),
        Text("undo", undo_state),
    ]
    if found.undoes:
        members.append(Text("undoes", found.undoes))
    if found.reason is not None:
        members.append(Group("reason", (Text("code", found.reason.code), Text("message", found.reason.message))))
    return Group("batch", tuple(members))


def _head(found: BatchStatus) -> tuple[Node, ...]:
    return Text("id", found.id), Text("status", found.status)


def _batch(context: Context, account: int, found: BatchStatus) -> Group:
    # Of a batch without such rows there is nothing to look for.
    made = (
        batch_status.paged_assigned_keys(context, account, found.id)
        if found.has_assigned_keys and found.status in TELLS_MADE
        else ()
    )
    wrong = (
        batch_status.paged_problems(context, account, found.id)
        if found.progress.failed or found.status != "imported"
        else ()
    )
    return tree(found, made, wrong, availability.undo_state(context, account, found.stored))


def _progress(found: BatchStatus) -> Group:
    return Group("progress", tuple(map(Text, BatchProgress._fields, map(str, found.progress))))
