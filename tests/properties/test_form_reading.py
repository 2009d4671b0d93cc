"""Properties of reading forms: nothing but a Form or UnreadableForm ever comes out, and encodings agree with each other."""

from __future__ import annotations

import gzip
from urllib.parse import unquote_to_bytes

from hypothesis import given, settings
from hypothesis import strategies as st

from importing.errors import ApiError
from legacy_api.form import UnreadableForm, read_form
from legacy_api.spool_budget import UNAUTHENTICATED_SPOOL
from legacy_api.urlencoded import Urlencoded, unquote
from tests.support.form_requests import (
    BOUNDARY,
    LIMITS,
    MULTIPART,
    URLENCODED,
    Dribble,
    admit_all,
    admit_none,
    environ,
    multipart,
    read,
    urlencoded,
)
from transport.form_sink import Sink
from transport.multipart import Multipart

QUICK = settings(max_examples=300, deadline=None)

# Escapes, whole and broken, next to everything that quoted-printable reads in another way.
ESCAPES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"%", b"%%", b"=", b"==", b"=\n", b"%\n", b"%\r", b"\r", b"\n", b"%0a", b"%0D", b"%3d", b"%3D", b"+", b"_"]
        ),
        st.sampled_from(
            [b"%zz", b"%4", b"%g1", b"%1g", b"%25", b"%2541", b"%C3%A9", b"a", b"F", b"0", b" ", b"\t", b"."]
        ),
        st.binary(max_size=3),
    ),
    max_size=30,
).map(b"".join)


