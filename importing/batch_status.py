"""What became of a batch: its status, its progress and its rows, for finished imports and for jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import Generic, NamedTuple, TypeVar

from importing.batch import AssignedKey, Counts
from importing.context import Context
from importing.disk_list import DiskList
from importing.errors import Problem
from storage.batch_transaction import BatchTransaction
from storage.queries import batches
from storage.queries.batches import BatchRow
from storage.sql_connection import SqlConnection

Item = TypeVar("Item")

# What an undo counts: customers.
UNDO_COUNT_NAMES = ("restored", "removed", "kept")
ROWS_PER_PAGE = 1000
# The statuses after which nothing more happens by itself.
ENDED_STATUSES = frozenset(("imported", "failed", "cancelled", "undone"))
# Characters that are stored of a value; messages show fewer.
VALUE_CHARACTERS_KEPT = 255
# PostgreSQL's text cannot hold NUL. It is escaped, because a repeated reply must be the same to the byte.
_ESCAPE_TABLE = str.maketrans({"\0": "\x1b0", "\x1b": "\x1b1"})
_ESCAPES = {"\x1b0": "\0", "\x1b1": "\x1b"}
_ESCAPE = re.compile("\x1b[01]")


class BatchProgress(NamedTuple):
    """Counts of rows: all (0 until they are counted), the processed ones, and of these the good and the bad."""

    total: int = 0
    processed: int = 0
    successful: int = 0
    failed: int = 0

    @property
    def percent(self) -> int:
        """How much is processed, 0 … 100, rounded down."""
        return min(100, 100 * self.processed // self.total) if self.total else 0


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Why a batch failed: an error's code, its message and the values in the message."""

    code: str
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


class BatchStatus(NamedTuple):
    """A batch as its sender may see it. Times are milliseconds since the epoch, 0 for what has not happened.

    `status`: queued, running, imported, failed, cancelled or undone. `kind`: import or undo; the progress of an undo
    counts customers, and `undoes` is the batch that it took back. `request_ref` is what the reply to the sender called
    the request. `has_assigned_keys`: the batch made codes or cards that the sender learns. `row` is the batch's row of
    the table, which `undo_state` reads.
    """

    id: str
    kind: str
    status: str
    protocol: str
    user_id: str
    progress: BatchProgress
    counts: Counts
    reason: FailureReason | None
    charset: str
    duration_ms: int
    created_at: int
    started_at: int
    updated_at: int
    ended_at: int
    request_ref: str
    undoes: str
    has_assigned_keys: bool
    row: BatchRow


def find_batch(context: Context, account: int, batch_id: str) -> BatchStatus | None:
    """A batch of the account."""
    with context.database.read_connection() as work:
        row = batches.find_with_job(work, account, batch_id)
    return None if row is None else make_status(row)


def list_batches(
    context: Context,
    account: int,
    *,
    protocol: str | None = None,
    before: int | None = None,
    offset: int = 0,
    length: int = 20,
) -> Sequence[BatchStatus]:
    """Batches of the account, newest first: of one protocol, created before a time (milliseconds), or all."""
    with context.database.read_connection() as work:
        return [make_status(row) for row in batches.list_with_job(work, account, protocol, before, offset, length)]


def make_status(row: BatchRow) -> BatchStatus:
    """The status of a batch that was read with its job."""
    counts = Counts(*(row[name] for name in Counts._fields)) if row["kind"] == "import" else Counts()
    total = processed = row["rows"]
    successful, failed = counts.new + counts.updated + counts.ignored, counts.failed
    started_at = updated_at = ended_at = row["created_at"]
    if row["kind"] == "undo":
        successful, failed = row["restored"] + row["removed"], row["kept"]
        total = processed = successful + failed
    elif row["state"] is not None:
        total, processed = row["total"], row["processed"]
        started_at, updated_at, ended_at = row["started_at"], row["updated_at"], row["ended_at"]
    return BatchStatus(
        row["id"],
        row["kind"],
        row["status"],
        row["face"],
        row["user_id"],
        BatchProgress(total, processed, successful, failed),
        counts,
        FailureReason(**json.loads(row["fault"])) if row["fault"] else None,
        row["charset"],
        row["duration_ms"],
        row["created_at"],
        started_at,
        updated_at,
        ended_at,
        row["request_ref"] or "",
        row["undoes"] or "",
        bool(row["has_assigned_keys"]),
        row,
    )


def paged_problems(context: Context, account: int, batch_id: str) -> Iterable[Problem]:
    """Why rows of a batch failed, read page by page, so that a slow reader keeps no transaction open."""
    return _PagedRows(context, account, batch_id, batches.load_problem_page, "n", problem_from_row)


def paged_assigned_keys(context: Context, account: int, batch_id: str) -> Iterable[AssignedKey]:
    """The codes and cards that the sender of a batch learns, read page by page."""
    return _PagedRows(context, account, batch_id, batches.load_assigned_key_page, "row", lambda row: AssignedKey(**row))


@dataclass(frozen=True, slots=True)
class _PagedRows(Generic[Item]):
    context: Context
    account: int
    batch_id: str
    load_page: Callable[[SqlConnection, int, str, int, int], list[BatchRow]]
    order: str
    parse_row: Callable[[BatchRow], Item]

    def __iter__(self) -> Iterator[Item]:
        after, length = -1, ROWS_PER_PAGE
        while length == ROWS_PER_PAGE:
            with self.context.database.read_connection() as work:
                page = self.load_page(work, self.account, self.batch_id, after, ROWS_PER_PAGE)
            yield from map(self.parse_row, page)
            length = len(page)
            after = page[-1][self.order] if page else after


def load_problems(work: BatchTransaction, account: int, batch_id: str, kind: str) -> DiskList[Problem]:
    """The problems or warnings of a batch, in row order."""
    return DiskList(starmap(_parse_problem, batches.load_problems(work, account, batch_id, kind)))


def problem_from_row(row: BatchRow) -> Problem:
    """The problem that a row of the table holds."""
    return _parse_problem(row["row"], row["field"], row["code"], row["value"], row["written"], row["ref"])


def problem_columns(problem: Problem) -> tuple[int, str, str, str, str, str]:
    """A problem as it is stored: row, field, code, value, limit, ref."""
    value, ref = (text[:VALUE_CHARACTERS_KEPT].translate(_ESCAPE_TABLE) for text in (problem.value, problem.ref))
    return problem.row, problem.field, problem.code, value, str(problem.limit or ""), ref


def _parse_problem(row: int, field: str, code: str, value: str, limit: str, ref: str) -> Problem:
    return Problem(row, field, code, _unescape(value), int(limit or 0), _unescape(ref))


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES[match[0]], text) if "\x1b" in text else text
