"""The one write path of a batch: stage, then in one transaction match, plan, apply and remember. A preview stops before."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice

import sqlalchemy.exc

from importing.batch import Batch, Counts, Made, Mode, OnError, Outcome
from importing.core import Core
from importing.faults import Fault, Problem
from importing.plan import Plan, Staged, made_rows, make_plan, stage
from importing.spool import Spool
from storage import apply, batches, fresh
from storage.engine import Busy, now
from storage.workspace import KeyTaken, Workspace

LISTED = 10
# How much of an offending value is kept, in characters.
SHOWN = 255
# What a sender that is told to wait should wait, in seconds.
RETRY_AFTER = 5


@contextmanager
def opened(core: Core) -> Iterator[Workspace]:
    """A workspace, with what the database can do to a caller told as a fault: busy, unavailable."""
    try:
        with core.database.workspace() as work:
            yield work
    except Busy as error:
        raise Fault("busy", retry_after=RETRY_AFTER) from error
    except sqlalchemy.exc.OperationalError as error:
        raise Fault("unavailable", retry_after=RETRY_AFTER) from error


def run(core: Core, batch: Batch) -> Outcome:
    """Import a batch: all of it or nothing. The same request again gives the stored outcome (`replayed`).

    Raises Fault: no_data, bad_rows, no_good_rows, cards_exhausted, request_id_reused, busy.
    """
    arrived = now()
    started = time.perf_counter()
    with opened(core) as work, work.alone(_place(batch)) as waited:
        stored = _stored(work, batch, arrived if waited else None)
        if stored is not None:
            return _replay(work, batch, stored)
        staged = stage(work, batch, core.digests)
        if staged.failed and (batch.on_error is OnError.REJECT or staged.failed == staged.rows):
            # Refused whatever the store says, which is only asked for what else is wrong: no lock for that.
            _refuse(batch, staged, make_plan(work, batch, staged))
        with work.writing(batch.account, core.write_wait):
            if batch.mode is not Mode.IGNORE:
                # Looking for keys that new customers share costs a tenth of an import, and few batches have any: the
                # first plan trusts, and the unique keys refuse it where it is wrong. (Ignored rows write no keys.)
                with suppress(KeyTaken, Fault), work.savepoint():
                    return _apply(work, batch, staged, _trusting_plan(work, batch, staged), started)
            plan = make_plan(work, batch, staged)
            _refuse(batch, staged, plan)
            return _apply(work, batch, staged, plan, started)


def preview(core: Core, batch: Batch) -> Outcome:
    """What `run` would do now, to the row; nothing is written. Raises what `run` would raise, busy apart."""
    started = time.perf_counter()
    with opened(core) as work:
        _stored(work, batch, None)
        staged = stage(work, batch, core.digests)
        plan = make_plan(work, batch, staged)
        _refuse(batch, staged, plan)
        made = Spool(made_rows(work, batch, staged, None))
        return _outcome("", batch, staged, plan, made, time.perf_counter() - started)


def _trusting_plan(work: Workspace, batch: Batch, staged: Staged) -> Plan:
    plan = make_plan(work, batch, staged, trusting=True)
    if len(plan.problems) > len(staged.problems):
        raise KeyTaken  # the whole plan tells which rows exactly
    return plan


def _place(batch: Batch) -> int:
    # Who sends the same key, or without one the same request, shares a place; everybody else has one of his own.
    if batch.request_key is not None:
        name = json.dumps([batch.account, batch.request_key])
    elif batch.request_digest:
        name = json.dumps([batch.account, batch.user, batch.request_digest.hex()])
    else:
        return secrets.randbits(62)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2


def _stored(work: Workspace, batch: Batch, arrived: int | None) -> str | None:
    """The batch that this request made before: under its key, or without one while this request waited for its twin."""
    if batch.request_key is not None:
        found = batches.stored_reply(work, batch.account, batch.request_key)
        if found is None:
            return None
        if found[0] != batch.request_digest:
            raise Fault("request_id_reused", value=batch.request_key)
        return found[1]
    if arrived is None or not batch.request_digest:
        return None
    return batches.same_request(work, batch.account, batch.user, batch.request_digest, arrived)


def _refuse(batch: Batch, staged: Staged, plan: Plan) -> None:
    problems = plan.problems
    if not len(problems):
        return
    if batch.on_error is OnError.REJECT:
        code = "bad_rows"
    elif plan.counts.failed == staged.rows:
        code = "no_good_rows"
    else:
        return
    raise Fault(code, problems=problems, listed=listed(problems), count=plan.counts.failed, rows=staged.rows)


def listed(problems: Spool[Problem]) -> str:
    """The first ten problems and the count of the rest, in one line."""
    text = " ".join(problem.message for problem in islice(problems, LISTED))
    return text if len(problems) <= LISTED else f"{text} (and {len(problems) - LISTED} more)"


def _apply(work: Workspace, batch: Batch, staged: Staged, plan: Plan, started: float) -> Outcome:
    account = batch.account
    moment = now()
    change = apply.next_change(work, account)
    stamp = apply.Stamp(account, change, moment, apply.reserve(work, account, plan.made))
    fresh.hand_out(work)
    apply.apply(work, staged.shape, stamp, tuple(campaign.id for campaign in batch.campaigns))
    batch_id = secrets.token_hex(10)
    apply.record_change(work, stamp, batch_id, plan.made)
    made = Spool(made_rows(work, batch, staged, stamp.base))
    outcome = _outcome(batch_id, batch, staged, plan, made, time.perf_counter() - started)
    _remember(work, batch, staged, outcome, change, moment)
    return outcome


def _outcome(batch_id: str, batch: Batch, staged: Staged, plan: Plan, made: Iterable[Made], seconds: float) -> Outcome:
    # Rounded as it is stored, so that a stored reply is the same to the byte.
    return Outcome(batch_id, plan.counts, made, plan.problems, staged.warnings, batch.charset, round(seconds, 3))


def _remember(work: Workspace, batch: Batch, staged: Staged, outcome: Outcome, change: int, moment: int) -> None:
    counts = outcome.counts
    batches.insert(
        work,
        {
            "account_id": batch.account,
            "id": outcome.batch_id,
            "number": change,
            "kind": "import",
            "status": "imported",
            "face": batch.face,
            "user_id": batch.user,
            "mode": batch.mode.value,
            "on_error": batch.on_error.value,
            "campaigns": json.dumps([campaign.id for campaign in batch.campaigns]),
            "columns": json.dumps([header.field.name for header in batch.headers if header.field is not None]),
            "keep_undo": batch.keep_undo,
            "root": outcome.batch_id,
            "charset": outcome.charset,
            "rows": staged.rows,
            "new": counts.new,
            "updated": counts.updated,
            "unchanged": counts.unchanged,
            "ignored": counts.ignored,
            "failed": counts.failed,
            "seconds": round(outcome.seconds * 1000),
            "request_digest": batch.request_digest or None,
            "created_at": moment,
        },
    )
    lists: tuple[tuple[str, Iterable[tuple[int, str, str, str, str]]], ...] = (
        (batches.PROBLEM, (_problem_row(problem) for problem in outcome.problems)),
        (batches.WARNING, (_problem_row(problem) for problem in outcome.warnings)),
        (batches.MADE, ((made.row, "", made.code, made.card_number, "") for made in outcome.made)),
    )
    for kind, rows in lists:
        batches.insert_problems(work, batch.account, outcome.batch_id, kind, rows)
    if batch.request_key is not None:
        batches.store_reply(work, batch.account, batch.request_key, batch.request_digest, outcome.batch_id, moment)


def _problem_row(problem: Problem) -> tuple[int, str, str, str, str]:
    # PostgreSQL's text cannot hold NUL; the symbol for it can be shown as well.
    value = problem.value[:SHOWN].replace("\0", "\u2400")
    return problem.row, problem.field, problem.code, value, str(problem.limit or "")


def _replay(work: Workspace, batch: Batch, batch_id: str) -> Outcome:
    stored = batches.load(work, batch.account, batch_id)
    assert stored is not None

    def problems(kind: str) -> Spool[Problem]:
        rows = batches.load_problems(work, batch.account, batch_id, kind)
        return Spool(Problem(row, field, code, value, int(limit or 0)) for row, field, code, value, limit in rows)

    made = batches.load_problems(work, batch.account, batch_id, batches.MADE)
    return Outcome(
        batch_id,
        Counts(*(stored[name] for name in ("new", "updated", "unchanged", "ignored", "failed"))),
        Spool(Made(row, code, card) for row, _, code, card, _ in made),
        problems(batches.PROBLEM),
        problems(batches.WARNING),
        stored["charset"],
        stored["seconds"] / 1000,
        replayed=True,
    )