class Gathered(Sink):
    """A sink that remembers every field."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []

    def begin(self, name: bytes, filename: bytes | None = None, charset: str = "") -> None:
        del filename, charset
        self.fields.append((name, b""))

    def write(self, piece: bytes) -> None:
        assert piece
        name, value = self.fields[-1]
        self.fields[-1] = (name, value + piece)

    def end(self) -> None:
        pass


def pieces(body: bytes, sizes: list[int]) -> list[bytes]:
    found, start = [], 0
    for size in sizes:
        found.append(body[start : start + size])
        start += size
    return [*found, body[start:]]


def plainly(raw: bytes) -> bytes:
    return unquote_to_bytes(raw.replace(b"+", b" "))


@QUICK
@given(ESCAPES)
def test_unquoting_is_the_standard_librarys(raw: bytes) -> None:
    assert unquote(raw) == plainly(raw)


@QUICK
@given(st.lists(st.tuples(ESCAPES, ESCAPES), max_size=5), st.lists(st.integers(0, 9), max_size=12))
def test_urlencoded_in_any_pieces_is_what_the_standard_library_reads(
    fields: list[tuple[bytes, bytes]], sizes: list[int]
) -> None:
    body = b"&".join(name + b"=" + value for name, value in fields)
    expected = []
    for part in body.split(b"&"):
        name, _, value = part.partition(b"=")
        expected.append((plainly(name), plainly(value)))
    sink = Gathered()
    form = Urlencoded(sink)
    for piece in pieces(body, sizes):
        form.feed(piece)
    form.close()
    assert sink.fields == expected


# Values full of what nearly is a boundary line.
VALUES = st.lists(
    st.one_of(
        st.binary(max_size=5),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"--B", b"\n--B", b"\r\n--B1x", b"\n--B1.", b"\n-", b" "]),
    ),
    max_size=8,
).map(b"".join)
NAMES = st.text("abc_.-", min_size=1, max_size=5)


@QUICK
@given(
    st.lists(st.tuples(NAMES, VALUES.filter(lambda value: b"\n--B12" not in b"\n" + value)), max_size=4),
    st.lists(st.integers(0, 9), max_size=60),
    st.binary(max_size=5),
)
def test_multipart_in_any_pieces_is_what_was_encoded(
    fields: list[tuple[str, bytes]], sizes: list[int], epilogue: bytes
) -> None:
    body = multipart([(name, value) for name, value in fields], "B12") + epilogue
    sink = Gathered()
    form = Multipart(b"B12", sink)
    for piece in pieces(body, sizes):
        form.feed(piece)
    form.close()
    assert sink.fields == [(name.encode(), value) for name, value in fields]


@QUICK
@given(VALUES, st.lists(st.integers(0, 9), max_size=60))
def test_multipart_reads_a_broken_body_alike_in_any_pieces(body: bytes, sizes: list[int]) -> None:
    def outcome(cut: list[int]) -> tuple[list[tuple[bytes, bytes]], str]:
        sink = Gathered()
        form = Multipart(b"B1", sink)
        try:
            for piece in pieces(b"--B1\r\nContent-Disposition: form-data; name=a\r\n" + body, cut):
                form.feed(piece)
            form.close()
        except ApiError as fault:
            return [], fault.code
        return sink.fields, ""

    assert outcome(sizes) == outcome([])


RAW = st.one_of(
    st.binary(max_size=6),
    st.text(max_size=6).map(str.encode),
    st.sampled_from([b"\xef\xbb\xbf1", b"Zo\xeb", "Zoë".encode(), b"\x81", b"\xc3", b"\xe2\x82"]),
)
KNOWN = ["type", "User-ID", "delimiter", "profiles_data", "Profiles.Data", "profiles_header_01", "comment", "_charset_"]
FIELDS = st.lists(st.tuples(st.sampled_from(KNOWN), RAW), max_size=6)
LABELS = st.sampled_from(["", "; charset=utf-8", "; charset=iso-8859-2", "; charset=windows-1253", "; charset=x"])


@QUICK
@given(FIELDS, FIELDS, LABELS)
def test_urlencoded_multipart_query_and_gzip_agree(
    fields: list[tuple[str, bytes]], queried: list[tuple[str, bytes]], label: str
) -> None:
    query = urlencoded([*queried])
    body, parts = urlencoded([*fields]), multipart([*fields])
    packed = {"HTTP_CONTENT_ENCODING": "gzip"}
    form, data = read(environ(body, URLENCODED + label, query=query))
    for request in (
        environ(parts, MULTIPART + label, query=query),
        environ(Dribble(body, 1), URLENCODED + label, query=query),
        environ(Dribble(parts, 1), MULTIPART + label, query=query, length=None),
        environ(gzip.compress(parts), MULTIPART + label, query=query, headers=packed),
        environ(method="GET", content_type=URLENCODED + label, query=query + b"&" + body),
    ):
        other, its_data = read(request)
        assert (other.fields, its_data, other.charset, other.digest) == (form.fields, data, form.charset, form.digest)


@QUICK
@given(FIELDS, LABELS)
def test_the_charset_is_decided_by_all_raw_bytes(fields: list[tuple[str, bytes]], label: str) -> None:
    form, data = read(environ(urlencoded([*fields]), URLENCODED + label))
    valid = all(_is_utf8(value) for _, value in fields)
    assert (form.charset == "UTF-8") is valid
    last = [value for name, value in fields if name.lower().replace(".", "_") == "profiles_data"]
    assert data == (last[-1].removeprefix(b"\xef\xbb\xbf") if last else None)
    if form.data is not None and data is not None:
        data.decode(form.data.charset)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@QUICK
@given(
    body=st.one_of(
        st.binary(max_size=80),
        ESCAPES,
        VALUES,
        st.lists(
            st.one_of(
                st.sampled_from(
                    [
                        f"--{BOUNDARY}".encode(),
                        f"\r\n--{BOUNDARY}".encode(),
                        f"\n--{BOUNDARY}--".encode(),
                        b"\r\n",
                        b"\n",
                        b"\r\n\r\n",
                        b"Content-Disposition: form-data; name=",
                        b'"profiles_data"',
                        b"; filename=",
                        b"profiles_data=",
                        b"user_id=1&user_password=2&account_id=3&",
                        b"&",
                        b"\xef\xbb\xbf",
                    ]
                ),
                st.binary(max_size=4),
            ),
            max_size=15,
        ).map(b"".join),
    ),
    content_type=st.one_of(
        st.none(), st.sampled_from([URLENCODED, MULTIPART, "text/plain", "multipart/x; boundary="]), st.text(max_size=9)
    ),
    query=st.one_of(ESCAPES, st.binary(max_size=9)),
    method=st.sampled_from(["POST", "GET", "PUT", "X"]),
    length=st.one_of(st.just(-1), st.none(), st.integers(0, 99)),
    encoding=st.one_of(st.sampled_from(["", "gzip"]), st.text(max_size=5)),
    squeeze=st.booleans(),
    refuse=st.booleans(),
)
def test_any_request_gives_a_form_or_unreadable(
    body: bytes,
    content_type: str | None,
    query: bytes,
    method: str,
    length: int | None,
    encoding: str,
    squeeze: bool,
    refuse: bool,
) -> None:
    sent = gzip.compress(body)[:-1] + b"\0" * (len(body) % 2) if squeeze else body
    headers = {"HTTP_CONTENT_ENCODING": encoding, "HTTP_API_ACCESS_KEY": encoding}
    request = environ(sent, content_type, method=method, query=query, length=length, headers=headers)
    try:
        form = read_form(request, LIMITS, admit_none if refuse else admit_all)
    except UnreadableForm as error:
        assert error.fault.message.isascii()
        assert all(isinstance(value, str) for value in error.fields.values())
    else:
        assert len(form.digest) == 32
        if form.data is not None:
            form.data.file.read().decode(form.data.charset)
        form.close()
    assert UNAUTHENTICATED_SPOOL.lent == 0
