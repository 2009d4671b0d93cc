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

from importing import jobinput, order, wording
from importing.batch import Batch, Counts, Cursor, Header, OnError, Outcome
from importing.core import Core
from importing.counting import count
from importing.faults import Fault, Problem
from importing.plan import Plan, Staged, read_rows, stage
from importing.queue import put_deliveries
from importing.run import COUNTED, listed, opened, remember_rows, write
from importing.spool import Spool
from importing.validate import check, layout
from storage import batches, jobs, webhooks
from storage.jobs import Claim
from storage.webhooks import Event
from storage.workspace import Workspace

COUNT, CHECK, APPLY = "count", "check", "apply"

# Seconds that a portion should take, and that it waits for its turn to write.
PORTION = 0.5
PATIENCE = 30.0
FIRST_ROWS, FEWEST_ROWS, MOST_ROWS = 10_000, 500, 100_000
# Checking is so much faster than writing.
CHECKED_ROWS = 200_000


def do(core: Core, claim: Claim) -> bool:
    """Do the portion that was claimed; returns whether there is another one.

    Raises Fenced, and Fault: what refuses the whole batch, and busy and unavailable, after which it can be tried again.
    """
    job = claim.job
    batch = _batch(core, claim)
    phase = job["phase"]
    if phase == COUNT:
        batch, phase = _counted(core, claim, batch)
    more = _check(core, claim, batch) if phase == CHECK else _apply(core, claim, batch)
    if not more:
        jobinput.drop(core, claim.account, job["input_id"])
    return more


def _batch(core: Core, claim: Claim) -> Batch:
    job = claim.job
    data = jobinput.JobInput(core, claim.account, job["input_id"], job["input_size"])
    return order.loaded(job["plan"], cast("BinaryIO", data), job["input_size"])


def _counted(core: Core, claim: Claim, batch: Batch) -> tuple[Batch, str]:
    # What gaps in the numbers of headers mean is settled here, once for all portions.
    fields = layout(batch)
    batch = batch._replace(headers=tuple(Header(number, field) for number, field in enumerate(fields, 1)))
    total = count(batch)
    phase = CHECK if batch.on_error is OnError.REJECT else APPLY
    with core.database.writing(PATIENCE) as connection:
        jobs.note(connection, claim, phase=phase, total=total, plan=order.dumped(batch))
    return batch, phase


def _check(core: Core, claim: Claim, batch: Batch) -> bool:
    """Check some rows; after the last ones the batch is refused, or can be written."""
    start = _cursor(claim)
    problems: Spool[Problem] = Spool()
    checked = check(batch, core.digests, problems, Spool(), start, CHECKED_ROWS)
    for _rows in checked.chunks():
        pass
    deliveries: Iterable[str] = ()
    with opened(core) as work, work.writing(claim.account, PATIENCE):
        outcome = Outcome(claim.batch_id, Counts(failed=checked.failed), (), problems, (), batch.charset, 0.0)
        jobs.check(work, claim)
        remember_rows(work, batch, outcome, start)
        batches.count(work, claim.account, claim.batch_id, rows=checked.rows, failed=checked.failed)
        values: dict[str, object] = {"processed": checked.cursor.rows, **_columns(checked.cursor)}
        if checked.ended:
            failed = batches.number_of(work, claim.account, claim.batch_id, "failed")
            if failed:
                fault = _bad_rows(work, claim, failed, checked.cursor.rows)
                batches.set_status(work, claim.account, claim.batch_id, "failed")
                values |= _ended(work, "failed", fault=told(fault), input_id="")
                deliveries = _noted(work, claim, Event.FAILED)
            else:
                batches.count(work, claim.account, claim.batch_id, rows=-checked.cursor.rows)
                values |= {"phase": APPLY, **_columns(Cursor())}
        jobs.finish_portion(work, claim, _lease(core), **values)
    put_deliveries(core.queue, deliveries)
    return values.get("state") != "failed"


def _apply(core: Core, claim: Claim, batch: Batch) -> bool:
    """Write some rows, or under `reject` all."""
    start, whole = _cursor(claim), batch.on_error is OnError.REJECT
    rows = None if whole else claim.job["portion_rows"] or FIRST_ROWS
    began = time.perf_counter()
    deliveries: Iterable[str] = ()
    with opened(core) as work:
        if not work.sqlite:
            # A worker that is paused in the middle of its transaction must not hold the account for ever.
            work.execute(f"SET LOCAL idle_in_transaction_session_timeout = {_lease(core)}")
        staged = _staged(work, core, batch, start, rows)
        with work.writing(claim.account, PATIENCE):
            jobs.check(work, claim)
            if staged is not None:
                _write(work, claim, batch, staged, start, began)
            seconds = time.perf_counter() - began
            read = staged.cursor if staged else start
            values: dict[str, object] = {"processed": read.rows, **_columns(read)}
            ended = staged is None or staged.ended
            if ended:
                batches.set_status(work, claim.account, claim.batch_id, "imported")
                values |= _ended(work, "imported")
                deliveries = _noted(work, claim, Event.IMPORTED)
            else:
                values["portion_rows"] = _sized(read.rows - start.rows, seconds)
            jobs.finish_portion(work, claim, _lease(core), **values)
    put_deliveries(core.queue, deliveries)
    return not ended


