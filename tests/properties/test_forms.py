"""Encode then decode is the same: rows sent in any form, charset and delimiter give the cells that were sent."""

from __future__ import annotations

import io
import secrets
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote_from_bytes, quote_plus

from hypothesis import assume, given
from hypothesis import strategies as st

from importing.batch import Delimited
from legacy_api.form import FormLimits, read_form
from tests.support.read_rows import read_rows
from tests.support.strategies import profile

DELIMITERS = {"pipe": "|", "tab": "\t", "comma": ","}
CHARSETS = ("utf-8", "windows-1252", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251", "iso-8859-5")
BLANKS = " \t\u00a0"
# Sent without a charset, bytes that are no UTF-8 are Windows-1252.
UNDECLARED = ("utf-8", "windows-1252")
MOST_COLUMNS = 6


@dataclass(frozen=True)
class Sent:
    rows: list[list[str]]
    delimiter: str
    charset: str
    declare: str  # "", "type" or "field"
    multipart: bool
    ends: list[str]
    quote_all: bool
    order: bool  # whether the data comes before the fields that say how to read it

    def text(self) -> str:
        return "".join(self._line(row) + end for row, end in zip(self.rows, self.ends, strict=True))

    def _line(self, row: list[str]) -> str:
        delimiter = DELIMITERS[self.delimiter]
        cells = [self._quoted(cell) for cell in row] if self.delimiter == "comma" else row
        return delimiter.join(cells)

    def _quoted(self, cell: str) -> str:
        if self.quote_all or "," in cell or cell.startswith('"'):
            return '"' + cell.replace('"', '""') + '"'
        return cell

    def fields(self) -> list[tuple[str, bytes]]:
        data = ("Profiles_Data", self.text().encode(self.charset))
        others = [("delimiter", self.delimiter.encode()), ("user_id", b"u"), ("account-id", b"a"), ("type", b"x")]
        others += [("_charset_", self.charset.encode())] if self.declare == "field" else []
        return [data, *others] if self.order else [*others, data]

    def environ(self) -> dict[str, Any]:
        body, kind = self._multipart() if self.multipart else self._urlencoded()
        kind += f"; charset={self.charset}" if self.declare == "type" else ""
        return {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": kind,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }

    def _urlencoded(self) -> tuple[bytes, str]:
        encode = quote_plus if self.quote_all else quote_from_bytes
        pairs = (f"{name}={encode(value)}" for name, value in self.fields())
        return "&".join(pairs).encode(), "application/x-www-form-urlencoded"

    def _multipart(self) -> tuple[bytes, str]:
        boundary = f"----{secrets.token_hex(12)}".encode()
        parts = (
            b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (boundary, name.encode(), value)
            for name, value in self.fields()
        )
        return b"".join(parts) + b"--%b--\r\n" % boundary, f"multipart/form-data; boundary={boundary.decode()}"


@st.composite
def sent(draw: st.DrawFn) -> Sent:
    delimiter = draw(st.sampled_from(list(DELIMITERS)))
    declare = draw(st.sampled_from(("", "type", "field")))
    charset = draw(st.sampled_from(CHARSETS if declare else UNDECLARED))
    # The line ends and the delimiter apart, whatever XML can carry: U+0085 and U+2028 end no line.
    never = "\ufffe\uffff\ufeff" + ("" if delimiter == "comma" else DELIMITERS[delimiter])
    characters = st.characters(codec=charset, min_codepoint=32, exclude_characters=never)
    odd = st.sampled_from([c for c in "=&+%;\"'\\\x85\u2028é€\u00a0 " if c.encode(charset, "ignore")])
    cell = st.text(characters | odd, max_size=8).map(lambda text: text.strip(BLANKS))
    row = st.lists(cell, min_size=1, max_size=MOST_COLUMNS).filter(lambda cells: any(c.strip(",") for c in cells))
    rows = draw(st.lists(row, min_size=1, max_size=6))
    ends = draw(
        st.lists(st.sampled_from(("\n", "\r\n", "\r", "\n\n", "\r\r\n")), min_size=len(rows), max_size=len(rows))
    )
    flags = [draw(st.booleans()) for _ in range(3)]
    return Sent(rows, delimiter, charset, declare, flags[0], ends, flags[1], flags[2])


def read(request: Sent, limits: FormLimits) -> tuple[str, list[list[str]]]:
    with read_form(request.environ(), limits, lambda _: None) as form:
        assert form.data is not None
        assert form.fields["delimiter"] == request.delimiter
        delimited = Delimited(DELIMITERS[request.delimiter], quotes=request.delimiter == "comma")
        found = list(read_rows(form.data, delimited))
    assert [row.number for row in found] == list(range(1, len(found) + 1))
    assert not any(row.flaw for row in found)
    return form.charset, [row.cells for row in found]


@profile(300, 20_000)
@given(request=sent())
def test_encode_then_decode_is_the_same(request: Sent) -> None:
    data = request.text().encode(request.charset)
    if request.charset != "utf-8":
        assume(data.isascii() or not is_utf8(data))
    charset, rows = read(request, FormLimits(1 << 20))
    assert rows == request.rows
    if not data.isascii():
        assert charset.lower() == request.charset


@profile(50, 2000)
@given(request=sent())
def test_the_same_request_in_another_encoding_has_the_same_digest(request: Sent) -> None:
    # An idempotency key means the request, not the way in which it was written down.
    data = request.text().encode(request.charset)
    assume(request.charset == "utf-8" or data.isascii() or not is_utf8(data))
    other = replace(request, charset="utf-8", declare="", multipart=not request.multipart, order=not request.order)
    digests = set()
    for same in (request, other):
        with read_form(same.environ(), FormLimits(1 << 20), lambda _: None) as form:
            digests.add(form.digest)
    assert len(digests) == 1


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
