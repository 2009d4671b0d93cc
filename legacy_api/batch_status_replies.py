"""Builds the replies about the status of batches. Source: docs/protocol.md, Jobs."""

from __future__ import annotations

from collections.abc import Iterable

from importing import batch_status
from importing.batch import AssignedKey
from importing.batch_status import BatchProgress, BatchStatus
from importing.context import Context
from importing.errors import Problem
from importing.times import with_space
from importing.undo import availability
from legacy_api.replies import (
    CallReply,
    GroupList,
    GroupNode,
    ReplyNode,
    TextNode,
    customer_members,
    problem_list,
    success_tree,
)

# A batch with one of these statuses is over: its generated codes and cards are stored, and no more are added.
FINAL_STATUSES = frozenset(("imported", "failed", "cancelled"))


def status_reply(context: Context, account: int, batch: BatchStatus) -> CallReply:
    """The reply with the status of one batch."""
    return CallReply(success_tree(_batch(context, account, batch)))


def list_reply(context: Context, account: int, batches: Iterable[BatchStatus]) -> CallReply:
    """The reply with the status of several batches. The lists of each batch are read when it is written."""
    return CallReply(success_tree(GroupList("batches", (_batch(context, account, batch) for batch in batches))))


def change_reply(batch: BatchStatus) -> CallReply:
    """The reply to a cancel and a resume: the first two elements of a status."""
    return CallReply(success_tree(GroupNode("batch", _id_and_status(batch))))


def batch_tree(
    batch: BatchStatus, made: Iterable[AssignedKey], problems: Iterable[Problem], undo_state: str
) -> GroupNode:
    """A batch with its counts, its generated codes and cards, its row problems, and whether it can be undone."""
    members: list[ReplyNode] = [
        *_id_and_status(batch),
        TextNode("created_stamp", with_space(batch.created_at)),
        TextNode("user_id", batch.user_id),
        GroupNode("progress", tuple(map(TextNode, BatchProgress._fields, map(str, batch.progress)))),
        GroupNode("customers", tuple(customer_members(batch.counts, made, details=True))),
        problem_list("problem", problems),
        TextNode("undo", undo_state),
    ]
    if batch.undoes:
        members.append(TextNode("undoes", batch.undoes))
    if batch.reason is not None:
        reason = (TextNode("code", batch.reason.code), TextNode("message", batch.reason.message))
        members.append(GroupNode("reason", reason))
    return GroupNode("batch", tuple(members))


def _id_and_status(batch: BatchStatus) -> tuple[ReplyNode, ...]:
    return TextNode("id", batch.id), TextNode("status", batch.status)


def _batch(context: Context, account: int, batch: BatchStatus) -> GroupNode:
    # A batch without such rows needs no query for them.
    made = (
        batch_status.paged_assigned_keys(context, account, batch.id)
        if batch.has_assigned_keys and batch.status in FINAL_STATUSES
        else ()
    )
    has_problems = batch.progress.failed or batch.status != "imported"
    problems = batch_status.paged_problems(context, account, batch.id) if has_problems else ()
    return batch_tree(batch, made, problems, availability.undo_state(context, account, batch.row))
