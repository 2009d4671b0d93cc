"""What "the same request" is: docs/protocol.md, Parameters, `request_id`."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.support.form_requests import BATCH, MULTIPART, ROWS, URLENCODED, Fields, environ, multipart, read, urlencoded


def digest(fields: Fields, **more: Any) -> bytes:
    return read(environ(urlencoded(fields), **more))[0].digest


def test_the_same_request_has_the_same_digest_in_whatever_encoding() -> None:
    batch = [*BATCH[:-1], ("profiles_data", "\ufeff1|Zoë|\n")]
    expected = digest(batch)
    latin: Fields = [*BATCH[:-1], ("profiles_data", "1|Zoë|\n".encode("latin-1"))]
    assert digest(latin) == expected
    greek: Fields = [*BATCH[:-1], ("profiles_data", "1|Ζωή|\n".encode("iso8859-7"))]
    assert digest(greek, content_type=URLENCODED + "; charset=iso-8859-7") == digest(
        [*BATCH[:-1], ("profiles_data", "1|Ζωή|\n")]
    )
    assert read(environ(multipart(batch), MULTIPART))[0].digest == expected
    assert read(environ(multipart(latin), MULTIPART))[0].digest == expected
    assert read(environ(method="GET", query=urlencoded(batch)))[0].digest == expected
    assert digest(list(reversed(batch))) == expected
    assert digest(batch, headers={"HTTP_API_ACCESS_KEY": "another"}) == expected
    respelled = [(str(name).upper().replace("_", "-").replace("R-1", "R-001"), value) for name, value in batch]
    assert digest(respelled) == expected


@pytest.mark.parametrize(
    "extra",
    [
        ("request_id", "1"),
        ("output", "JSON"),
        ("callback", "f"),
        ("condensed", "yes"),
        ("_", "123"),
        ("user_password", "x"),
        ("user_api_key", "x"),
        ("utm_source", "x"),
        ("_charset_", "utf-8"),
        ("details", ""),
        ("type", " customers_batch "),
    ],
)
def test_what_is_no_part_of_the_request_does_not_change_its_digest(extra: tuple[str, str]) -> None:
    assert digest([*BATCH, extra]) == digest(BATCH)


@pytest.mark.parametrize(
    "extra",
    [
        ("user_id", "x"),
        ("account_id", "x"),
        ("API", "1.6"),
        ("type", "x"),
        ("details", "yes"),
        ("profiles_header_2", ""),
        ("profiles_header_1", "phone"),
        ("profiles_data", ""),
        ("profiles_data", ROWS + " "),
        ("batch_id", "1"),
        ("delimiter", "\t"),
    ],
)
def test_what_is_part_of_the_request_changes_its_digest(extra: tuple[str, str]) -> None:
    assert digest([*BATCH, extra]) != digest(BATCH)


def test_the_digest_frames_its_fields() -> None:
    assert digest([("code", "a4:type1:b")]) != digest([("code", "a"), ("type", "b")])


def test_blank_data_are_no_data_to_the_digest() -> None:
    assert digest([("type", "x")]) == digest([("type", "x"), ("profiles_data", "")])


def test_wsgi_text_beyond_latin_1_is_no_bug() -> None:
    request = environ(b"", method="GET")
    request["QUERY_STRING"] = "type=\u20ac\udc80"
    request["wsgi.input"] = io.BytesIO()
    assert read(request)[0].fields == {"type": "??"}
