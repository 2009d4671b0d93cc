"""A worker's part of a job: one chunk, from its claim to its commit.

A job goes through phases. `count` counts the rows and settles which column is which. `check` (policy `reject` only)
checks every row before the first is written. `apply` writes the rows: under `reject` all at once, else some thousands in
each chunk, about half a second's work.

A chunk commits its rows, problems, progress and cursor in one transaction and then asks for the next chunk at the end of
the queue. A repeated message finds its chunk done. The claim of a dead worker is taken over by recovery (lifecycle.py),
and a worker that was paused so long finds another claim and writes nothing.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from typing import BinaryIO, cast

from sqlalchemy.exc import SQLAlchemyError

from importing.batch import AssignedKey, Batch, Counts, Cursor, Header, OnError, Outcome
from importing.batch_status import load_problems
from importing.checking.check_rows import CheckedRows
from importing.context import Context
from importing.disk_list import DiskList
from importing.errors import ApiError, ErrorCategory, Problem
from importing.import_batch import batch_session, list_problems, refuse_bad_rows, store_row_results, write
from importing.jobs import batch_json, stored_input
from importing.planning.plan_batch import StagedRows, read_rows, stage
from importing.reading.column_layout import column_fields, max_row_characters
from importing.reading.row_reader import count_rows
from storage.batch_transaction import BatchTransaction
from storage.engine import Busy
from storage.queries import batches, jobs, webhooks
from storage.queries.jobs import ChunkClaim, ClaimLost
from storage.queries.webhooks import WebhookEvent

log = logging.getLogger("tillgate.jobs")

COUNT_PHASE, CHECK_PHASE, APPLY_PHASE = "count", "check", "apply"

# What a chunk should take, and how long it waits for the write lock.
CHUNK_SECONDS = 0.5
WRITE_WAIT_SECONDS = 30.0
FIRST_CHUNK_ROWS, MIN_CHUNK_ROWS, MAX_CHUNK_ROWS = 10_000, 500, 100_000
# Checking is so much faster than writing.
CHECK_CHUNK_ROWS = 200_000
# How often a chunk is tried after errors from outside, and the longest pause before that: 1, 2, 4 … 60 seconds.
MAX_ATTEMPTS = 8
MAX_PAUSE_SECONDS = 60


def run_chunk(context: Context, batch_id: str, number: int) -> None:
    """Do one chunk of a job, unless it is done or another worker has it, and ask for the next one."""
    try:
        with context.database.writing(WRITE_WAIT_SECONDS) as connection:
            claim = jobs.claim_chunk(connection, batch_id, number, secrets.token_hex(16), lease_ms(context))
    except (Busy, SQLAlchemyError) as error:
        # The job is unchanged: recovery asks for it again.
        log.warning("job %s: chunk %d waits: %s", batch_id, number, type(error).__qualname__)
        return
    if claim is None:
        return
    with _extend_lease(context, claim):
        has_more = _try_chunk(context, claim)
    if has_more:
        context.queue.put_chunk(batch_id, number + 1)


@contextmanager
def _extend_lease(context: Context, claim: ChunkClaim) -> Iterator[None]:
    """Extend the lease while the work goes on, every third of a lease: shorter work writes nothing for it."""
    stop = threading.Event()

    def extend() -> None:
        while not stop.wait(context.job_lease / 3):
            # Only the end of the work may end this loop: without it the claim is lost.
            with suppress(Exception), context.database.writing(context.job_lease / 3) as connection:
                if not jobs.extend_claim(connection, claim, lease_ms(context)):
                    return

    threading.Thread(target=extend, name="lease", daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _try_chunk(context: Context, claim: ChunkClaim) -> bool:
    """Do the chunk; returns whether there is another one. Errors are handled here."""
    try:
        return do_chunk(context, claim)
    except ClaimLost:
        log.info("job %s: another worker has chunk %d by now", claim.batch_id, claim.job["portion"])
    except Busy:
        _retry_later(context, claim, ApiError("busy"))
    except ApiError as error:
        handle = _retry_later if error.category is ErrorCategory.BUSY else _fail_job
        handle(context, claim, error)
    except Exception as error:  # the error boundary: no error may end the worker
        log.exception("job %s: chunk %d failed", claim.batch_id, claim.job["portion"])
        _retry_later(context, claim, ApiError("job_interrupted", reason=type(error).__qualname__))
    return False


def _retry_later(context: Context, claim: ChunkClaim, error: ApiError) -> None:
    """Try the chunk again after an error from outside; after too many of them fail the job, which can be resumed."""
    is_busy = error.code == "busy"
    attempts = claim.job["attempts"] + (0 if is_busy else 1)
    if attempts >= MAX_ATTEMPTS:
        # The error's own message says that nothing was imported, which is not true of a job.
        _fail_job(context, claim, ApiError("job_interrupted", reason=error.values.get("reason", error.code)))
        return
    pause = 1 if is_busy else min(2 ** (attempts - 1), MAX_PAUSE_SECONDS)
    log.warning("job %s: %s; tried again in %d s", claim.batch_id, error.code, pause)
    with suppress(Busy, SQLAlchemyError), context.database.writing(WRITE_WAIT_SECONDS) as connection:
        jobs.release_claim(connection, claim, jobs.clock_ms(connection) + pause * 1000, attempts=attempts)


def _fail_job(context: Context, claim: ChunkClaim, error: ApiError) -> None:
    """Store that a job failed, with its bad rows. It can be resumed unless its rows are the reason."""
    try:
        with batch_session(context) as work, work.writing(claim.account, WRITE_WAIT_SECONDS):
            values: dict[str, object] = {"portion": claim.job["portion"]}
            if error.code == "bad_rows":
                batch, total = _load_batch(context, claim), claim.job["total"]
                failed = sum(1 for _ in groupby(problem.row for problem in error.problems))
                outcome = Outcome(claim.batch_id, Counts(), (), error.problems, (), batch.charset, 0.0)
                store_row_results(work, batch, outcome)
                batches.add_counts(work, claim.account, claim.batch_id, rows=total, failed=failed)
                values |= {"input_id": "", "processed": total}
            end_values, deliveries = _end_job(work, claim, "failed", error)
            jobs.finish_chunk(work, claim, lease_ms(context), **values | end_values)
        if error.code == "bad_rows":
            stored_input.drop_input(context, claim.account, claim.job["input_id"])
        context.queue.put_deliveries(deliveries)
    except (Busy, ApiError, ClaimLost, SQLAlchemyError) as problem:
        log.error("job %s: its failure cannot be stored: %s", claim.batch_id, type(problem).__qualname__)


def do_chunk(context: Context, claim: ChunkClaim) -> bool:
    """Do the claimed chunk; returns whether there is another one.

    Raises ClaimLost, and ApiError: what refuses the whole batch, and busy or unavailable, after which it can be retried.
    """
    batch, phase = _load_batch(context, claim), claim.job["phase"]
    if phase == COUNT_PHASE:
        batch, phase = _count_rows(context, claim, batch)
    has_more = _check_rows(context, claim, batch) if phase == CHECK_PHASE else _apply_rows(context, claim, batch)
    if not has_more:
        stored_input.drop_input(context, claim.account, claim.job["input_id"])
    return has_more


def _load_batch(context: Context, claim: ChunkClaim) -> Batch:
    input_id, size = claim.job["input_id"], claim.job["input_size"]
    data = stored_input.StoredInput(context, claim.account, input_id, size)
    return batch_json.load_batch(claim.job["plan"], cast("BinaryIO", data), size)


def _count_rows(context: Context, claim: ChunkClaim, batch: Batch) -> tuple[Batch, str]:
    # What gaps between the positions of headers mean is settled here, once for all chunks.
    fields = column_fields(batch)
    batch = batch._replace(headers=tuple(Header(number, field) for number, field in enumerate(fields, 1)))
    total = count_rows(batch.source, batch.delimited, max_row_characters(fields))
    phase = CHECK_PHASE if batch.on_error is OnError.REJECT else APPLY_PHASE
    with context.database.writing(WRITE_WAIT_SECONDS) as connection:
        jobs.update_claimed(connection, claim, phase=phase, total=total, plan=batch_json.dump_batch(batch))
    return batch, phase


def _check_rows(context: Context, claim: ChunkClaim, batch: Batch) -> bool:
    """Check a chunk of rows; after the last one the batch is refused, or ready to be written."""
    start = _start_cursor(claim)
    problems: DiskList[Problem] = DiskList()
    checked = CheckedRows(batch, context.digests, problems, DiskList(), start, CHECK_CHUNK_ROWS)
    for _ in checked.chunks():
        pass
    failed = 0
    deliveries: Iterable[str] = ()
    with batch_session(context) as work, work.writing(claim.account, WRITE_WAIT_SECONDS):
        jobs.check_claim(work, claim)
        counts = Counts(failed=checked.failed)
        store_row_results(work, batch, Outcome(claim.batch_id, counts, (), problems, (), batch.charset, 0.0), start)
        batches.add_counts(work, claim.account, claim.batch_id, rows=checked.rows, failed=checked.failed)
        values = {"processed": checked.cursor.rows, **_cursor_columns(checked.cursor)}
        if checked.ended:
            failed = batches.load_count(work, claim.account, claim.batch_id, "failed")
        if failed:
            listed = list_problems(load_problems(work, claim.account, claim.batch_id, batches.PROBLEM))
            error = ApiError("bad_rows", listed=listed, count=failed, rows=checked.cursor.rows)
            end_values, deliveries = _end_job(work, claim, "failed", error)
            values |= {"input_id": "", **end_values}
        elif checked.ended:
            batches.add_counts(work, claim.account, claim.batch_id, rows=-checked.cursor.rows)
            values |= {"phase": APPLY_PHASE, **_cursor_columns(Cursor())}
        jobs.finish_chunk(work, claim, lease_ms(context), **values)
    context.queue.put_deliveries(deliveries)
    return not failed


def _apply_rows(context: Context, claim: ChunkClaim, batch: Batch) -> bool:
    """Write a chunk of rows, or under `reject` all rows."""
    start, started = _start_cursor(claim), time.perf_counter()
    rows = None if batch.on_error is OnError.REJECT else claim.job["portion_rows"] or FIRST_CHUNK_ROWS
    deliveries: Iterable[str] = ()
    with batch_session(context) as work:
        work.limit_idle_time(lease_ms(context))
        staged = None
        try:
            staged = stage(work, batch, read_rows(batch, context.digests, start, rows))
        except ApiError as error:
            if error.code != "no_data":
                raise
        with work.writing(claim.account, WRITE_WAIT_SECONDS):
            jobs.check_claim(work, claim)
            if staged is not None:
                _write_rows(work, claim, batch, staged, start, started)
            cursor = staged.checked.cursor if staged else start
            values = {"processed": cursor.rows, **_cursor_columns(cursor)}
            is_last = staged is None or staged.checked.ended
            if is_last:
                end_values, deliveries = _end_job(work, claim, "imported")
                values |= end_values
            else:
                values["portion_rows"] = _next_chunk_rows(cursor.rows - start.rows, time.perf_counter() - started)
            jobs.finish_chunk(work, claim, lease_ms(context), **values)
    context.queue.put_deliveries(deliveries)
    return not is_last


def _write_rows(
    work: BatchTransaction, claim: ChunkClaim, batch: Batch, staged: StagedRows, start: Cursor, started: float
) -> None:
    counts, problems = Counts(failed=staged.checked.failed), staged.problems
    assigned_keys: Iterable[AssignedKey] = ()
    if staged.checked.failed < staged.checked.rows:
        # Under `skip` a chunk may have bad rows only.
        check_plan = partial(refuse_bad_rows, batch, staged) if batch.on_error is OnError.REJECT else lambda _: None
        written = write(work, batch, staged, claim.batch_id, check_plan)
        counts, problems, assigned_keys = written.plan.counts, written.plan.problems, written.assigned_keys
    seconds = time.perf_counter() - started
    outcome = Outcome(claim.batch_id, counts, assigned_keys, problems, staged.warnings, batch.charset, seconds)
    store_row_results(work, batch, outcome, start)
    growth = {"rows": staged.checked.rows, "duration_ms": round(seconds * 1000), **counts._asdict()}
    batches.add_counts(work, claim.account, claim.batch_id, **growth)


def _end_job(
    work: BatchTransaction, claim: ChunkClaim, status: str, error: ApiError | None = None
) -> tuple[dict[str, object], Iterable[str]]:
    """Give the batch its last status. Returns the job's columns and the deliveries that report it."""
    now = work.clock_ms()
    batches.set_status(work, claim.account, claim.batch_id, status)
    event = WebhookEvent.FAILED if error else WebhookEvent.IMPORTED
    deliveries = webhooks.add_deliveries(work, claim.account, claim.batch_id, event, now)
    return {"state": status, "ended_at": now, **({"fault": dump_error(error)} if error else {})}, deliveries


def dump_error(error: ApiError) -> str:
    """An error as a job stores it: JSON of its code, message and values."""
    return json.dumps({"code": error.code, "message": error.message, "values": error.values})


def _start_cursor(claim: ChunkClaim) -> Cursor:
    return Cursor(claim.job["position"], claim.job["rows_read"], claim.job["rereads"])


def _cursor_columns(cursor: Cursor) -> dict[str, object]:
    return {"position": cursor.position, "rows_read": cursor.rows, "rereads": cursor.rereads}


def _next_chunk_rows(rows: int, seconds: float) -> int:
    """How many rows the next chunk should have, after one of `rows` took `seconds`."""
    rows_in_time = round(rows * CHUNK_SECONDS / max(seconds, 0.001))
    return max(MIN_CHUNK_ROWS, min(rows_in_time, 4 * rows, MAX_CHUNK_ROWS))


def lease_ms(context: Context) -> int:
    """How long a claim stands without being extended, in milliseconds."""
    return round(context.job_lease * 1000)
