"""Several rows of a customer merged into one: what is written, which points are added, and which rows changed nothing."""

from __future__ import annotations

from typing import Any

import pytest

from importing.batch import Mode
from importing.planning.merge_rows import MergedRow, merge_rows

BOTH = pytest.mark.parametrize("mode", [Mode.UPDATE, Mode.REPLACE])


def merged(*rows: dict[str, Any], stored: dict[str, Any] | None = None, mode: Mode = Mode.UPDATE) -> MergedRow:
    """The rows are numbered from 3 on."""
    [result] = merge_rows([(3, stored, iter(enumerate(rows, 3)))], mode, renaming_rows=set())
    return result


class TestValues:
    @BOTH
    def test_the_last_one_given_is_written(self, mode: Mode) -> None:
        result = merged({"city": "Ulm"}, {"city": "Bonn"}, mode=mode)
        assert (result.first_row, result.values) == (3, {"city": "Bonn"})

    def test_one_that_a_later_row_does_not_give_stays_in_update(self) -> None:
        assert merged({"city": "Ulm", "state": None}, {"city": None, "state": None}).values == {
            "city": "Ulm",
            "state": None,
        }

    def test_one_that_a_later_row_does_not_give_is_blanked_where_rows_replace(self) -> None:
        assert merged({"city": "Ulm"}, {"city": None}, mode=Mode.REPLACE).values == {"city": None}

    def test_custom_fields_are_merged_in_update(self) -> None:
        rows = {"custom_fields": {"1": "a", "2": "b"}}, {"custom_fields": None}, {"custom_fields": {"2": None}}
        assert merged(*rows).values == {"custom_fields": {"1": "a", "2": None}}

    def test_custom_fields_are_the_last_rows_where_rows_replace(self) -> None:
        rows = {"custom_fields": {"1": "a"}}, {"custom_fields": {"2": "b"}}
        assert merged(*rows, mode=Mode.REPLACE).values == {"custom_fields": {"2": "b"}}

    @BOTH
    def test_attributes_are_always_merged(self, mode: Mode) -> None:
        rows = {"attributes": {"a": 1}}, {"attributes": None}, {"attributes": {"b": 2}}
        assert merged(*rows, mode=mode).values == {"attributes": {"a": 1, "b": 2}}

    def test_documents_that_no_row_gives_are_none(self) -> None:
        assert merged({"attributes": None}, {"attributes": None}).values == {"attributes": None}


class TestPoints:
    def test_they_add_up(self) -> None:
        assert merged({"amount": 500}, {"amount": None}, {"amount": -200}).points == 300

    def test_zero_is_an_amount_and_none_is_not(self) -> None:
        assert merged({"amount": 0}, {"amount": None}).points == 0
        assert merged({"amount": None}, {"amount": None}).points is None
        assert merged({"city": "Ulm"}, {"city": "Ulm"}).points is None


class TestUnchanged:
    """The first row is counted elsewhere: `unchanged` are later ones, and `changed` says that any later one is not."""

    def counted(self, *rows: dict[str, Any], stored: dict[str, Any] | None = None, mode: Mode = Mode.UPDATE) -> object:
        result = merged(*rows, stored=stored, mode=mode)
        return result.unchanged, result.changed

    def test_the_first_row_is_not_counted(self) -> None:
        assert self.counted({"city": "Ulm"}, {"city": "Ulm"}) == (1, False)
        assert self.counted({"city": "Ulm"}, {"city": "Ulm"}, {"city": "Ulm"}) == (2, False)
        assert self.counted({"city": "Ulm"}, {"city": "Bonn"}) == (0, True)
        assert self.counted({"city": "Ulm"}, {"city": "Bonn"}, {"city": None}) == (1, True)

    def test_a_row_counts_as_it_finds_the_customer(self) -> None:
        stored = {"city": "Ulm"}
        assert self.counted({"city": "Ulm"}, {"city": "Ulm"}, stored=stored) == (1, False)
        assert self.counted({"city": "Bonn"}, {"city": "Ulm"}, stored=stored) == (0, True)

    def test_the_stored_state_counts(self) -> None:
        stored = {"city": "Ulm", "custom_fields": {"1": "a"}, "customer_username": "ann"}
        row = {"city": None, "custom_fields": {"1": "a"}, "customer_username": "ann"}
        first = {"city": None, "custom_fields": None, "customer_username": None}
        assert self.counted(first, row, stored=stored) == (1, False)

    def test_points_are_a_change(self) -> None:
        assert self.counted({"amount": None}, {"amount": 0}) == (0, True)

    def test_another_key_is_a_change(self) -> None:
        rows = [(3, {"city": "Ulm"}), (4, {"city": "Ulm"})]
        [result] = merge_rows([(3, None, iter(rows))], Mode.UPDATE, renaming_rows={4})
        assert (result.unchanged, result.changed) == (0, True)

    def test_a_secret_is_a_change_even_where_its_digest_is_the_same(self) -> None:
        row = {"password_digest": "$tg1$x"}
        assert self.counted(row, row) == (0, True)
        assert self.counted({"pin_digest": None}, {"pin_digest": None}) == (1, False)

    def test_what_is_not_given_is_a_change_where_rows_replace(self) -> None:
        assert self.counted({"city": "Ulm"}, {"city": None}, mode=Mode.REPLACE) == (0, True)
        stored = {"city": "Ulm", "phone": "1"}
        assert self.counted({"city": "Ulm"}, {"city": "Ulm"}, stored=stored, mode=Mode.REPLACE) == (1, False)

    def test_custom_fields_that_are_not_given(self) -> None:
        rows = {"custom_fields": {"1": "a"}}, {"custom_fields": None}
        assert self.counted(*rows) == (1, False)
        assert self.counted(*rows, mode=Mode.REPLACE) == (0, True)

    @BOTH
    def test_attributes_that_are_not_given(self, mode: Mode) -> None:
        assert self.counted({"attributes": {"a": 1}}, {"attributes": None}, mode=mode) == (1, False)

    @BOTH
    def test_a_value_taken_out_of_a_document(self, mode: Mode) -> None:
        rows = {"attributes": {"a": 1}}, {"attributes": {"a": None}}, {"attributes": {"a": None}}
        assert self.counted(*rows, mode=mode) == (1, True)

    def test_customers_do_not_mix(self) -> None:
        groups = [
            (1, None, iter([(1, {"city": "Ulm"}), (2, {"city": "Ulm"})])),
            (3, None, iter([(3, {"city": "Bonn"})])),
        ]
        first, second = merge_rows(groups, Mode.UPDATE, renaming_rows=set())
        assert (first.first_row, first.values, first.unchanged) == (1, {"city": "Ulm"}, 1)
        assert (second.first_row, second.values, second.unchanged, second.changed) == (3, {"city": "Bonn"}, 0, False)
