"""Jobs: imports that are submitted with their data and then written in chunks (chunk.py), on any host.

Here they are submitted, cancelled, resumed and, when a worker or a message was lost, recovered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from importing.batch import Batch
from importing.context import Context
from importing.errors import ApiError
from importing.import_batch import batch_columns, lock_request, new_batch_id
from importing.jobs import batch_json, stored_input
from importing.jobs.chunk import COUNT_PHASE, dump_error, lease_ms
from storage import apply
from storage.batch_transaction import BatchTransaction
from storage.engine import Busy, now_ms
from storage.queries import accounts, batches, jobs, webhooks

RECOVERY_PAUSE_SECONDS = 2.0
DAY_MS = 86_400_000
# Uploads without a job are dropped after a day; a failed job can be resumed for a week.
RESUMABLE_MS = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """`replayed`: an earlier, equal request has submitted this batch."""

    batch_id: str
    replayed: bool = False


def submit(context: Context, batch: Batch, request_ref: str = "") -> SubmittedBatch:
    """Queue a batch with its data, the source's file from its beginning. One transaction inserts the job.

    `request_ref` is what the reply to the sender calls the request. Raises ApiError: request_id_reused, busy,
    unavailable.
    """
    with lock_request(context, batch) as (work, stored_id):
        if stored_id is not None:
            return SubmittedBatch(stored_id, replayed=True)
        batch.source.file.seek(0)
        input_id, size = stored_input.store_input(context, batch.account, batch.source.file, context.write_wait)
        values = {"state": "queued", "plan": batch_json.dump_batch(batch), "input_id": input_id, "input_size": size}
        try:
            batch_id = _add_job(context, work, batch, values, request_ref)
        except Busy:
            # A sender may try again and again. After any other error the job may exist.
            stored_input.drop_input(context, batch.account, input_id)
            raise
    context.queue.put_chunk(batch_id, 0)
    return SubmittedBatch(batch_id)


def submit_failed(context: Context, batch: Batch, error: ApiError, request_ref: str = "") -> SubmittedBatch:
    """Store a job that failed before it began, because its file cannot be read. Raises what `submit` raises."""
    with lock_request(context, batch) as (work, stored_id):
        if stored_id is not None:
            return SubmittedBatch(stored_id, replayed=True)
        values = {"state": "failed", "plan": "{}", "fault": dump_error(error), "ended_at": now_ms()}
        return SubmittedBatch(_add_job(context, work, batch, values, request_ref))


def _add_job(
    context: Context, work: BatchTransaction, batch: Batch, values: dict[str, object], request_ref: str
) -> str:
    batch_id = new_batch_id()
    deliveries: Iterable[str] = ()
    with work.writing(batch.account, context.write_wait):
        # Numbered under the lock: an equal request that came while this one waited must find the batch newer than itself.
        now = now_ms()
        number = apply.next_change(work, batch.account)
        batches.insert_batch(work, {**batch_columns(batch, batch_id, number, now), "status": values["state"]})
        ids = {"account_id": batch.account, "batch_id": batch_id, "request_ref": request_ref}
        due_at = work.clock_ms() + lease_ms(context)
        jobs.add_job(work, {**ids, "phase": COUNT_PHASE, "updated_at": now, "due_at": due_at, **values})
        if batch.request_key is not None:
            batches.store_idempotency_key(work, batch.account, batch.request_key, batch.request_digest, batch_id, now)
        if values["state"] == "failed":
            deliveries = webhooks.add_deliveries(work, batch.account, batch_id, webhooks.WebhookEvent.FAILED, now)
    context.queue.put_deliveries(deliveries)
    return batch_id


def recover_jobs(context: Context) -> int:
    """Ask again for chunks whose worker died or whose message was lost. Returns how many."""
    with context.database.reading() as connection:
        if not jobs.has_due(connection):
            return 0
    with context.database.writing(context.write_wait) as connection:
        due_chunks = jobs.take_due_chunks(connection, lease_ms(context))
    for batch_id, number in due_chunks:
        context.queue.put_chunk(batch_id, number)
    return len(due_chunks)


def drop_stale_inputs(context: Context) -> int:
    """Drop data that no job needs any more, each input in its own transaction. Returns how many inputs."""
    now = now_ms()
    with context.database.reading() as connection:
        stale_inputs = jobs.list_stale_inputs(connection, now - DAY_MS, now - RESUMABLE_MS)
    for account, input_id in stale_inputs:
        with context.database.writing(context.write_wait) as connection:
            jobs.drop_input(connection, account, input_id)
    return len(stale_inputs)


def cancel(context: Context, account: int, batch_id: str, actor: str = "") -> None:
    """End a job that is queued or running. Whole chunks stay: they can be undone, or the job resumed.

    The audit names `actor`. Raises ApiError: unknown_batch, not_running, busy.
    """
    with _write_transaction(context) as connection:
        if batches.find_batch(connection, account, batch_id) is None:
            raise ApiError("unknown_batch", value=batch_id)
        if not jobs.change_state(connection, account, batch_id, jobs.ACTIVE_STATES, "cancelled"):
            raise ApiError("not_running", value=batch_id)
        accounts.add_audit_line(connection, account, actor, "cancel", batch_id)
        now, event = jobs.clock_ms(connection), webhooks.WebhookEvent.CANCELLED
        deliveries = webhooks.add_deliveries_in(connection, account, batch_id, event, now)
    context.queue.put_deliveries(deliveries)


def resume(context: Context, account: int, batch_id: str, actor: str = "") -> None:
    """Continue a job that was cancelled, or failed for a reason from outside, where it stopped.

    The audit names `actor`. Raises ApiError: unknown_batch, not_resumable, busy.
    """
    with _write_transaction(context) as connection:
        status, job = jobs.lock_status(connection, account, batch_id), jobs.find_job(connection, batch_id)
        if status is None:
            raise ApiError("unknown_batch", value=batch_id)
        ended = ("failed", "cancelled")
        is_resumable = status in ended and job is not None and jobs.has_input(connection, job)
        if not is_resumable or not jobs.change_state(connection, account, batch_id, ended, "queued"):
            raise ApiError("not_resumable", value=batch_id)
        assert job is not None
        accounts.add_audit_line(connection, account, actor, "resume", batch_id)
    context.queue.put_chunk(batch_id, job["portion"])


@contextmanager
def _write_transaction(context: Context) -> Iterator[Connection]:
    try:
        with context.database.writing(context.write_wait) as connection:
            yield connection
    except Busy as error:
        raise ApiError("busy") from error
