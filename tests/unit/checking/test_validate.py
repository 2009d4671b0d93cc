"""Rows → staged tuples and problems, by examples. Source: docs/protocol.md, Headers and 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from importing.checking import check_rows
from importing.checking.check_rows import CheckedRows
from importing.disk_list import DiskList
from importing.fields import Field
from importing.reading.column_layout import column_fields
from tests.support.row_checks import COFFEE, COMMA, Marked, batch, done


def test_only_the_columns_that_the_batch_has_are_staged_in_one_order() -> None:
    found = done("phone code", "1|2")
    assert found.checked.columns == ("row", "code", "phone")
    names = "auto_add free customer_PIN text customer_password customer_username custom_date email card_number code"
    assert done(names, "").checked.columns == (
        *("row", "code", "card_number", "email", "custom_date", "customer_username", "username_key"),
        *("password_digest", "pin_digest", "custom_fields", "attributes", "amount"),
    )


def test_items_are_staged_where_the_campaign_counts_them() -> None:
    checked = CheckedRows(batch("code auto_add", "")._replace(campaigns=(COFFEE,)), Marked(), DiskList(), DiskList())
    assert checked.columns == ("row", "code", "amount", "item_id")


def test_not_given_is_none_and_given_blank_is_blank() -> None:
    found = done("code first_name customer_username customer_password", "1|a|Bo|x\n2| | |\n3\n4|b")
    assert found.checked.columns == (
        *("row", "code", "first_name", "customer_username", "username_key", "password_digest"),
    )
    assert found.rows == [
        (1, "1", "a", "Bo", "bo", "digest of x"),
        (2, "2", "", "", "", ""),
        (3, "3", None, None, None, None),
        (4, "4", "b", None, None, None),
    ]


def test_a_blank_code_or_card_counts_as_not_given() -> None:
    found = done("code card_number first_name", "1||a\n|2|b\n|\n3")
    assert [row[1:] for row in found.rows] == [("1", None, "a"), (None, "2", "b"), ("3", None, None)]
    assert (found.checked.without_code, found.checked.without_card) == (1, 2)


def test_a_batch_without_codes_has_no_row_with_one() -> None:
    found = done("first_name custom_date", "a\nb\nc|x")
    assert (found.checked.without_code, found.checked.without_card, found.checked.failed) == (2, 2, 1)


@pytest.mark.parametrize(
    ("names", "text", "partial"),
    [
        ("code first_name", "1|a\n2|", False),
        ("code first_name", "1|a\n2", True),
        ("first_name code", "a|1\nb", False),
        ("first_name auto_add", "a|1\nb", False),
        ("auto_add text", "1", True),
        ("code custom_date text", "1||\n2|x", False),
        ("code - first_name", "1|x", True),
    ],
)
def test_partial_says_that_a_good_row_is_too_short_for_the_profile(names: str, text: str, partial: bool) -> None:
    assert done(names, text).checked.partial is partial


def test_rows_keep_their_numbers_and_order_whatever_their_width() -> None:
    found = done("code first_name last_name", "1|a|b\n\n2\n3|c|d|\n4|e\n||\n5|f|g\n")
    assert found.rows == [
        (1, "1", "a", "b"),
        (2, "2", None, None),
        (3, "3", "c", "d"),
        (4, "4", "e", None),
        (5, "5", "f", "g"),
    ]


@pytest.mark.parametrize("text", ["", "\n", " | \r\n\t||\n"])
def test_data_of_blank_lines_has_no_rows(text: str) -> None:
    found = done("code first_name", text)
    assert (found.checked.rows, found.rows) == (0, [])


def test_extra_columns_must_be_blank() -> None:
    found = done("code first_name", "1|a| |\t|\n2|b|| c |d\n3|d|e")
    assert [row[0] for row in found.rows] == [1]
    assert found.said == [(2, "", "too_many_columns", "c"), (3, "", "too_many_columns", "e")]
    quoted = done("code first_name", '1,a,"",\n2,b,"",c', COMMA)
    assert quoted.said == [(2, "", "too_many_columns", "c")]


def test_all_problems_of_a_row_are_told_in_column_order() -> None:
    text = "1.1.2020|a\x01|-1|2|x\n2020-01-01|a|1|3\n|" + "x" * 256 + "|1,000"
    found = done("custom_date first_name auto_add code", text)
    assert found.said == [
        (1, "custom_date", "bad_date", "1.1.2020"),
        (1, "first_name", "bad_character", "a\x01"),
        (1, "auto_add", "bad_amount", "-1"),
        (1, "", "too_many_columns", "x"),
        (3, "first_name", "too_long", "x" * 255),
        (3, "auto_add", "bad_amount", "1,000"),
    ]
    assert found.problems[4].limit == 255


def test_problems_are_told_in_row_order_whatever_the_width_of_the_rows() -> None:
    text = "1|x\n2|2020-01-01|y|z\n3\n4|x|\n" * 3 + '5,"'
    assert [p.row for p in done("code custom_date", text).problems] == [1, 2, 4, 5, 6, 8, 9, 10, 12]


CONTROLS = [chr(code) for code in range(32) if chr(code) not in "\t\n\r"] + ["\ufffe", "\uffff"]


@pytest.mark.parametrize("character", CONTROLS)
@pytest.mark.parametrize("value", ["a{}b", "{}", "{}a", "a{}"])
def test_what_xml_cannot_carry_is_a_problem_anywhere_in_a_value(character: str, value: str) -> None:
    text = value.format(character)
    assert done("code first_name", f"1|{text}\n2|c").said == [(1, "first_name", "bad_character", text)]


@pytest.mark.parametrize("character", ["\t", "\x7f", "\x85", "\x9f", "\ufffd", "\u2028", "\U0001ffff", "\ue000"])
def test_what_xml_can_carry_is_kept(character: str) -> None:
    assert done("code first_name", f"1|a{character}b").column("first_name") == [f"a{character}b"]


def test_an_unused_column_may_hold_anything() -> None:
    found = done("code - first_name", f"1|\x00{'x' * 70_000}|a")
    assert (found.rows, found.checked.columns) == ([(1, "1", "a")], ("row", "code", "first_name"))


def test_a_bad_row_is_warned_of_too() -> None:
    found = done("email custom_date", "x|y")
    assert (found.said, [w.code for w in found.warnings]) == ([(1, "custom_date", "bad_date", "y")], ["odd_email"])


def test_a_stray_quote_is_told_with_its_field() -> None:
    found = done("code custom_date first_name -", '1,2020-01-01,a\n2,x,"b\n3,,"c"d,e\n4,,,"f\n5,,,,"g', COMMA)
    assert found.said == [
        (2, "custom_date", "bad_date", "x"),
        (2, "first_name", "bad_quotes", '"b'),
        (3, "first_name", "bad_quotes", '"c"d'),
        (4, "", "bad_quotes", ""),
        (5, "", "bad_quotes", ""),
    ]


def test_a_password_or_pin_is_in_no_problem() -> None:
    names = "customer_password customer_PIN custom_date"
    found = done(names, f"{'p' * 256}|\x01secret\nx|12|secret|secret")
    assert found.said == [
        (1, "customer_password", "too_long", ""),
        (1, "customer_PIN", "bad_character", ""),
        # A delimiter inside the password has moved the rest of it to where the date should be.
        (2, "custom_date", "bad_date", ""),
        (2, "", "too_many_columns", ""),
    ]
    assert done(names, 'x,"12,secret\n', COMMA).said == [(1, "customer_PIN", "bad_quotes", "")]
    assert done("first_name customer_PIN", '"x,secret\n', COMMA).said == [(1, "first_name", "bad_quotes", "")]


def test_a_line_that_is_too_long_is_told_by_what_is_too_long_in_it() -> None:
    long = "x" * 3_000_000
    assert done("code first_name", f"1|a\n2|{long}\n3|c").said == [(2, "first_name", "too_long", "x" * 255)]
    assert done("code first_name", f"1|a|{long}").said == [(1, "", "too_many_columns", "x" * 255)]
    assert done("code -", f"1|{long}").said == [(1, "", "line_too_long", "")]
    assert done("code first_name", "1|" + " " * 3_000_000 + "a").said == [(1, "", "line_too_long", "")]
    assert done("customer_PIN", long).said == [(1, "customer_PIN", "too_long", "")]


def test_every_problem_and_warning_has_its_sentence() -> None:
    found = done("code email auto_add", "\x00|x|1,000\n" + "1" * 256, campaigns=[])
    assert [p.message for p in found.problems + found.warnings] == [
        'Row 1, code: "\\x00" has a control character.',
        'Row 1, auto_add: "1,000" is not an amount (digits, at most two decimals, below 10000000).',
        f'Row 2, code: "{"1" * 40}" is longer than 255 characters.',
        'Row 1, email: "x" does not look like an e-mail address.',
    ]


def names_of(fields: Sequence[Field | None]) -> list[str]:
    return [field.name if field else "-" for field in fields]


@pytest.mark.parametrize(
    ("names", "text", "columns"),
    [
        ("code first_name", "1|a|b|c", "code first_name"),
        ("1=code 3=first_name", "1|a\n2|b||", "code first_name"),
        ("1=code 3=first_name", "1|a\n2|x|b\n3", "code - first_name"),
        ("2=code 3=first_name", "1|a", "code first_name"),
        ("2=code 3=first_name", "x|1|a", "- code first_name"),
        ("2=code 4=first_name 6=city", "1|a|x", "code first_name city"),
        ("2=code 4=first_name 6=city", "-|1|-|a", "- code - first_name - city"),
        ("1=code 2=- 4=city", "1|x|a", "code - city"),
        ("1=code 2=- 4=city", "1|x|x|a", "code - - city"),
        ("1=code 3=city", "", "code city"),
    ],
)
def test_with_a_gap_the_widest_row_decides_what_it_means(names: str, text: str, columns: str) -> None:
    assert names_of(column_fields(batch(names, text))) == columns.split()


def test_with_a_gap_the_widest_row_decides_for_the_whole_batch() -> None:
    found = done("1=code 3=first_name", "1|a\n2|x|b\n")
    assert found.rows == [(1, "1", None), (2, "2", "b")]


def test_keys_that_are_all_different_are_known_to_be() -> None:
    def told(text: str) -> tuple[bool, bool]:
        checked = done("code card_number", text).checked
        return bool(checked.codes), bool(checked.cards)

    assert told("a|1\nb|2\nc|\n|3\n|4") == (True, True)
    assert told("a|1\nb|1") == (True, False)
    assert told("a|1\nb|2\na|3") == (False, True)
    assert told("A|1\na|01") == (True, True)


def test_of_too_many_keys_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_rows, "MAX_HASHES", 2)
    assert done("code", "a\nb").checked.codes
    assert not done("code", "a\nb\nc").checked.codes


def test_a_value_of_several_lines_is_judged_as_one() -> None:
    found = done("code email", '1,"a@example.com\nb@example.com"\n2,c@example.com', replace(COMMA, multiline=True))
    assert [(problem.row, problem.code) for problem in found.warnings] == [(1, "odd_email")]


def test_rows_that_all_add_points_are_thin_where_that_is_asked_for() -> None:
    def chunk(text: str) -> list[tuple[object, ...]]:
        checked = CheckedRows(batch("code first_name text auto_add", f"{text}\n"), Marked(), DiskList(), DiskList())
        checked.keys_only = True
        assert checked.keys == ("row", "code", "amount")
        [found] = checked.chunks()
        return list(found)

    assert chunk("a|Ann|x|25\nb|Bob|y|1") == [(1, "a", 2500), (2, "b", 100)]
    assert chunk("a|Ann|x|25\nb|Bob|y|0")[0] == (1, "a", "Ann", '{"custom_field_1":"x"}', 2500)
    assert chunk("a|Ann|x|25\nb|Bob|y")[1] == (2, "b", "Bob", '{"custom_field_1":"y"}', None)


def test_a_batch_tells_whether_it_clears_a_member_of_a_document() -> None:
    assert not done("code text", "a|null\nb|x\nc").checked.clears
    assert done("code text", "a|x\nb|").checked.clears
    assert done("code free", "a|").checked.clears and not done("code free", "a|null").checked.clears
