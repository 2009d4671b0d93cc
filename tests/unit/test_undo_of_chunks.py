"""A batch that was written in several chunks is one undo: by set where its chunks touched different customers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from importing import batch_status, import_batch
from importing.batch import UndoOutcome
from importing.context import Context
from importing.errors import ApiError
from importing.jobs import chunk, lifecycle
from importing.undo import availability, undo_batch
from storage import tables
from storage.batch_transaction import ROWS_PER_CHUNK, BatchTransaction
from storage.queries import batches
from tests.support import chunked_batches
from tests.support.demo_accounts import Demo
from tests.support.job_batches import HeldQueue, batch, rows
from tests.support.model import Import
from tests.support.real_core import Actual

COLUMNS = ("code", "card_number", "first_name", "auto_add")


@pytest.fixture
def actual(context: Context) -> Actual:
    return Actual(context)


def lines(*texts: str, columns: Sequence[str] = COLUMNS) -> Import:
    """A batch of rows such as "k1 c1 ann 5"; a dash is a blank."""
    cells = (["" if cell == "-" else cell for cell in text.split()] for text in texts)
    every = tuple(dict(zip(columns, row, strict=True)) for row in cells)
    return Import(tuple(columns), every, "update", "skip", ("club",))


def written(actual: Actual, *steps: Import | tuple[Import]) -> str:
    """Write batches as the chunks of one; one in a tuple is somebody else's, in between."""
    first = next(step for step in steps if isinstance(step, Import))
    batch_id = chunked_batches.begin(actual.context, actual.batch(first))
    for step in steps:
        if isinstance(step, Import):
            assert actual.write_chunk(step, batch_id).fault == ""
        else:
            assert actual.apply(step[0]).fault == ""
    chunked_batches.end(actual.context, actual.number, batch_id)
    return batch_id


def changes(actual: Actual, batch_id: str) -> int:
    """How many changes a batch, or an undo, was written in."""
    with actual.context.database.reading() as connection:
        query = select(func.count()).where(tables.change.c.batch_id == batch_id)
        return int(connection.execute(query).scalar_one())


def foretold(actual: Actual, batch_id: str) -> UndoOutcome:
    """Undo, after a preview that said the same and left no trace."""
    before = actual.everything()
    predicted = actual.preview_undo(batch_id)
    assert actual.everything() == before
    undone = actual.undo(batch_id)
    assert list(predicted.conflicts) == list(undone.conflicts)
    assert counts(predicted) == counts(undone)
    assert (predicted.batch_id, predicted.undoes, undone.undoes) == ("", batch_id, batch_id)
    return undone


def counts(undone: UndoOutcome) -> tuple[int, int, int]:
    return undone.restored, undone.removed, undone.kept


def shown(undone: UndoOutcome) -> list[tuple[str, str, str, str]]:
    return [(c.code, c.field, c.written, c.current) for c in undone.conflicts]


def refused(actual: Actual, batch_id: str) -> str:
    with pytest.raises(ApiError) as fault:
        actual.undo(batch_id)
    with pytest.raises(ApiError) as preview_error:
        actual.preview_undo(batch_id)
    assert preview_error.value.code == fault.value.code
    return fault.value.code


def status(actual: Actual, batch_id: str, value: str = "") -> str:
    """The status of a batch, changed first where one is given."""
    table = tables.batch
    with actual.context.database.writing() as connection:
        if value:
            connection.execute(update(table).where(table.c.id == batch_id).values(status=value))
        return str(connection.execute(select(table.c.status).where(table.c.id == batch_id)).scalar_one())


def test_chunks_of_different_customers_are_taken_back_by_set_as_one_change(actual: Actual) -> None:
    actual.apply(lines("k1 c1 ann 1", "k2 c2 bob 1"))
    was = actual.raw()
    parts = [lines(f"k{n} c{n} eve 5", f"new{n} d{n} eve 5") for n in (1, 2)]
    batch_id = written(actual, *parts, lines("other o1 eve 5"))
    written_state = actual.raw()
    assert changes(actual, batch_id) == 3
    undone = foretold(actual, batch_id)
    assert (counts(undone), shown(undone)) == ((2, 3, 0), [])
    assert changes(actual, undone.batch_id) == 1
    assert actual.raw() == was
    again = foretold(actual, undone.batch_id)
    assert counts(again) == (5, 0, 0)
    assert actual.raw() == written_state
    actual.check()


def test_a_customer_of_two_chunks_counts_once(actual: Actual) -> None:
    actual.apply(lines("k1 c1 ann 1"))
    was = actual.raw()
    batch_id = written(actual, lines("k1 c1 bob 5", "k2 c2 bob 5"), lines("k1 c1 eve 5", "k2 c9 eve 5"))
    written_state = actual.raw()
    undone = foretold(actual, batch_id)
    assert (counts(undone), shown(undone)) == ((1, 1, 0), [])
    assert changes(actual, undone.batch_id) == 2
    assert actual.raw() == was
    again = foretold(actual, undone.batch_id)
    assert (counts(again), shown(again)) == ((2, 0, 0), [])
    assert actual.raw() == written_state
    assert (counts(foretold(actual, batch_id)), actual.raw()) == ((1, 1, 0), was)
    actual.check()


