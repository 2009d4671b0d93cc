"""Jobs, portion by portion: every row once, whatever comes twice, dies, is cancelled, or wakes up late."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import pytest
from sqlalchemy import func, select, text, update

from importing import follow, jobinput, jobs, plan, portions, undo
from importing.batch import Header, OnError
from importing.core import Core
from importing.faults import Fault
from importing.fields import USERNAME
from importing.follow import Followed, Progress
from importing.secrets import Digests
from logs import formatter
from storage import apply, batches
from storage import jobs as stored
from storage.engine import Busy, Kind, now
from storage.job_models import failed_row, job, job_input
from storage.models import change
from tests.demo import Demo
from tests.jobs import Held, HeldQueue, batch, holds, rows

MANY = 12_000


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions of about 3,000 rows, so that a job of some thousand has several."""
    monkeypatch.setattr(portions, "FIRST_ROWS", 2_000)
    monkeypatch.setattr(portions, "MOST_ROWS", 3_000)
    monkeypatch.setattr(portions, "CHECKED_ROWS", 3_000)


@pytest.fixture
def queue() -> HeldQueue:
    return HeldQueue()


@pytest.fixture
def working(core: Core, queue: HeldQueue) -> Core:
    return replace(core, queue=queue)


def found(core: Core, account: Demo, batch_id: str) -> Followed:
    batch = follow.find(core, account.number, batch_id)
    assert batch is not None
    return batch


def changes(core: Core, account: Demo) -> int:
    with core.database.reading() as connection:
        query = select(func.count()).where(change.c.account_id == account.number)
        return int(connection.execute(query).scalar_one())


def test_a_job_is_written_in_portions_and_every_row_counts_once(working: Core, queue: HeldQueue, account: Demo) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY)))
    assert found(working, account, queued.batch_id).status == "queued"
    assert holds(working, account) == Held(0, 0, 0)
    queue.run(working, 1)
    after_one = found(working, account, queued.batch_id)
    assert after_one.status == "running"
    assert after_one.progress.total == MANY
    assert 0 < after_one.progress.processed < MANY
    assert holds(working, account).customers == after_one.progress.successful == after_one.progress.processed
    assert queue.run(working) > 2
    done = found(working, account, queued.batch_id)
    assert (done.status, done.progress) == ("imported", Progress(MANY, MANY, MANY, 0))
    assert done.counts.new == MANY
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)


def test_the_input_is_sealed_and_gone_at_the_end(working: Core, queue: HeldQueue, account: Demo) -> None:
    jobs.submit(working, batch(working, account, rows("secretive", 10)))
    with working.database.reading() as connection:
        pieces = connection.execute(select(job_input.c.data)).scalars().all()
        assert pieces
        assert not any(b"secretive" in piece for piece in pieces)
    queue.run(working)
    with working.database.reading() as connection:
        assert connection.execute(select(job_input.c.data)).first() is None


def test_a_message_that_comes_twice_does_nothing_twice(working: Core, queue: HeldQueue, account: Demo) -> None:
    jobs.submit(working, batch(working, account, rows("c", MANY)))
    while queue.messages:
        message = queue.messages[0]
        queue.run(working, 1)
        jobs.portion(working, *message)
        assert len(queue.messages) <= 1
    jobs.portion(working, "no such batch", 0)
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)


def test_bad_rows_are_skipped_told_of_and_kept_to_be_mended(working: Core, queue: HeldQueue, account: Demo) -> None:
    bad = (1, 2_999, 7_000, MANY)
    queued = jobs.submit(working, batch(working, account, rows("c", MANY, bad=bad)))
    queue.run(working)
    done = found(working, account, queued.batch_id)
    assert (done.status, done.progress) == ("imported", Progress(MANY, MANY, MANY - 4, 4))
    with follow.rows(working, account.number, queued.batch_id) as known:
        assert [(problem.row, problem.code) for problem in known.problems()] == [(row, "bad_date") for row in bad]
    with working.database.reading() as connection:
        kept = [(row, cells) for row, cells in stored.failed(connection, account.number, queued.batch_id)]
    assert [row for row, _ in kept] == list(bad)
    assert kept[1][1] == '["c2999", "Name 2999", "never", "25"]'


