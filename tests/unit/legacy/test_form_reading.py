"""Raw requests to canonical fields: docs/protocol.md, Transport."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.form_requests import (
    BATCH,
    BOUNDARY,
    MULTIPART,
    ROWS,
    URLENCODED,
    Dribble,
    environ,
    fields_of,
    multipart,
    read,
    refused,
    urlencoded,
)

# Encodings of a body


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (urlencoded(BATCH), URLENCODED),
        (urlencoded(BATCH), URLENCODED.upper() + "; charset=UTF-8"),
        (urlencoded(BATCH), None),
        (urlencoded(BATCH), ""),
        (urlencoded(BATCH), "text/plain"),
        (urlencoded(BATCH), "application/json"),
        (urlencoded(BATCH), "application/octet-stream"),
        (urlencoded(BATCH), "multipart/form-data"),
        (urlencoded(BATCH), MULTIPART),
        (b"\xef\xbb\xbf" + urlencoded(BATCH), URLENCODED),
        (urlencoded(BATCH).replace(b"&", b"&\r\n"), "text/plain"),
        (multipart(BATCH), MULTIPART),
        (multipart(BATCH), f'Multipart/Form-Data; charset=utf-8; Boundary="{BOUNDARY}"'),
        (multipart(BATCH), "multipart/form-data"),
        (multipart(BATCH), "multipart/form-data; boundary=another"),
        (multipart(BATCH), "multipart/mixed"),
        (multipart(BATCH), URLENCODED),
        (multipart(BATCH), "application/json"),
        (multipart(BATCH), None),
        (b"\r\n" + multipart(BATCH), MULTIPART),
        (b"This is a multipart message.\r\n" + multipart(BATCH), MULTIPART),
        (multipart(BATCH) + b"an epilogue\r\n--" + BOUNDARY.encode() + b"\r\n", MULTIPART),
        (multipart(BATCH).removesuffix(b"\r\n"), MULTIPART),
        (multipart(BATCH).removesuffix(b"--\r\n"), MULTIPART),
        (multipart(BATCH).replace(BOUNDARY.encode() + b"\r\n", BOUNDARY.encode() + b" \t \r\n"), MULTIPART),
    ],
)
@pytest.mark.parametrize("limit", [1, 7, 1 << 20])
def test_a_form_is_read_whatever_its_content_type_says(body: bytes, content_type: str | None, limit: int) -> None:
    expected, _ = read(environ(urlencoded(BATCH)))
    form, data = read(environ(Dribble(body, limit), content_type))
    assert form.fields == expected.fields
    assert form.digest == expected.digest
    assert form.fields["type"] == "customers_batch"
    assert data == ROWS.encode()


def test_line_feeds_alone_separate_parts_too() -> None:
    body = multipart(BATCH[:-1]).replace(b"\r\n", b"\n")
    assert read(environ(body, MULTIPART))[0].fields == fields_of(BATCH[:-1])


def test_an_empty_value_may_follow_its_header_at_once() -> None:
    mark = b"--" + BOUNDARY.encode()
    body = mark + b"\r\nContent-Disposition: form-data; name=delimiter\r\n\r\n" + multipart([("type", "x")])
    assert read(environ(body, MULTIPART))[0].fields == {"delimiter": "", "type": "x"}


@pytest.mark.parametrize(
    "disposition",
    [
        b'Content-Disposition: form-data; name="Profiles_Data"',
        b'content-disposition:form-data;name="profiles_data"',
        b"CONTENT-DISPOSITION: form-data; name=profiles-data",
        b"Content-Disposition: form-data; name='profiles.data'",
        b'Content-Disposition: form-data;\r\n name=" profiles data "',
        b"Content-Disposition: form-data; NAME*=utf-8''profiles%5Fdata",
        b'Content-Disposition: form-data; name="profiles_data"; filename="a;name=x.txt"\r\nContent-Type: text/plain',
        b'Content-Disposition: form-data; filename="C:\\new\\data.csv"; name="profiles_data"',
        b'Content-Disposition: form-data; name="profiles_data"; filename="\xdcbersicht.csv"',
        b'Content-Type: text/csv\r\nContent-Disposition: attachment; name="profiles_data"; filename=""',
        b'X-Junk\r\nContent-Transfer-Encoding: binary\r\nContent-Disposition: form-data; name="profiles_data"',
    ],
)
def test_part_headers_are_read_in_every_spelling(disposition: bytes) -> None:
    mark = b"--" + BOUNDARY.encode()
    form, data = read(environ(mark + b"\r\n" + disposition + b"\r\n\r\n1|2\r\n" + mark + b"--", MULTIPART))
    assert data == b"1|2"
    assert form.fields == {}
    assert form.charset == "UTF-8"


def test_a_part_without_a_name_or_header_is_passed_over() -> None:
    mark = b"--" + BOUNDARY.encode() + b"\r\n"
    body = mark + b"\r\nnobody\r\n" + mark + b"Content-Type: text/plain\r\n\r\nno one\r\n" + multipart([("type", "x")])
    assert read(environ(body, MULTIPART))[0].fields == {"type": "x"}


def test_what_only_looks_like_a_boundary_is_data() -> None:
    text = f"a\r\n--{BOUNDARY}x\r\n--{BOUNDARY[:-1]}\r\n-- \r\n--{BOUNDARY}{' ' * 70}\r\nb\r"
    assert read(environ(multipart([("profiles_data", text)]), MULTIPART))[1] == text.encode()


@pytest.mark.parametrize("limit", [1, 1 << 20])
def test_as_many_blanks_as_may_follow_a_boundary(limit: int) -> None:
    body = multipart([("type", "x"), ("code", "y")])
    padded = body.replace(BOUNDARY.encode() + b"\r\n", BOUNDARY.encode() + b" " * 64 + b"\r\n")
    assert read(environ(Dribble(padded, limit), MULTIPART))[0].fields == {"type": "x", "code": "y"}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (b'"a\\"b"', 'a"b'),
        (b"'a\"b'", 'a"b'),
        (b'"type', "type"),
        (b"type", "type"),
        (b"xtypex", "xtypex"),
        (b"x", "x"),
        (b"utf8; name*=utf-8''type", "utf8"),
    ],
)
def test_names_of_parts_are_quoted_or_not(name: bytes, field: str) -> None:
    mark = b"--" + BOUNDARY.encode()
    body = mark + b"\r\nContent-Disposition: form-data; name=" + name + b"\r\n\r\n1\r\n" + mark + b"--\r\n"
    assert read(environ(body, MULTIPART))[0].fields == {field: "1"}


@pytest.mark.parametrize("boundary", [f'"{BOUNDARY}"', f"{BOUNDARY}; charset=utf-8", f" {BOUNDARY}"])
def test_a_declared_boundary_counts_where_the_body_begins_with_a_preamble(boundary: str) -> None:
    body = b"This is a multipart message.\r\n" + multipart([("type", "x")])
    assert read(environ(body, f"multipart/form-data; boundary={boundary}"))[0].fields == {"type": "x"}


@pytest.mark.parametrize("name", ['filename="x.png"', "filename*=utf-8''x.png"])
def test_files_of_other_names_are_not_fields_and_do_not_decide_the_charset(name: str) -> None:
    mark = b"--" + BOUNDARY.encode() + b"\r\n"
    body = (
        mark
        + f'Content-Disposition: form-data; name="type"; {name}\r\n\r\n'.encode()
        + b"\xff\xfe\r\n"
        + multipart([("delimiter", "é")])
    )
    form, _ = read(environ(body, MULTIPART))
    assert form.fields == {"delimiter": "é"}
    assert form.charset == "UTF-8"


def test_a_file_input_left_empty_does_not_replace_the_text() -> None:
    mark = b"--" + BOUNDARY.encode()
    empty = b'\r\nContent-Disposition: form-data; name="profiles_data"; filename=""\r\n\r\n\r\n'
    body = multipart([("profiles_data", "1|2")]).removesuffix(b"--\r\n") + empty + mark + b"--\r\n"
    assert read(environ(body, MULTIPART))[1] == b"1|2"


def test_a_body_of_another_kind_has_no_fields() -> None:
    for body in (b'{"API": "1.5", "a": "b=c"}', b"<?xml version='1.0'?><a/>", b"\x00\x01\x02=", b"hello"):
        for content_type in (None, "application/json", "multipart/form-data"):
            error = refused(environ(body, content_type, query=b"output_=JSON"))
            assert error.fault.code == "bad_form"
        form, _ = read(environ(body, "application/json", query=b"type=x"))
        assert form.fields == {"type": "x"}


def test_a_body_of_nothing_is_no_failure() -> None:
    for body in (b"", b"\r\n", b"\xef\xbb\xbf", b" " * 5000):
        for content_type in (None, URLENCODED, "text/plain"):
            assert read(environ(body, content_type))[0].fields == {}
    assert read(environ(b"&&=&"))[0].fields == {}
    assert read(environ(b"", MULTIPART))[0].fields == {}
    assert read(environ(f"--{BOUNDARY}--\r\n".encode(), MULTIPART))[0].fields == {}


# Query and body, names and values


def test_the_body_wins_over_the_query() -> None:
    form, data = read(
        environ(urlencoded([("Type", "body"), ("profiles_data", "b")]), query=b"type=query&output=JSON&profiles.data=q")
    )
    assert form.fields == {"type": "body", "output": "JSON"}
    assert data == b"b"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_get_has_its_query_only(method: str) -> None:
    request = environ(b"type=body", method=method, query=urlencoded(BATCH), headers={"HTTP_CONTENT_ENCODING": "br"})
    form, data = read(request)
    assert form.fields["type"] == "customers_batch"
    assert data == ROWS.encode()
    assert request["wsgi.input"].taken == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_read_for_the_format_of_their_refusal(method: str) -> None:
    assert read(environ(b"output=JSON", method=method))[0].fields == {"output": "JSON"}


@pytest.mark.parametrize(
    "name", ["profiles_header_1", "PROFILES-HEADER.1", "\t profiles header-1 ", "\nProfiles_Header_1\r\n"]
)
def test_field_names_have_one_spelling(name: str) -> None:
    assert fields_of([(name, "code")]) == {"profiles_header_1": "code"}
    assert read(environ(b"", query=urlencoded([(name, "code")])))[0].fields == {"profiles_header_1": "code"}
    folded = name.replace("\r", "").replace("\n", "")
    assert read(environ(multipart([(folded, "code")]), MULTIPART))[0].fields == {"profiles_header_1": "code"}


def test_header_numbers_keep_their_spelling_so_that_twice_is_seen() -> None:
    assert fields_of([("profiles_header_1", "code"), ("profiles_header_01", "phone")]) == {
        "profiles_header_1": "code",
        "profiles_header_01": "phone",
    }


def test_the_last_of_a_repeated_field_wins_in_whatever_spelling() -> None:
    body = urlencoded([("no-undo", "yes"), ("Profiles_Data", "first"), ("NO_UNDO", "no"), ("profiles.data", "last")])
    form, data = read(environ(body))
    assert form.fields == {"no_undo": "no"}
    assert data == b"last"
    assert read(environ(urlencoded([("profiles_data", "1|2"), ("profiles_data", "")])))[1] == b""


def test_values_are_trimmed_but_for_the_delimiter_and_the_data() -> None:
    body = urlencoded([("type", " \tx\r\n\xa0"), ("delimiter", "\t"), ("profiles_data", " 1\t")])
    form, data = read(environ(body))
    assert form.fields == {"type": "x", "delimiter": "\t"}
    assert data == b" 1\t"


def test_percent_encoding_as_php_reads_it() -> None:
    assert fields_of([]) == {}
    body = b"%74ype=a+b%2Bc%zz%4&code=x=y==z%3D&;output=JSON;a=b&details&=nobody&card_number=%"
    assert read(environ(body))[0].fields == {
        "type": "a b+c%zz%4",
        "code": "x=y==z=",
        ";output": "JSON;a=b",
        "details": "",
        "card_number": "%",
    }


def test_arrays_are_unknown_names() -> None:
    assert "type" not in fields_of([("type[]", "x"), ("type[0]", "y")])


# Credentials


@pytest.mark.parametrize(
    ("fields", "header", "key"),
    [
        ([("user_api_key", "a")], None, "a"),
        ([("user_password", "b")], None, "b"),
        ([("user_password", "b"), ("user_api_key", "a"), ("user_password", "c")], None, "a"),
        ([("user_api_key", " "), ("user_password", "b")], None, "b"),
        ([("user_api_key", "a"), ("user_password", "b")], "h", "h"),
        ([("user_api_key", "a")], "  ", "a"),
        ([], " h\xc3\xa9 ", "hé"),
        ([], "h\xe9", "hé"),
    ],
)
def test_one_key_counts(fields: list[tuple[str | bytes, str | bytes]], header: str | None, key: str) -> None:
    headers = {} if header is None else {"HTTP_API_ACCESS_KEY": header}
    assert fields_of(fields, headers=headers) == {"user_api_key": key}


# Fields that are known by sight


def _again(fields: list[tuple[str, str]]) -> Mapping[str, str]:
    """Read a form twice: the second time its fields are known, as far as they are remembered."""
    body = urlencoded(fields)
    first, second = (read(environ(body))[0] for _ in range(2))
    assert second.fields == first.fields
    return second.fields


@pytest.mark.parametrize(
    "fields",
    [
        [("type", "customers_batch"), ("TYPE", "x"), ("type", "customers_batch")],
        [("type", "x"), ("type", "customers_batch"), ("Type ", "y"), ("_", "1")],
        [("type", "\u00e9"), ("type", "customers_batch")],
        [("type", "customers_batch"), ("type", "\u00e9")],
        [("d\u00e9limiter", "x"), ("delimiter", "\t"), ("type", "customers_batch")],
        [("delimiter", " \t"), ("output", " json "), ("output", "xml")],
    ],
)
def test_the_last_field_of_a_name_wins_whether_it_is_known_or_not(fields: list[tuple[str, str]]) -> None:
    wanted = {name.strip().lower(): value if name == "delimiter" else value.strip() for name, value in fields}
    assert _again(fields) == wanted


def test_a_known_field_counts_at_once() -> None:
    read(environ(urlencoded([("x", "1"), ("output", "JSON"), ("y", "1")])))
    credentials = [("user_id", "u"), ("user_api_key", "k"), ("account_id", "a")]
    body = urlencoded([*credentials, ("pad", "A" * 600_000), ("profiles_data", "1"), ("output", "JSON")])
    error = refused(environ(body + b"&" + b"x" * 70_000 + b"=1&z=1"))
    assert (error.fault.code, error.fields["output"]) == ("bad_form", "JSON")


def test_fields_keep_their_order_whatever_their_characters() -> None:
    fields = [("profiles_header_0", "\u00e9"), ("type", "x"), ("delimiter", "\u00e9"), ("api", "1.5")]
    assert list(_again(fields)) == [name for name, _ in fields]
