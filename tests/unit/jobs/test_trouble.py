"""Jobs in trouble: messages that come twice or never, workers that die or wake up late, and what fails outside."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import select, text, update

from crypto.digests import Digests
from importing.context import Context
from importing.errors import ApiError
from importing.jobs import chunk, lifecycle
from importing.planning import plan_batch
from server.logs import formatter
from storage.engine import Busy, Kind, now_ms
from storage.queries import batches
from storage.queries import jobs as stored
from storage.tables import job
from tests.support.demo_accounts import Demo
from tests.support.job_batches import Held, HeldQueue, batch, holds, rows
from tests.support.job_queries import MANY, found


def test_a_message_that_comes_twice_does_nothing_twice(working: Context, queue: HeldQueue, account: Demo) -> None:
    lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    while queue.messages:
        message = queue.messages[0]
        queue.run(working, 1)
        chunk.run_chunk(working, *message)
        assert len(queue.messages) <= 1
    chunk.run_chunk(working, "no such batch", 0)
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)


def test_a_dead_workers_chunk_is_taken_over_after_its_lease(working: Context, queue: HeldQueue, account: Demo) -> None:
    lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 1)
    batch_id, number = queue.messages.popleft()
    with working.database.writing() as connection:
        assert stored.claim_chunk(connection, batch_id, number, "dead", 60_000) is not None
    # Nobody may have it yet, and recovery does not ask for it.
    chunk.run_chunk(working, batch_id, number)
    assert lifecycle.recover_jobs(working) == 0
    assert not queue.messages
    with working.database.writing() as connection:
        connection.execute(update(job).values(due_at=job.c.due_at - 60_001))
    assert lifecycle.recover_jobs(working) == 1
    assert lifecycle.recover_jobs(working) == 0
    queue.run(working)
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)


def test_a_worker_that_wakes_up_late_is_fenced_off(
    working: Context, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 1)
    message = queue.messages.popleft()
    staged = plan_batch.stage

    def asleep(*arguments: object, **options: object) -> object:
        # While this one sleeps, its lease passes, and another does the chunk and all that follow.
        result = staged(*arguments, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(chunk, "stage", staged)
        with working.database.writing() as connection:
            connection.execute(update(job).values(due_at=0))
        assert lifecycle.recover_jobs(working) == 1
        queue.run(working)
        return result

    monkeypatch.setattr(chunk, "stage", asleep)
    chunk.run_chunk(working, *message)
    assert not queue.messages
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)


def test_a_message_that_was_lost_is_sent_again(working: Context, queue: HeldQueue, account: Demo) -> None:
    lifecycle.submit(working, batch(working, account, rows("c", 10)))
    queue.messages.clear()
    with working.database.writing() as connection:
        connection.execute(update(job).values(due_at=0))
    lifecycle.recover_jobs(working)
    queue.run(working)
    assert holds(working, account).customers == 10


def test_only_the_job_that_nobody_has_heard_of_is_asked_for_again(
    working: Context, queue: HeldQueue, account: Demo
) -> None:
    lost, waiting = (lifecycle.submit(working, batch(working, account, rows(name, 10))).batch_id for name in "ab")
    queue.messages.clear()
    with working.database.writing() as connection:
        connection.execute(update(job).where(job.c.batch_id == lost).values(due_at=0))
    assert lifecycle.recover_jobs(working) == 1
    assert [batch_id for batch_id, _ in queue.messages] == [lost]
    assert found(working, account, waiting).status == "queued"


def test_who_is_cancelled_in_the_middle_of_a_chunk_writes_nothing_of_it(
    working: Context, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    staged = plan_batch.stage

    def cancelled(*arguments: object, **options: object) -> object:
        lifecycle.cancel(working, account.number, queued.batch_id)
        return staged(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(chunk, "stage", cancelled)
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "cancelled"
    assert holds(working, account) == Held(0, 0, 0)


def test_a_job_that_fails_for_an_outside_reason_is_tried_again_and_can_be_resumed(
    working: Context, queue: HeldQueue, account: Demo
) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 1)
    processed = holds(working, account).customers
    # A host with another secret cannot read the input.
    wrong = replace(working, digests=Digests(b"another secret of this length..."))
    for _ in range(chunk.MAX_ATTEMPTS):
        assert found(working, account, queued.batch_id).status == "running"
        queue.run(wrong)
        with working.database.writing() as connection:
            connection.execute(update(job).where(job.c.state == "running").values(due_at=0))
        lifecycle.recover_jobs(working)
    failed = found(working, account, queued.batch_id)
    assert failed.status == "failed"
    assert failed.reason is not None
    assert failed.reason.code == "job_interrupted"
    assert holds(working, account).customers == processed
    lifecycle.resume(working, account.number, queued.batch_id)
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)


def test_a_host_whose_clock_is_wrong_does_not_keep_a_job_waiting(
    working: Context, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "now_ms", lambda: now_ms() + lifecycle.DAY_MS)
    lifecycle.submit(working, batch(working, account, rows("c", 10)))
    with working.database.reading() as connection:
        due_at = connection.execute(select(job.c.due_at)).scalar_one()
    assert due_at <= now_ms() + 2 * 1000 * working.job_lease


def test_who_cancels_while_a_chunk_ends_waits_for_it(
    working: Context, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    raised: list[Exception] = []
    counted = batches.add_counts

    def cancel() -> None:
        try:
            lifecycle.cancel(working, account.number, queued.batch_id)
        except Exception as error:  # told below
            raised.append(error)

    cancelling = threading.Thread(target=cancel)

    def cancelled(*arguments: object, **more: object) -> None:
        counted(*arguments, **more)  # type: ignore[arg-type]
        monkeypatch.setattr(batches, "add_counts", counted)
        cancelling.start()
        while working.database.kind is Kind.POSTGRESQL and not _somebody_waits(working):
            assert cancelling.is_alive()

    monkeypatch.setattr(batches, "add_counts", cancelled)
    queue.run(working)
    cancelling.join()
    assert raised == []
    done = found(working, account, queued.batch_id)
    assert done.status == "cancelled"
    assert 0 < done.progress.processed == holds(working, account).customers < MANY


def _somebody_waits(context: Context) -> bool:
    with context.database.reading() as connection:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(connection.execute(waiting).scalar_one())


def test_waiting_for_a_turn_never_fails_a_job(
    working: Context, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", 10)))

    def busy(*_: object, **__: object) -> None:
        raise Busy

    with monkeypatch.context() as patch:
        patch.setattr(stored, "update_claimed", busy)
        for _ in range(chunk.MAX_ATTEMPTS + 1):
            queue.run(working)
            queue.put_chunk(queued.batch_id, 0)
    assert found(working, account, queued.batch_id).status == "running"
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"


def test_a_job_that_is_given_up_does_not_say_that_nothing_was_imported(
    working: Context, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 1)
    last = queue.messages[0]

    def away(*_: object) -> bool:
        raise ApiError("unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(chunk, "do_chunk", away)
        for _ in range(chunk.MAX_ATTEMPTS):
            chunk.run_chunk(working, *last)
    failed = found(working, account, queued.batch_id)
    assert failed.status == "failed"
    assert failed.reason is not None
    assert (failed.reason.code, failed.reason.values) == ("job_interrupted", {"reason": "unavailable"})


def test_the_log_tells_of_a_failed_chunk_without_its_rows(
    working: Context, queue: HeldQueue, account: Demo, caplog: pytest.LogCaptureFixture
) -> None:
    lifecycle.submit(working, batch(working, account, rows("secretive", 10)))
    with working.database.writing() as connection:
        if working.database.kind is Kind.POSTGRESQL:
            refusal = "ALTER TABLE customer ADD CONSTRAINT refusal CHECK (code <> 'secretive7')"
        else:
            refusal = "CREATE TRIGGER refusal BEFORE INSERT ON customer BEGIN SELECT raise(ABORT, 'refusal'); END"
        connection.execute(text(refusal))
    queue.run(working)
    for record in caplog.records:
        record.exc_text = None  # as pytest has written it already
    written = [formatter(form).format(record) for form in ("json", "text") for record in caplog.records]
    assert any("refusal" in line for line in written)
    assert not any("secretive" in line for line in written)
