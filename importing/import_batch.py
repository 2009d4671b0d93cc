"""The write path of every batch: stage it, then in one transaction match, plan, apply and store. A preview stops earlier."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby, islice, starmap
from typing import NamedTuple

import sqlalchemy.exc

from importing import failed_rows
from importing.batch import AssignedKey, Batch, Counts, Cursor, OnError, Outcome
from importing.batch_status import load_problems, problem_columns
from importing.context import Context
from importing.disk_list import DiskList
from importing.errors import ApiError, Problem
from importing.planning.plan_batch import (
    MODES_TRIED_FIRST,
    BatchPlan,
    StagedRows,
    list_assigned_keys,
    make_plan,
    read_rows,
    stage,
)
from storage import apply, generated_keys
from storage.batch_transaction import BatchTransaction, KeyTaken
from storage.engine import Busy, Expected, now_ms
from storage.queries import batches, jobs, webhooks
from storage.sql_connection import PendingResult

PROBLEMS_LISTED = 10
RETRY_AFTER_SECONDS = 5


@contextmanager
def batch_session(context: Context, batch: Batch | None = None) -> Iterator[BatchTransaction]:
    """A batch transaction whose database errors are raised as ApiError: busy, unavailable. `batch`: it is imported here."""
    expected = Expected(batch.account, batch.source.size, context.write_wait) if batch is not None else None
    try:
        with context.database.batch_transaction(expected) as work:
            yield work
    except Busy as error:
        raise ApiError("busy", retry_after=RETRY_AFTER_SECONDS) from error
    except sqlalchemy.exc.OperationalError as error:
        raise ApiError("unavailable", retry_after=RETRY_AFTER_SECONDS) from error


def run(context: Context, batch: Batch) -> Outcome:
    """Import a batch: all of it or nothing. A repeated request returns the stored outcome (`replayed`).

    Raises ApiError: no_data, bad_rows, no_good_rows, cards_exhausted, request_id_reused, busy.
    """
    started = time.perf_counter()
    rows = read_rows(batch, context.digests)
    with lock_request(context, batch, batch) as (work, stored_id):
        if stored_id is not None:
            return _load_outcome(work, batch, stored_id)
        staged = stage(work, batch, rows)
        if staged.checked.failed and (batch.on_error is OnError.REJECT or staged.checked.failed == staged.checked.rows):
            # Refused in any case: the plan only adds the problems that the store knows of, so it takes no lock.
            refuse_bad_rows(batch, staged, make_plan(work, batch, staged))
        with work.writing(batch.account, context.write_wait):
            batch_id = new_batch_id()
            written = write(work, batch, staged, batch_id, partial(refuse_bad_rows, batch, staged))
            seconds = time.perf_counter() - started
            outcome = _make_outcome(batch_id, batch, staged, written.plan, written.assigned_keys, seconds)
            _store_outcome(work, batch, staged, outcome, written)
            deliveries: Iterable[str] = ()
            if written.has_webhooks:
                event = webhooks.WebhookEvent.IMPORTED
                deliveries = webhooks.add_deliveries(work, batch.account, batch_id, event, written.now)
        context.queue.put_deliveries(deliveries)
        return outcome


def preview(context: Context, batch: Batch) -> Outcome:
    """What `run` would do now, to the row; nothing is written. Raises what `run` would raise, except busy."""
    started = time.perf_counter()
    with batch_session(context) as work:
        _stored_batch_id(batch, _find_same_request(work, batch, None))
        staged = stage(work, batch, read_rows(batch, context.digests, is_preview=True))
        plan = make_plan(work, batch, staged)
        refuse_bad_rows(batch, staged, plan)
        assigned_keys = DiskList(list_assigned_keys(work, batch, staged, None))
        return _make_outcome("", batch, staged, plan, assigned_keys, time.perf_counter() - started)


class WrittenBatch(NamedTuple):
    """An applied plan: its change number and when (milliseconds since the epoch).

    `has_webhooks`: the account had webhooks when the write transaction began.
    """

    plan: BatchPlan
    assigned_keys: DiskList[AssignedKey]
    change: int
    now: int
    has_webhooks: bool


def write(
    work: BatchTransaction, batch: Batch, staged: StagedRows, batch_id: str, check_plan: Callable[[BatchPlan], object]
) -> WrittenBatch:
    """Plan the staged rows and apply the plan as a change of the batch, in the current write transaction.

    `check_plan` may refuse the plan by raising ApiError. Raises ApiError("cards_exhausted").
    """
    if batch.mode in MODES_TRIED_FIRST:
        # Finding keys that new customers share costs a tenth of an import, and few batches have any. The first plan
        # assumes that there are none; where that is wrong, the database's unique keys refuse it.
        with suppress(KeyTaken, ApiError), work.attempt():
            change = apply.send_next_change(work, batch.account)
            plan = make_plan(work, batch, staged, assume_unique_keys=True)
            if len(plan.problems) > len(staged.problems):
                raise KeyTaken  # only the whole plan says exactly which rows have problems
            return _apply_plan(work, batch, staged, plan, batch_id, change)
    change = apply.send_next_change(work, batch.account)
    plan = make_plan(work, batch, staged)
    check_plan(plan)
    return _apply_plan(work, batch, staged, plan, batch_id, change)


def new_batch_id() -> str:
    """The id of a new batch: random, and unique everywhere."""
    return secrets.token_hex(10)


def request_lock_key(batch: Batch) -> int:
    """The key of the request's lock (BatchTransaction.lock_request), which equal requests share.

    Requests are equal that have the same idempotency key, or, without one, the same content.
    """
    if batch.request_key is not None:
        name = repr((batch.account, batch.request_key))
    elif batch.request_digest:
        name = repr((batch.account, batch.user, batch.request_digest))
    else:
        return secrets.randbits(62)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2


@contextmanager
def lock_request(
    context: Context, batch: Batch, batch_to_import: Batch | None = None
) -> Iterator[tuple[BatchTransaction, str | None]]:
    """Hold the request's lock, so that equal requests wait. Yields a transaction, and the batch id of an equal request.

    That is the batch of the request's idempotency key; without a key, the batch of an equal request that was still
    running when this one came. For `batch_to_import` see `batch_session`. Raises ApiError("request_id_reused").
    """
    # Batches have growing numbers: a larger number than the account's last one was given since.
    last_change = batch.last_change
    if last_change is None and batch.request_key is None and batch.request_digest:
        with context.database.read_connection() as work:
            last_change = batches.last_change(work, batch.account)
    lock_key = request_lock_key(batch)
    # A request waits before it takes a connection, which the equal request might need to end.
    with context.database.lock_request(lock_key), batch_session(context, batch_to_import) as work:
        result = work.lock_request(lock_key, lambda: _find_same_request(work, batch, last_change))
        yield work, _stored_batch_id(batch, result)


def _find_same_request(work: BatchTransaction, batch: Batch, last_change: int | None) -> PendingResult | None:
    if batch.request_key is not None:
        return batches.find_idempotency_key(work, batch.account, batch.request_key)
    if last_change is None or not batch.request_digest:
        return None
    return batches.find_same_request(work, batch.account, batch.user, batch.request_digest, last_change)


def _stored_batch_id(batch: Batch, result: PendingResult | None) -> str | None:
    if result is None or not result.rows:
        return None
    batch_id, *digest = result.rows[0]
    if digest and bytes(digest[0]) != batch.request_digest:
        raise ApiError("request_id_reused", value=batch.request_key or "")
    return str(batch_id)


def refuse_bad_rows(batch: Batch, staged: StagedRows, plan: BatchPlan) -> None:
    """Raises ApiError: bad_rows, under the policy `reject`; no_good_rows."""
    problems, failed = plan.problems, plan.counts.failed
    if len(problems) and (batch.on_error is OnError.REJECT or failed == staged.checked.rows):
        code = "bad_rows" if batch.on_error is OnError.REJECT else "no_good_rows"
        raise ApiError(code, problems=problems, listed=list_problems(problems), count=failed, rows=staged.checked.rows)


def list_problems(problems: DiskList[Problem]) -> str:
    """The first ten problems and the count of the others, in one line."""
    text = " ".join(problem.message for problem in islice(problems, PROBLEMS_LISTED))
    return text if len(problems) <= PROBLEMS_LISTED else f"{text} (and {len(problems) - PROBLEMS_LISTED} more)"


def _apply_plan(
    work: BatchTransaction, batch: Batch, staged: StagedRows, plan: BatchPlan, batch_id: str, result: PendingResult
) -> WrittenBatch:
    account, now = batch.account, now_ms()
    change, has_webhooks = result.rows[0]
    change_context = apply.ChangeContext(
        account, change, now, apply.last_customer(work, account) if plan.counts.new else 0
    )
    generated_keys.assign_drawn(work)
    campaigns = tuple(campaign.id for campaign in batch.campaigns)
    apply.apply_plan(work, staged.shape, change_context, campaigns, renames=plan.renames)
    apply.record_change(work, change_context, batch_id, plan.counts.new)
    assigned_keys = DiskList(list_assigned_keys(work, batch, staged, change_context.base))
    return WrittenBatch(plan, assigned_keys, change, now, bool(has_webhooks))


def _make_outcome(
    batch_id: str, batch: Batch, staged: StagedRows, plan: BatchPlan, assigned: Iterable[AssignedKey], seconds: float
) -> Outcome:
    # Rounded as it is stored, so that a repeated reply is the same to the byte.
    return Outcome(batch_id, plan.counts, assigned, plan.problems, staged.warnings, batch.charset, round(seconds, 3))


def _store_outcome(
    work: BatchTransaction, batch: Batch, staged: StagedRows, outcome: Outcome, written: WrittenBatch
) -> None:
    values = {
        **batch_columns(batch, outcome.batch_id, written.change, written.now),
        "status": "imported",
        "rows": staged.checked.rows,
        **outcome.counts._asdict(),
        "duration_ms": round(outcome.seconds * 1000),
    }
    batches.insert_batch(work, values)
    store_row_results(work, batch, outcome)
    if batch.request_key is not None:
        key, digest = batch.request_key, batch.request_digest
        batches.store_idempotency_key(work, batch.account, key, digest, outcome.batch_id, written.now)


def batch_columns(batch: Batch, batch_id: str, number: int, now: int) -> dict[str, object]:
    """The columns of a batch that are known before it is imported. `number` is its place in the history."""
    columns = [header.field.name for header in batch.headers if header.field is not None]
    return {
        "account_id": batch.account,
        "id": batch_id,
        "number": number,
        "kind": "import",
        "face": batch.protocol,
        "user_id": batch.user,
        "mode": batch.mode.value,
        "on_error": batch.on_error.value,
        "campaigns": json.dumps([campaign.id for campaign in batch.campaigns]),
        "columns": json.dumps(columns),
        "header": json.dumps(batch.names or columns),
        "keep_undo": batch.keep_undo,
        "root": batch_id,
        "charset": batch.charset,
        "request_digest": batch.request_digest or None,
        "created_at": now,
        **batch.origin._asdict(),
    }


def store_row_results(work: BatchTransaction, batch: Batch, outcome: Outcome, start: Cursor = Cursor()) -> None:
    """Store problems, warnings, assigned keys and failed rows, after those of earlier chunks. `start`: the chunk's start."""
    if not (outcome.problems or outcome.warnings or outcome.assigned_keys):
        return
    for kind, problems in ((batches.PROBLEM, outcome.problems), (batches.WARNING, outcome.warnings)):
        rows = map(problem_columns, problems)
        batches.insert_problems(work, batch.account, outcome.batch_id, kind, rows, again=start.rows > 0)
    keys = ((key.row, key.code, key.card_number) for key in outcome.assigned_keys)
    batches.insert_assigned_keys(work, batch.account, outcome.batch_id, keys)
    if outcome.problems:
        # The problems are in row order; there may be a million.
        failed = array("q", (row for row, _ in groupby(problem.row for problem in outcome.problems)))
        cells_by_row = failed_rows.reread_cells(batch, failed, start)
        texts = ((row, json.dumps(cells, ensure_ascii=False)) for row, cells in cells_by_row)
        jobs.add_failed_rows(work, batch.account, outcome.batch_id, texts)


def _load_outcome(work: BatchTransaction, batch: Batch, batch_id: str) -> Outcome:
    row = batches.load_batch(work, batch.account, batch_id)
    assert row is not None
    return Outcome(
        batch_id,
        Counts(*(row[name] for name in Counts._fields)),
        DiskList(starmap(AssignedKey, batches.load_assigned_keys(work, batch.account, batch_id))),
        load_problems(work, batch.account, batch_id, batches.PROBLEM),
        load_problems(work, batch.account, batch_id, batches.WARNING),
        row["charset"],
        row["duration_ms"] / 1000,
        replayed=True,
    )
