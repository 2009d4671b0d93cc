"""What must always hold of an import: by set it does what the model does row by row, and its preview predicts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing.context import Context
from tests.support.model import Import, Model
from tests.support.real_core import Actual, compare, customers_of, expected, foretold
from tests.support.strategies import imports, profile, resolved

KEYS = ("code", "card_number")


def batch(*rows: tuple[str, ...], columns: tuple[str, ...] = KEYS, mode: str = "update", digits: int = 0) -> Import:
    cells = tuple(dict(zip(columns, row, strict=True)) for row in rows)
    return Import(columns, cells, mode, "skip", ("club",), "points", digits or None)


# Each once went wrong by set: a stored customer or two, then rows that meet each other.
MEETINGS = {
    "only keys, a customer twice": [batch(("k1", "c1"), ("k1", "c1"))],
    "points of two rows of a new customer": [batch(("k1", "25"), ("k1", "25"), columns=("code", "auto_add"))],
    "a card made for a row, then given by the next": [batch(("k1", ""), ("k1", "c1"), digits=8)],
    "a card made for a stored customer with two rows": [
        batch(("k1",), columns=("code",)),
        batch(("k1", "ann"), ("k1", "bob"), columns=("code", "first_name"), digits=8),
    ],
    "a later row of a customer takes a card that another row made": [
        batch(("k1", "c1")),
        batch(("k1", "c1"), ("k2", "c2"), ("k1", "c2"), ("k1", "c3")),
    ],
    "a later row of a customer gives away its card": [
        batch(("k1", "c1")),
        batch(("k1", "c1"), ("k1", "c2"), ("k2", "c2"), ("k1", "c1")),
    ],
    "an ignored row with a card that an earlier row made": [
        batch(("k2", "c2")),
        batch(("k1", "c1"), ("k2", "c1"), mode="ignore"),
    ],
    "an ignored row with a code that an earlier row made": [
        batch(("k2", "c2")),
        batch(("k1", "c1"), ("k1", "c2"), mode="ignore"),
    ],
}


@pytest.fixture
def actual(context: Context) -> Actual:
    return Actual(context)


@profile(100, 5000)
@given(batches=st.lists(imports(), min_size=1, max_size=4))
def test_by_set_is_row_by_row(actual: Actual, batches: list[Import]) -> None:
    actual.reset()
    truth = Model()
    for batch in batches:
        batch = resolved(batch, customers_of(truth))
        compare(truth, truth.apply(batch), actual.apply(batch), batch)
        assert actual.state() == expected(truth)
    actual.check()


@pytest.mark.parametrize("batches", MEETINGS.values(), ids=MEETINGS)
def test_rows_that_meet_are_taken_one_by_one(actual: Actual, batches: list[Import]) -> None:
    truth = Model()
    for known in batches:
        compare(truth, truth.apply(known), actual.apply(known), known)
        assert actual.state() == expected(truth)
    actual.check()


@profile(40, 2000)
@given(earlier=imports(), batch=imports())
def test_a_preview_predicts_the_run_and_changes_nothing(actual: Actual, earlier: Import, batch: Import) -> None:
    actual.reset()
    truth = Model()
    for known in (earlier, batch):
        known = resolved(known, customers_of(truth))
        before = actual.everything()
        predicted = actual.preview(known)
        assert actual.everything() == before
        result, done = actual.apply(known), truth.apply(known)
        assert predicted == foretold(known, result, done)
        compare(truth, done, result, known)


WITH_POINTS = ("code", "card_number", "first_name", "auto_add")
LONG = "x" * 250


@pytest.mark.parametrize("mode", ["yes", "update", "ignore"])
@pytest.mark.parametrize(
    "rows",
    [
        [("k1", "c1", "Anna", "25"), ("k9", "c9", "Zoe", "25")],
        [
            *(("k1", "c1", "Anna", "25"), ("k1", "c2", "", "25"), ("k1", "c2", "", "1")),
            *(
                ("k8", "c8", "Joe", "25"),
                ("k8", "c8", "Joe", "25"),
                ("k9", "c8", "Zoe", "25"),
                ("k2", "c2", "Bob", "25"),
            ),
        ],
        [
            *((f"n{number}", f"m{number}", LONG, "25") for number in range(300)),
            *(("k1", "c1", "Ann", "0"), ("k2", "c2", "Bill", ""), ("k2", "c2", "Bob", "5"), ("n7", "m7", "Joe", "1")),
        ],
    ],
    ids=["alone", "meeting", "some without points, blocks later"],
)
def test_a_preview_of_points_predicts_the_run(actual: Actual, mode: str, rows: list[tuple[str, ...]]) -> None:
    actual.reset()
    truth = Model()
    for known in (
        batch(("k1", "c1", "Ann", "25"), ("k2", "c2", "Bob", "25"), columns=WITH_POINTS, mode="update"),
        batch(*rows, columns=WITH_POINTS, mode=mode),
    ):
        predicted = actual.preview(known)
        result, done = actual.apply(known), truth.apply(known)
        assert predicted == foretold(known, result, done)
        compare(truth, done, result, known)


@profile(25, 500)
@given(batch=imports())
def test_the_same_batch_again_makes_nobody_new(actual: Actual, batch: Import) -> None:
    # Rows with a code of their own are known the second time, whatever the mode.
    actual.reset()
    truth = Model()
    for _ in range(2):
        known = resolved(batch, customers_of(truth))
        result = actual.apply(known)
        compare(truth, truth.apply(known), result, known)
    if all(row.get("code", "").startswith("k") for row in batch.rows):
        assert result.counts.get("new", 0) == 0 or result.problems
