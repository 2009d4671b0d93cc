"""What became of a batch: its status, its progress, its rows. For imports that are over and for jobs alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy import Connection

from importing import stored_problems
from importing.batch import AssignedKey, Counts
from importing.context import Context
from importing.errors import Problem
from importing.import_batch import COUNT_NAMES
from storage.queries import batches
from storage.queries.batches import BatchRow

Item = TypeVar("Item")

# Rows of a list that are read at once.
ROWS_PER_PAGE = 1000
# Of a batch's statuses, those after which nothing more happens by itself.
ENDED_STATUSES = frozenset(("imported", "failed", "cancelled", "undone"))


class BatchProgress(NamedTuple):
    """Rows: all there are (0 until they are counted), those that are dealt with, and of these the good and the bad."""

    total: int = 0
    processed: int = 0
    successful: int = 0
    failed: int = 0

    @property
    def percent(self) -> int:
        """How much is dealt with, 0 … 100, rounded down."""
        return min(100, 100 * self.processed // self.total) if self.total else 0


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Why a batch failed: a fault's code, its message and the values in it."""

    code: str
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


class BatchStatus(NamedTuple):
    """A batch as its sender may see it. Times are milliseconds since the epoch, 0 where it has not come to that.

    `status`: queued, running, imported, failed, cancelled or undone. `kind`: import or undo, whose progress is told in
    customers; `undoes` is what it took back. `request_ref` is what the reply to the sender called the request that
    brought it. `has_made`: it made codes or cards that its senders learn. `stored`: its row,
    which tells whether it can be undone (`undoable.state`).
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
    milliseconds: int
    created_at: int
    started_at: int
    updated_at: int
    ended_at: int
    request_ref: str
    undoes: str
    has_assigned_keys: bool
    stored: BatchRow


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
    """Batches of the account, newest first: those of one protocol, those made before a time (milliseconds), or all."""
    with context.database.read_connection() as work:
        return [make_status(row) for row in batches.list_with_job(work, account, protocol, before, offset, length)]


def paged_problems(context: Context, account: int, batch_id: str) -> Iterable[Problem]:
    """Why rows of a batch failed, as long a list as it is, read page by page: whoever reads slowly keeps nothing open."""
    return _PagedRows(context, account, batch_id, batches.PROBLEM, _problem)


def paged_assigned_keys(context: Context, account: int, batch_id: str) -> Iterable[AssignedKey]:
    """The codes and cards that senders of a batch learn, likewise."""
    return _PagedRows(context, account, batch_id, batches.ASSIGNED_KEY, _assigned_key)


@dataclass(frozen=True, slots=True)
class _PagedRows(Generic[Item]):
    context: Context
    account: int
    batch_id: str
    kind: str
    read: Callable[[BatchRow], Item]

    def __iter__(self) -> Iterator[Item]:
        after, length = -1, ROWS_PER_PAGE
        while length == ROWS_PER_PAGE:
            with self.context.database.read_connection() as work:
                page = batches.load_problem_page(work, self.account, self.batch_id, self.kind, after, ROWS_PER_PAGE)
            yield from map(self.read, page)
            length = len(page)
            after = page[-1]["n"] if page else after


@contextmanager
def open_row_results(context: Context, account: int, batch_id: str) -> Iterator[RowResults]:
    """What is known of single rows of a batch, streamed, all as of one moment."""
    with context.database.reading() as connection:
        yield RowResults(connection, account, batch_id)


@dataclass(frozen=True, slots=True)
class RowResults:
    """What is known of single rows, each in row order."""

    connection: Connection
    account: int
    batch_id: str

    def problems(self) -> Iterator[Problem]:
        """Why rows failed."""
        return self._found(batches.PROBLEM)

    def warnings(self) -> Iterator[Problem]:
        """What is odd about rows that were imported."""
        return self._found(batches.WARNING)

    def made(self) -> Iterator[AssignedKey]:
        """Codes and cards that senders learn."""
        return map(
            _assigned_key, batches.stream_problems(self.connection, self.account, self.batch_id, batches.ASSIGNED_KEY)
        )

    def _found(self, kind: str) -> Iterator[Problem]:
        return map(_problem, batches.stream_problems(self.connection, self.account, self.batch_id, kind))


def _problem(row: BatchRow) -> Problem:
    return stored_problems.from_row(row["row"], row["field"], row["code"], row["value"], row["written"], row["ref"])


def _assigned_key(row: BatchRow) -> AssignedKey:
    return AssignedKey(row["row"], row["code"], row["value"])


def make_status(row: BatchRow) -> BatchStatus:
    counts = Counts(*(row[name] for name in COUNT_NAMES)) if row["kind"] == "import" else Counts()
    successful = counts.new + counts.updated + counts.ignored
    if row["kind"] == "undo":
        # Restored, removed and kept, in columns of these names (storage/tables.py).
        progress = BatchProgress(row["rows"], row["rows"], row["updated"] + row["ignored"], row["failed"])
        started_at = updated_at = ended_at = row["created_at"]
    elif row["state"] is None:
        progress = BatchProgress(row["rows"], row["rows"], successful, counts.failed)
        started_at = updated_at = ended_at = row["created_at"]
    else:
        progress = BatchProgress(row["total"], row["processed"], successful, counts.failed)
        started_at, updated_at, ended_at = row["started_at"], row["updated_at"], row["ended_at"]
    return BatchStatus(
        row["id"],
        row["kind"],
        row["status"],
        row["face"],
        row["user_id"],
        progress,
        counts,
        _reason(row["fault"]),
        row["charset"],
        row["seconds"],
        row["created_at"],
        started_at,
        updated_at,
        ended_at,
        row["request_ref"] or "",
        row["undoes"] or "",
        bool(row["made"]),
        row,
    )


def _reason(text: str | None) -> FailureReason | None:
    if not text:
        return None
    document = json.loads(text)
    return FailureReason(document["code"], document["message"], document["values"])