def test_what_somebody_else_wrote_between_two_chunks_is_told_apart(actual: Actual) -> None:
    actual.apply(lines("k1 c1 ann -"))
    mine, theirs, back = (lines(f"k1 c1 {name} -") for name in ("bob", "eve", "bob"))
    # The second chunk finds theirs, and gives it back; so the first finds a value that it did not write.
    batch_id = written(actual, mine, (theirs,), back)
    undone = foretold(actual, batch_id)
    assert actual.state()["k1"]["fields"]["first_name"] == "eve"
    assert shown(undone) == [("k1", "first_name", "bob", "eve")]
    assert counts(undone) == (1, 0, 0)


def test_a_conflict_counts_once_for_a_customer_and_a_field(actual: Actual) -> None:
    actual.apply(lines("k1 c1 ann -"))
    batch_id = written(actual, lines("k1 c1 bob -"), lines("k1 c1 eve -"))
    actual.apply(lines("k1 c1 kim -"))
    undone = foretold(actual, batch_id)
    assert shown(undone) == [("k1", "first_name", "eve", "kim")]
    assert actual.state()["k1"]["fields"]["first_name"] == "kim"


def test_who_made_a_customer_and_changed_it_since_takes_it_away_whole(actual: Actual) -> None:
    batch_id = written(actual, lines("k1 c1 bob 5"), lines("k1 c9 eve 5"))
    undone = foretold(actual, batch_id)
    assert (counts(undone), shown(undone), actual.state()) == ((0, 1, 0), [], {})


def test_a_key_that_two_chunks_took_from_two_customers_goes_back_to_the_later_owner(actual: Actual) -> None:
    actual.apply(lines("k1 c1 ann -", "k2 c2 bob -"))
    # k1 loses c1 in the first chunk, then k2 gets it from somebody else, and loses it in the second.
    batch_id = written(actual, lines("k1 c8 ann -"), (lines("k2 c1 bob -"),), lines("k2 c9 bob -"))
    undone = foretold(actual, batch_id)
    cards = {code: held["fields"]["card_number"] for code, held in actual.state().items()}
    assert cards == {"k1": "c8", "k2": "c1"}
    assert shown(undone) == [("k1", "card_number", "c8", "c8")]
    assert changes(actual, undone.batch_id) == 2
    actual.check()


def test_a_key_that_an_older_chunk_gives_up_comes_too_late_for_a_newer_one(actual: Actual) -> None:
    actual.apply(lines("k1 c1 ann -", "k2 c2 bob -"))
    # k1 writes c3 and loses it, k2 gets it and loses it in the next chunk, k1 gets it again.
    first, second = lines("k1 c3 ann -"), lines("k2 c4 bob -")
    batch_id = written(actual, first, (lines("k1 c5 ann -"),), (lines("k2 c3 bob -"),), second, (lines("k1 c3 ann -"),))
    undone = foretold(actual, batch_id)
    cards = {code: held["fields"]["card_number"] for code, held in actual.state().items()}
    assert cards == {"k1": "c1", "k2": "c4"}
    assert shown(undone) == [("k2", "card_number", "c4", "c4")]
    actual.check()


def test_a_preview_that_has_to_try_is_busy_while_somebody_writes(actual: Actual) -> None:
    hasty = replace(actual.context, write_wait=0.05)
    apart = written(actual, lines("k1 c1 bob 5"), lines("k2 c2 bob 5"))
    met = written(actual, lines("k1 c1 eve 5"), lines("k1 c1 kim 5"))
    with actual.context.database.writing() as connection:
        actual.lock(connection)
        assert undo_batch.preview(hasty, actual.number, apart).kept == 1
        with pytest.raises(ApiError) as fault:
            undo_batch.preview(hasty, actual.number, met)
    assert fault.value.code == "busy"


