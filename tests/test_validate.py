"""Rows → staged tuples and problems, by examples. Source: docs/protocol.md, Headers and 4."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from importing.batch import Batch, Campaign, CampaignType, Delimited, Header, Source
from importing.faults import Problem
from importing.fields import BY_NAME, Field, Into, Kind, custom_field
from importing.spool import Spool
from importing.validate import Checked, check, layout

PIPE = Delimited("|")
COMMA = Delimited(",", quotes=True)
CUSTOM = {
    "text": custom_field(1, "Text", Kind.TEXT),
    "unique": custom_field(2, "Unique", Kind.TEXT, unique=True),
    "date": custom_field(3, "Date", Kind.DATE_TIME),
    "pick": custom_field(4, "Pick", Kind.PICK, ("Gold", "SILVER", "gold plus")),
    "list": custom_field(5, "List", Kind.LIST, ("Red", "Green", "Straße")),
    "free": Field("nick", into=Into.ATTRIBUTE, column="nick%name"),
}
POINTS = Campaign(1, "p", "Points", CampaignType.POINTS)
VISITS = Campaign(2, "v", "Visits", CampaignType.EVENTS)
COFFEE = Campaign(3, "b", "Coffee", CampaignType.BUYX, {"espresso": 7, "42": 7, "straße".casefold(): 8})


class Marked:
    """Digests that show what they are of."""

    def customer_secret(self, value: str) -> str:
        return f"digest of {value}"


@dataclass
class Done:
    checked: Checked
    rows: list[tuple[object, ...]]
    problems: list[Problem]
    warnings: list[Problem]

    def column(self, name: str) -> list[object]:
        index = self.checked.columns.index(name)
        return [row[index] for row in self.rows]

    @property
    def said(self) -> list[tuple[int, str, str, str]]:
        return [(problem.row, problem.field, problem.code, problem.value) for problem in self.problems]


def headers(names: str) -> tuple[Header, ...]:
    """Headers from words: a name, `3=name` where numbers matter, `-` for an unused column."""
    found: list[Header] = []
    for word in names.split():
        number, _, name = word.rpartition("=")
        position = int(number) if number else (found[-1].position + 1 if found else 1)
        found.append(Header(position, None if name == "-" else CUSTOM.get(name) or BY_NAME[name.lower()]))
    return tuple(found)


def batch(names: str, text: str, delimited: Delimited = PIPE, campaigns: Sequence[Campaign] = (POINTS,)) -> Batch:
    data = text.encode()
    source = Source(io.BytesIO(data), "utf-8", len(data))
    return Batch(1, "user", "legacy", headers(names), delimited, source, campaigns=tuple(campaigns))


def done(names: str, text: str, delimited: Delimited = PIPE, campaigns: Sequence[Campaign] = (POINTS,)) -> Done:
    problems: Spool[Problem] = Spool()
    warnings: Spool[Problem] = Spool()
    checked = check(batch(names, text, delimited, campaigns), Marked(), problems, warnings)
    rows = [row for chunk in checked.chunks() for row in chunk]
    assert checked.rows - checked.failed == len(rows)
    assert checked.failed == len({problem.row for problem in problems})
    return Done(checked, rows, list(problems), list(warnings))


def one(name: str, value: str, campaign: Campaign | None = POINTS) -> tuple[object, str]:
    """What is stored for one value, and the code of its problem."""
    found = done(f"code {name}", f"1|{value}", campaigns=[campaign] if campaign else [])
    stored = found.rows[0][2:] if found.rows else None
    return stored, found.problems[0].code if found.problems else ""


def test_only_the_columns_that_the_batch_has_are_staged_in_one_order() -> None:
    found = done("phone code", "1|2")
    assert found.checked.columns == ("row", "code", "phone")
    names = "auto_add free customer_PIN text customer_password customer_username custom_date email card_number code"
    assert done(names, "").checked.columns == (
        *("row", "code", "card_number", "email", "custom_date", "customer_username", "username_key"),
        *("password_digest", "pin_digest", "custom_fields", "attributes", "amount", "item_id"),
    )


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


@pytest.mark.parametrize(
    "name", ["code", "card_number", "email", "street1", "customer_username", "customer_PIN", "custom_date", "unique"]
)
def test_lengths_are_255_characters(name: str) -> None:
    assert done(name, "é" * 256).problems[0].code == "too_long"
    assert done(name, "é" * 256).problems[0].limit == 255
    if name != "custom_date":
        found = done(name, f" {'é' * 255} ")
        assert not found.problems
        assert "é" * 255 in str(found.rows)


def test_a_text_custom_field_holds_64000_characters() -> None:
    assert json.loads(str(done("text", "€" * 64_000).rows[0][1])) == {"custom_field_1": "€" * 64_000}
    assert done("text", "€" * 64_001).problems[0].limit == 64_000


@pytest.mark.parametrize("value", ["2024-02-29", "0001-01-01", "9999-12-31", "1970-07-14"])
def test_a_date_is_a_real_one(value: str) -> None:
    assert one("custom_date", value) == ((value,), "")
    assert one("date", value) == ((f'{{"custom_field_3":"{value}"}}',), "")


@pytest.mark.parametrize(
    "value",
    [
        *("1970-7-14", "19700714", "1970-W29-2", "1970-195", "2023-02-29", "1970-00-10", "0000-01-01", "1970/07/14"),
        *("１９７０-07-14", "04-03-2010", "+1970-07-1", "1970-07-141", "0000-00-0", "x", "1970-07-14T", "197007-014"),
    ],
)
def test_what_is_no_date(value: str) -> None:
    assert one("custom_date", value) == (None, "bad_date")
    assert one("date", value) == (None, "bad_date_time")


@pytest.mark.parametrize("value", ["", "  ", "0000-00-00", " 0000-00-00\t"])
def test_zeros_and_blank_are_no_date(value: str) -> None:
    assert one("custom_date", value) == (("",), "")
    assert one("date", value) == (('{"custom_field_3":null}',), "")


def test_a_date_custom_field_may_have_a_time_and_custom_date_may_not() -> None:
    assert one("date", "2020-02-29 23:59:59") == (('{"custom_field_3":"2020-02-29 23:59:59"}',), "")
    assert one("date", "0000-00-00 00:00:00") == (('{"custom_field_3":null}',), "")
    assert one("custom_date", "2020-02-29 23:59:59") == (None, "bad_date")


@pytest.mark.parametrize("time", ["24:00:00", "23:60:00", "23:59:60", "1:00:00", "12:00", " 12:00:00", "12:00:00Z"])
def test_what_is_no_time(time: str) -> None:
    assert one("date", f"2020-01-01 {time}") == (None, "bad_date_time")


@pytest.mark.parametrize(
    ("value", "stored"), [("Gold", "Gold"), ("GOLD", "Gold"), ("silver", "SILVER"), ("Gold PLUS", "gold plus")]
)
def test_a_pick_is_one_of_its_choices_in_any_case_kept_as_defined(value: str, stored: str) -> None:
    assert one("pick", value) == ((f'{{"custom_field_4":"{stored}"}}',), "")


@pytest.mark.parametrize("value", ["bronze", "Gold,SILVER", "Gol"])
def test_what_is_no_choice(value: str) -> None:
    assert one("pick", value) == (None, "bad_choice")


@pytest.mark.parametrize(
    ("value", "stored"),
    [("red", "Red"), ("GREEN , red", "Green,Red"), ("red,Red,,RED", "Red"), ("STRASSE,green", "Straße,Green")],
)
def test_a_list_is_several_of_its_choices(value: str, stored: str) -> None:
    assert one("list", value) == ((f'{{"custom_field_5":"{stored}"}}',), "")


@pytest.mark.parametrize("value", ["", ",", " , "])
def test_a_list_of_nothing_is_blank(value: str) -> None:
    assert one("list", value) == (('{"custom_field_5":null}',), "")


def test_a_list_with_one_wrong_choice_is_a_problem() -> None:
    assert one("list", "red,blue") == (None, "bad_choice")
    assert done("code list", '1,"red,green"', COMMA).column("custom_fields") == ['{"custom_field_5":"Red,Green"}']


def test_a_choice_written_exactly_comes_before_one_that_differs_in_case() -> None:
    field = custom_field(6, "Case", Kind.PICK, ("gold", "Gold"))
    data = b"Gold\ngold\nGOLD"
    batch = Batch(1, "u", "legacy", (Header(1, field),), PIPE, Source(io.BytesIO(data), "utf-8", len(data)))
    rows = [row[1] for chunk in check(batch, Marked(), Spool(), Spool()).chunks() for row in chunk]
    assert rows == [f'{{"custom_field_6":"{choice}"}}' for choice in ("Gold", "gold", "gold")]


def test_custom_fields_are_one_json_document_of_those_given() -> None:
    found = done("code text pick free", '1|a"\\\té|gold|x\n2||\n3|b\n4\n5|||')
    assert found.column("custom_fields") == [
        '{"custom_field_1":"a\\"\\\\\\té","custom_field_4":"Gold"}',
        '{"custom_field_1":null,"custom_field_4":null}',
        '{"custom_field_1":"b"}',
        None,
        '{"custom_field_1":null,"custom_field_4":null}',
    ]
    assert found.column("attributes") == ['{"nick%name":"x"}', None, None, None, '{"nick%name":null}']


@pytest.mark.parametrize(
    ("value", "hundredths"),
    [
        *(("9.95", 995), ("9,95", 995), (".75", 75), (",75", 75), (".5", 50), ("25", 2500), ("007.5", 750)),
        *(("9999999.99", 999_999_999), ("0.01", 1), ("00000000001", 100)),
    ],
)
def test_numbers_to_add(value: str, hundredths: int) -> None:
    assert one("auto_add", value) == ((hundredths, None), "")


@pytest.mark.parametrize("campaign", [POINTS, VISITS, COFFEE, None])
@pytest.mark.parametrize("value", ["", "0", "0.00", "0,0", ".0", "00"])
def test_zero_and_blank_add_nothing(value: str, campaign: Campaign | None) -> None:
    assert one("auto_add", value, campaign) == ((None, None), "")


@pytest.mark.parametrize(
    "value",
    [
        *("1,000", "1.000", "1,000.00", "1.2.3", "5.", ".", ",", "-1", "+1", "1e3", "$5", "5 0", "٣", "0x1"),
        *("25 points", "10000000", "9" * 255, "1\xa0000", "0.001"),
    ],
)
def test_what_is_no_number_to_add(value: str) -> None:
    assert one("auto_add", value) == (None, "bad_amount")


@pytest.mark.parametrize("value", ["2", "2.0", "2,00"])
def test_visits_are_whole(value: str) -> None:
    assert one("auto_add", value, VISITS) == ((200, None), "")


def test_visits_that_are_not_whole() -> None:
    assert one("auto_add", "2.5", VISITS) == (None, "bad_visits")
    assert one("auto_add", "many", VISITS) == (None, "bad_amount")


@pytest.mark.parametrize(("value", "item"), [("Espresso", 7), ("42", 7), ("STRASSE", 8)])
def test_of_a_buyx_campaign_one_of_the_named_item(value: str, item: int) -> None:
    assert one("auto_add", value, COFFEE) == ((100, item), "")


@pytest.mark.parametrize("value", ["Tea", "2", "9.95", "."])
def test_what_is_no_item(value: str) -> None:
    assert one("auto_add", value, COFFEE) == (None, "bad_item")


def test_an_amount_without_a_campaign_is_a_problem() -> None:
    assert one("auto_add", "5", None) == (None, "no_campaign_to_add_to")
    assert one("auto_add", "five", None) == (None, "bad_amount")


@pytest.mark.parametrize("value", ["", "a@b.ca", "Jane.Doe+x@mail.example.com", "zoë@exämple.de", "o'x@a-b.co"])
def test_plausible_emails(value: str) -> None:
    assert not done("code email", f"1|{value}").warnings


@pytest.mark.parametrize("value", ["jane", "@b.ca", "a@b", "a@b@c.ca", "a b@c.ca", "a@b..ca", "a@.ca", "a@b.ca."])
def test_an_odd_email_is_a_warning_and_stored_as_given(value: str) -> None:
    found = done("code email", f"1|a@b.ca\n2|{value}")
    assert found.warnings == [Problem(2, "email", "odd_email", value)]
    assert found.column("email") == ["a@b.ca", value]


@pytest.mark.parametrize(
    "value", ["", "555-5555", "+1 (514) 555-0199", "(030) 12345/67", "514.555.0199 x12", "5145550199 ext. 7"]
)
def test_plausible_phones(value: str) -> None:
    assert not done("code phone", f"1|{value}").warnings


@pytest.mark.parametrize("value", ["none", "12", "-----", "555-CALL-NOW", "5" * 40])
def test_an_odd_phone_is_a_warning_and_stored_as_given(value: str) -> None:
    found = done("code phone", f"1|{value}")
    assert found.warnings == [Problem(1, "phone", "odd_phone", value)]
    assert found.column("phone") == [value]


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
    assert names_of(layout(batch(names, text))) == columns.split()


def test_with_a_gap_the_widest_row_decides_for_the_whole_batch() -> None:
    found = done("1=code 3=first_name", "1|a\n2|x|b\n")
    assert found.rows == [(1, "1", None), (2, "2", "b")]
