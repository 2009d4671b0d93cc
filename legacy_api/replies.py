"""An outcome, a job, an undo or a fault -> a plain reply tree, the same for every format. Source: docs/protocol.md, Replies.

The tree's root is always `response`. Long lists are read while they are written out, so that a reply of any length
needs the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from importing.batch import AssignedKey, Conflict, Counts, Outcome, UndoOutcome
from importing.errors import ApiError, Problem
from importing.jobs.lifecycle import SubmittedBatch
from importing.reading.charset import WINDOWS_1252, find_charset

# How many row problems a message lists; the others are counted.
LISTED = 10


class Text(NamedTuple):
    """An element that holds text only. Most are, and a tuple is made at a third of the cost."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of texts that only JSON shows; in XML the one `error` says it all."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """A list of flat records, as long as it likes. `read` gives an item's values by column, None for one left out.

    With a `wrapper` the list is one element that may be empty (JSON: a bare array of that name); without, the records
    stand side by side among the other members (JSON: an array called `name`) and there is at least one.
    """

    name: str
    columns: tuple[str, ...]
    items: Iterable[Any]
    read: Callable[[Any], tuple[str | None, ...]]
    wrapper: str = ""

    def __iter__(self) -> Iterator[tuple[str | None, ...]]:
        return map(self.read, self.items)


class Group(NamedTuple):
    """An element that holds others. `status` is the one attribute that the protocol knows; "" leaves it out."""

    name: str
    members: tuple[Node, ...]
    status: str = ""


@dataclass(frozen=True, slots=True)
class Groups:
    """A list of groups, each made when it is written out: one element that may be empty (JSON: an array of that name)."""

    name: str
    items: Iterable[Group]


Node = Text | Texts | Rows | Group | Groups


class Answer(NamedTuple):
    """What a call gives back: the tree, and what the face says of it in HTTP headers."""

    root: Group
    batch_id: str = ""
    replayed: bool = False


def imported(outcome: Outcome, *, details: bool) -> Answer:
    """The reply to a batch that was run."""
    root = success(_batch(outcome, "imported", details))
    return Answer(root, outcome.batch_id, outcome.replayed)


def checked(outcome: Outcome, *, details: bool) -> Answer:
    """The reply to a batch that was only checked: no batch id, and no ids that were never made."""
    return Answer(success(_batch(outcome, "checked", details)))


def queued(job: SubmittedBatch) -> Answer:
    """The reply to a batch that was queued, the same for its repetition. Source: docs/protocol.md, Jobs."""
    root = success(Group("batch", (Text("id", job.batch_id),), "queued"))
    return Answer(root, job.batch_id, job.replayed)


def undone(result: UndoOutcome) -> Answer:
    """The reply to an undo, or to the preview of one, which has no id. Source: docs/protocol.md, Undo."""
    counts = (Text(name, str(getattr(result, name))) for name in ("restored", "removed", "kept"))
    members: list[Node] = [Text("id", result.batch_id)] if result.batch_id else []
    members += [Text("undoes", result.undoes), Group("customers", tuple(counts))]
    if _any(result.conflicts):
        columns = ("code", "field", "written", "current")
        members.append(Rows("conflict", columns, result.conflicts, _conflict, "conflicts"))
    status = "undone" if result.batch_id else "checked"
    return Answer(success(Group("batch", tuple(members), status)), result.batch_id)


def refused(fault: ApiError, *, details: bool = False) -> Group:
    """The reply to whatever was refused. `details` adds every row problem, where rows were the reason."""
    listed = tuple(problem.message for problem in islice(fault.problems, LISTED))
    members: list[Node] = [Text("error", fault.message), Texts("errors", listed or (fault.message,))]
    if details and listed:
        members.append(problems("problem", fault.problems))
    return Group("response", tuple(members), "error")


def success(member: Node) -> Group:
    """The root of a reply to what was done."""
    return Group("response", (member,), "success")


def _batch(outcome: Outcome, status: str, details: bool) -> Group:
    members: list[Node] = [Text("id", outcome.batch_id)] if details and outcome.batch_id else []
    members.append(Group("customers", tuple(customers(outcome.counts, outcome.made, details))))
    if details:
        members += [
            Text("charset", _charset(outcome.charset)),
            Text("seconds", f"{outcome.seconds:.3f}"),
            problems("warning", outcome.warnings),
        ]
    if details or outcome.counts.failed:
        members.append(problems("problem", outcome.problems))
    return Group("batch", tuple(members), status)


def customers(counts: Counts, made: Iterable[AssignedKey], details: bool) -> Iterator[Node]:
    """The members of `customers`: the counts, with `details` all of them, and the codes and cards to be learned."""
    yield Text("new", str(counts.new))
    yield Text("updated", str(counts.updated))
    if details:
        yield Text("unchanged", str(counts.unchanged))
        yield Text("ignored", str(counts.ignored))
    if details or counts.failed:
        yield Text("failed", str(counts.failed))
    if _any(made):
        yield Rows("customer", ("row", "code", "card_number"), made, _made)


def problems(name: str, found: Iterable[Problem]) -> Rows:
    """What is wrong with rows, as a list of elements called `name`."""
    return Rows(name, ("row", "field", "code", "message"), found, _problem, name + "s")


def _made(made: AssignedKey) -> tuple[str | None, ...]:
    return str(made.row), made.code, made.card_number or None


def _problem(problem: Problem) -> tuple[str | None, ...]:
    return str(problem.row), problem.field, problem.code, problem.message


def _conflict(conflict: Conflict) -> tuple[str | None, ...]:
    return conflict.code, conflict.field, conflict.written, conflict.current


def _charset(codec: str) -> str:
    """A charset as people call it, from the name of its Python codec."""
    charset = WINDOWS_1252 if codec == WINDOWS_1252.codec else find_charset(codec)
    return charset.name if charset else codec


def _any(items: Iterable[object]) -> bool:
    return next(iter(items), None) is not None
