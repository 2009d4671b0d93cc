"""Builds the reply tree, which is the same for every format. Source: docs/protocol.md, Replies.

The root of the tree is always `response`. The items of a long list are read while the reply is written, so a reply of any
length needs the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from importing import batch_status
from importing.batch import AssignedKey, Conflict, Counts, Outcome, UndoOutcome
from importing.batch_status import BatchProgress, BatchStatus
from importing.context import Context
from importing.errors import ApiError, Problem
from importing.jobs.lifecycle import SubmittedBatch
from importing.reading.charset import WINDOWS_1252, find_charset
from importing.times import with_space
from importing.undo import availability

# An error message lists so many row problems, and counts the others.
LISTED_PROBLEMS = 10
# A batch with one of these statuses is over: its generated codes and cards are stored, and no more are added.
FINAL_STATUSES = frozenset(("imported", "failed", "cancelled"))


class TextNode(NamedTuple):
    """An element that holds text only."""

    name: str
    text: str


class JsonTexts(NamedTuple):
    """A list of texts that only JSON shows. XML has one `error` element instead."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordList:
    """A list of flat records, of any length. `read` gives the values of an item by column, None for one to leave out.

    With a `wrapper` the list is one element, which may be empty (JSON: an array with the name of the wrapper). Without
    one the records stand among the other members (JSON: an array called `name`), and there is at least one record.
    """

    name: str
    columns: tuple[str, ...]
    items: Iterable[Any]
    read: Callable[[Any], tuple[str | None, ...]]
    wrapper: str = ""

    def __iter__(self) -> Iterator[list[tuple[str, str]]]:
        """The records, each as its columns with their texts."""
        for item in self.items:
            values = zip(self.columns, self.read(item), strict=True)
            yield [(column, text) for column, text in values if text is not None]


class GroupNode(NamedTuple):
    """An element that holds other elements. `status` is the only attribute of the protocol; "" leaves it out."""

    name: str
    members: tuple[ReplyNode, ...]
    status: str = ""


class GroupList(NamedTuple):
    """A list of groups: one element, which may be empty (JSON: an array). Each group is made when it is written."""

    name: str
    items: Iterable[GroupNode]


ReplyNode = TextNode | JsonTexts | RecordList | GroupNode | GroupList


class CallReply(NamedTuple):
    """What a call returns: the tree, and what the HTTP headers say about it."""

    root: GroupNode
    batch_id: str = ""
    replayed: bool = False


def import_reply(outcome: Outcome, *, details: bool) -> CallReply:
    """The reply to a batch that was imported."""
    root = success_tree(_batch(outcome, "imported", details))
    return CallReply(root, outcome.batch_id, outcome.replayed)


def preview_reply(outcome: Outcome, *, details: bool) -> CallReply:
    """The reply to a batch that was only checked. It has no batch id, and no generated codes or cards."""
    return CallReply(success_tree(_batch(outcome, "checked", details)))


def queued_reply(job: SubmittedBatch) -> CallReply:
    """The reply to a batch that was queued. A repeated request gets the same. Source: docs/protocol.md, Jobs."""
    root = success_tree(GroupNode("batch", (TextNode("id", job.batch_id),), "queued"))
    return CallReply(root, job.batch_id, job.replayed)


def undo_reply(result: UndoOutcome) -> CallReply:
    """The reply to an undo, or to its preview, which has no batch id. Source: docs/protocol.md, Undo."""
    counts = (TextNode(name, str(getattr(result, name))) for name in ("restored", "removed", "kept"))
    members: list[ReplyNode] = [TextNode("id", result.batch_id)] if result.batch_id else []
    members += [TextNode("undoes", result.undoes), GroupNode("customers", tuple(counts))]
    if _has_items(result.conflicts):
        columns = ("code", "field", "written", "current")
        members.append(RecordList("conflict", columns, result.conflicts, _conflict_values, "conflicts"))
    status = "undone" if result.batch_id else "checked"
    return CallReply(success_tree(GroupNode("batch", tuple(members), status)), result.batch_id)


