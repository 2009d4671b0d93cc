"""The one write path of a batch: stage, then in one transaction match, plan, apply and remember. A preview stops before."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import groupby, islice, starmap
from typing import NamedTuple

import sqlalchemy.exc

from importing import failed, wording
from importing.batch import Batch, Counts, Cursor, Made, OnError, Outcome
from importing.core import Core
from importing.faults import Fault, Problem
from importing.plan import TRUSTED, Plan, Staged, made_rows, make_plan, read_rows, stage
from importing.queue import put_deliveries
from importing.spool import Spool
from storage import apply, batches, fresh, jobs, webhooks
from storage.engine import Busy, Expected, now
from storage.statements import Sent
from storage.workspace import KeyTaken, Workspace

LISTED = 10
COUNTED = ("new", "updated", "unchanged", "ignored", "failed")
# What a sender that is told to wait should wait, in seconds.
RETRY_AFTER = 5


@contextmanager
def opened(core: Core, batch: Batch | None = None) -> Iterator[Workspace]:
    """A workspace, with what the database can do to a caller told as a fault: busy, unavailable.

    `batch`: one that is imported in it.
    """
    expected = Expected(batch.account, batch.source.size, core.write_wait) if batch is not None else None
    try:
        with core.database.workspace(expected) as work:
            yield work
    except Busy as error:
        raise Fault("busy", retry_after=RETRY_AFTER) from error
    except sqlalchemy.exc.OperationalError as error:
        raise Fault("unavailable", retry_after=RETRY_AFTER) from error


def run(core: Core, batch: Batch) -> Outcome:
    """Import a batch: all of it or nothing. The same request again gives the stored outcome (`replayed`).

    Raises Fault: no_data, bad_rows, no_good_rows, cards_exhausted, request_id_reused, busy.
    """
    started = time.perf_counter()
    rows = read_rows(batch, core.digests)
    with first_of_its_kind(core, batch, batch) as (work, stored):
        if stored is not None:
            return _replay(work, batch, stored)
        staged = stage(work, batch, rows)
        if staged.failed and (batch.on_error is OnError.REJECT or staged.failed == staged.rows):
            # Refused whatever the store says, which is only asked for what else is wrong: no lock for that.
            _refuse(batch, staged, make_plan(work, batch, staged))
        with work.writing(batch.account, core.write_wait):
            batch_id = new_id()
            written = write(work, batch, staged, batch_id, lambda plan: _refuse(batch, staged, plan))
            seconds = time.perf_counter() - started
            outcome = _outcome(batch_id, batch, staged, written.plan, written.made, seconds)
            _remember(work, batch, staged, outcome, written)
            deliveries: Iterable[str] = ()
            if written.has_webhooks:
                deliveries = webhooks.note(work, batch.account, batch_id, webhooks.Event.IMPORTED, written.moment)
        put_deliveries(core.queue, deliveries)
        return outcome


def preview(core: Core, batch: Batch) -> Outcome:
    """What `run` would do now, to the row; nothing is written. Raises what `run` would raise, busy apart."""
    started = time.perf_counter()
    with opened(core) as work:
        _stored_before(batch, _ask_before(work, batch, None))
        staged = stage(work, batch, read_rows(batch, core.digests, foreseen=True))
        plan = make_plan(work, batch, staged)
        _refuse(batch, staged, plan)
        made = Spool(made_rows(work, batch, staged, None))
        return _outcome("", batch, staged, plan, made, time.perf_counter() - started)


class Written(NamedTuple):
    """A plan that was applied: what was made, as which change, and when (milliseconds since the epoch).

    `has_webhooks`: the account had some when it began to be written.
    """

    plan: Plan
    made: Spool[Made]
    change: int
    moment: int
    has_webhooks: bool


def write(work: Workspace, batch: Batch, staged: Staged, batch_id: str, judge: Callable[[Plan], None]) -> Written:
    """Plan the staged rows and apply the plan as a change of the batch, in the write transaction that is under way.

    `judge` may refuse the plan by raising a Fault. Raises Fault("cards_exhausted").
    """
    if batch.mode in TRUSTED:
        # Looking for keys that new customers share costs a tenth of an import, and few batches have any: the first
        # plan trusts, and the unique keys refuse it where it is wrong.
        with suppress(KeyTaken, Fault), work.attempt():
            change = apply.ask_next_change(work, batch.account)
            return _apply(work, batch, staged, _trusting_plan(work, batch, staged), batch_id, change)
    change = apply.ask_next_change(work, batch.account)
    plan = make_plan(work, batch, staged)
    judge(plan)
    return _apply(work, batch, staged, plan, batch_id, change)


def new_id() -> str:
    """The id of a new batch: random, and unique everywhere."""
    return secrets.token_hex(10)


def _trusting_plan(work: Workspace, batch: Batch, staged: Staged) -> Plan:
    plan = make_plan(work, batch, staged, trusting=True)
    if len(plan.problems) > len(staged.problems):
        raise KeyTaken  # the whole plan tells which rows exactly
    return plan


def place(batch: Batch) -> int:
    """What equal requests share (see Workspace.alone)."""
    # Who sends the same key, or without one the same request, shares a place; everybody else has one of his own.
    if batch.request_key is not None:
        name = repr((batch.account, batch.request_key))
    elif batch.request_digest:
        name = repr((batch.account, batch.user, batch.request_digest))
    else:
        return secrets.randbits(62)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2


@contextmanager
def first_of_its_kind(
    core: Core, batch: Batch, imported: Batch | None = None
) -> Iterator[tuple[Workspace, str | None]]:
    """Hold the place of the request, so that its twins wait. Yields a workspace, and the batch that it made before, if it did.

    Under a key that is the key's batch; without one, the batch of a twin that was still running when this one came.
    `imported` in the workspace is the batch (see `opened`). Raises Fault("request_id_reused").
    """
    # Batches have growing numbers: what is newer than the newest one that was there has been written since.
    newest = batch.since
    if newest is None and batch.request_key is None and batch.request_digest:
        with core.database.looking() as work:
            newest = batches.last_change(work, batch.account)
    where = place(batch)
    # Who waits for a twin waits with empty hands: what the twin needs to end might be in them.
    with core.database.alone(where), opened(core, imported) as work:
        sent = work.alone(where, lambda: _ask_before(work, batch, newest))
        yield work, _stored_before(batch, sent)


def _ask_before(work: Workspace, batch: Batch, newest: int | None) -> Sent | None:
    if batch.request_key is not None:
        return batches.stored_reply(work, batch.account, batch.request_key)
    if newest is None or not batch.request_digest:
        return None
    return batches.same_request(work, batch.account, batch.user, batch.request_digest, newest)


def _stored_before(batch: Batch, sent: Sent | None) -> str | None:
    if sent is None or not sent.rows:
        return None
    batch_id, *digest = sent.rows[0]
    if digest and bytes(digest[0]) != batch.request_digest:
        raise Fault("request_id_reused", value=batch.request_key or "")
    return str(batch_id)


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


def _apply(work: Workspace, batch: Batch, staged: Staged, plan: Plan, batch_id: str, sent: Sent) -> Written:
    account = batch.account
    moment = now()
    change, has_webhooks = sent.rows[0]
    stamp = apply.Stamp(account, change, moment, apply.last_customer(work, account) if plan.made else 0)
    fresh.hand_out(work)
    apply.apply(work, staged.shape, stamp, tuple(campaign.id for campaign in batch.campaigns), renames=plan.renames)
    apply.record_change(work, stamp, batch_id, plan.made)
    return Written(plan, Spool(made_rows(work, batch, staged, stamp.base)), change, moment, bool(has_webhooks))


def _outcome(batch_id: str, batch: Batch, staged: Staged, plan: Plan, made: Iterable[Made], seconds: float) -> Outcome:
    # Rounded as it is stored, so that a stored reply is the same to the byte.
    return Outcome(batch_id, plan.counts, made, plan.problems, staged.warnings, batch.charset, round(seconds, 3))


def _remember(work: Workspace, batch: Batch, staged: Staged, outcome: Outcome, written: Written) -> None:
    values = {
        **described(batch, outcome.batch_id, written.change, written.moment),
        "status": "imported",
        "rows": staged.rows,
        **outcome.counts._asdict(),
        "seconds": round(outcome.seconds * 1000),
    }
    batches.insert(work, values)
    remember_rows(work, batch, outcome)
    if batch.request_key is not None:
        key, digest = batch.request_key, batch.request_digest
        batches.store_reply(work, batch.account, key, digest, outcome.batch_id, written.moment)


def described(batch: Batch, batch_id: str, number: int, moment: int) -> dict[str, object]:
    """What is known of a batch before it is imported, as columns of the table. `number` puts it into the history."""
    columns = tuple([header.field.name for header in batch.headers if header.field is not None])
    return {
        "account_id": batch.account,
        "id": batch_id,
        "number": number,
        "kind": "import",
        "face": batch.face,
        "user_id": batch.user,
        "mode": batch.mode.value,
        "on_error": batch.on_error.value,
        "campaigns": _listed(tuple([campaign.id for campaign in batch.campaigns])),
        "columns": _listed(columns),
        "header": _listed(batch.names or columns),
        "keep_undo": batch.keep_undo,
        "root": batch_id,
        "charset": batch.charset,
        "request_digest": batch.request_digest or None,
        "created_at": moment,
    }


@lru_cache(maxsize=256)
def _listed(items: tuple[int, ...] | tuple[str, ...]) -> str:
    """As JSON. Most senders have the same columns and campaigns every time."""
    return json.dumps(items)


def remember_rows(work: Workspace, batch: Batch, outcome: Outcome, start: Cursor = Cursor()) -> None:
    """Write down what is known of single rows, behind what is known of the batch already. `start` is where they began."""
    if not (outcome.problems or outcome.warnings or outcome.made):
        return
    lists: tuple[tuple[str, Iterable[tuple[int, str, str, str, str, str]]], ...] = (
        (batches.PROBLEM, map(wording.written, outcome.problems)),
        (batches.WARNING, map(wording.written, outcome.warnings)),
        (batches.MADE, ((made.row, "", made.code, made.card_number, "", "") for made in outcome.made)),
    )
    for kind, rows in lists:
        batches.insert_problems(work, batch.account, outcome.batch_id, kind, rows, again=start.rows > 0)
    if outcome.problems:
        # In row order already, and perhaps a million of them.
        rows_failed = array("q", (row for row, _ in groupby(problem.row for problem in outcome.problems)))
        found = failed.cells(batch, rows_failed, start)
        texts = ((row, json.dumps(cells, ensure_ascii=False)) for row, cells in found)
        jobs.add_failed(work, batch.account, outcome.batch_id, texts)


def _replay(work: Workspace, batch: Batch, batch_id: str) -> Outcome:
    stored = batches.load(work, batch.account, batch_id)
    assert stored is not None

    def problems(kind: str) -> Spool[Problem]:
        return Spool(starmap(wording.read, batches.load_problems(work, batch.account, batch_id, kind)))

    made = batches.load_problems(work, batch.account, batch_id, batches.MADE)
    return Outcome(
        batch_id,
        Counts(*(stored[name] for name in COUNTED)),
        Spool(Made(row, code, card) for row, _, code, card, _, _ in made),
        problems(batches.PROBLEM),
        problems(batches.WARNING),
        stored["charset"],
        stored["seconds"] / 1000,
        replayed=True,
    )