def test_reject_checks_all_rows_before_it_writes_the_first(working: Core, queue: HeldQueue, account: Demo) -> None:
    bad = (5, MANY)
    text = rows("c", MANY, bad=bad)
    queued = jobs.submit(working, batch(working, account, text, on_error=OnError.REJECT))
    queue.run(working)
    done = found(working, account, queued.batch_id)
    assert (done.status, done.progress) == ("failed", Progress(MANY, MANY, 0, 2))
    assert done.reason is not None
    assert done.reason.code == "bad_rows"
    assert f"2 of {MANY} rows" in done.reason.message
    assert "Row 5, custom_date" in done.reason.message
    assert holds(working, account) == Held(0, 0, 0)
    with working.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(failed_row)).scalar_one() == 2
    with pytest.raises(Fault) as refused:
        jobs.resume(working, account.number, queued.batch_id)
    assert refused.value.code == "not_resumable"


def test_reject_writes_all_rows_in_one_transaction(working: Core, queue: HeldQueue, account: Demo) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY), on_error=OnError.REJECT))
    while queue.messages:
        assert holds(working, account).customers == 0
        queue.run(working, 1)
    assert changes(working, account) == 1
    assert found(working, account, queued.batch_id).counts.new == MANY


def test_reject_finds_what_only_the_store_knows(working: Core, queue: HeldQueue, account: Demo) -> None:
    # No row is bad by itself, but two customers of the batch ask for one user name.
    text = "a|Ann|2001-02-03|1\nb|Bob|2001-02-03|1\n"
    twice = batch(working, account, text, on_error=OnError.REJECT)
    named = replace(twice, headers=(*twice.headers, Header(5, USERNAME)))
    data = b"a|Ann|2001-02-03|1|same\nb|Bob|2001-02-03|1|Same\n"
    queued = jobs.submit(working, replace(named, source=replace(named.source, file=io.BytesIO(data), size=len(data))))
    queue.run(working)
    done = found(working, account, queued.batch_id)
    assert (done.status, done.progress) == ("failed", Progress(2, 2, 0, 1))
    assert done.reason is not None
    assert done.reason.code == "bad_rows"
    assert holds(working, account) == Held(0, 0, 0)


def test_a_dead_workers_portion_is_taken_over_after_its_lease(working: Core, queue: HeldQueue, account: Demo) -> None:
    jobs.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 1)
    batch_id, number = queue.messages.popleft()
    with working.database.writing() as connection:
        assert stored.claim(connection, batch_id, number, "dead", 60_000) is not None
    # Nobody may have it yet, and recovery does not ask for it.
    jobs.portion(working, batch_id, number)
    assert jobs.recover(working) == 0
    assert not queue.messages
    with working.database.writing() as connection:
        connection.execute(update(job).values(due_at=job.c.due_at - 60_001))
    assert jobs.recover(working) == 1
    assert jobs.recover(working) == 0
    queue.run(working)
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)


def test_a_worker_that_wakes_up_late_is_fenced_off(
    working: Core, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 1)
    message = queue.messages.popleft()
    staged = plan.stage

    def asleep(*arguments: object, **options: object) -> object:
        # While this one sleeps, its lease passes, and another does the portion and all that follow.
        result = staged(*arguments, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(portions, "stage", staged)
        with working.database.writing() as connection:
            connection.execute(update(job).values(due_at=0))
        assert jobs.recover(working) == 1
        queue.run(working)
        return result

    monkeypatch.setattr(portions, "stage", asleep)
    jobs.portion(working, *message)
    assert not queue.messages
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)


def test_a_message_that_was_lost_is_sent_again(working: Core, queue: HeldQueue, account: Demo) -> None:
    jobs.submit(working, batch(working, account, rows("c", 10)))
    queue.messages.clear()
    with working.database.writing() as connection:
        connection.execute(update(job).values(due_at=0))
    jobs.recover(working)
    queue.run(working)
    assert holds(working, account).customers == 10


