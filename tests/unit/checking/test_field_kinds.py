"""The kinds of values that only files have, what a row must give, and what its sender calls it."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing.batch import Batch, Delimited, Header, Requirement, Source
from importing.checking.check_rows import CheckedRows
from importing.checking.parse_values import parse_json_value
from importing.disk_list import DiskList
from importing.errors import Problem
from importing.fields import FIELD_BY_NAME, LONG_TEXT_LIMIT, Field, FieldDestination, FieldKind
from tests.support.row_checks import Done, Marked

FILE = Delimited(",", quotes=True, multiline=True)
FIELDS = {
    **FIELD_BY_NAME,
    "Source_id": Field("Source_id", FieldKind.KEY, column="code"),
    "Id": Field("Id", FieldKind.KEY, column="code"),
    "Name": Field("Name", FieldKind.FULL_NAME),
    "name": Field("name", FieldKind.NAME_KEY),
    "birth": Field("birth", FieldKind.ISO_DATE, column="custom_date"),
    "Country": Field("Country", FieldKind.COUNTRY, column="country"),
    "meta": Field("meta", FieldKind.TYPED, FieldDestination.ATTRIBUTE, limit=LONG_TEXT_LIMIT),
    "Meta": Field("Meta", FieldKind.TEXT, FieldDestination.ATTRIBUTE, "meta", LONG_TEXT_LIMIT),
    "source": Field("source", into=FieldDestination.ATTRIBUTE),
    "type": Field("type", FieldKind.PICK, FieldDestination.ATTRIBUTE, choices=("INDIVIDUAL", "BUSINESS")),
}


def batch(
    names: str,
    text: str,
    *,
    reference: Sequence[str] = (),
    requirements: Sequence[Requirement] = (),
    constants: Sequence[tuple[Field, str]] = (),
) -> Batch:
    data = text.encode()
    columns = tuple(Header(number, FIELDS.get(name)) for number, name in enumerate(names.split(), 1))
    return Batch(
        *(1, "u", "grid", columns, FILE, Source(io.BytesIO(data), "utf-8", len(data))),
        reference=tuple(reference),
        requirements=tuple(requirements),
        constants=tuple(constants),
    )


def done(sent: Batch) -> Done:
    problems: DiskList[Problem] = DiskList()
    warnings: DiskList[Problem] = DiskList()
    checked = CheckedRows(sent, Marked(), problems, warnings)
    return Done(checked, [row for chunk in checked.chunks() for row in chunk], list(problems), list(warnings))


def one(name: str, value: str) -> tuple[object, ...] | str:
    """What is stored for one value in the columns that it has, or the code of its problem."""
    found = done(batch(name, '"' + value.replace('"', '""') + '"\n'))
    return found.problems[0].code if found.problems else found.rows[0][1:]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("Anna Maria Smith", "Anna Maria", "Smith"),
        ("Anna  Smith", "Anna ", "Smith"),
        ("Madonna", "Madonna", ""),
        ("Anna\tSmith\xa0Jr", "Anna\tSmith\xa0Jr", ""),
        ("  Anna Smith ", "Anna", "Smith"),
        ("", "", ""),
    ],
)
def test_a_full_name_is_cut_at_its_last_blank(name: str, first: str, last: str) -> None:
    assert one("Name", name) == (first, last)


@given(st.text(st.sampled_from("ab é\xa0\u3000"), min_size=1, max_size=8).map(lambda text: text.strip(" \t\xa0")))
def test_joined_a_full_name_is_as_it_was(name: str) -> None:
    found = done(batch("Name", f'"{name}"\n')).rows[0]
    first, last = found[1], found[2]
    assert (f"{first} {last}" if last else first) == name


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        (" ACME  Straße\tGmbH ", ("acme strasse gmbh", "ACME Straße", "GmbH")),
        ("Acme", ("acme", "Acme", "")),
        ("", (None, "", "")),
        ("ß" * 127, ("ss" * 127, "ß" * 127, "")),
        ("ß" * 128, "too_long"),
        ("x" * 255, ("x" * 255, "x" * 255, "")),
        ("x" * 256, "too_long"),
    ],
)
def test_a_name_that_is_a_key(name: str, stored: object) -> None:
    assert one("name", name) == stored


def test_a_name_too_long_to_be_a_key_says_so() -> None:
    found = done(batch("name", "ß" * 200 + "\nok\n"))
    assert found.problems == [Problem(1, "name", "too_long", "ß" * 200, 255)]
    assert found.problems[0].message.endswith("is longer than 255 characters.")
    assert (found.checked.without_code, found.checked.failed) == (0, 1)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("", ""),
        ("2020-02-29", "2020-02-29"),
        ("2020-02-29T23:59:59Z", "2020-02-29"),
        ("2020-02-29t23:59:59.123456789z", "2020-02-29"),
        ("2020-02-29T23:59:59.5+02:00", "2020-02-29"),
        ("2020-02-29 23:59-0800", "2020-02-29"),
        ("2020-02-29T00:00:00,5+01", "2020-02-29"),
        ("2020-02-30", None),
        ("20200229", "2020-02-29"),
        ("20200230", None),
        ("202002290", None),
        ("29.02.2020", None),
        ("2020-02-29T", None),
        ("2020-02-29T24:01", None),
        ("2020-02-29T23:59:60", None),
        ("2020-02-29x23:59", None),
        ("2020-02-29T23:59:59+25:00", None),
        ("２０２０-02-29", None),
        ("0000-00-00", None),
    ],
)
def test_of_an_iso_date_and_time_the_date_counts(text: str, stored: str | None) -> None:
    assert one("birth", text) == ("bad_date" if stored is None else (stored,))


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("US", ("US",)),
        ("de", ("DE",)),
        ("", ("",)),
        ("USA", "bad_country"),
        ("D1", "bad_country"),
        ("ÖÄ", "bad_country"),
    ],
)
def test_a_country_is_two_ascii_letters(text: str, stored: object) -> None:
    assert one("Country", text) == stored


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            ("", None),
            ("null", None),
            ("NULL", None),
            ("true", True),
            ("False", False),
            ("yes", "yes"),
            ("Null!", "Null!"),
        ],
        *[("0", 0), ("-0", 0), ("-12", -12), ("1.50", 1.5), ("1e3", 1000.0), ("2.5E-3", 0.0025), ("0.0", 0.0)],
        *[("007", "007"), ("+4", "+4"), (".5", ".5"), ("5.", "5."), ("1_000", "1_000"), ("٣", "٣"), ("NaN", "NaN")],
        *[("123456789012345", 123456789012345), ("1234567890123456", "1234567890123456")],
        *[
            ("0.000000000000001", 1e-15),
            ("1.234567890123456", "1.234567890123456"),
            ("1e400", "1e400"),
            ("1e15", "1e15"),
        ],
        *[("a, b", ["a", "b"]), ("1,true,x y,007", [1, True, "x y", "007"]), ("a,,null,", ["a"]), (",", None)],
        *[
            ("Infinity", "Infinity"),
            ('say "hi"', 'say "hi"'),
            ("back\\slash", "back\\slash"),
            ("two\nlines", "two\nlines"),
        ],
    ],
)
def test_a_typed_attribute_is_what_its_text_says(text: str, value: object) -> None:
    found = json.loads(str(one("meta", text)[0]))["meta"]
    assert found == value
    assert type(found) is type(value)


@given(st.one_of(st.from_regex(r"-?[0-9]{1,17}(\.[0-9]{1,17})?([eE][-+]?[0-9]{1,3})?", fullmatch=True), st.text()))
def test_a_typed_number_is_exact_and_everything_else_stays_text(text: str) -> None:
    text = text.replace(",", "").strip(" \t\xa0")
    found = json.loads(parse_json_value(text))
    if isinstance(found, int | float) and not isinstance(found, bool):
        assert math.isclose(found, float(text), rel_tol=0)
        assert len(repr(found)) < 25
    else:
        assert found == text or text.lower() in ("", "null", "true", "false")


def test_plain_text_and_choices_are_attributes_too() -> None:
    found = done(batch("Meta type", "007,business\ntrue,\n,Company\n"))
    assert [json.loads(str(row[1])) for row in found.rows] == [
        {"meta": "007", "type": "BUSINESS"},
        {"meta": "true", "type": None},
    ]
    assert [(p.row, p.field, p.code) for p in found.problems] == [(3, "type", "bad_choice")]


@pytest.mark.parametrize("names", ["Source_id Id first_name", "Id Source_id first_name"])
def test_of_two_headers_with_one_target_the_first_in_the_reference_that_is_given_counts(names: str) -> None:
    rows = [{"Id": "i1", "Source_id": "s1"}, {"Id": "i2"}, {"Source_id": "s3"}, {"first_name": "x"}]
    text = "".join(",".join(row.get(name, "") for name in names.split()) + "\n" for row in rows)
    found = done(batch(names, text, reference=("Source_id", "Id")))
    assert found.column("code") == ["s1", "i2", "s3", None]
    assert found.checked.without_code == 1


def test_without_a_reference_the_first_header_with_a_target_counts() -> None:
    found = done(batch("Id Source_id Meta meta Name first_name", "i,s,,true,,Bo\n,s,a,1,An Na,Bo\n"))
    assert found.column("code") == ["i", "s"]
    assert [json.loads(str(document))["meta"] for document in found.column("attributes")] == [True, "a"]
    assert list(zip(found.column("first_name"), found.column("last_name"), strict=True)) == [("Bo", ""), ("An", "Na")]


def test_a_constant_stands_where_a_row_gives_nothing() -> None:
    constants = [(FIELDS["source"], "import"), (FIELDS["Country"], "at")]
    found = done(batch("Id source", "1,web\n2,\n3\n", constants=constants))
    assert found.checked.columns == ("row", "code", "country", "attributes")
    assert [json.loads(str(row[3])) for row in found.rows] == [
        {"source": "web"},
        {"source": "import"},
        {"source": "import"},
    ]
    assert found.column("country") == ["AT"] * 3
    with pytest.raises(ValueError, match="bad_country"):
        done(batch("Id", "1\n", constants=[(FIELDS["Country"], "Austria")]))


NEEDED = (
    Requirement(("Id",)),
    Requirement(("type",)),
    Requirement(("Name",), ("type", "INDIVIDUAL")),
    Requirement(("Meta", "source"), ("type", "business")),
)


def test_what_a_row_must_give_is_missed_in_column_order() -> None:
    text = "1,individual,An Na\n2,INDIVIDUAL,\n,BUSINESS\n4,business,,x\n5,Business,,,y\n6\n,,,,,z\n8,bad,,\n"
    found = done(batch("Id type Name Meta source email", text, requirements=NEEDED))
    assert [(p.row, p.field, p.code) for p in found.problems] == [
        (2, "Name", "missing_value"),
        (3, "Id", "missing_value"),
        (3, "Meta", "missing_value"),
        (6, "type", "missing_value"),
        (7, "Id", "missing_value"),
        (7, "type", "missing_value"),
        (8, "type", "bad_choice"),
    ]
    assert found.problems[0].message == "Row 2, Name: The value is missing."
    assert [row[0] for row in found.rows] == [1, 4, 5]


def test_a_column_that_is_not_there_is_missed_in_every_row() -> None:
    found = done(batch("Id -", "1,x\n2\n", requirements=[Requirement(("email", "phone"))]))
    assert [(p.row, p.field, p.code) for p in found.problems] == [
        (1, "email", "missing_value"),
        (2, "email", "missing_value"),
    ]


def test_in_a_row_with_a_flaw_nothing_is_missed() -> None:
    found = done(batch("Id Name type", '1,"An"na,x\n', requirements=NEEDED))
    assert [(p.field, p.code) for p in found.problems] == [("Name", "bad_quotes")]


def test_problems_and_warnings_tell_what_the_sender_calls_the_row() -> None:
    text = 's1,i1,odd,2020-13-01\n,i2,odd,\n,,odd,x\n"s4"x,i4,,\n,"i5"x,,\n' + "s" * 300 + ",,odd,\n"
    found = done(batch("Source_id Id email birth", text, reference=("Source_id", "Id")))
    assert [(p.row, p.code, p.ref) for p in found.problems] == [
        (1, "bad_date", "s1"),
        (3, "bad_date", ""),
        (4, "bad_quotes", ""),
        (5, "bad_quotes", ""),
        (6, "too_long", "s" * 255),
    ]
    assert [(p.row, p.ref) for p in found.warnings] == [(1, "s1"), (2, "i2"), (3, ""), (6, "s" * 255)]
    assert all(not p.ref for p in done(batch("Source_id Id email birth", text)).problems)
