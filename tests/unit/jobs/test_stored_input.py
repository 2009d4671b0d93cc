"""The data of a job: sealed, read like a file, there for as long as the job needs them."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from importing.batch import Header, OnError
from importing.context import Context
from importing.errors import ApiError
from importing.fields import USERNAME
from importing.jobs import lifecycle, stored_input
from storage import apply
from storage.engine import Busy
from storage.queries import jobs as stored
from storage.tables import job, job_input
from tests.support.demo_accounts import Demo
from tests.support.job_batches import HeldQueue, batch, rows
from tests.support.job_queries import MANY, changes, found


def test_the_input_is_sealed_and_gone_at_the_end(working: Context, queue: HeldQueue, account: Demo) -> None:
    lifecycle.submit(working, batch(working, account, rows("secretive", 10)))
    with working.database.reading() as connection:
        pieces = connection.execute(select(job_input.c.data)).scalars().all()
        assert pieces
        assert not any(b"secretive" in piece for piece in pieces)
    queue.run(working)
    with working.database.reading() as connection:
        assert connection.execute(select(job_input.c.data)).first() is None


def test_a_job_whose_file_cannot_be_read_is_written_down_as_failed(
    working: Context, queue: HeldQueue, account: Demo
) -> None:
    queued = lifecycle.submit_failed(working, batch(working, account, ""), ApiError("bad_header_line"), "v-1")
    failed = found(working, account, queued.batch_id)
    assert (failed.status, failed.request_ref) == ("failed", "v-1")
    assert failed.reason is not None
    assert failed.reason.code == "bad_header_line"
    assert not queue.messages
    assert lifecycle.recover_jobs(working) == 0


def test_a_file_without_rows_is_imported_as_nothing(working: Context, queue: HeldQueue, account: Demo) -> None:
    queued = lifecycle.submit(working, batch(working, account, "\n \n|||\n"))
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"
    assert changes(working, account) == 0


def test_uploads_that_no_job_has_are_dropped_after_a_day(working: Context, queue: HeldQueue, account: Demo) -> None:
    stored_input.store_input(working, account.number, io.BytesIO(b"x" * 100), 4.0)
    queued = lifecycle.submit(working, batch(working, account, rows("c", 10)))
    assert lifecycle.drop_stale_inputs(working) == 0
    with working.database.writing() as connection:
        connection.execute(update(job_input).values(created_at=job_input.c.created_at - lifecycle.DAY_MS - 1))
    assert lifecycle.drop_stale_inputs(working) == 1
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"


def test_the_data_of_a_job_reads_like_a_file(context: Context, account: Demo) -> None:
    data = bytes(range(256)) * 5000
    input_id, size = stored_input.store_input(context, account.number, io.BytesIO(data), 4.0)
    file = stored_input.StoredInput(context, account.number, input_id, size)
    assert size == len(data)
    assert file.read() == data
    for start, wanted in (
        (0, 3),
        (stored_input.PIECE_BYTES - 2, 5),
        (size - 1, 10),
        (size, 1),
        (7, 2 * stored_input.PIECE_BYTES),
    ):
        file.seek(start)
        assert file.read(wanted) == data[start : start + wanted]


def pieces(context: Context) -> int:
    with context.database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(job_input)).scalar_one())


def test_the_data_of_a_refused_job_are_gone(working: Context, queue: HeldQueue, account: Demo) -> None:
    # Refused for what is wrong with a row, and for what only the store knows.
    bad = batch(working, account, rows("c", 10, bad=(3,)), on_error=OnError.REJECT)
    data = b"a|Ann|2001-02-03|1|same\nb|Bob|2001-02-03|1|Same\n"
    twice = bad._replace(headers=(*bad.headers, Header(5, USERNAME)))
    twice = twice._replace(source=replace(bad.source, file=io.BytesIO(data), size=len(data)))
    for refused in (bad, twice):
        queued = lifecycle.submit(working, refused)
        assert pieces(working) == 1
        queue.run(working)
        assert found(working, account, queued.batch_id).status == "failed"
        assert pieces(working) == 0


def test_a_job_that_is_turned_away_leaves_no_data_behind(
    working: Context, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> int:
        raise Busy

    monkeypatch.setattr(apply, "next_change", busy)
    with pytest.raises(ApiError) as refused:
        lifecycle.submit(working, batch(working, account, rows("c", 10)))
    assert refused.value.code == "busy"
    assert pieces(working) == 0


def test_a_job_whose_data_are_gone_cannot_be_resumed(working: Context, queue: HeldQueue, account: Demo) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", MANY)))
    queue.run(working, 1)
    lifecycle.cancel(working, account.number, queued.batch_id)
    with working.database.writing() as connection:
        connection.execute(update(job).values(ended_at=job.c.ended_at - lifecycle.RESUMABLE_MS - 1))
    assert lifecycle.drop_stale_inputs(working) == 1
    with pytest.raises(ApiError) as refused:
        lifecycle.resume(working, account.number, queued.batch_id)
    assert refused.value.code == "not_resumable"
    assert found(working, account, queued.batch_id).status == "cancelled"


def test_the_data_of_a_job_that_is_resumed_stay(working: Context, queue: HeldQueue, account: Demo) -> None:
    queued = lifecycle.submit(working, batch(working, account, rows("c", 10)))
    lifecycle.cancel(working, account.number, queued.batch_id)
    with working.database.reading() as connection:
        input_id = connection.execute(select(job.c.input_id)).scalar_one()
    lifecycle.resume(working, account.number, queued.batch_id)
    assert found(working, account, queued.batch_id).ended_at == 0
    # As somebody would who found it stale a moment before.
    with working.database.writing() as connection:
        stored.drop_input(connection, account.number, input_id)
    queue.run(working)
    assert found(working, account, queued.batch_id).status == "imported"