def test_a_job_that_is_cancelled_keeps_whole_portions_and_goes_on_where_it_stood(
    working: Core, queue: HeldQueue, account: Demo
) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 2)
    jobs.cancel(working, account.number, queued.batch_id)
    queue.run(working)
    cancelled = found(working, account, queued.batch_id)
    assert cancelled.status == "cancelled"
    assert 0 < cancelled.progress.processed < MANY
    assert holds(working, account).customers == cancelled.progress.processed
    with pytest.raises(Fault) as refused:
        jobs.cancel(working, account.number, queued.batch_id)
    assert refused.value.code == "not_running"
    jobs.resume(working, account.number, queued.batch_id)
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)
    with pytest.raises(Fault) as refused:
        jobs.resume(working, account.number, queued.batch_id)
    assert refused.value.code == "not_resumable"


def test_a_job_that_is_cancelled_can_be_undone(working: Core, queue: HeldQueue, account: Demo) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 2)
    jobs.cancel(working, account.number, queued.batch_id)
    processed = found(working, account, queued.batch_id).progress.processed
    done = undo.undo(working, account.number, queued.batch_id, "u", "cli")
    assert (done.removed, done.restored, done.kept) == (processed, 0, 0)
    held_now = holds(working, account)
    assert (held_now.customers, held_now.points) == (0, 0)
    assert found(working, account, queued.batch_id).status == "undone"
    with pytest.raises(Fault) as refused:
        jobs.resume(working, account.number, queued.batch_id)
    assert refused.value.code == "not_resumable"


def test_a_job_under_way_is_not_undone(working: Core, queue: HeldQueue, account: Demo) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY)))
    for _ in range(2):
        with pytest.raises(Fault) as refused:
            undo.undo(working, account.number, queued.batch_id, "u", "cli")
        assert refused.value.code == "batch_running"
        queue.run(working, 1)


def test_who_is_cancelled_in_the_middle_of_a_portion_writes_nothing_of_it(
    working: Core, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY)))
    staged = plan.stage

    def cancelled(*arguments: object, **options: object) -> object:
        jobs.cancel(working, account.number, queued.batch_id)
        return staged(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(portions, "stage", cancelled)
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "cancelled"
    assert holds(working, account) == Held(0, 0, 0)


def test_a_job_that_fails_for_an_outside_reason_is_tried_again_and_can_be_resumed(
    working: Core, queue: HeldQueue, account: Demo
) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 1)
    processed = holds(working, account).customers
    # A host with another secret cannot read the input.
    wrong = replace(working, digests=Digests(b"another secret of this length..."))
    for _ in range(jobs.ATTEMPTS):
        assert found(working, account, queued.batch_id).status == "running"
        queue.run(wrong)
        with working.database.writing() as connection:
            connection.execute(update(job).where(job.c.state == "running").values(due_at=0))
        jobs.recover(working)
    failed = found(working, account, queued.batch_id)
    assert failed.status == "failed"
    assert failed.reason is not None
    assert failed.reason.code == "job_interrupted"
    assert holds(working, account).customers == processed
    jobs.resume(working, account.number, queued.batch_id)
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)


def test_a_small_job_is_done_within_two_portions_of_each_big_one(
    working: Core, queue: HeldQueue, account: Demo
) -> None:
    big = [jobs.submit(working, batch(working, account, rows(f"b{n}-", MANY))).batch_id for n in range(8)]
    queue.run(working, 8)
    assert all(found(working, account, batch_id).progress.processed for batch_id in big)
    small = jobs.submit(working, batch(working, account, rows("small", 10))).batch_id
    assert queue.run(working, 9) == 9
    assert found(working, account, small).status == "imported"
    assert all(found(working, account, batch_id).status == "running" for batch_id in big)


