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

from importing import jobinput, order, portions
from importing.batch import Batch
from importing.core import Core
from importing.faults import Category, Fault
from importing.queue import put_deliveries
from importing.run import described, first_of_its_kind, new_id
from storage import accounts, apply, batches, jobs, webhooks
from storage.engine import Busy, now
from storage.jobs import Claim, Fenced
from storage.workspace import Workspace

log = logging.getLogger("tillgate.jobs")

# Seconds between two looks for jobs that nobody works on.
RECOVERY_PAUSE = 2.0
# How often a portion is tried again after something from outside failed it, and after how many seconds: 1, 2, 4 ... 60.
ATTEMPTS = 8
LONGEST_PAUSE = 60
# Milliseconds: uploads that no job has are dropped after a day; a job that failed can be resumed for a week.
DAY = 86_400_000
RESUMABLE = 7 * DAY


@dataclass(frozen=True, slots=True)
class Queued:
    """`replayed`: the same request has queued, or made, this batch before."""

    batch_id: str
    replayed: bool = False


def submit(core: Core, batch: Batch, request_ref: str = "") -> Queued:
    """Queue a batch with its data, which is read from where the source's file begins. One transaction makes the job.

    `request_ref` is what the sender's reply called the request. Raises Fault: request_id_reused, busy, unavailable.
    """
    with first_of_its_kind(core, batch) as (work, stored):
        if stored is not None:
            return Queued(stored, replayed=True)
        batch.source.file.seek(0)
        input_id, size = jobinput.store(core, batch.account, batch.source.file, core.write_wait)
        values = {
            "state": "queued",
            "phase": portions.COUNT,
            "plan": order.dumped(batch),
            "input_id": input_id,
            "input_size": size,
        }
        try:
            batch_id = _add(core, work, batch, values, request_ref)
        except Busy:
            # A sender may come again and again. After any other error the job may be there all the same.
            jobinput.drop(core, batch.account, input_id)
            raise
    core.queue.put_portion(batch_id, 0)
    return Queued(batch_id)


def submit_failed(core: Core, batch: Batch, fault: Fault, request_ref: str = "") -> Queued:
    """Write a job down that failed before it began, such as one whose file cannot be read. Raises what `submit` does."""
    with first_of_its_kind(core, batch) as (work, stored):
        if stored is not None:
            return Queued(stored, replayed=True)
        values = {
            "state": "failed",
            "phase": portions.COUNT,
            "plan": "{}",
            "fault": portions.told(fault),
            "ended_at": now(),
        }
        return Queued(_add(core, work, batch, values, request_ref))


def _add(core: Core, work: Workspace, batch: Batch, values: dict[str, object], request_ref: str) -> str:
    batch_id = new_id()
    deliveries: Iterable[str] = ()
    with work.writing(batch.account, core.write_wait):
        # Not before: a copy that came while this one waited must find it newer than itself.
        moment = now()
        number = apply.next_change(work, batch.account)
        batches.insert(work, {**described(batch, batch_id, number, moment), "status": values["state"]})
        due_at = jobs.moment(work) + _milliseconds(core.job_lease)
        times = {"updated_at": moment, "due_at": due_at, "request_ref": request_ref}
        jobs.add(work, {"account_id": batch.account, "batch_id": batch_id, **times, **values})
        if batch.request_key is not None:
            key, digest = batch.request_key, batch.request_digest
            batches.store_reply(work, batch.account, key, digest, batch_id, moment)
        if values["state"] == "failed":
            deliveries = webhooks.note(work, batch.account, batch_id, webhooks.Event.FAILED, moment)
    put_deliveries(core.queue, deliveries)
    return batch_id


def portion(core: Core, batch_id: str, number: int) -> None:
    """Do one portion of a job, unless it is done or somebody else's, and ask for the next one."""
    try:
        with core.database.writing(portions.PATIENCE) as connection:
            claim = jobs.claim(connection, batch_id, number, secrets.token_hex(16), _milliseconds(core.job_lease))
    except (Busy, SQLAlchemyError) as error:
        # The job is as it was: recovery asks for it again.
        log.warning("job %s: portion %d waits: %s", batch_id, number, type(error).__qualname__)
        return
    if claim is None:
        return
    with _alive(core, claim):
        more = _done(core, claim)
    if more:
        core.queue.put_portion(batch_id, number + 1)


def _done(core: Core, claim: Claim) -> bool:
    """Do the portion; whether there is another one."""
    try:
        return portions.do(core, claim)
    except Fenced:
        log.info("job %s: portion %d is somebody else's by now", claim.batch_id, claim.job["portion"])
    except Busy:
        _again(core, claim, Fault("busy"))
    except Fault as fault:
        if fault.category is Category.BUSY:
            _again(core, claim, fault)
        else:
            _failed(core, claim, fault)
    except Exception as error:  # the outermost door of a portion
        log.exception("job %s: portion %d failed", claim.batch_id, claim.job["portion"])
        _again(core, claim, Fault("job_interrupted", reason=type(error).__qualname__))
    return False