def test_the_count_of_statements_does_not_grow_with_the_chunks(actual: Actual, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(count: int) -> int:
        batch_id = written(actual, *(lines(f"x{count}-{n} y{count}-{n} eve 5") for n in range(count)))
        heard: list[str] = []
        real: Any = BatchTransaction._run  # the one place that all statements pass

        def run_and_note(self: BatchTransaction, statement: str, values: object) -> object:
            heard.append(statement)
            return real(self, statement, values)

        with monkeypatch.context() as patched:
            patched.setattr(BatchTransaction, "_run", run_and_note)
            assert counts(actual.undo(batch_id)) == (0, count, 0)
        return len(heard)

    assert taken(3) == taken(30)


@pytest.mark.parametrize("under_way", ["queued", "running"])
def test_a_batch_under_way_is_refused(actual: Actual, under_way: str) -> None:
    batch_id = written(actual, lines("k1 c1 bob 5"))
    status(actual, batch_id, under_way)
    assert refused(actual, batch_id) == "batch_running"
    found = batch_status.find_batch(actual.context, actual.number, batch_id)
    assert found is not None
    assert availability.undo_state(actual.context, actual.number, found.row) == "none"


@pytest.mark.parametrize("ended", ["imported", "failed", "cancelled"])
def test_after_an_undo_of_the_undo_a_batch_is_what_it_was(actual: Actual, ended: str) -> None:
    batch_id = written(actual, lines("k1 c1 bob 5"), lines("k2 c2 bob 5"))
    status(actual, batch_id, ended)
    for _ in range(2):
        undone = actual.undo(batch_id)
        assert status(actual, batch_id) == "undone"
        actual.undo(undone.batch_id)
        assert status(actual, batch_id) == ended


@pytest.mark.parametrize("ended", ["failed", "cancelled"])
def test_customers_touched_by_a_job_that_broke_off_are_kept(actual: Actual, ended: str) -> None:
    made = actual.apply(lines("k1 c1 ann 5"))
    status(actual, written(actual, lines("k1 c1 bob 5")), ended)
    undone = foretold(actual, made.id)
    assert (counts(undone), shown(undone)) == ((0, 0, 1), [("k1", "customer", "", "")])


def test_an_import_that_was_brought_back_counts_for_who_was_brought_back_after_it(actual: Actual) -> None:
    made = actual.apply(lines("k1 c1 ann 5"))
    touched = actual.apply(lines("k1 c1 bob 5"))
    first = actual.undo(touched.id)
    gone = actual.undo(made.id)
    actual.undo(first.batch_id)
    back = actual.undo(gone.batch_id)
    undone = foretold(actual, back.batch_id)
    assert (counts(undone), shown(undone)) == ((0, 0, 1), [("k1", "customer", "", "")])


def test_a_job_that_was_resumed_is_undone_whole_not_by_half(
    context: Context, account: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "FIRST_CHUNK_ROWS", 2_000)
    monkeypatch.setattr(chunk, "MAX_CHUNK_ROWS", 3_000)
    queue = HeldQueue()
    working = replace(context, queue=queue)
    queued = lifecycle.submit(working, batch(working, account, rows("c", 12_000))).batch_id
    queue.run(working, 2)
    lifecycle.cancel(working, account.number, queued)
    undone = undo_batch.undo(working, account.number, queued, "u", "cli")
    back = undo_batch.undo(working, account.number, undone.batch_id, "u", "cli")
    lifecycle.resume(working, account.number, queued)
    with pytest.raises(ApiError) as fault:
        undo_batch.undo(working, account.number, back.batch_id, "u", "cli")
    assert fault.value.code == "batch_running"
    queue.run(working)
    with pytest.raises(ApiError) as fault:
        undo_batch.undo(working, account.number, back.batch_id, "u", "cli")
    assert fault.value.code == "undo_unavailable"
    assert counts(undo_batch.undo(working, account.number, queued, "u", "cli")) == (0, 12_000, 0)


def test_conflicts_beyond_a_page_come_in_the_order_of_customers(actual: Actual) -> None:
    many = 2 * ROWS_PER_CHUNK + 7
    names = [f"k{n:05}" for n in range(many)]
    actual.apply(lines(*(f"{name} - ann -" for name in names)))
    batch_id = actual.apply(lines(*(f"{name} - bob -" for name in names))).id
    actual.apply(lines(*(f"{name} - eve -" for name in names)))
    undone = foretold(actual, batch_id)
    assert [conflict.code for conflict in undone.conflicts] == names
    with import_batch.batch_session(actual.context) as work:
        found = batches.load_problems(work, actual.number, undone.batch_id, batches.CONFLICT)
        assert [row[2] for row in found] == names


@pytest.mark.parametrize("between", [1, 9])
def test_customers_of_another_account_may_lie_between_those_that_are_taken_away(actual: Actual, between: int) -> None:
    """On SQLite accounts share the customers' numbers, and each account counts its own changes."""
    other = Actual(actual.context, "neighbours")
    for name in ("zoe", "zack"):
        other.apply(lines(f"z1 - {name} 5"))
    batch_id = chunked_batches.begin(actual.context, actual.batch(lines("k1 c1 ann 5")))
    actual.write_chunk(lines("k1 c1 ann 5"), batch_id)
    theirs = other.apply(lines(*(f"z2{n} - zed 5" for n in range(between)))).id
    actual.write_chunk(lines("k2 c2 bob 5"), batch_id)
    chunked_batches.end(actual.context, actual.number, batch_id)
    was, their_state = actual.raw(), other.raw()
    assert _last_change(actual) == _last_change(other)
    ours = foretold(actual, batch_id)
    assert (counts(ours), other.raw()) == ((0, 2, 0), their_state)
    their_undo = foretold(other, theirs)
    assert counts(their_undo) == (0, between, 0)
    assert counts(foretold(actual, ours.batch_id)) == (2, 0, 0)
    assert actual.raw() == was
    assert counts(foretold(other, their_undo.batch_id)) == (between, 0, 0)
    assert (actual.raw(), other.raw()) == (was, their_state)
    for account in (actual, other):
        account.check()


def _last_change(actual: Actual) -> int:
    with actual.context.database.read_connection() as work:
        return batches.last_change(work, actual.number)
