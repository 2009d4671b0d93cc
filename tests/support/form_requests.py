"""Builds WSGI requests out of raw bytes, for the tests of reading forms."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote_from_bytes

from importing.errors import ApiError
from legacy_api.form import Form, FormLimits, UnreadableForm, read_form

Fields = Iterable[tuple[str | bytes, str | bytes]]

URLENCODED = "application/x-www-form-urlencoded"
BOUNDARY = "----------------------------4ebf00fbcf09"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
LIMITS = FormLimits(max_body=4_000_000)

CREDENTIALS: list[tuple[str | bytes, str | bytes]] = [
    ("API", "1.5"),
    ("user_id", "john1970"),
    ("user_api_key", "1959caadac9b13dcb3"),
    ("account_id", "greatwidgets"),
]
ROWS = "\n11223344|11223344|jane|doe|1970-07-14|555-5555\r\n22334455|22334455|jim|mc=doe & 100%|1966-07-28|+1\n"
BATCH: list[tuple[str | bytes, str | bytes]] = [
    *CREDENTIALS,
    ("type", "customers_batch"),
    ("delimiter", "pipe"),
    ("profiles_header_1", "code"),
    ("profiles_data", ROWS),
]


def octets(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def urlencoded(fields: Fields) -> bytes:
    return b"&".join(_quoted(name) + b"=" + _quoted(value) for name, value in fields)


def _quoted(value: str | bytes) -> bytes:
    return quote_from_bytes(octets(value), safe=" ").replace(" ", "+").encode()


def multipart(fields: Fields, boundary: str = BOUNDARY) -> bytes:
    mark = b"--" + boundary.encode()
    parts = [
        mark + b'\r\nContent-Disposition: form-data; name="' + octets(name) + b'"\r\n\r\n' + octets(value) + b"\r\n"
        for name, value in fields
    ]
    return b"".join(parts) + mark + b"--\r\n"


class Dribble(io.RawIOBase):
    """A body that hands over at most `most` bytes a read, and counts what was taken."""

    def __init__(self, body: bytes, limit: int = 1 << 30) -> None:
        self.rest = io.BytesIO(body)
        self.limit = limit

    def read(self, size: int = -1) -> bytes:
        return self.rest.read(self.limit if size < 0 else min(size, self.limit))

    @property
    def taken(self) -> int:
        return self.rest.tell()


def environ(
    body: bytes | Dribble = b"",
    content_type: str | None = URLENCODED,
    *,
    method: str = "POST",
    query: bytes = b"",
    length: int | None = -1,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """`length`: -1 for the true one, None for a chunked request."""
    stream = body if isinstance(body, Dribble) else Dribble(body)
    values: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "QUERY_STRING": query.decode("latin-1"),
        "wsgi.input": stream,
        "wsgi.input_terminated": True,
        **(headers or {}),
    }
    if content_type is not None:
        values["CONTENT_TYPE"] = content_type
    if length is None:
        values["HTTP_TRANSFER_ENCODING"] = "chunked"
    else:
        values["CONTENT_LENGTH"] = str(len(stream.rest.getvalue()) if length < 0 else length)
    return values


def admit_all(_fields: Mapping[str, str]) -> None:
    pass


def admit_none(_fields: Mapping[str, str]) -> None:
    raise ApiError("bad_credentials")


def read(request: Mapping[str, Any], limits: FormLimits = LIMITS) -> tuple[Form, bytes | None]:
    """The form, its data read and its file closed."""
    with read_form(request, limits, admit_all) as form:
        if form.data is None:
            return form, None
        form.data.file.seek(0)
        data = form.data.file.read()
        assert len(data) == form.data.size
        return form, data


def refused(request: Mapping[str, Any], limits: FormLimits = LIMITS) -> UnreadableForm:
    try:
        read_form(request, limits, admit_all).close()
    except UnreadableForm as error:
        assert error.fault.message.isascii()
        return error
    raise AssertionError("the request was read")


def fields_of(fields: Fields, **more: Any) -> Mapping[str, str]:
    return read(environ(urlencoded(fields), **more))[0].fields
