"""The numbered headers -> columns, and what these are called. Source: docs/protocol.md, Headers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing.errors import ApiError
from legacy_api.headers import headers
from tests.support.parameter_checks import ACCOUNT, batch


def named(fields: Mapping[str, str]) -> list[tuple[int, str | None]]:
    return [
        (header.position, header.field.name if header.field else None) for header in headers(fields, ACCOUNT.fields)
    ]


def bad(fields: Mapping[str, str]) -> ApiError:
    with pytest.raises(ApiError) as raised:
        headers(fields, ACCOUNT.fields)
    return raised.value


class TestHeaders:
    def test_in_growing_number_whatever_the_order_sent(self) -> None:
        sent = {"profiles_header_10": "email", **{f"profiles_header_{n}": "" for n in range(3, 10)}}
        assert named({**sent, "profiles_header_2": "phone", "profiles_header_1": "code"}) == [
            (1, "code"),
            (2, "phone"),
            *((n, None) for n in range(3, 10)),
            (10, "email"),
        ]

    def test_leading_zeros(self) -> None:
        assert named({"profiles_header_001": "code", "profiles_header_02": "city"}) == [(1, "code"), (2, "city")]

    @pytest.mark.parametrize(
        ("sent", "name"),
        [
            ("code", "code"),
            ("CARD-Number", "card_number"),
            ("customer_pin", "customer_PIN"),
            ("custome_date", "custom_date"),
            ("Custome-Date", "custom_date"),
            ("custom_field", "custom_field_1"),
            ("custom_field_7", "custom_field_7"),
            ("Custom-Field-007", "custom_field_7"),
            ("custom_field_999", "custom_field_999"),
            (" auto_add ", "auto_add"),
        ],
    )
    def test_names(self, sent: str, name: str) -> None:
        assert named({"profiles_header_1": sent}) == [(1, name)]

    def test_at_least_one(self) -> None:
        assert bad({}).code == "no_header"
        assert bad({"profiles_header_1": "", "profiles_header_2": " "}).code == "no_header"

    @pytest.mark.parametrize("number", ["0", "00", "1000", "01000", "9" * 5000])
    def test_a_number_out_of_range_is_named(self, number: str) -> None:
        fault = bad({"profiles_header_1": "code", f"profiles_header_{number}": "city"})
        assert fault.code == "bad_header_number"
        assert f"profiles_header_{number}"[:40] in fault.message

    def test_999_is_the_highest(self) -> None:
        sent = {f"profiles_header_{n}": "" for n in range(1, 999)}
        assert named({**sent, "profiles_header_999": "code"})[-1] == (999, "code")

    def test_a_number_twice(self) -> None:
        fault = bad({"profiles_header_1": "code", "profiles_header_01": "city"})
        assert fault.message == "The header number 1 is given twice."

    def test_gaps_of_one_number_are_allowed_at_the_start_too(self) -> None:
        assert named({"profiles_header_2": "code", "profiles_header_4": "city"}) == [(2, "code"), (4, "city")]

    @pytest.mark.parametrize(("numbers", "two"), [((1, 4), (1, 4)), ((1, 3, 5, 9), (5, 9)), ((3,), (0, 3))])
    def test_a_larger_gap_names_the_two_numbers(self, numbers: tuple[int, ...], two: tuple[int, int]) -> None:
        names = ["code", "city", "state", "email"]
        fault = bad({f"profiles_header_{n}": name for n, name in zip(numbers, names, strict=False)})
        assert fault.code == "header_gap"
        assert f"between {two[0]} and {two[1]}" in fault.message

    def test_a_blank_header_fills_a_gap(self) -> None:
        assert named({"profiles_header_1": "code", "profiles_header_3": "", "profiles_header_5": "city"}) == [
            (1, "code"),
            (3, None),
            (5, "city"),
        ]

    @pytest.mark.parametrize("sent", ["codes", "custom_field_0", "custom_field_1000", "custom_field_x", "first name"])
    def test_an_unknown_name_is_named(self, sent: str) -> None:
        assert bad({"profiles_header_1": sent}).message == f"Unknown field in profiles_header_1: {sent}"

    def test_a_custom_field_that_the_account_does_not_define(self) -> None:
        fault = bad({"profiles_header_1": "code", "profiles_header_2": "custom_field_2"})
        assert fault.message == "The field custom_field_2 in profiles_header_2 is not defined in this account."

    @pytest.mark.parametrize(
        ("first", "second", "name"),
        [
            ("code", "CODE", "code"),
            ("custom_date", "custome_date", "custom_date"),
            ("custom_field", "custom_field_01", "custom_field_1"),
        ],
    )
    def test_a_name_twice_aliases_too(self, first: str, second: str, name: str) -> None:
        fault = bad({"profiles_header_1": "", "profiles_header_2": first, "profiles_header_3": second})
        assert fault.code == "header_twice"
        assert fault.values == {"value": name, "first": "profiles_header_2", "second": "profiles_header_3"}

    def test_other_fields_are_no_headers(self) -> None:
        others = {"profiles_header": "x", "profiles_header_a": "x", "campaign_id": "1"}
        assert named({**others, "profiles_header_1": "code"}) == [(1, "code")]

    @given(st.dictionaries(st.text("profiles_header_0123456789", max_size=20), st.sampled_from(["", "code", "x"])))
    def test_any_fields_give_headers_or_a_fault(self, fields: dict[str, str]) -> None:
        try:
            found = named(fields)
        except ApiError as fault:
            assert fault.message
        else:
            assert found == sorted(found)


class TestNames:
    """What the columns are called in a file of failed rows."""

    GAP: Mapping[str, str] = {"profiles_header_1": "CODE", "profiles_header_2": "", "profiles_header_4": "City"}

    def test_by_position(self) -> None:
        assert batch({"profiles_header_1": "Code", "profiles_header_2": "custome_date"}).names == (
            "code",
            "custom_date",
        )

    def test_an_unused_column_has_none(self) -> None:
        assert batch({**self.GAP, "profiles_header_3": ""}).names == ("code", "", "", "city")

    def test_a_gap_is_an_unused_column_where_a_row_is_as_wide(self) -> None:
        made = batch(self.GAP, data=b"1|x\n1|x|y|Ulm\n")
        assert made.names == ("code", "", "", "city")
        assert [header.position for header in made.headers] == [1, 2, 3, 4]

    def test_a_gap_is_none_where_no_row_is(self) -> None:
        assert batch(self.GAP, data=b"1|x|Ulm\n").names == ("code", "", "city")
