"""The one write path of a batch: stage, then in one transaction match, plan, apply and remember. A preview stops before."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby, islice, starmap
from typing import NamedTuple

import sqlalchemy.exc

from importing import failed_rows, stored_problems
from importing.batch import AssignedKey, Batch, Counts, Cursor, OnError, Outcome
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
from importing.queue import put_deliveries
from storage import apply, generated_keys
from storage.batch_transaction import BatchTransaction, KeyTaken
from storage.engine import Busy, Expected, now_ms
from storage.queries import batches, jobs, webhooks
from storage.sql_connection import PendingResult

PROBLEMS_LISTED = 10
COUNT_NAMES = ("new", "updated", "unchanged", "ignored", "failed")
# What a sender that is told to wait should wait, in seconds.
RETRY_AFTER_SECONDS = 5


@contextmanager
def batch_session(context: Context, batch: Batch | None = None) -> Iterator[BatchTransaction]:
    """A workspace, with what the database can do to a caller told as a fault: busy, unavailable.

    `batch`: one that is imported in it.
    """
    expected = Expected(batch.account, batch.source.size, context.write_wait) if batch is not None else None
    try:
        with context.database.batch_transaction(expected) as work:
            yield work
    except Busy as error:
        raise ApiError("busy", retry_after=RETRY_AFTER_SECONDS) from error
    except sqlalchemy.exc.OperationalError as error:
        raise ApiError("unavailable", retry_after=RETRY_AFTER_SECONDS) from error


def run(context: Context, batch: Batch) -> Outcome:
    """Import a batch: all of it or nothing. The same request again gives the stored outcome (`replayed`).

    Raises ApiError: no_data, bad_rows, no_good_rows, cards_exhausted, request_id_reused, busy.
    """
    started = time.perf_counter()
    rows = read_rows(batch, context.digests)
    with lock_request(context, batch, batch) as (work, stored_id):
        if stored_id is not None:
            return _load_outcome(work, batch, stored_id)
        staged = stage(work, batch, rows)
        if staged.failed and (batch.on_error is OnError.REJECT or staged.failed == staged.rows):
            # Refused whatever the store says, which is only asked for what else is wrong: no lock for that.
            _refuse_bad_rows(batch, staged, make_plan(work, batch, staged))
        with work.writing(batch.account, context.write_wait):
            batch_id = new_batch_id()
            written = write(work, batch, staged, batch_id, lambda plan: _refuse_bad_rows(batch, staged, plan))
            seconds = time.perf_counter() - started
            outcome = _make_outcome(batch_id, batch, staged, written.plan, written.made, seconds)
            _store_outcome(work, batch, staged, outcome, written)
            deliveries: Iterable[str] = ()
            if written.has_webhooks:
                deliveries = webhooks.add_deliveries(
                    work, batch.account, batch_id, webhooks.WebhookEvent.IMPORTED, written.now
                )
        put_deliveries(context.queue, deliveries)
        return outcome


def preview(context: Context, batch: Batch) -> Outcome:
    """What `run` would do now, to the row; nothing is written. Raises what `run` would raise, busy apart."""
    started = time.perf_counter()
    with batch_session(context) as work:
        _stored_batch_id(batch, _find_same_request(work, batch, None))
        staged = stage(work, batch, read_rows(batch, context.digests, is_preview=True))
        plan = make_plan(work, batch, staged)
        _refuse_bad_rows(batch, staged, plan)
        made = DiskList(list_assigned_keys(work, batch, staged, None))
        return _make_outcome("", batch, staged, plan, made, time.perf_counter() - started)


class WrittenBatch(NamedTuple):
    """A plan that was applied: what was made, as which change, and when (milliseconds since the epoch).

    `has_webhooks`: the account had some when it began to be written.
    """

    plan: BatchPlan
    made: DiskList[AssignedKey]
    change: int
    now: int
    has_webhooks: bool


def write(
    work: BatchTransaction, batch: Batch, staged: StagedRows, batch_id: str, check_plan: Callable[[BatchPlan], None]
) -> WrittenBatch:
    """Plan the staged rows and apply the plan as a change of the batch, in the write transaction that is under way.

    `judge` may refuse the plan by raising a ApiError. Raises ApiError("cards_exhausted").
    """
    if batch.mode in MODES_TRIED_FIRST:
        # Looking for keys that new customers share costs a tenth of an import, and few batches have any: the first
        # plan trusts, and the unique keys refuse it where it is wrong.
        with suppress(KeyTaken, ApiError), work.attempt():
            change = apply.send_next_change(work, batch.account)
            return _apply_plan(work, batch, staged, _plan_assuming_unique_keys(work, batch, staged), batch_id, change)
    change = apply.send_next_change(work, batch.account)
    plan = make_plan(work, batch, staged)
    check_plan(plan)
    return _apply_plan(work, batch, staged, plan, batch_id, change)


def new_batch_id() -> str:
    """The id of a new batch: random, and unique everywhere."""
    return secrets.token_hex(10)


def _plan_assuming_unique_keys(work: BatchTransaction, batch: Batch, staged: StagedRows) -> BatchPlan:
    plan = make_plan(work, batch, staged, assume_unique_keys=True)
    if len(plan.problems) > len(staged.problems):
        raise KeyTaken  # the whole plan tells which rows exactly
    return plan


def request_lock_key(batch: Batch) -> int:
    """What equal requests share (see BatchTransaction.alone)."""
    # Who sends the same key, or without one the same request, shares a place; everybody else has one of his own.
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
    """Hold the place of the request, so that its twins wait. Yields a workspace, and the batch that it made before, if it did.

    Under a key that is the key's batch; without one, the batch of a twin that was still running when this one came.
    `imported` in the workspace is the batch (see `opened`). Raises ApiError("request_id_reused").
    """
    # Batches have growing numbers: what is newer than the newest one that was there has been written since.
    newest = batch.last_change
    if newest is None and batch.request_key is None and batch.request_digest:
        with context.database.read_connection() as work:
            newest = batches.last_change(work, batch.account)
    lock_key = request_lock_key(batch)
    # Who waits for a twin waits with empty hands: what the twin needs to end might be in them.
    with context.database.lock_request(lock_key), batch_session(context, batch_to_import) as work:
        result = work.lock_request(lock_key, lambda: _find_same_request(work, batch, newest))
        yield work, _stored_batch_id(batch, result)


def _find_same_request(work: BatchTransaction, batch: Batch, newest: int | None) -> PendingResult | None:
    if batch.request_key is not None:
        return batches.find_idempotency_key(work, batch.account, batch.request_key)
    if newest is None or not batch.request_digest:
        return None
    return batches.find_same_request(work, batch.account, batch.user, batch.request_digest, newest)


def _stored_batch_id(batch: Batch, result: PendingResult | None) -> str | None:
    if result is None or not result.rows:
        return None
    batch_id, *digest = result.rows[0]
    if digest and bytes(digest[0]) != batch.request_digest:
        raise ApiError("request_id_reused", value=batch.request_key or "")
    return str(batch_id)


def _refuse_bad_rows(batch: Batch, staged: StagedRows, plan: BatchPlan) -> None:
    problems = plan.problems
    if not len(problems):
        return
    if batch.on_error is OnError.REJECT:
        code = "bad_rows"
    elif plan.counts.failed == staged.rows:
        code = "no_good_rows"
    else:
        return
    raise ApiError(code, problems=problems, listed=list_problems(problems), count=plan.counts.failed, rows=staged.rows)


def list_problems(problems: DiskList[Problem]) -> str:
    """The first ten problems and the count of the rest, in one line."""
    text = " ".join(problem.message for problem in islice(problems, PROBLEMS_LISTED))
    return text if len(problems) <= PROBLEMS_LISTED else f"{text} (and {len(problems) - PROBLEMS_LISTED} more)"


def _apply_plan(
    work: BatchTransaction, batch: Batch, staged: StagedRows, plan: BatchPlan, batch_id: str, result: PendingResult
) -> WrittenBatch:
    account = batch.account
    now = now_ms()
    change, has_webhooks = result.rows[0]
    change_context = apply.ChangeContext(account, change, now, apply.last_customer(work, account) if plan.made else 0)
    generated_keys.assign_drawn(work)
    apply.apply_plan(
        work, staged.shape, change_context, tuple(campaign.id for campaign in batch.campaigns), renames=plan.renames
    )
    apply.record_change(work, change_context, batch_id, plan.made)
    return WrittenBatch(
        plan, DiskList(list_assigned_keys(work, batch, staged, change_context.base)), change, now, bool(has_webhooks)
    )


def _make_outcome(
    batch_id: str, batch: Batch, staged: StagedRows, plan: BatchPlan, made: Iterable[AssignedKey], seconds: float
) -> Outcome:
    # Rounded as it is stored, so that a stored reply is the same to the byte.
    return Outcome(batch_id, plan.counts, made, plan.problems, staged.warnings, batch.charset, round(seconds, 3))


def _store_outcome(
    work: BatchTransaction, batch: Batch, staged: StagedRows, outcome: Outcome, written: WrittenBatch
) -> None:
    values = {
        **batch_columns(batch, outcome.batch_id, written.change, written.now),
        "status": "imported",
        "rows": staged.rows,
        **outcome.counts._asdict(),
        "seconds": round(outcome.seconds * 1000),
    }
    batches.insert_batch(work, values)
    store_row_results(work, batch, outcome)
    if batch.request_key is not None:
        key, digest = batch.request_key, batch.request_digest
        batches.store_idempotency_key(work, batch.account, key, digest, outcome.batch_id, written.now)


def batch_columns(batch: Batch, batch_id: str, number: int, now: int) -> dict[str, object]:
    """What is known of a batch before it is imported, as columns of the table. `number` puts it into the history."""
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
    }


def store_row_results(work: BatchTransaction, batch: Batch, outcome: Outcome, start: Cursor = Cursor()) -> None:
    """Write down what is known of single rows, behind what is known of the batch already. `start` is where they began."""
    if not (outcome.problems or outcome.warnings or outcome.made):
        return
    lists: tuple[tuple[str, Iterable[tuple[int, str, str, str, str, str]]], ...] = (
        (batches.PROBLEM, map(stored_problems.to_row, outcome.problems)),
        (batches.WARNING, map(stored_problems.to_row, outcome.warnings)),
        (batches.ASSIGNED_KEY, ((made.row, "", made.code, made.card_number, "", "") for made in outcome.made)),
    )
    for kind, rows in lists:
        batches.insert_problems(work, batch.account, outcome.batch_id, kind, rows, again=start.rows > 0)
    if outcome.problems:
        # In row order already, and perhaps a million of them.
        rows_failed = array("q", (row for row, _ in groupby(problem.row for problem in outcome.problems)))
        failed_cells = failed_rows.reread_cells(batch, rows_failed, start)
        texts = ((row, json.dumps(cells, ensure_ascii=False)) for row, cells in failed_cells)
        jobs.add_failed_rows(work, batch.account, outcome.batch_id, texts)


def _load_outcome(work: BatchTransaction, batch: Batch, batch_id: str) -> Outcome:
    stored_id = batches.load_batch(work, batch.account, batch_id)
    assert stored_id is not None

    def problems(kind: str) -> DiskList[Problem]:
        return DiskList(starmap(stored_problems.from_row, batches.load_problems(work, batch.account, batch_id, kind)))

    made = batches.load_problems(work, batch.account, batch_id, batches.ASSIGNED_KEY)
    return Outcome(
        batch_id,
        Counts(*(stored_id[name] for name in COUNT_NAMES)),
        DiskList(AssignedKey(row, code, card) for row, _, code, card, _, _ in made),
        problems(batches.PROBLEM),
        problems(batches.WARNING),
        stored_id["charset"],
        stored_id["seconds"] / 1000,
        replayed=True,
    )