def test_the_same_request_is_queued_once(working: Core, queue: HeldQueue, account: Demo) -> None:
    first = jobs.submit(working, batch(working, account, rows("c", 5), key="k1"))
    second = jobs.submit(working, batch(working, account, rows("c", 5), key="k1"))
    assert (second.batch_id, second.replayed) == (first.batch_id, True)
    assert len(queue.messages) == 1
    with pytest.raises(Fault) as refused:
        jobs.submit(working, replace(batch(working, account, rows("c", 6), key="k1"), request_digest=b"e" * 32))
    assert refused.value.code == "request_id_reused"


def test_a_job_whose_file_cannot_be_read_is_written_down_as_failed(
    working: Core, queue: HeldQueue, account: Demo
) -> None:
    queued = jobs.submit_failed(working, batch(working, account, ""), Fault("bad_header_line"), "v-1")
    failed = found(working, account, queued.batch_id)
    assert (failed.status, failed.request_ref) == ("failed", "v-1")
    assert failed.reason is not None
    assert failed.reason.code == "bad_header_line"
    assert not queue.messages
    assert jobs.recover(working) == 0


def test_a_file_without_rows_is_imported_as_nothing(working: Core, queue: HeldQueue, account: Demo) -> None:
    queued = jobs.submit(working, batch(working, account, "\n \n|||\n"))
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"
    assert changes(working, account) == 0


def test_uploads_that_no_job_has_are_dropped_after_a_day(working: Core, queue: HeldQueue, account: Demo) -> None:
    jobinput.store(working, account.number, io.BytesIO(b"x" * 100), 4.0)
    queued = jobs.submit(working, batch(working, account, rows("c", 10)))
    assert jobs.tidy(working) == 0
    with working.database.writing() as connection:
        connection.execute(update(job_input).values(created_at=job_input.c.created_at - jobs.DAY - 1))
    assert jobs.tidy(working) == 1
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"


def test_undo_of_a_job_is_one_undo(working: Core, queue: HeldQueue, account: Demo) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working)
    assert changes(working, account) > 2
    done = undo.undo(working, account.number, queued.batch_id, "u", "cli")
    assert (done.removed, done.restored, done.kept) == (MANY, 0, 0)
    again = undo.undo(working, account.number, done.batch_id, "u", "cli")
    assert again.restored == MANY
    assert found(working, account, queued.batch_id).status == "imported"
    held_now = holds(working, account)
    assert (held_now.customers, held_now.points) == (MANY, MANY * 2500)


def test_the_data_of_a_job_reads_like_a_file(core: Core, account: Demo) -> None:
    data = bytes(range(256)) * 5000
    input_id, size = jobinput.store(core, account.number, io.BytesIO(data), 4.0)
    file = jobinput.JobInput(core, account.number, input_id, size)
    assert size == len(data)
    assert file.read() == data
    for start, wanted in ((0, 3), (jobinput.PIECE - 2, 5), (size - 1, 10), (size, 1), (7, 2 * jobinput.PIECE)):
        file.seek(start)
        assert file.read(wanted) == data[start : start + wanted]


def pieces(core: Core) -> int:
    with core.database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(job_input)).scalar_one())


def test_the_data_of_a_refused_job_are_gone(working: Core, queue: HeldQueue, account: Demo) -> None:
    # Refused for what is wrong with a row, and for what only the store knows.
    bad = batch(working, account, rows("c", 10, bad=(3,)), on_error=OnError.REJECT)
    data = b"a|Ann|2001-02-03|1|same\nb|Bob|2001-02-03|1|Same\n"
    twice = replace(bad, headers=(*bad.headers, Header(5, USERNAME)))
    twice = replace(twice, source=replace(bad.source, file=io.BytesIO(data), size=len(data)))
    for refused in (bad, twice):
        queued = jobs.submit(working, refused)
        assert pieces(working) == 1
        queue.run(working)
        assert found(working, account, queued.batch_id).status == "failed"
        assert pieces(working) == 0