def _staged(work: Workspace, core: Core, batch: Batch, start: Cursor, rows: int | None) -> Staged | None:
    try:
        return stage(work, batch, read_rows(batch, core.digests, start, rows))
    except Fault as fault:
        if fault.code != "no_data":
            raise
        return None


def _write(work: Workspace, claim: Claim, batch: Batch, staged: Staged, start: Cursor, began: float) -> None:
    def judge(plan: Plan) -> None:
        if batch.on_error is OnError.REJECT and len(plan.problems):
            problems = plan.problems
            raise Fault(
                "bad_rows", problems=problems, listed=listed(problems), count=plan.counts.failed, rows=staged.rows
            )

    counts, problems = Counts(failed=staged.failed), staged.problems
    made: Any = ()
    if staged.failed < staged.rows:
        written = write(work, batch, staged, claim.batch_id, judge)
        counts, problems, made = written.plan.counts, written.plan.problems, written.made
    seconds = time.perf_counter() - began
    outcome = Outcome(claim.batch_id, counts, made, problems, staged.warnings, batch.charset, seconds)
    remember_rows(work, batch, outcome, start)
    added = {name: getattr(counts, name) for name in COUNTED}
    batches.count(work, claim.account, claim.batch_id, rows=staged.rows, seconds=round(seconds * 1000), **added)


def fail(core: Core, claim: Claim, fault: Fault) -> None:
    """Write a job down as failed, with the rows that are to blame. It can be resumed where they are not.

    Raises Fenced, Busy, and Fault (busy, unavailable).
    """
    with opened(core) as work, work.writing(claim.account, PATIENCE):
        values: dict[str, object] = {}
        if fault.code == "bad_rows":
            job, batch = claim.job, _batch(core, claim)
            failed = sum(1 for _ in groupby(problem.row for problem in fault.problems))
            outcome = Outcome(claim.batch_id, Counts(), (), fault.problems, (), batch.charset, 0.0)
            remember_rows(work, batch, outcome)
            batches.count(work, claim.account, claim.batch_id, rows=job["total"], failed=failed)
            values = {"input_id": "", "processed": job["total"]}
        batches.set_status(work, claim.account, claim.batch_id, "failed")
        values |= _ended(work, "failed", fault=told(fault))
        deliveries = _noted(work, claim, Event.FAILED)
        jobs.finish_portion(work, claim, _lease(core), **values | {"portion": claim.job["portion"]})
    if fault.code == "bad_rows":
        jobinput.drop(core, claim.account, claim.job["input_id"])
    put_deliveries(core.queue, deliveries)


def told(fault: Fault) -> str:
    """A fault as a job keeps it: JSON of its code, its message and its values."""
    return json.dumps({"code": fault.code, "message": fault.message, "values": fault.values})


def _bad_rows(work: Workspace, claim: Claim, failed: int, rows: int) -> Fault:
    found = batches.load_problems(work, claim.account, claim.batch_id, batches.PROBLEM)
    problems = Spool(starmap(wording.read, found))
    return Fault("bad_rows", listed=listed(problems), count=failed, rows=rows)


def _ended(work: Workspace, state: str, **values: object) -> dict[str, object]:
    return {"state": state, "ended_at": jobs.moment(work), **values}


def _noted(work: Workspace, claim: Claim, event: Event) -> Iterable[str]:
    return webhooks.note(work, claim.account, claim.batch_id, event, jobs.moment(work))


def _cursor(claim: Claim) -> Cursor:
    return Cursor(claim.job["position"], claim.job["rows_read"], claim.job["rereads"])


def _columns(cursor: Cursor) -> dict[str, object]:
    return {"position": cursor.position, "rows_read": cursor.rows, "rereads": cursor.rereads}


def _sized(rows: int, seconds: float) -> int:
    """How many rows the next portion should have, after one of so many took so long."""
    wanted = round(rows * PORTION / max(seconds, 0.001))
    return max(FEWEST_ROWS, min(wanted, 4 * rows, MOST_ROWS))


def _lease(core: Core) -> int:
    return round(core.job_lease * 1000)
