"""One portion of a job, from its claim to its commit.

A job goes through phases. `count`: how many rows there are, and which column is which. `check` (policy `reject` only):
every row is checked before the first is written. `apply`: the rows are written, all at once under `reject`, else some
thousands in each portion, about half a second's work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from itertools import groupby, starmap
from typing import Any, BinaryIO, cast

from importing import stored_problems
from importing.batch import Batch, Counts, Cursor, Header, OnError, Outcome
from importing.checking.check_rows import check_rows, column_fields
from importing.context import Context
from importing.disk_list import DiskList
from importing.errors import ApiError, Problem
from importing.import_batch import COUNT_NAMES, batch_session, list_problems, store_row_results, write
from importing.jobs import batch_json, stored_input
from importing.planning.plan_batch import BatchPlan, StagedRows, read_rows, stage
from importing.queue import put_deliveries
from importing.reading.row_count import count_rows
from storage.batch_transaction import BatchTransaction
from storage.queries import batches, jobs, webhooks
from storage.queries.jobs import ChunkClaim
from storage.queries.webhooks import WebhookEvent

COUNT_PHASE, CHECK_PHASE, APPLY_PHASE = "count", "check", "apply"

# Seconds that a portion should take, and that it waits for its turn to write.
CHUNK_SECONDS = 0.5
WRITE_WAIT_SECONDS = 30.0
FIRST_CHUNK_ROWS, MIN_CHUNK_ROWS, MAX_CHUNK_ROWS = 10_000, 500, 100_000
# Checking is so much faster than writing.
CHECK_CHUNK_ROWS = 200_000


def do_chunk(context: Context, claim: ChunkClaim) -> bool:
    """Do the portion that was claimed; returns whether there is another one.

    Raises Fenced, and ApiError: what refuses the whole batch, and busy and unavailable, after which it can be tried again.
    """
    job = claim.job
    batch = _load_batch(context, claim)
    phase = job["phase"]
    if phase == COUNT_PHASE:
        batch, phase = _count_rows(context, claim, batch)
    has_more = _check_rows(context, claim, batch) if phase == CHECK_PHASE else _apply_rows(context, claim, batch)
    if not has_more:
        stored_input.drop_input(context, claim.account, job["input_id"])
    return has_more


def _load_batch(context: Context, claim: ChunkClaim) -> Batch:
    job = claim.job
    data = stored_input.StoredInput(context, claim.account, job["input_id"], job["input_size"])
    return batch_json.load_batch(job["plan"], cast("BinaryIO", data), job["input_size"])


def _count_rows(context: Context, claim: ChunkClaim, batch: Batch) -> tuple[Batch, str]:
    # What gaps in the numbers of headers mean is settled here, once for all portions.
    fields = column_fields(batch)
    batch = batch._replace(headers=tuple(Header(number, field) for number, field in enumerate(fields, 1)))
    total = count_rows(batch)
    phase = CHECK_PHASE if batch.on_error is OnError.REJECT else APPLY_PHASE
    with context.database.writing(WRITE_WAIT_SECONDS) as connection:
        jobs.update_claimed(connection, claim, phase=phase, total=total, plan=batch_json.dump_batch(batch))
    return batch, phase


def _check_rows(context: Context, claim: ChunkClaim, batch: Batch) -> bool:
    """Check some rows; after the last ones the batch is refused, or can be written."""
    start = _cursor(claim)
    problems: DiskList[Problem] = DiskList()
    checked = check_rows(batch, context.digests, problems, DiskList(), start, CHECK_CHUNK_ROWS)
    for _rows in checked.chunks():
        pass
    deliveries: Iterable[str] = ()
    with batch_session(context) as work, work.writing(claim.account, WRITE_WAIT_SECONDS):
        outcome = Outcome(claim.batch_id, Counts(failed=checked.failed), (), problems, (), batch.charset, 0.0)
        jobs.check_claim(work, claim)
        store_row_results(work, batch, outcome, start)
        batches.add_counts(work, claim.account, claim.batch_id, rows=checked.rows, failed=checked.failed)
        values: dict[str, object] = {"processed": checked.cursor.rows, **_cursor_columns(checked.cursor)}
        if checked.ended:
            failed = batches.load_count(work, claim.account, claim.batch_id, "failed")
            if failed:
                fault = _bad_rows_error(work, claim, failed, checked.cursor.rows)
                batches.set_status(work, claim.account, claim.batch_id, "failed")
                values |= _end_columns(work, "failed", fault=dump_error(fault), input_id="")
                deliveries = _note_deliveries(work, claim, WebhookEvent.FAILED)
            else:
                batches.add_counts(work, claim.account, claim.batch_id, rows=-checked.cursor.rows)
                values |= {"phase": APPLY_PHASE, **_cursor_columns(Cursor())}
        jobs.finish_chunk(work, claim, _lease_ms(context), **values)
    put_deliveries(context.queue, deliveries)
    return values.get("state") != "failed"


def _apply_rows(context: Context, claim: ChunkClaim, batch: Batch) -> bool:
    """Write some rows, or under `reject` all."""
    start, all_at_once = _cursor(claim), batch.on_error is OnError.REJECT
    rows = None if all_at_once else claim.job["portion_rows"] or FIRST_CHUNK_ROWS
    started = time.perf_counter()
    deliveries: Iterable[str] = ()
    with batch_session(context) as work:
        work.limit_idle_time(_lease_ms(context))
        staged = _stage_rows(work, context, batch, start, rows)
        with work.writing(claim.account, WRITE_WAIT_SECONDS):
            jobs.check_claim(work, claim)
            if staged is not None:
                _write_rows(work, claim, batch, staged, start, started)
            seconds = time.perf_counter() - started
            cursor = staged.cursor if staged else start
            values: dict[str, object] = {"processed": cursor.rows, **_cursor_columns(cursor)}
            is_last = staged is None or staged.ended
            if is_last:
                batches.set_status(work, claim.account, claim.batch_id, "imported")
                values |= _end_columns(work, "imported")
                deliveries = _note_deliveries(work, claim, WebhookEvent.IMPORTED)
            else:
                values["portion_rows"] = _next_chunk_rows(cursor.rows - start.rows, seconds)
            jobs.finish_chunk(work, claim, _lease_ms(context), **values)
    put_deliveries(context.queue, deliveries)
    return not is_last


def _stage_rows(
    work: BatchTransaction, context: Context, batch: Batch, start: Cursor, rows: int | None
) -> StagedRows | None:
    try:
        return stage(work, batch, read_rows(batch, context.digests, start, rows))
    except ApiError as fault:
        if fault.code != "no_data":
            raise
        return None


def _write_rows(
    work: BatchTransaction, claim: ChunkClaim, batch: Batch, staged: StagedRows, start: Cursor, started: float
) -> None:
    def check_plan(plan: BatchPlan) -> None:
        if batch.on_error is OnError.REJECT and len(plan.problems):
            problems = plan.problems
            raise ApiError(
                "bad_rows",
                problems=problems,
                listed=list_problems(problems),
                count=plan.counts.failed,
                rows=staged.rows,
            )

    counts, problems = Counts(failed=staged.failed), staged.problems
    made: Any = ()
    if staged.failed < staged.rows:
        written = write(work, batch, staged, claim.batch_id, check_plan)
        counts, problems, made = written.plan.counts, written.plan.problems, written.made
    seconds = time.perf_counter() - started
    outcome = Outcome(claim.batch_id, counts, made, problems, staged.warnings, batch.charset, seconds)
    store_row_results(work, batch, outcome, start)
    added = {name: getattr(counts, name) for name in COUNT_NAMES}
    batches.add_counts(work, claim.account, claim.batch_id, rows=staged.rows, seconds=round(seconds * 1000), **added)


def fail_job(context: Context, claim: ChunkClaim, fault: ApiError) -> None:
    """Write a job down as failed, with the rows that are to blame. It can be resumed where they are not.

    Raises Fenced, Busy, and ApiError (busy, unavailable).
    """
    with batch_session(context) as work, work.writing(claim.account, WRITE_WAIT_SECONDS):
        values: dict[str, object] = {}
        if fault.code == "bad_rows":
            job, batch = claim.job, _load_batch(context, claim)
            failed = sum(1 for _ in groupby(problem.row for problem in fault.problems))
            outcome = Outcome(claim.batch_id, Counts(), (), fault.problems, (), batch.charset, 0.0)
            store_row_results(work, batch, outcome)
            batches.add_counts(work, claim.account, claim.batch_id, rows=job["total"], failed=failed)
            values = {"input_id": "", "processed": job["total"]}
        batches.set_status(work, claim.account, claim.batch_id, "failed")
        values |= _end_columns(work, "failed", fault=dump_error(fault))
        deliveries = _note_deliveries(work, claim, WebhookEvent.FAILED)
        jobs.finish_chunk(work, claim, _lease_ms(context), **values | {"portion": claim.job["portion"]})
    if fault.code == "bad_rows":
        stored_input.drop_input(context, claim.account, claim.job["input_id"])
    put_deliveries(context.queue, deliveries)


def dump_error(fault: ApiError) -> str:
    """A fault as a job keeps it: JSON of its code, its message and its values."""
    return json.dumps({"code": fault.code, "message": fault.message, "values": fault.values})


def _bad_rows_error(work: BatchTransaction, claim: ChunkClaim, failed: int, rows: int) -> ApiError:
    stored_problems_rows = batches.load_problems(work, claim.account, claim.batch_id, batches.PROBLEM)
    problems = DiskList(starmap(stored_problems.from_row, stored_problems_rows))
    return ApiError("bad_rows", listed=list_problems(problems), count=failed, rows=rows)


def _end_columns(work: BatchTransaction, state: str, **values: object) -> dict[str, object]:
    return {"state": state, "ended_at": work.clock_ms(), **values}


def _note_deliveries(work: BatchTransaction, claim: ChunkClaim, event: WebhookEvent) -> Iterable[str]:
    return webhooks.add_deliveries(work, claim.account, claim.batch_id, event, work.clock_ms())


def _cursor(claim: ChunkClaim) -> Cursor:
    return Cursor(claim.job["position"], claim.job["rows_read"], claim.job["rereads"])


def _cursor_columns(cursor: Cursor) -> dict[str, object]:
    return {"position": cursor.position, "rows_read": cursor.rows, "rereads": cursor.rereads}


def _next_chunk_rows(rows: int, seconds: float) -> int:
    """How many rows the next portion should have, after one of so many took so long."""
    rows_in_time = round(rows * CHUNK_SECONDS / max(seconds, 0.001))
    return max(MIN_CHUNK_ROWS, min(rows_in_time, 4 * rows, MAX_CHUNK_ROWS))


def _lease_ms(context: Context) -> int:
    return round(context.job_lease * 1000)
