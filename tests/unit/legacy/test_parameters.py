"""Canonical fields -> a Batch: every rule of docs/protocol.md, Parameters and 3, and the order in which they are judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing.batch import Mode, OnError
from importing.errors import ApiError
from legacy_api import calls, parameters
from legacy_api.form import Form
from legacy_api.parameters import CallContext
from legacy_api.request_digest import request_digest
from tests.support.parameter_checks import ACCESS, LEAST, NO_CORE, batch, refusal


def test_the_least_that_is_needed_and_its_defaults() -> None:
    made = batch()
    assert (made.account, made.user, made.protocol) == (7, "john1970", "legacy")
    assert (made.delimited.delimiter, made.delimited.quotes, made.delimited.multiline) == ("|", False, False)
    assert (made.mode, made.on_error, made.keep_undo) == (Mode.IGNORE, OnError.REJECT, True)
    assert made.card_digits is None
    assert (made.request_key, made.request_digest) == (None, request_digest(LEAST, b"d" * 32))
    assert [campaign.public_id for campaign in made.campaigns] == ["Spring"]
    assert [(header.position, header.field and header.field.name) for header in made.headers] == [(1, "code")]


@pytest.mark.parametrize("name", ["overwrite_duplicates", "allow_undo", "no_undo", "card_number_generate"])
@pytest.mark.parametrize("blank", ["", " ", " \t "])
def test_a_blank_optional_parameter_counts_as_absent(name: str, blank: str) -> None:
    made = batch({name: blank})
    assert (made.mode, made.keep_undo, made.card_digits) == (Mode.IGNORE, True, None)


@pytest.mark.parametrize("name", ["on_error", "async", "request_id"])
def test_so_do_the_others(name: str) -> None:
    made = batch({name: " "})
    assert (made.on_error, made.request_key) == (OnError.REJECT, None)


class TestApi:
    @pytest.mark.parametrize("api", ["1.5", "1.50", " 1.5 ", "01.5", "1.6", "1.600", "", " "])
    def test_served(self, api: str) -> None:
        parameters.check_api_number({"api": api})

    def test_absent_is_served(self) -> None:
        parameters.check_api_number({})

    @pytest.mark.parametrize(
        "api", ["1,5", "1.4", "1.7", "15", "2", "1.5.0", "v1.5", "-1.5", "1.5e0", "nan", "1.51", "\u0661.5", "9" * 5000]
    )
    def test_refused_naming_what_is_served(self, api: str) -> None:
        with pytest.raises(ApiError, match="bad_api") as raised:
            parameters.check_api_number({"api": api})
        assert "1.5 and 1.6" in raised.value.message


class TestType:
    def test_served_in_any_case(self) -> None:
        assert calls.find_call({"type": " Customers_BATCH "}) is calls.CALLS["customers_batch"]

    @pytest.mark.parametrize("name", [name for name, call in calls.CALLS.items() if call is None])
    def test_a_later_call_is_refused_by_name(self, name: str) -> None:
        with pytest.raises(ApiError) as raised:
            calls.find_call({"type": name})
        assert raised.value.message == f"The type {name} is not served yet."

    def test_another_type_is_refused_by_name(self) -> None:
        with pytest.raises(ApiError) as raised:
            calls.find_call({"type": "Customers<Batch"})
        assert raised.value.message == r"The type Customers\x3cBatch is not served."

    def test_a_missing_type(self) -> None:
        for fields in ({}, {"type": " "}):
            with pytest.raises(ApiError, match="missing_type"):
                calls.find_call(fields)


class TestDelimiter:
    @pytest.mark.parametrize(
        ("sent", "delimiter"),
        [
            ("pipe", "|"),
            (" PIPE ", "|"),
            ("|", "|"),
            (" | ", "|"),
            ("Comma", ","),
            (",", ","),
            ("TAB", "\t"),
            ("\t", "\t"),
            (" \t ", "\t"),
        ],
    )
    def test_by_word_or_literally(self, sent: str, delimiter: str) -> None:
        made = batch({"delimiter": sent}).delimited
        assert (made.delimiter, made.quotes) == (delimiter, delimiter == ",")

    @pytest.mark.parametrize("sent", ["", " ", ";", "||", "|,|", "pipes", "\\t", "semicolon", "\n"])
    def test_else_invalid(self, sent: str) -> None:
        assert refusal({"delimiter": sent}).message == "Invalid delimiter"

    def test_required(self) -> None:
        assert refusal({}, without="delimiter").message == "Invalid delimiter"


class TestPolicies:
    @pytest.mark.parametrize(
        ("sent", "mode"),
        [
            ("yes", Mode.REPLACE),
            ("OVERWRITE", Mode.REPLACE),
            ("Update", Mode.UPDATE),
            ("ignore", Mode.IGNORE),
            (" Skip ", Mode.IGNORE),
            ("", Mode.IGNORE),
        ],
    )
    def test_overwrite_duplicates(self, sent: str, mode: Mode) -> None:
        assert batch({"overwrite_duplicates": sent}).mode is mode

    @pytest.mark.parametrize("sent", ["no", "y", "true", "1", "replace"])
    def test_another_overwrite_duplicates_is_an_error(self, sent: str) -> None:
        assert refusal({"overwrite_duplicates": sent}).code == "bad_overwrite"

    @pytest.mark.parametrize(
        ("fields", "kept"),
        [
            ({}, True),
            ({"allow_undo": "yes"}, True),
            ({"allow_undo": "no"}, True),
            ({"no_undo": "yes"}, False),
            ({"no_undo": "TRUE"}, False),
            ({"no_undo": "y"}, False),
            ({"no_undo": "1"}, False),
            ({"no_undo": "no"}, True),
            ({"no_undo": "on"}, True),
            ({"no_undo": ""}, True),
            ({"no_undo": "yes", "allow_undo": "yes"}, True),
            ({"no_undo": "yes", "allow_undo": "no"}, False),
        ],
    )
    def test_undo(self, fields: dict[str, str], kept: bool) -> None:
        assert batch(fields).keep_undo is kept

    @pytest.mark.parametrize(("sent", "digits"), [("4", 4), ("10", 10), (" 32 ", 32), ("016", 16), ("", None)])
    def test_card_digits(self, sent: str, digits: int | None) -> None:
        assert batch({"card_number_generate": sent}).card_digits == digits

    @pytest.mark.parametrize("sent", ["3", "33", "0", "yes", "10.0", "-8", "+8", "1e1", "\u0668", "9" * 5000])
    def test_other_card_digits_are_an_error(self, sent: str) -> None:
        assert refusal({"card_number_generate": sent}).code == "bad_card_digits"

    @pytest.mark.parametrize(("sent", "on_error"), [("reject", OnError.REJECT), ("SKIP", OnError.SKIP)])
    def test_on_error(self, sent: str, on_error: OnError) -> None:
        assert batch({"on_error": sent}).on_error is on_error

    def test_another_on_error_is_an_error(self) -> None:
        assert refusal({"on_error": "stop"}).message == "Invalid on_error: stop. Use reject or skip."

    @pytest.mark.parametrize("sent", ["Yes", "no"])
    def test_async_changes_nothing_of_the_batch(self, sent: str) -> None:
        made, plain = batch({"async": sent}), batch()
        assert made._replace(source=plain.source, request_digest=plain.request_digest) == plain


class TestCampaigns:
    @pytest.mark.parametrize(
        ("sent", "chosen"),
        [
            ("Spring", ["Spring"]),
            ("Spring,13234545", ["Spring", "13234545"]),
            (" Spring , ,13234545,, ", ["Spring", "13234545"]),
            ("898989889|,|13234545|,|34534554", ["898989889", "13234545", "34534554"]),
            ("Spring,13234545,Spring", ["Spring", "13234545"]),
        ],
    )
    def test_separated_by_comma_or_as_in_the_page_s_example(self, sent: str, chosen: list[str]) -> None:
        assert [campaign.public_id for campaign in batch({"campaigns_to_include": sent}).campaigns] == chosen

    @pytest.mark.parametrize("sent", ["", " ", ",", " , ,", "|,|"])
    def test_at_least_one(self, sent: str) -> None:
        assert refusal({"campaigns_to_include": sent}).message == "At least one campaign is required."

    def test_an_unknown_one_is_named(self) -> None:
        message = refusal({"campaigns_to_include": "Spring,spring"}).message
        assert message == "One of the campaigns selected is not valid. (spring)"


class TestRequestId:
    def test_field_or_header_the_field_wins(self) -> None:
        assert batch({"request_id": " a "}).request_key == "a"
        assert batch(key="b").request_key == "b"
        assert batch({"request_id": "a"}, key="b").request_key == "a"
        assert batch({"request_id": " "}, key="b").request_key == "b"

    def test_255_characters_at_most(self) -> None:
        assert batch({"request_id": "\u00e9" * 255}).request_key == "\u00e9" * 255
        assert refusal({"request_id": "x" * 256}).code == "bad_request_id"
        assert refusal({}, key="x" * 256).code == "bad_request_id"

    def test_what_a_database_cannot_store_is_refused(self) -> None:
        assert refusal({"request_id": "a\x00b"}).code == "bad_request_id"


class TestOrder:
    """The first failure answers; each of these is worse than all that follow."""

    WORSE = (
        ("delimiter", {"delimiter": "x"}, "bad_delimiter"),
        ("overwrite_duplicates", {"overwrite_duplicates": "x"}, "bad_overwrite"),
        ("card_number_generate", {"card_number_generate": "x"}, "bad_card_digits"),
        ("campaigns_to_include", {"campaigns_to_include": "x"}, "bad_campaign"),
        ("on_error", {"on_error": "x"}, "bad_on_error"),
        ("request_id", {"request_id": "x" * 256}, "bad_request_id"),
        ("headers", {"profiles_header_1": "x"}, "unknown_header"),
    )

    @pytest.mark.parametrize("first", range(len(WORSE)))
    def test_parameters_as_in_the_table_then_headers_then_data(self, first: int) -> None:
        fields: dict[str, str] = {}
        for _, wrong, _ in self.WORSE[first:]:
            fields.update(wrong)
        assert refusal(fields, data=None).code == self.WORSE[first][2]

    @pytest.mark.parametrize("data", [None, b""])
    def test_data_last(self, data: bytes | None) -> None:
        assert refusal({}, data=data).message == "No data was given"


class TestBatchId:
    def asked(self, **fields: str) -> CallContext:
        return CallContext(NO_CORE, ACCESS, Form(fields, None, "UTF-8", b""))

    def test_a_batch_id(self) -> None:
        assert parameters.read_batch_id(self.asked(batch_id=" b1 ")) == "b1"

    def test_none(self) -> None:
        with pytest.raises(ApiError, match="missing_batch_id"):
            parameters.read_batch_id(self.asked(batch_id=" "))

    def test_one_that_no_database_takes(self) -> None:
        with pytest.raises(ApiError, match="unknown_batch"):
            parameters.read_batch_id(self.asked(batch_id="a\x00b"))


class TestPage:
    def asked(self, **fields: str) -> tuple[int, int]:
        return parameters.read_page(CallContext(NO_CORE, ACCESS, Form(fields, None, "UTF-8", b"")))

    def test_defaults(self) -> None:
        assert self.asked() == self.asked(offset=" ", length="") == (0, 20)

    def test_given(self) -> None:
        assert self.asked(offset=" 0040 ", length="100") == (40, 100)

    @pytest.mark.parametrize("sent", ["-1", "1.0", "x", "1" * 10, "9" * 5000, "\u0668"])
    def test_another_offset_is_an_error(self, sent: str) -> None:
        with pytest.raises(ApiError, match="bad_offset"):
            self.asked(offset=sent, length="x")

    @pytest.mark.parametrize("sent", ["0", "101", "-1", "x", "9" * 5000])
    def test_another_length_is_an_error(self, sent: str) -> None:
        with pytest.raises(ApiError, match="bad_length"):
            self.asked(length=sent)


class TestData:
    @pytest.mark.parametrize("data", [b"\r\n", b" | \n|\t|", b"\xa0|\n".decode("latin-1").encode()])
    def test_rows_with_nothing_in_them_are_none(self, data: bytes) -> None:
        with pytest.raises(ApiError, match="no_data"):
            parameters.check_data(batch(data=data))

    def test_one_row_is_enough(self) -> None:
        parameters.check_data(batch(data=b"\n" * 70_000 + b"|x"))


class TestYes:
    @pytest.mark.parametrize("value", ["yes", "YES", "y", "True", "1", " yes "])
    def test_yes(self, value: str) -> None:
        assert parameters.is_yes(value)

    @given(st.text())
    def test_anything_else_is_no(self, value: str) -> None:
        assert parameters.is_yes(value) is (value.strip().lower() in {"yes", "y", "true", "1"})