def test_a_job_that_is_turned_away_leaves_no_data_behind(
    working: Core, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> int:
        raise Busy

    monkeypatch.setattr(apply, "next_change", busy)
    with pytest.raises(Fault) as refused:
        jobs.submit(working, batch(working, account, rows("c", 10)))
    assert refused.value.code == "busy"
    assert pieces(working) == 0


def test_a_job_whose_data_are_gone_cannot_be_resumed(working: Core, queue: HeldQueue, account: Demo) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 1)
    jobs.cancel(working, account.number, queued.batch_id)
    with working.database.writing() as connection:
        connection.execute(update(job).values(ended_at=job.c.ended_at - jobs.RESUMABLE - 1))
    assert jobs.tidy(working) == 1
    with pytest.raises(Fault) as refused:
        jobs.resume(working, account.number, queued.batch_id)
    assert refused.value.code == "not_resumable"
    assert found(working, account, queued.batch_id).status == "cancelled"


def test_the_data_of_a_job_that_is_resumed_stay(working: Core, queue: HeldQueue, account: Demo) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", 10)))
    jobs.cancel(working, account.number, queued.batch_id)
    with working.database.reading() as connection:
        input_id = connection.execute(select(job.c.input_id)).scalar_one()
    jobs.resume(working, account.number, queued.batch_id)
    assert found(working, account, queued.batch_id).ended_at == 0
    # As somebody would who found it stale a moment before.
    with working.database.writing() as connection:
        stored.drop_input(connection, account.number, input_id)
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"


def test_a_host_whose_clock_is_wrong_does_not_keep_a_job_waiting(
    working: Core, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "now", lambda: now() + jobs.DAY)
    jobs.submit(working, batch(working, account, rows("c", 10)))
    with working.database.reading() as connection:
        due_at = connection.execute(select(job.c.due_at)).scalar_one()
    assert due_at <= now() + 2 * 1000 * working.job_lease


def test_who_cancels_while_a_portion_ends_waits_for_it(
    working: Core, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY)))
    raised: list[Exception] = []
    counted = batches.count

    def cancel() -> None:
        try:
            jobs.cancel(working, account.number, queued.batch_id)
        except Exception as error:  # told below
            raised.append(error)

    cancelling = threading.Thread(target=cancel)

    def cancelled(*arguments: object, **more: object) -> None:
        counted(*arguments, **more)  # type: ignore[arg-type]
        monkeypatch.setattr(batches, "count", counted)
        cancelling.start()
        while working.database.kind is Kind.POSTGRESQL and not _somebody_waits(working):
            assert cancelling.is_alive()

    monkeypatch.setattr(batches, "count", cancelled)
    queue.run(working)
    cancelling.join()
    assert raised == []
    done = found(working, account, queued.batch_id)
    assert done.status == "cancelled"
    assert 0 < done.progress.processed == holds(working, account).customers < MANY


def _somebody_waits(core: Core) -> bool:
    with core.database.reading() as connection:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(connection.execute(waiting).scalar_one())


def test_waiting_for_a_turn_never_fails_a_job(
    working: Core, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", 10)))

    def busy(*_: object, **__: object) -> None:
        raise Busy

    with monkeypatch.context() as patch:
        patch.setattr(stored, "note", busy)
        for _ in range(jobs.ATTEMPTS + 1):
            queue.run(working)
            queue.put_portion(queued.batch_id, 0)
    assert found(working, account, queued.batch_id).status == "running"
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"


def test_a_job_that_is_given_up_does_not_say_that_nothing_was_imported(
    working: Core, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = jobs.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 1)
    last = queue.messages[0]

    def away(*_: object) -> bool:
        raise Fault("unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(portions, "do", away)
        for _ in range(jobs.ATTEMPTS):
            jobs.portion(working, *last)
    failed = found(working, account, queued.batch_id)
    assert failed.status == "failed"
    assert failed.reason is not None
    assert (failed.reason.code, failed.reason.values) == ("job_interrupted", {"reason": "unavailable"})


def test_the_log_tells_of_a_failed_portion_without_its_rows(
    working: Core, queue: HeldQueue, account: Demo, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.submit(working, batch(working, account, rows("secretive", 10)))
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
