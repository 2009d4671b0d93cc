"""Length, chunks, gzip and the limits of fields: docs/protocol.md, Transport."""

from __future__ import annotations

import gzip
import zlib

import pytest

from legacy_api.form import FormLimits
from legacy_api.form_collector import MAX_FIELD_SIZE, MAX_FIELDS
from tests.support.form_requests import (
    BATCH,
    BOUNDARY,
    LIMITS,
    MULTIPART,
    ROWS,
    URLENCODED,
    Dribble,
    environ,
    multipart,
    read,
    refused,
    urlencoded,
)

# Length, chunks, gzip


@pytest.mark.parametrize("packed", [False, True])
def test_chunked_bodies_are_read(packed: bool) -> None:
    body = urlencoded([*BATCH[:-1], ("profiles_data", ROWS * 20_000)])
    headers = {"HTTP_CONTENT_ENCODING": "gzip"} if packed else {}
    _, data = read(environ(Dribble(gzip.compress(body) if packed else body, 5000), length=None, headers=headers))
    assert data == (ROWS * 20_000).encode()


def test_an_announced_body_above_the_limit_is_not_read() -> None:
    request = environ(b"output=XML", length=LIMITS.max_body + 1, query=b"output=JSON")
    error = refused(request)
    assert (error.fault.code, error.fields) == ("body_too_large", {"output": "JSON"})
    assert request["wsgi.input"].taken == 0
    request["CONTENT_LENGTH"] = "9" * 5000
    assert refused(request).fault.code == "body_too_large"


def test_an_unannounced_body_ends_at_the_limit() -> None:
    request = environ(b"output=JSON&profiles_data=" + b"x" * 5_000_000, length=None)
    error = refused(request)
    assert (error.fault.code, error.fields) == ("body_too_large", {"output": "JSON"})
    assert request["wsgi.input"].taken <= LIMITS.max_body + 256 * 1024


def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = b"profiles_data=" + b"x" * (LIMITS.max_body - 14)
    for length in (-1, None):
        assert read(environ(body, length=length))[0].data is not None


@pytest.mark.parametrize("body", [urlencoded(BATCH), multipart(BATCH)])
def test_a_body_that_ends_early_is_incomplete(body: bytes) -> None:
    error = refused(environ(body, None, length=len(body) + 1, query=b"callback=f"))
    assert error.fault.code == "body_incomplete"
    assert error.fields["callback"] == "f"
    assert error.fields["type"] == "customers_batch"
    assert refused(environ(b"", length=5)).fault.code == "body_incomplete"


def test_a_multipart_body_without_its_end_is_incomplete() -> None:
    body = multipart(BATCH)
    cut = body[: body.index(b"22334455")]
    assert refused(environ(cut, MULTIPART)).fault.code == "body_incomplete"
    assert refused(environ(body[:-5], MULTIPART)).fault.code == "body_incomplete"
    assert refused(environ(b"type: x", MULTIPART)).fault.code == "body_incomplete"
    # A value that is blank so far is not the line that ends a form.
    blank = body[: body.index(b"1.5")] + b" "
    assert refused(environ(blank, MULTIPART)).fault.code == "body_incomplete"


def test_whatever_a_server_raises_for_a_broken_body_makes_it_incomplete() -> None:
    class Broken(Dribble):
        def read(self, size: int = -1) -> bytes:
            if piece := super().read(size):
                return piece
            raise RuntimeError("invalid chunk size")

    error = refused(environ(Broken(b"output=JSON&type=x"), length=None))
    assert (error.fault.code, error.fields) == ("body_incomplete", {"output": "JSON"})


def test_no_length_and_no_end_is_no_body() -> None:
    request = environ(b"type=x")
    del request["CONTENT_LENGTH"], request["wsgi.input_terminated"]
    assert read(request)[0].fields == {}
    request["CONTENT_LENGTH"] = "-6"
    assert read(request)[0].fields == {}


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", " GZip ", "identity, gzip"])
def test_gzip_is_unpacked(encoding: str) -> None:
    half = len(urlencoded(BATCH)) // 2
    body = gzip.compress(urlencoded(BATCH)[:half]) + gzip.compress(urlencoded(BATCH)[half:]) + b"\0" * 512
    for limit in (1, 1 << 20):
        form, data = read(environ(Dribble(body, limit), headers={"HTTP_CONTENT_ENCODING": encoding}))
        assert data == ROWS.encode()
        assert form.fields["type"] == "customers_batch"


