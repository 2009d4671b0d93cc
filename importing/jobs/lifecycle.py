"""Imports in the background: queued with their data, then written in portions that take turns, on whatever host.

A portion commits its rows, its problems, the progress and the cursor in one transaction, and asks for the next portion
at the end of the queue. A message that comes twice finds its portion done; a worker that dies leaves a claim behind that
`recover` takes away; a worker that wakes up late finds another claim there, and nothing that it did counts.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from importing.batch import Batch
from importing.context import Context
from importing.errors import ApiError, ErrorCategory
from importing.import_batch import batch_columns, lock_request, new_batch_id
from importing.jobs import batch_json, chunk, stored_input
from importing.queue import put_deliveries
from storage import apply
from storage.batch_transaction import BatchTransaction
from storage.engine import Busy, now_ms
from storage.queries import accounts, batches, jobs, webhooks
from storage.queries.jobs import ChunkClaim, ClaimLost

log = logging.getLogger("tillgate.jobs")

# Seconds between two looks for jobs that nobody works on.
RECOVERY_PAUSE_SECONDS = 2.0
# How often a portion is tried again after something from outside failed it, and after how many seconds: 1, 2, 4 ... 60.
MAX_ATTEMPTS = 8
MAX_PAUSE_SECONDS = 60
# Milliseconds: uploads that no job has are dropped after a day; a job that failed can be resumed for a week.
DAY_MS = 86_400_000
RESUMABLE_MS = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """`replayed`: the same request has queued, or made, this batch before."""

    batch_id: str
    replayed: bool = False


def submit(context: Context, batch: Batch, request_ref: str = "") -> SubmittedBatch:
    """Queue a batch with its data, which is read from where the source's file begins. One transaction makes the job.

    `request_ref` is what the sender's reply called the request. Raises ApiError: request_id_reused, busy, unavailable.
    """
    with lock_request(context, batch) as (work, stored):
        if stored is not None:
            return SubmittedBatch(stored, replayed=True)
        batch.source.file.seek(0)
        input_id, size = stored_input.store_input(context, batch.account, batch.source.file, context.write_wait)
        values = {
            "state": "queued",
            "phase": chunk.COUNT_PHASE,
            "plan": batch_json.dump_batch(batch),
            "input_id": input_id,
            "input_size": size,
        }
        try:
            batch_id = _add_job(context, work, batch, values, request_ref)
        except Busy:
            # A sender may come again and again. After any other error the job may be there all the same.
            stored_input.drop_input(context, batch.account, input_id)
            raise
    context.queue.put_chunk(batch_id, 0)
    return SubmittedBatch(batch_id)


def submit_failed(context: Context, batch: Batch, fault: ApiError, request_ref: str = "") -> SubmittedBatch:
    """Write a job down that failed before it began, such as one whose file cannot be read. Raises what `submit` does."""
    with lock_request(context, batch) as (work, stored):
        if stored is not None:
            return SubmittedBatch(stored, replayed=True)
        values = {
            "state": "failed",
            "phase": chunk.COUNT_PHASE,
            "plan": "{}",
            "fault": chunk.dump_error(fault),
            "ended_at": now_ms(),
        }
        return SubmittedBatch(_add_job(context, work, batch, values, request_ref))


def _add_job(
    context: Context, work: BatchTransaction, batch: Batch, values: dict[str, object], request_ref: str
) -> str:
    batch_id = new_batch_id()
    deliveries: Iterable[str] = ()
    with work.writing(batch.account, context.write_wait):
        # Not before: a copy that came while this one waited must find it newer than itself.
        now = now_ms()
        number = apply.next_change(work, batch.account)
        batches.insert_batch(work, {**batch_columns(batch, batch_id, number, now), "status": values["state"]})
        due_at = work.clock_ms() + _to_ms(context.job_lease)
        times = {"updated_at": now, "due_at": due_at, "request_ref": request_ref}
        jobs.add_job(work, {"account_id": batch.account, "batch_id": batch_id, **times, **values})
        if batch.request_key is not None:
            key, digest = batch.request_key, batch.request_digest
            batches.store_idempotency_key(work, batch.account, key, digest, batch_id, now)
        if values["state"] == "failed":
            deliveries = webhooks.add_deliveries(work, batch.account, batch_id, webhooks.WebhookEvent.FAILED, now)
    put_deliveries(context.queue, deliveries)
    return batch_id


def run_chunk(context: Context, batch_id: str, number: int) -> None:
    """Do one portion of a job, unless it is done or somebody else's, and ask for the next one."""
    try:
        with context.database.writing(chunk.WRITE_WAIT_SECONDS) as connection:
            claim = jobs.claim_chunk(connection, batch_id, number, secrets.token_hex(16), _to_ms(context.job_lease))
    except (Busy, SQLAlchemyError) as error:
        # The job is as it was: recovery asks for it again.
        log.warning("job %s: portion %d waits: %s", batch_id, number, type(error).__qualname__)
        return
    if claim is None:
        return
    with _keep_claim(context, claim):
        has_more = _try_chunk(context, claim)
    if has_more:
        context.queue.put_chunk(batch_id, number + 1)


