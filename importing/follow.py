"""What became of a batch: its status, its progress, its rows. For imports that are over and for jobs alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy import Connection

from importing import wording
from importing.batch import Counts, Made
from importing.core import Core
from importing.faults import Problem
from importing.run import COUNTED
from storage import batches
from storage.batches import Known

Item = TypeVar("Item")

# Rows of a list that are read at once.
PAGE = 1000
# Of a batch's statuses, those after which nothing more happens by itself.
ENDED = frozenset(("imported", "failed", "cancelled", "undone"))


class Progress(NamedTuple):
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
class Reason:
    """Why a batch failed: a fault's code, its message and the values in it."""

    code: str
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


class Followed(NamedTuple):
    """A batch as its sender may see it. Times are milliseconds since the epoch, 0 where it has not come to that.

    `status`: queued, running, imported, failed, cancelled or undone. `kind`: import or undo, whose progress is told in
    customers; `undoes` is what it took back. `request_ref` is what the reply to the sender called the request that
    brought it. `has_made`: it made codes or cards that its senders learn. `stored`: its row,
    which tells whether it can be undone (`undoable.state`).
    """

    id: str
    kind: str
    status: str
    face: str
    user_id: str
    progress: Progress
    counts: Counts
    reason: Reason | None
    charset: str
    milliseconds: int
    created_at: int
    started_at: int
    updated_at: int
    ended_at: int
    request_ref: str
    undoes: str
    has_made: bool
    stored: Known


def find(core: Core, account: int, batch_id: str) -> Followed | None:
    """A batch of the account."""
    with core.database.looking() as work:
        row = batches.followed(work, account, batch_id)
    return None if row is None else followed(row)


def newest(
    core: Core,
    account: int,
    *,
    face: str | None = None,
    before: int | None = None,
    offset: int = 0,
    length: int = 20,
) -> Sequence[Followed]:
    """Batches of the account, newest first: those of one face, those made before a time (milliseconds), or all."""
    with core.database.looking() as work:
        return [followed(row) for row in batches.followed_all(work, account, face, before, offset, length)]


def problems(core: Core, account: int, batch_id: str) -> Iterable[Problem]:
    """Why rows of a batch failed, as long a list as it is, read page by page: whoever reads slowly keeps nothing open."""
    return _Pages(core, account, batch_id, batches.PROBLEM, _problem)


def made(core: Core, account: int, batch_id: str) -> Iterable[Made]:
    """The codes and cards that senders of a batch learn, likewise."""
    return _Pages(core, account, batch_id, batches.MADE, _made)


@dataclass(frozen=True, slots=True)
class _Pages(Generic[Item]):
    core: Core
    account: int
    batch_id: str
    kind: str
    read: Callable[[Known], Item]

    def __iter__(self) -> Iterator[Item]:
        after, found = -1, PAGE
        while found == PAGE:
            with self.core.database.looking() as work:
                page = batches.page(work, self.account, self.batch_id, self.kind, after, PAGE)
            yield from map(self.read, page)
            found = len(page)
            after = page[-1]["n"] if page else after


@contextmanager
def rows(core: Core, account: int, batch_id: str) -> Iterator[Rows]:
    """What is known of single rows of a batch, streamed, all as of one moment."""
    with core.database.reading() as connection:
        yield Rows(connection, account, batch_id)


@dataclass(frozen=True, slots=True)
class Rows:
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

    def made(self) -> Iterator[Made]:
        """Codes and cards that senders learn."""
        return map(_made, batches.problems(self.connection, self.account, self.batch_id, batches.MADE))

    def _found(self, kind: str) -> Iterator[Problem]:
        return map(_problem, batches.problems(self.connection, self.account, self.batch_id, kind))


def _problem(row: Known) -> Problem:
    return wording.read(row["row"], row["field"], row["code"], row["value"], row["written"], row["ref"])


def _made(row: Known) -> Made:
    return Made(row["row"], row["code"], row["value"])


def followed(row: Known) -> Followed:
    counts = Counts(*(row[name] for name in COUNTED)) if row["kind"] == "import" else Counts()
    good = counts.new + counts.updated + counts.ignored
    if row["kind"] == "undo":
        # Restored, removed and kept, in columns of these names (storage/models.py).
        progress = Progress(row["rows"], row["rows"], row["updated"] + row["ignored"], row["failed"])
        started = updated = ended = row["created_at"]
    elif row["state"] is None:
        progress = Progress(row["rows"], row["rows"], good, counts.failed)
        started = updated = ended = row["created_at"]
    else:
        progress = Progress(row["total"], row["processed"], good, counts.failed)
        started, updated, ended = row["started_at"], row["updated_at"], row["ended_at"]
    return Followed(
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
        started,
        updated,
        ended,
        row["request_ref"] or "",
        row["undoes"] or "",
        bool(row["made"]),
        row,
    )


def _reason(text: str | None) -> Reason | None:
    if not text:
        return None
    told = json.loads(text)
    return Reason(told["code"], told["message"], told["values"])