def test_the_unpacked_size_counts() -> None:
    bomb = gzip.compress(b"output=JSON&profiles_data=" + bytes(200_000_000), 9)
    error = refused(environ(bomb, headers={"HTTP_CONTENT_ENCODING": "gzip"}))
    assert (error.fault.code, error.fields) == ("body_too_large", {"output": "JSON"})


def test_bad_gzip_is_refused() -> None:
    good = gzip.compress(urlencoded(BATCH))
    headers = {"HTTP_CONTENT_ENCODING": "gzip"}
    assert refused(environ(good[:-9], headers=headers)).fault.code == "body_incomplete"
    assert refused(environ(good[:-8] + b"\0" * 8, headers=headers)).fault.code == "bad_form"
    assert refused(environ(b"type=x", headers=headers)).fault.code == "bad_form"
    assert refused(environ(good + b"junk", headers=headers)).fault.code == "bad_form"
    assert refused(environ(zlib.compress(b"type=x"), headers=headers)).fault.code == "bad_form"
    assert refused(environ(gzip.compress(b"") * 20_001, headers=headers)).fault.code == "bad_form"
    assert read(environ(b"", headers=headers))[0].fields == {}


@pytest.mark.parametrize("encoding", ["br", "deflate", "compress", "gzip, gzip", "zstd", "x<y>"])
def test_other_encodings_are_refused_unread(encoding: str) -> None:
    request = environ(b"type=x", query=b"output=json", headers={"HTTP_CONTENT_ENCODING": encoding})
    error = refused(request)
    assert (error.fault.code, error.fields) == ("bad_encoding", {"output": "json"})
    assert request["wsgi.input"].taken == 0


@pytest.mark.parametrize("encoding", ["", "identity", "Identity, "])
def test_identity_is_no_encoding(encoding: str) -> None:
    assert read(environ(b"type=x", headers={"HTTP_CONTENT_ENCODING": encoding}))[0].fields == {"type": "x"}


# FormLimits of fields


def test_too_many_fields_are_refused() -> None:
    for body, content_type in ((b"a=b&" * MAX_FIELDS, URLENCODED), (b"&" * MAX_FIELDS, URLENCODED)):
        assert read(environ(body[: MAX_FIELDS - 1], content_type)) is not None
        assert refused(environ(body, content_type)).fault.code == "bad_form"
    many = multipart([("a", "b")] * (MAX_FIELDS + 1))
    assert refused(environ(many, MULTIPART)).fault.code == "bad_form"


def test_a_huge_field_is_refused_if_known_and_ignored_if_not() -> None:
    huge = "x" * (MAX_FIELD_SIZE + 1)
    for make, content_type in ((urlencoded, URLENCODED), (multipart, MULTIPART)):
        error = refused(environ(make([("output", "JSON"), ("campaigns_to_include", huge)]), content_type))
        assert error.fault.message == "The form cannot be read: campaigns_to_include is over 65536 bytes."
        assert error.fields == {"output": "JSON"}
        assert read(environ(make([("comment", huge), ("type", "x")]), content_type))[0].fields == {"type": "x"}
        assert len(read(environ(make([("action", huge[1:])]), content_type))[0].fields["action"]) == MAX_FIELD_SIZE


def test_many_big_fields_are_refused_if_known_and_ignored_if_not() -> None:
    limits = FormLimits(max_body=100_000_000)
    value = "x" * 60_000
    headers = [(f"profiles_header_{number}", value) for number in range(200)]
    assert refused(environ(urlencoded(headers)), limits).fault.code == "bad_form"
    extras = [(f"extra_{number}", value) for number in range(200)]
    form, _ = read(environ(urlencoded([*extras, ("type", "x")]), None), limits)
    assert sum(map(len, form.fields.values())) < 9_000_000


def test_long_names_are_refused_not_gathered() -> None:
    assert refused(environ(b"x" * 100_000)).fault.code == "bad_form"
    assert refused(environ(b"x" * 100_000 + b"=1")).fault.code == "bad_form"
    part = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=".encode() + b"x" * 100_000
    message = "The form cannot be read: a part header is over 16384 bytes."
    assert refused(environ(part, MULTIPART)).fault.message == message


def test_nul_and_other_odd_bytes_are_plain_characters() -> None:
    form, data = read(environ(b"type=a%00b&t%00ype=c&profiles_data=%00\x00\xff"))
    assert form.fields == {"type": "a\x00b", "t\x00ype": "c"}
    assert data == b"\x00\x00\xff"
