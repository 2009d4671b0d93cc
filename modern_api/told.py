"""What faces tell of a job in the same way: times, and the failed rows with all that is wrong with each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby

from importing import batch_status
from importing.batch_status import BatchStatus
from importing.context import Context
from importing.errors import Problem


def job(context: Context, account: int, face: str, batch_id: str | None) -> BatchStatus | None:
    """A job of the account that came by the face."""
    found = batch_status.find_batch(context, account, batch_id) if batch_id else None
    return found if found is not None and found.face == face and found.kind == "import" else None


def failed_rows(context: Context, account: int, batch_id: str) -> Iterator[list[Problem]]:
    """The problems of each failed row, in row order, read page by page as they are sent."""
    problems = batch_status.paged_problems(context, account, batch_id)
    return (list(of_row) for _, of_row in groupby(problems, key=lambda problem: problem.row))


def stamp(milliseconds: int) -> str:
    """A time as ISO 8601 in UTC.

    >>> stamp(1795251600042)
    '2026-11-21T09:00:00.042Z'
    """
    time = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"