def _try_chunk(context: Context, claim: ChunkClaim) -> bool:
    """Do the portion; whether there is another one."""
    try:
        return chunk.do_chunk(context, claim)
    except ClaimLost:
        log.info("job %s: portion %d is somebody else's by now", claim.batch_id, claim.job["portion"])
    except Busy:
        _retry_later(context, claim, ApiError("busy"))
    except ApiError as fault:
        if fault.category is ErrorCategory.BUSY:
            _retry_later(context, claim, fault)
        else:
            _fail_job(context, claim, fault)
    except Exception as error:  # the outermost door of a portion
        log.exception("job %s: portion %d failed", claim.batch_id, claim.job["portion"])
        _retry_later(context, claim, ApiError("job_interrupted", reason=type(error).__qualname__))
    return False


def _retry_later(context: Context, claim: ChunkClaim, fault: ApiError) -> None:
    """Something from outside failed the portion: try it again later, and after too many times fail the job, resumably."""
    is_busy = fault.code == "busy"
    attempts = claim.job["attempts"] + (0 if is_busy else 1)
    if attempts >= MAX_ATTEMPTS:
        # What such a fault says to a sender, that nothing was imported, is not true of a job.
        _fail_job(context, claim, ApiError("job_interrupted", reason=fault.values.get("reason", fault.code)))
        return
    pause = 1 if is_busy else min(2 ** (attempts - 1), MAX_PAUSE_SECONDS)
    log.warning("job %s: %s; tried again in %d s", claim.batch_id, fault.code, pause)
    with suppress(Busy, SQLAlchemyError), context.database.writing(chunk.WRITE_WAIT_SECONDS) as connection:
        jobs.release_claim(connection, claim, jobs.clock_ms(connection) + pause * 1000, attempts=attempts)


def _fail_job(context: Context, claim: ChunkClaim, fault: ApiError) -> None:
    try:
        chunk.fail_job(context, claim, fault)
    except (Busy, ApiError, ClaimLost, SQLAlchemyError) as error:
        log.error("job %s: cannot be written down as failed: %s", claim.batch_id, type(error).__qualname__)


@contextmanager
def _keep_claim(context: Context, claim: ChunkClaim) -> Iterator[None]:
    """Prolong the claim for as long as the work takes. Nothing is written where it takes less than a third of a lease."""
    stop = threading.Event()

    def extend_claim() -> None:
        while not stop.wait(context.job_lease / 3):
            # Nothing may end it but the work: without it the claim is lost.
            with suppress(Exception), context.database.writing(context.job_lease / 3) as connection:
                if not jobs.extend_claim(connection, claim, _to_ms(context.job_lease)):
                    return

    thread = threading.Thread(target=extend_claim, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()


def recover_jobs(context: Context) -> int:
    """Ask again for what nobody works on: portions of dead workers, and lost messages. Returns how many."""
    with context.database.reading() as connection:
        if not jobs.has_due(connection):
            return 0
    with context.database.writing(context.write_wait) as connection:
        due_chunks = jobs.take_due_chunks(connection, _to_ms(context.job_lease))
    for batch_id, number in due_chunks:
        context.queue.put_chunk(batch_id, number)
    return len(due_chunks)


def drop_stale_inputs(context: Context) -> int:
    """Drop data that no job needs any more, an input in a transaction. Returns how many inputs."""
    now = now_ms()
    with context.database.reading() as connection:
        stale = jobs.list_stale_inputs(connection, now - DAY_MS, now - RESUMABLE_MS)
    for account, input_id in stale:
        with context.database.writing(context.write_wait) as connection:
            jobs.drop_input(connection, account, input_id)
    return len(stale)


def cancel(context: Context, account: int, batch_id: str, actor: str = "") -> None:
    """End a job that is queued or running. Whole portions stay: they can be undone, or the job resumed.

    `actor` is who the audit says it was.

    Raises ApiError: unknown_batch, not_running, busy.
    """
    with _write_transaction(context) as connection:
        if batches.find_batch(connection, account, batch_id) is None:
            raise ApiError("unknown_batch", value=batch_id)
        if not jobs.change_state(connection, account, batch_id, jobs.ACTIVE_STATES, "cancelled"):
            raise ApiError("not_running", value=batch_id)
        accounts.add_audit_line(connection, account, actor, "cancel", batch_id)
        deliveries = webhooks.add_deliveries_in(
            connection, account, batch_id, webhooks.WebhookEvent.CANCELLED, jobs.clock_ms(connection)
        )
    put_deliveries(context.queue, deliveries)


def resume(context: Context, account: int, batch_id: str, actor: str = "") -> None:
    """Go on with a job that was cancelled, or failed for a reason from outside, where it stood.

    `actor` is who the audit says it was.

    Raises ApiError: unknown_batch, not_resumable, busy.
    """
    with _write_transaction(context) as connection:
        status, job = jobs.lock_status(connection, account, batch_id), jobs.find_job(connection, batch_id)
        if status is None:
            raise ApiError("unknown_batch", value=batch_id)
        is_resumable = status in ("failed", "cancelled") and job is not None and jobs.has_input(connection, job)
        if not is_resumable or not jobs.change_state(connection, account, batch_id, ("failed", "cancelled"), "queued"):
            raise ApiError("not_resumable", value=batch_id)
        assert job is not None
        accounts.add_audit_line(connection, account, actor, "resume", batch_id)
        number = job["portion"]
    context.queue.put_chunk(batch_id, number)


@contextmanager
def _write_transaction(context: Context) -> Iterator[Connection]:
    try:
        with context.database.writing(context.write_wait) as connection:
            yield connection
    except Busy as error:
        raise ApiError("busy") from error


def _to_ms(seconds: float) -> int:
    return round(seconds * 1000)
