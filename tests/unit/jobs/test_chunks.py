"""Jobs, chunk by chunk: every row once, under either policy, cancelled and undone."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

from importing import batch_status
from importing.batch import Header, OnError
from importing.batch_status import BatchProgress
from importing.context import Context
from importing.errors import ApiError, Problem
from importing.fields import USERNAME
from importing.jobs import chunk, lifecycle
from importing.undo import undo_batch
from storage.queries import jobs as stored
from storage.tables import failed_row, job
from tests.support.demo_accounts import Demo
from tests.support.job_batches import Held, HeldQueue, batch, holds, rows
from tests.support.job_queries import MANY, changes, found


def test_a_job_is_written_in_chunks_and_every_row_counts_once(
    working: Context, queue: HeldQueue, account: Demo
) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY)))
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
    assert (done.status, done.progress) == ("imported", BatchProgress(MANY, MANY, MANY, 0))
    assert done.counts.new == MANY
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)


@pytest.mark.parametrize(("seconds", "factor"), [(0.25, 2), (0.5, 1), (1.0, 0.5), (0.125, 4), (0.1, 4), (0.0, 4)])
def test_the_next_chunk_has_as_many_rows_as_take_half_a_second(
    working: Context, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch, seconds: float, factor: float
) -> None:
    monkeypatch.setattr(chunk, "MAX_CHUNK_ROWS", 100_000)
    first, second = first_chunks(working, queue, account, monkeypatch, seconds)
    assert second == round(factor * first), "and at most four times as many as the one before"


@pytest.mark.parametrize(("seconds", "row_count"), [(0.01, 3_000), (100.0, 500)])
def test_a_chunk_is_neither_huge_nor_tiny(
    working: Context, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch, seconds: float, row_count: int
) -> None:
    assert first_chunks(working, queue, account, monkeypatch, seconds)[1] == row_count


def first_chunks(
    context: Context, queue: HeldQueue, account: Demo, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> tuple[int, int]:
    """How many rows the first chunk of a job had, which took `seconds`, and how many the second shall have."""
    lifecycle.submit(context, batch(context, account, rows("c", MANY)))
    clock = itertools.chain([0.0], itertools.repeat(seconds))
    monkeypatch.setattr(chunk, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    queue.run(context, 1)
    with context.database.reading() as connection:
        rows_read, planned = connection.execute(select(job.c.rows_read, job.c.portion_rows)).one()
    return rows_read, planned


def test_bad_rows_are_skipped_told_of_and_kept_to_be_mended(working: Context, queue: HeldQueue, account: Demo) -> None:
    bad = (1, 2_999, 7_000, MANY)
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY, bad=bad)))
    queue.run(working)
    done = found(working, account, queued.batch_id)
    assert (done.status, done.progress) == ("imported", BatchProgress(MANY, MANY, MANY - 4, 4))
    problems = batch_status.paged_problems(working, account.number, queued.batch_id)
    assert [(problem.row, problem.code) for problem in problems] == [(row, "bad_date") for row in bad]
    with working.database.reading() as connection:
        kept = [(row, cells) for row, cells in stored.stream_failed_rows(connection, account.number, queued.batch_id)]
    assert [row for row, _ in kept] == list(bad)
    assert kept[1][1] == '["c2999", "Name 2999", "never", "25"]'


def test_reject_checks_all_rows_before_it_writes_the_first(working: Context, queue: HeldQueue, account: Demo) -> None:
    bad = (5, MANY)
    text = rows("c", MANY, bad=bad)
    queued = lifecycle.submit(working, batch(working, account, text, on_error=OnError.REJECT))
    queue.run(working)
    done = found(working, account, queued.batch_id)
    assert (done.status, done.progress) == ("failed", BatchProgress(MANY, MANY, 0, 2))
    assert done.reason is not None
    assert done.reason.code == "bad_rows"
    assert f"2 of {MANY} rows" in done.reason.message
    assert "Row 5, custom_date" in done.reason.message
    assert holds(working, account) == Held(0, 0, 0)
    with working.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(failed_row)).scalar_one() == 2
    with pytest.raises(ApiError) as refused:
        lifecycle.resume(working, account.number, queued.batch_id)
    assert refused.value.code == "not_resumable"


def test_reject_writes_all_rows_in_one_transaction(working: Context, queue: HeldQueue, account: Demo) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY), on_error=OnError.REJECT))
    while queue.messages:
        assert holds(working, account).customers == 0
        queue.run(working, 1)
    assert changes(working, account) == 1
    assert found(working, account, queued.batch_id).counts.new == MANY


@pytest.mark.parametrize("count", [3, MANY], ids=["checked at once", "checked in chunks"])
def test_reject_counts_rows_that_were_checked_and_written_once(
    working: Context, queue: HeldQueue, account: Demo, count: int
) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", count), on_error=OnError.REJECT))
    queue.run(working)
    done = found(working, account, queued.batch_id)
    assert (done.status, done.progress) == ("imported", BatchProgress(count, count, count, 0))
    assert done.row["rows"] == count


def test_reject_finds_what_only_the_store_knows(working: Context, queue: HeldQueue, account: Demo) -> None:
    # No row is bad by itself, but two customers of the batch ask for one user name.
    text = "a|Ann|2001-02-03|1\nb|Bob|2001-02-03|1\n"
    twice = batch(working, account, text, on_error=OnError.REJECT)
    named = twice._replace(headers=(*twice.headers, Header(5, USERNAME)))
    data = b"a|Ann|2001-02-03|1|same\nb|Bob|2001-02-03|1|Same\n"
    queued = lifecycle.submit(
        working, named._replace(source=replace(named.source, file=io.BytesIO(data), size=len(data)))
    )
    queue.run(working)
    done = found(working, account, queued.batch_id)
    assert (done.status, done.progress) == ("failed", BatchProgress(2, 2, 0, 1))
    assert done.row["rows"] == 2
    assert done.reason is not None
    assert done.reason.code == "bad_rows"
    problems = list(batch_status.paged_problems(working, account.number, queued.batch_id))
    assert problems == [Problem(2, "customer_username", "username_in_use", "Same")]
    with working.database.reading() as connection:
        assert [row for row, _ in stored.stream_failed_rows(connection, account.number, queued.batch_id)] == [2]
    assert holds(working, account) == Held(0, 0, 0)
    with pytest.raises(ApiError) as refused:
        lifecycle.resume(working, account.number, queued.batch_id)
    assert refused.value.code == "not_resumable"


def test_a_job_that_is_cancelled_keeps_whole_chunks_and_goes_on_where_it_stood(
    working: Context, queue: HeldQueue, account: Demo
) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 2)
    lifecycle.cancel(working, account.number, queued.batch_id)
    queue.run(working)
    cancelled = found(working, account, queued.batch_id)
    assert cancelled.status == "cancelled"
    assert 0 < cancelled.progress.processed < MANY
    assert holds(working, account).customers == cancelled.progress.processed
    with pytest.raises(ApiError) as refused:
        lifecycle.cancel(working, account.number, queued.batch_id)
    assert refused.value.code == "not_running"
    lifecycle.resume(working, account.number, queued.batch_id)
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"
    assert holds(working, account) == Held(MANY, MANY * 2500, MANY)
    with pytest.raises(ApiError) as refused:
        lifecycle.resume(working, account.number, queued.batch_id)
    assert refused.value.code == "not_resumable"


def test_a_job_that_is_cancelled_can_be_undone(working: Context, queue: HeldQueue, account: Demo) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 2)
    lifecycle.cancel(working, account.number, queued.batch_id)
    processed = found(working, account, queued.batch_id).progress.processed
    done = undo_batch.undo(working, account.number, queued.batch_id, "u", "cli")
    assert (done.removed, done.restored, done.kept) == (processed, 0, 0)
    held_now = holds(working, account)
    assert (held_now.customers, held_now.points) == (0, 0)
    assert found(working, account, queued.batch_id).status == "undone"
    with pytest.raises(ApiError) as refused:
        lifecycle.resume(working, account.number, queued.batch_id)
    assert refused.value.code == "not_resumable"


def test_a_job_under_way_is_not_undone(working: Context, queue: HeldQueue, account: Demo) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    for _ in range(2):
        with pytest.raises(ApiError) as refused:
            undo_batch.undo(working, account.number, queued.batch_id, "u", "cli")
        assert refused.value.code == "batch_running"
        queue.run(working, 1)


def test_a_small_job_is_done_within_two_chunks_of_each_big_one(
    working: Context, queue: HeldQueue, account: Demo
) -> None:
    big = [lifecycle.submit(working, batch(working, account, rows(f"b{n}-", MANY))).batch_id for n in range(8)]
    queue.run(working, 8)
    assert all(found(working, account, batch_id).progress.processed for batch_id in big)
    small = lifecycle.submit(working, batch(working, account, rows("small", 10))).batch_id
    assert queue.run(working, 9) == 9
    assert found(working, account, small).status == "imported"
    assert all(found(working, account, batch_id).status == "running" for batch_id in big)


def test_the_same_request_is_queued_once(working: Context, queue: HeldQueue, account: Demo) -> None:
    first = lifecycle.submit(working, batch(working, account, rows("c", 5), key="k1"))
    second = lifecycle.submit(working, batch(working, account, rows("c", 5), key="k1"))
    assert (second.batch_id, second.replayed) == (first.batch_id, True)
    assert len(queue.messages) == 1
    with pytest.raises(ApiError) as refused:
        lifecycle.submit(working, batch(working, account, rows("c", 6), key="k1")._replace(request_digest=b"e" * 32))
    assert refused.value.code == "request_id_reused"


def test_undo_of_a_job_is_one_undo(working: Context, queue: HeldQueue, account: Demo) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working)
    assert changes(working, account) > 2
    done = undo_batch.undo(working, account.number, queued.batch_id, "u", "cli")
    assert (done.removed, done.restored, done.kept) == (MANY, 0, 0)
    again = undo_batch.undo(working, account.number, done.batch_id, "u", "cli")
    assert again.restored == MANY
    assert found(working, account, queued.batch_id).status == "imported"
    held_now = holds(working, account)
    assert (held_now.customers, held_now.points) == (MANY, MANY * 2500)