def _again(core: Core, claim: Claim, fault: Fault) -> None:
    """Something from outside failed the portion: try it again later, and after too many times fail the job, resumably."""
    waits_its_turn = fault.code == "busy"
    attempts = claim.job["attempts"] + (0 if waits_its_turn else 1)
    if attempts >= ATTEMPTS:
        # What such a fault says to a sender, that nothing was imported, is not true of a job.
        _failed(core, claim, Fault("job_interrupted", reason=fault.values.get("reason", fault.code)))
        return
    pause = 1 if waits_its_turn else min(2 ** (attempts - 1), LONGEST_PAUSE)
    log.warning("job %s: %s; tried again in %d s", claim.batch_id, fault.code, pause)
    with suppress(Busy, SQLAlchemyError), core.database.writing(portions.PATIENCE) as connection:
        jobs.release(connection, claim, jobs.clock(connection) + pause * 1000, attempts=attempts)


def _failed(core: Core, claim: Claim, fault: Fault) -> None:
    try:
        portions.fail(core, claim, fault)
    except (Busy, Fault, Fenced, SQLAlchemyError) as error:
        log.error("job %s: cannot be written down as failed: %s", claim.batch_id, type(error).__qualname__)


@contextmanager
def _alive(core: Core, claim: Claim) -> Iterator[None]:
    """Prolong the claim for as long as the work takes. Nothing is written where it takes less than a third of a lease."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(core.job_lease / 3):
            # Nothing may end it but the work: without it the claim is lost.
            with suppress(Exception), core.database.writing(core.job_lease / 3) as connection:
                if not jobs.extend(connection, claim, _milliseconds(core.job_lease)):
                    return

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()


def recover(core: Core) -> int:
    """Ask again for what nobody works on: portions of dead workers, and lost messages. Returns how many."""
    with core.database.reading() as connection:
        if not jobs.any_due(connection):
            return 0
    with core.database.writing(core.write_wait) as connection:
        found = jobs.due(connection, _milliseconds(core.job_lease))
    for batch_id, number in found:
        core.queue.put_portion(batch_id, number)
    return len(found)


def tidy(core: Core) -> int:
    """Drop data that no job needs any more, an input in a transaction. Returns how many inputs."""
    moment = now()
    with core.database.reading() as connection:
        stale = jobs.stale_inputs(connection, moment - DAY, moment - RESUMABLE)
    for account, input_id in stale:
        with core.database.writing(core.write_wait) as connection:
            jobs.drop_input(connection, account, input_id)
    return len(stale)


def cancel(core: Core, account: int, batch_id: str, actor: str = "") -> None:
    """End a job that is queued or running. Whole portions stay: they can be undone, or the job resumed.

    `actor` is who the audit says it was.

    Raises Fault: unknown_batch, not_running, busy.
    """
    with _changing(core) as connection:
        if batches.find_in(connection, account, batch_id) is None:
            raise Fault("unknown_batch", value=batch_id)
        if not jobs.end(connection, account, batch_id, jobs.ACTIVE, "cancelled"):
            raise Fault("not_running", value=batch_id)
        accounts.note(connection, account, actor, "cancel", batch_id)
        deliveries = webhooks.note_in(connection, account, batch_id, webhooks.Event.CANCELLED, jobs.clock(connection))
    put_deliveries(core.queue, deliveries)


def resume(core: Core, account: int, batch_id: str, actor: str = "") -> None:
    """Go on with a job that was cancelled, or failed for a reason from outside, where it stood.

    `actor` is who the audit says it was.

    Raises Fault: unknown_batch, not_resumable, busy.
    """
    with _changing(core) as connection:
        status, job = jobs.status(connection, account, batch_id), jobs.find(connection, batch_id)
        if status is None:
            raise Fault("unknown_batch", value=batch_id)
        ended = status in ("failed", "cancelled") and job is not None and jobs.has_input(connection, job)
        if not ended or not jobs.end(connection, account, batch_id, ("failed", "cancelled"), "queued"):
            raise Fault("not_resumable", value=batch_id)
        assert job is not None
        accounts.note(connection, account, actor, "resume", batch_id)
        number = job["portion"]
    core.queue.put_portion(batch_id, number)


@contextmanager
def _changing(core: Core) -> Iterator[Connection]:
    try:
        with core.database.writing(core.write_wait) as connection:
            yield connection
    except Busy as error:
        raise Fault("busy") from error


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
