"""Rows that do not give every column of their batch: what is absent is left alone, what is blank is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing import failed_rows, import_batch
from importing.batch import ABSENT, Batch, Cursor, Mode, OnError, Requirement
from importing.context import Context
from importing.fields import FIELD_BY_NAME, Field, FieldDestination, FieldKind
from importing.jobs import lifecycle
from importing.row_writer import WRITTEN_ROWS, headers_of, write_rows
from storage import tables
from tests.support.demo_accounts import Demo, open_accounts
from tests.support.job_batches import HeldQueue
from tests.support.model import Import, Model
from tests.support.real_core import Actual, compare, customers_of, expected, foretold
from tests.support.strategies import imports, profile, resolved

COLUMNS = ("code", "card_number", "first_name", "custom_date", "customer_username", "customer_PIN", "custom_field_2")
JANE = {
    "code": "k1",
    "card_number": "c1",
    "first_name": "ann",
    "custom_date": "2020-01-02",
    "customer_username": "ann",
    "customer_PIN": "1234",
    "custom_field_2": "x",
}


@pytest.fixture
def actual(context: Context) -> Actual:
    return Actual(context)


def batch(*rows: Mapping[str, str], mode: str = "update") -> Import:
    return Import(COLUMNS, rows, mode, "skip", ("club",), "points", has_absent=True)


# By set it does what the model does row by row


@profile(100, 5000)
@given(batches=st.lists(imports(has_absent=True), min_size=1, max_size=4))
def test_absent_values_by_set_are_absent_row_by_row(actual: Actual, batches: list[Import]) -> None:
    actual.reset()
    truth = Model()
    for known in batches:
        known = resolved(known, customers_of(truth))
        compare(truth, truth.apply(known), actual.apply(known), known)
        assert actual.state() == expected(truth)
    actual.check()


@profile(40, 2000)
@given(earlier=imports(), known=imports(has_absent=True))
def test_a_preview_of_absent_values_predicts_the_run(actual: Actual, earlier: Import, known: Import) -> None:
    actual.reset()
    truth = Model()
    earlier = resolved(earlier, customers_of(truth))
    compare(truth, truth.apply(earlier), actual.apply(earlier), earlier)
    known = resolved(known, customers_of(truth))
    before = actual.everything()
    predicted = actual.preview(known)
    assert actual.everything() == before
    result, done = actual.apply(known), truth.apply(known)
    assert predicted == foretold(known, result, done)
    compare(truth, done, result, known)


# Examples


@pytest.mark.parametrize("name", COLUMNS[2:])
@pytest.mark.parametrize(("mode", "kept"), [("update", True), ("yes", False), ("ignore", True)])
def test_an_absent_value_is_a_column_that_the_batch_does_not_have(
    actual: Actual, name: str, mode: str, kept: bool
) -> None:
    actual.apply(batch(JANE))
    without = {column: value for column, value in JANE.items() if column != name}
    actual.apply(batch({**JANE, "code": "k2", "card_number": "c2", "customer_username": "bob"}, without, mode=mode))
    fields = actual.state()["k1"]["fields"]
    assert fields == (JANE if kept else without)


@pytest.mark.parametrize("name", COLUMNS[2:])
@pytest.mark.parametrize(("mode", "kept"), [("update", False), ("yes", False), ("ignore", True)])
def test_a_blank_value_blanks(actual: Actual, name: str, mode: str, kept: bool) -> None:
    actual.apply(batch(JANE))
    actual.apply(batch({**JANE, name: ""}, mode=mode))
    without = {column: value for column, value in JANE.items() if column != name}
    assert actual.state()["k1"]["fields"] == (JANE if kept else without)


def test_rows_of_one_customer_give_different_columns(actual: Actual) -> None:
    actual.apply(batch(JANE))
    result = actual.apply(batch({"code": "k1", "first_name": "bob"}, {"code": "k1", "custom_field_2": ""}))
    assert result.counts == {"new": 0, "updated": 2, "unchanged": 0, "ignored": 0, "failed": 0}
    left = {name: value for name, value in JANE.items() if name != "custom_field_2"}
    assert actual.state()["k1"]["fields"] == {**left, "first_name": "bob"}


def test_a_row_that_gives_nothing_is_a_row(actual: Actual) -> None:
    result = actual.apply(batch({}, {"first_name": ""}, dict.fromkeys(COLUMNS, "")))
    assert (result.counts["new"], len(result.made)) == (3, 3)


# Fields of the modern protocols, and what a sender is told


SOURCE_ID = Field("Source_id", FieldKind.KEY, column="code")
NAME = Field("Name", FieldKind.FULL_NAME)
TIER = Field("tier", FieldKind.TYPED, FieldDestination.ATTRIBUTE)
LEVEL = Field("level", into=FieldDestination.ATTRIBUTE)
FIELDS = (SOURCE_ID, Field("Id", FieldKind.KEY, column="code"), NAME, TIER, LEVEL, FIELD_BY_NAME["custom_date"])


@pytest.fixture
def demo(context: Context) -> Demo:
    return open_accounts(context)[0]


def written(demo: Demo, *rows: Mapping[str, str]) -> Batch:
    return Batch(
        account=demo.number,
        user=demo.user_id,
        protocol="written",
        headers=headers_of(FIELDS),
        delimited=WRITTEN_ROWS,
        source=write_rows(io.BytesIO(), FIELDS, rows),
        mode=Mode.UPDATE,
        on_error=OnError.SKIP,
        requirements=(Requirement(("Source_id", "Id")),),
        reference=("Source_id", "Id"),
    )


def stored(context: Context, demo: Demo) -> list[tuple[str, str, str, dict[str, object]]]:
    table = tables.customer
    with context.database.reading() as connection:
        rows = connection.execute(table.select().where(table.c.account_id == demo.number).order_by(table.c.id))
        return [(row.code, row.first_name, row.last_name, row.attributes) for row in rows]


def test_fields_of_several_columns_and_attributes_are_absent_as_a_whole(context: Context, demo: Demo) -> None:
    import_batch.run(context, written(demo, {"Source_id": "1", "Name": "Ann Lee", "tier": "2", "level": "a"}))
    import_batch.run(context, written(demo, {"Source_id": "1", "level": "b"}, {"Id": "2", "tier": "true"}))
    assert stored(context, demo) == [("1", "Ann", "Lee", {"tier": 2, "level": "b"}), ("2", "", "", {"tier": True})]
    import_batch.run(
        context, written(demo, {"Source_id": "1", "Name": "", "tier": ""}, {"Id": "2", "Source_id": "", "Name": "Bo"})
    )
    assert stored(context, demo) == [("1", "", "", {"level": "b"}), ("2", "Bo", "", {"tier": True})]


def test_an_absent_value_is_as_missing_as_a_blank_one(context: Context, demo: Demo) -> None:
    outcome = import_batch.run(context, written(demo, {"Name": "x"}, {"Source_id": "", "Name": "y"}, {"Id": "3"}))
    assert [(p.row, p.field, p.code) for p in outcome.problems] == [
        (1, "Source_id", "missing_value"),
        (2, "Source_id", "missing_value"),
    ]
    assert outcome.counts.new == 1


def test_a_job_keeps_what_is_absent_and_its_failed_rows_show_it_blank(context: Context, demo: Demo) -> None:
    queue = HeldQueue()
    context = replace(context, queue=queue)
    import_batch.run(context, written(demo, {"Source_id": "1", "Name": "Ann Lee", "level": "a"}))
    rows = ({"Source_id": "1", "level": "b"}, {"Source_id": "2", "custom_date": "never"})
    queued = lifecycle.submit(context, written(demo, *rows))
    queue.run(context)
    assert stored(context, demo) == [("1", "Ann", "Lee", {"level": "b"})]
    assert queued.batch_id
    [(number, cells)] = failed_rows.reread_cells(written(demo, *rows), [2], Cursor())
    assert (number, cells) == (2, ["2", "", "", "", "", "never"])


# The text in between


@pytest.mark.parametrize("value", [ABSENT, f" {ABSENT} ", f"a{ABSENT}b", ABSENT * 2])
def test_the_character_that_stands_for_nothing_is_refused_as_a_value(context: Context, demo: Demo, value: str) -> None:
    outcome = import_batch.run(context, written(demo, {"Source_id": "1", "Name": value}, {"Source_id": "2"}))
    assert [(p.row, p.field, p.code) for p in outcome.problems] == [(1, "Name", "bad_character")]


@given(rows=st.lists(st.dictionaries(st.sampled_from([field.name for field in FIELDS]), st.text()), max_size=5))
def test_written_rows_are_csv_with_a_row_for_each(rows: list[dict[str, str]]) -> None:
    source = write_rows(io.BytesIO(), FIELDS, rows)
    source.file.seek(0)
    text = io.TextIOWrapper(source.file, "utf-8", newline="")
    read = list(csv.reader(text, strict=True))
    assert len(read) == len(rows)
    for cells, row in zip(read, rows, strict=True):
        assert [cell != ABSENT for cell in cells] == [field.name in row for field in FIELDS]
