"""What must always hold of undo: apply then undo is nothing, and in any order it does what the model does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from importing.batch import UndoOutcome
from importing.context import Context
from tests.support import chunked_batches, model_undo
from tests.support.model import Import, Model
from tests.support.real_core import Actual, compare, customers_of, expected
from tests.support.strategies import PLAIN, imports, profile, resolved, undoable


@dataclass(frozen=True)
class Job:
    """A batch written in `chunks`, and what others do in between, after each of them but the last."""

    chunks: tuple[Import, ...]
    between: tuple[Import | int | None, ...]


@st.composite
def jobs(draw: st.DrawFn, max_rows: int = 6, *, narrow: bool = True) -> Job:
    whole = undoable(draw(imports(max_rows, narrow=narrow).filter(lambda batch: len(batch.rows) > 1)))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(whole.rows) - 1)), min_size=1, max_size=3)))
    parts = [whole.rows[start:end] for start, end in zip_longest([0, *cuts], cuts)]
    chunks = tuple(replace(whole, rows=rows) for rows in parts if rows)
    others = st.one_of(st.none(), imports(2, narrow=True).map(undoable), st.integers(0, 5))
    return Job(chunks, tuple(draw(others) for _ in chunks[1:]))


Step = Import | Job | int
STEPS = st.one_of(
    imports(3, narrow=True).map(undoable), imports(5).map(undoable), jobs(), jobs(narrow=False), st.integers(0, 5)
)
FULL = ("code", "card_number", "first_name", "custom_date", "customer_username", "customer_PIN", "custom_field_1")
BOTH = Import(
    (*FULL, *PLAIN),
    tuple(
        {**dict(zip(FULL, cells, strict=True)), **dict.fromkeys(PLAIN, "one")}
        for cells in (
            ("k1", "c1", "ann", "2020-01-02", "ann", "1234", "v"),
            ("k2", "c2", "bob", "2021-03-04", "bob", "1234", "w"),
        )
    ),
    campaigns=("club",),
)
# Undone and brought back while its customer was gone, and undone once more when others had brought the customer back.
TWICE = Job(
    (
        Import(
            ("code", "first_name"),
            ({"code": "k1", "first_name": "ann"},),
            mode="yes",
            on_error="skip",
            campaigns=("club",),
        ),
    )
    * 2,
    (None,),
)


class Story:
    """The same imports and undos told to the model and to the real core. `ids`: number in the history -> batch id."""

    def __init__(self, actual: Actual) -> None:
        actual.reset()
        self.actual, self.truth, self.ids = actual, Model(), dict[int, str]()

    def apply(self, batch: Import) -> bool:
        """Whether anything was imported."""
        batch = resolved(batch, customers_of(self.truth))
        result, done = self.actual.apply(batch), self.truth.apply(batch)
        compare(self.truth, done, result, batch)
        if done.log is not None:
            self.ids[done.log] = result.id
        return done.log is not None

    def job(self, job: Job) -> None:
        """Write the batch in its chunks, with what others do between them."""
        first, batch_id = None, chunked_batches.begin(self.actual.context, self.actual.batch(job.chunks[0]))
        for chunk, other in zip_longest(job.chunks, job.between):
            rows = resolved(chunk, customers_of(self.truth))
            result, done = self.actual.write_chunk(rows, batch_id), self.truth.apply(rows, first)
            compare(self.truth, done, result, rows)
            first = first or done.log
            if isinstance(other, Import):
                self.apply(other)
            elif other is not None and (choices := [number for number in self.undoable() if number != first]):
                self.undo(choices[other % len(choices)])
        chunked_batches.end(self.actual.context, self.actual.number, batch_id)
        if first is not None:
            self.ids[first] = batch_id

    def undo(self, number: int) -> UndoOutcome:
        """Preview, then undo, and hold both against the model."""
        before = self.actual.everything()
        predicted = self.actual.preview_undo(self.ids[number])
        assert self.actual.everything() == before
        undone = self.actual.undo(self.ids[number])
        truth = model_undo.undo(self.truth, number)
        assert truth.log is not None
        self.ids[truth.log] = undone.batch_id
        assert undone.undoes == self.ids[number]
        counts = {"restored": undone.restored, "removed": undone.removed, "kept": undone.kept}
        assert told(undone) == sorted(unsaid(*conflict) for conflict in truth.conflicts)
        assert counts == {name: truth.counts[name] for name in counts}
        assert (predicted.restored, predicted.removed, predicted.kept) == tuple(counts.values())
        assert (predicted.batch_id, told(predicted)) == ("", told(undone))
        assert self.actual.state() == expected(self.truth)
        return undone

    def undoable(self) -> list[int]:
        """What can be undone now: the imports in force, and the newest undo of each chain."""
        logs = (log for log in self.truth.history.values() if log.in_force and log.keep_undo)
        return [log.number for log in logs if log.part_of is None]


def told(undone: UndoOutcome) -> list[tuple[str, str, str, str]]:
    return sorted(unsaid(c.code, c.field, c.written, c.current) for c in undone.conflicts)


def unsaid(code: str, field: str, written: str, current: str) -> tuple[str, str, str, str]:
    """A conflict; one about a customer who is there or not, as a whole, has no values to compare."""
    return (code, field, "", "") if field == "customer" or not (written or current) else (code, field, written, current)


@pytest.fixture
def actual(context: Context) -> Actual:
    return Actual(context)


@profile(35, 2000)
@given(batches=st.lists(imports(6).map(undoable), min_size=1, max_size=4))
def test_apply_then_undo_is_nothing(actual: Actual, batches: list[Import]) -> None:
    story, before = Story(actual), [("", "")][:0]
    for batch in batches:
        was = str(actual.state()), actual.raw()
        if story.apply(batch):
            before.append(was)
    for number in reversed(list(story.ids)):
        undone = story.undo(number)
        assert not undone.kept
        assert not list(undone.conflicts)
        assert (str(actual.state()), actual.raw()) == before.pop()
    actual.check()


@profile(50, 5000)
@given(steps=st.lists(STEPS, min_size=3, max_size=9))
def test_undo_in_any_order_is_as_the_model_says(actual: Actual, steps: Sequence[Step]) -> None:
    # A number undoes the import, or the undo, that stands there among those that can be undone.
    story = Story(actual)
    for step in steps:
        choices = story.undoable()
        if isinstance(step, Import):
            story.apply(step)
        elif isinstance(step, Job):
            story.job(step)
        elif choices:
            story.undo(choices[step % len(choices)])
    actual.check()


@profile(35, 3000)
@given(
    batches=st.lists(imports(2, narrow=True).map(undoable), min_size=2, max_size=4),
    picks=st.lists(st.integers(0, 5), min_size=1, max_size=5),
)
def test_fields_come_back_only_where_they_stand_as_written(
    actual: Actual, batches: list[Import], picks: list[int]
) -> None:
    # Two customers with a value in every field, then a few batches that write over each other's, then undos below them.
    story = Story(actual)
    story.apply(BOTH)
    for batch in batches:
        story.apply(batch)
    for pick in picks:
        choices = story.undoable()
        story.undo(choices[min(len(choices) - 1, 1 + pick % len(choices))])
    actual.check()


@profile(25, 1000)
@given(batches=st.lists(imports(4).map(undoable), min_size=2, max_size=3), turns=st.integers(2, 5))
def test_undo_redo_and_undo_again_is_undo(actual: Actual, batches: list[Import], turns: int) -> None:
    story = Story(actual)
    for batch in batches:
        story.apply(batch)
    states = [actual.raw()]
    for _ in range(turns if story.ids else 0):
        story.undo(story.undoable()[-1])
        states.append(actual.raw())
    assert len(set(states[0::2])) == 1
    assert len(set(states[1::2])) <= 1
    actual.check()


@profile(50, 5000)
@given(
    steps=st.lists(
        st.one_of(jobs(), jobs(narrow=False), jobs(2), imports(2, narrow=True).map(undoable)), min_size=1, max_size=3
    ),
    picks=st.lists(st.integers(0, 5), min_size=1, max_size=5),
)
@example(steps=[TWICE], picks=[0, 1, 1, 1, 1])
def test_a_batch_in_chunks_is_undone_as_its_chunks_one_after_another(
    actual: Actual, steps: list[Job | Import], picks: list[int]
) -> None:
    story = Story(actual)
    story.apply(BOTH)
    for step in steps:
        if isinstance(step, Job):
            story.job(step)
        else:
            story.apply(step)
    for pick in picks:
        choices = story.undoable()
        story.undo(choices[-1 - pick % len(choices)])
    actual.check()
