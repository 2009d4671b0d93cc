"""Single values and their fields: what is stored, a problem, or worth a warning. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import io
import json

import pytest

from importing.batch import Batch, Campaign, Header, Source
from importing.checking.check_rows import CheckedRows
from importing.disk_list import DiskList
from importing.errors import Problem
from importing.fields import FieldKind, make_custom_field
from tests.support.row_checks import COFFEE, COMMA, PIPE, POINTS, VISITS, Marked, done, one


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
    field = make_custom_field(6, "Case", FieldKind.PICK, ("gold", "Gold"))
    data = b"Gold\ngold\nGOLD"
    batch = Batch(1, "u", "legacy", (Header(1, field),), PIPE, Source(io.BytesIO(data), "utf-8", len(data)))
    rows = [row[1] for chunk in CheckedRows(batch, Marked(), DiskList(), DiskList()).chunks() for row in chunk]
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
    assert one("auto_add", value) == ((hundredths,), "")


@pytest.mark.parametrize("campaign", [POINTS, VISITS, COFFEE, None])
@pytest.mark.parametrize("value", ["", "0", "0.00", "0,0", ".0", "00"])
def test_zero_and_blank_add_nothing(value: str, campaign: Campaign | None) -> None:
    nothing = (None, None) if campaign is COFFEE else (None,)
    assert one("auto_add", value, campaign) == (nothing, "")


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
    assert one("auto_add", value, VISITS) == ((200,), "")


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
