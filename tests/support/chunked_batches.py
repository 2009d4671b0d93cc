"""Batches written in chunks, as a job writes them, but cut where a test wants it: each chunk its own transaction."""

from __future__ import annotations

from importing import import_batch
from importing.batch import Batch, Outcome
from importing.context import Context
from importing.errors import ApiError
from importing.planning.plan_batch import BatchPlan, make_plan, read_rows, stage
from storage import apply
from storage.engine import now_ms
from storage.queries import batches


def begin(context: Context, batch: Batch) -> str:
    """Write the batch down as running; returns its id."""
    batch_id = import_batch.new_batch_id()
    with import_batch.batch_session(context) as work, work.writing(batch.account, context.write_wait):
        number = apply.next_change(work, batch.account)
        batches.insert_batch(
            work, {**import_batch.batch_columns(batch, batch_id, number, now_ms()), "status": "running"}
        )
    return batch_id


def write(context: Context, batch: Batch, batch_id: str) -> Outcome:
    """Write these rows as a chunk of the batch. Raises ApiError("no_good_rows")."""
    with import_batch.batch_session(context) as work:
        staged = stage(work, batch, read_rows(batch, context.digests))

        def check_plan(plan: BatchPlan) -> None:
            if plan.counts.failed == staged.checked.rows:
                raise ApiError(
                    "no_good_rows", problems=plan.problems, count=staged.checked.rows, rows=staged.checked.rows
                )

        if staged.checked.failed == staged.checked.rows:
            check_plan(make_plan(work, batch, staged))
        with work.writing(batch.account, context.write_wait):
            written = import_batch.write(work, batch, staged, batch_id, check_plan)
        plan = written.plan
        return Outcome(batch_id, plan.counts, written.assigned_keys, plan.problems, staged.warnings, batch.charset, 0.0)


def end(context: Context, account: int, batch_id: str, status: str = "imported") -> None:
    """Write the batch down as done with."""
    with import_batch.batch_session(context) as work, work.writing(account, context.write_wait):
        batches.set_status(work, account, batch_id, status)
