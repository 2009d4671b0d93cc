"""What protocols with jobs reply in the same way: a job of theirs, its failed rows, and times."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter

from importing import batch_status
from importing.batch_status import BatchStatus, FailureReason
from importing.errors import Problem
from modern_api.routes import ApiCall


def job_of(call: ApiCall, protocol: str, batch_id: str | None) -> BatchStatus | None:
    """A job of the sender's account that came by the protocol."""
    job = batch_status.find_batch(call.context, call.sender.account, batch_id) if batch_id else None
    return job if job is not None and job.protocol == protocol and job.kind == "import" else None


def failed_rows(call: ApiCall, batch_id: str) -> Iterator[list[Problem]]:
    """The problems of each failed row, in row order, read page by page as they are sent."""
    problems = batch_status.paged_problems(call.context, call.sender.account, batch_id)
    return (list(of_row) for _, of_row in groupby(problems, key=attrgetter("row")))


def iso_time(milliseconds: int) -> str:
    """A time as ISO 8601 in UTC.

    >>> iso_time(1795251600042)
    '2026-11-21T09:00:00.042Z'
    """
    seconds = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def failure_of(job: BatchStatus) -> FailureReason:
    """Why a job failed as a whole; a cancelled one has failed too."""
    return job.reason or FailureReason("cancelled", "The import was cancelled.")
