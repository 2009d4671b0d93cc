"""Batches written in portions, as a job writes them, but cut where a test wants it: each portion its own transaction."""

from __future__ import annotations

from importing import run
from importing.batch import Batch, Outcome
from importing.core import Core
from importing.faults import Fault
from importing.plan import Plan, make_plan, read_rows, stage
from storage import apply, batches
from storage.engine import now


def begin(core: Core, batch: Batch) -> str:
    """Write the batch down as running; returns its id."""
    batch_id = run.new_id()
    with run.opened(core) as work, work.writing(batch.account, core.write_wait):
        number = apply.next_change(work, batch.account)
        batches.insert(work, {**run.described(batch, batch_id, number, now()), "status": "running"})
    return batch_id


def write(core: Core, batch: Batch, batch_id: str) -> Outcome:
    """Write these rows as a portion of the batch. Raises Fault("no_good_rows")."""
    with run.opened(core) as work:
        staged = stage(work, batch, read_rows(batch, core.digests))

        def judge(plan: Plan) -> None:
            if plan.counts.failed == staged.rows:
                raise Fault("no_good_rows", problems=plan.problems, count=staged.rows, rows=staged.rows)

        if staged.failed == staged.rows:
            judge(make_plan(work, batch, staged))
        with work.writing(batch.account, core.write_wait):
            written = run.write(work, batch, staged, batch_id, judge)
        plan = written.plan
        return Outcome(batch_id, plan.counts, written.made, plan.problems, staged.warnings, batch.charset, 0.0)


def end(core: Core, account: int, batch_id: str, status: str = "imported") -> None:
    """Write the batch down as done with."""
    with run.opened(core) as work, work.writing(account, core.write_wait):
        batches.set_status(work, account, batch_id, status)
