"""What protocols with jobs share: a job of the protocol, its failed rows, and why it failed."""

from __future__ import annotations

from collections.abc import Iterator
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


def failure_of(job: BatchStatus) -> FailureReason:
    """Why a job failed as a whole; a cancelled one has failed too."""
    return job.reason or FailureReason("cancelled", "The import was cancelled.")
