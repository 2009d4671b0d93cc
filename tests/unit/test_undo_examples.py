"""Imports and undos worked out by hand: what random stories reach too rarely to hold a single line of the code."""

from __future__ import annotations

import pytest

from importing.context import Context
from importing.fields import PROFILE_FIELDS
from tests.support.model import Import, Row
from tests.support.real_core import Actual

EARLIER, WRITTEN, LATER = range(3)
DATES = ("2020-01-02", "2021-03-04", "2022-05-06")


@pytest.fixture
def actual(context: Context) -> Actual:
    return Actual(context)


def one_row(row: Row, campaign: str = "club") -> Import:
    return Import(tuple(row), (row,), "update", "skip", (campaign,))


def value(field: str, which: int) -> str:
    """A value of a profile field: the earlier one, the one that the batch writes, or a later one."""
    return DATES[which] if field == "custom_date" else f"{field} {which}"


def test_a_batch_that_was_undone_enrols_again_when_it_is_sent_again(actual: Actual) -> None:
    row = {"code": "k1", "first_name": "ann"}
    actual.apply(one_row(row, "club"))
    into_gift = one_row(row, "gift")
    joined = actual.apply(into_gift)
    assert joined.counts["unchanged"] == 0
    assert actual.state()["k1"]["uses"] == {"club": 1, "gift": 1}
    actual.undo(joined.id)
    assert actual.state()["k1"]["uses"] == {"club": 1}
    # The enrolment is still stored, as one that no batch uses.
    assert actual.preview(into_gift).counts["unchanged"] == 0
    assert actual.apply(into_gift).counts["unchanged"] == 0
    assert actual.state()["k1"]["uses"] == {"club": 1, "gift": 1}


@pytest.mark.parametrize("changed", PROFILE_FIELDS)
def test_a_field_that_was_changed_since_is_kept_and_all_others_come_back(actual: Actual, changed: str) -> None:
    rows = [{"code": "k1", **{field: value(field, which) for field in PROFILE_FIELDS}} for which in (EARLIER, WRITTEN)]
    actual.apply(one_row(rows[EARLIER]))
    written = actual.apply(one_row(rows[WRITTEN]))
    actual.apply(one_row({"code": "k1", changed: value(changed, LATER)}))
    undone = actual.undo(written.id)
    conflicts = [(c.code, c.field, c.written, c.current) for c in undone.conflicts]
    assert conflicts == [("k1", changed, value(changed, WRITTEN), value(changed, LATER))]
    assert (undone.restored, undone.removed, undone.kept) == (1, 0, 0)
    assert actual.state()["k1"]["fields"] == {**rows[EARLIER], changed: value(changed, LATER)}