def status_reply(context: Context, account: int, batch: BatchStatus) -> CallReply:
    """The reply with the status of one batch."""
    return CallReply(success_tree(_status_group(context, account, batch)))


def list_reply(context: Context, account: int, batches: Iterable[BatchStatus]) -> CallReply:
    """The reply with the status of several batches. The lists of each batch are read when it is written."""
    return CallReply(success_tree(GroupList("batches", (_status_group(context, account, batch) for batch in batches))))


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


def error_tree(error: ApiError, *, details: bool = False) -> GroupNode:
    """The reply to a request that was refused. `details` adds every row problem, if rows were the reason."""
    listed = tuple(problem.message for problem in islice(error.problems, LISTED_PROBLEMS))
    members: list[ReplyNode] = [TextNode("error", error.message), JsonTexts("errors", listed or (error.message,))]
    if details and listed:
        members.append(problem_list("problem", error.problems))
    return GroupNode("response", tuple(members), "error")


def success_tree(member: ReplyNode) -> GroupNode:
    """The root of a reply to a request that was served."""
    return GroupNode("response", (member,), "success")


def customer_members(counts: Counts, made: Iterable[AssignedKey], details: bool) -> Iterator[ReplyNode]:
    """The members of `customers`: the counts (with `details` all of them), then the generated codes and cards."""
    yield TextNode("new", str(counts.new))
    yield TextNode("updated", str(counts.updated))
    if details:
        yield TextNode("unchanged", str(counts.unchanged))
        yield TextNode("ignored", str(counts.ignored))
    if details or counts.failed:
        yield TextNode("failed", str(counts.failed))
    if _has_items(made):
        yield RecordList("customer", ("row", "code", "card_number"), made, _made_values)


def problem_list(name: str, problems: Iterable[Problem]) -> RecordList:
    """Row problems, as a list of elements called `name`."""
    return RecordList(name, ("row", "field", "code", "message"), problems, _problem_values, name + "s")


def _batch(outcome: Outcome, status: str, details: bool) -> GroupNode:
    members: list[ReplyNode] = [TextNode("id", outcome.batch_id)] if details and outcome.batch_id else []
    members.append(GroupNode("customers", tuple(customer_members(outcome.counts, outcome.assigned_keys, details))))
    if details:
        members += [
            TextNode("charset", _charset_name(outcome.charset)),
            TextNode("seconds", f"{outcome.seconds:.3f}"),
            problem_list("warning", outcome.warnings),
        ]
    if details or outcome.counts.failed:
        members.append(problem_list("problem", outcome.problems))
    return GroupNode("batch", tuple(members), status)


def _id_and_status(batch: BatchStatus) -> tuple[ReplyNode, ...]:
    return TextNode("id", batch.id), TextNode("status", batch.status)


def _status_group(context: Context, account: int, batch: BatchStatus) -> GroupNode:
    # A batch without such rows needs no query for them.
    made = (
        batch_status.paged_assigned_keys(context, account, batch.id)
        if batch.has_assigned_keys and batch.status in FINAL_STATUSES
        else ()
    )
    has_problems = batch.progress.failed or batch.status != "imported"
    problems = batch_status.paged_problems(context, account, batch.id) if has_problems else ()
    return batch_tree(batch, made, problems, availability.undo_state(context, account, batch.row))


def _made_values(made: AssignedKey) -> tuple[str | None, ...]:
    return str(made.row), made.code, made.card_number or None


def _problem_values(problem: Problem) -> tuple[str | None, ...]:
    return str(problem.row), problem.field, problem.code, problem.message


def _conflict_values(conflict: Conflict) -> tuple[str | None, ...]:
    return conflict.code, conflict.field, conflict.written, conflict.current


def _charset_name(codec: str) -> str:
    """The usual name of a charset, from the name of its Python codec."""
    charset = WINDOWS_1252 if codec == WINDOWS_1252.codec else find_charset(codec)
    return charset.name if charset else codec


def _has_items(items: Iterable[object]) -> bool:
    return next(iter(items), None) is not None
