"""What is replied where no application could be asked: in the format and the words of the face that was meant."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import parse_qsl
from uuid import uuid4

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException

import modern_api
from connection import HEADERS, REQUEST_LINE
from importing.errors import ApiError, ErrorCategory
from legacy_api import formats, replies
from modern_api.encoding import encoded


def refusal(place: str, query: str, fault: ApiError, *, http_status: bool) -> bytes:
    """The whole response to a request of that path and query. `http_status`: the legacy face's own, and not always 200."""
    return _modern(place, fault) or _legacy(query, fault, http_status=http_status)


def fault_of(error: ParseException) -> ApiError:
    """What is wrong with a request that the server could not read."""
    if isinstance(error, LimitRequestLine):
        return ApiError("body_too_large", limit=REQUEST_LINE)
    if isinstance(error, LimitRequestHeaders):
        return ApiError("body_too_large", limit=HEADERS)
    return ApiError("bad_form", reason="it is not HTTP as this server knows it")


def _legacy(query: str, fault: ApiError, *, http_status: bool) -> bytes:
    fields = {name.strip().lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
    chosen = formats.choose(fields)
    body = b"".join(chosen.encode(replies.refused(chosen.fault or fault)))
    status = _status(fault, always_200=chosen.kind is formats.Kind.JSONP, http_status=http_status)
    return _reply(
        status, body, f"Content-Type: {chosen.kind}", "Access-Control-Allow-Origin: *", f"X-Request-Id: {uuid4().hex}"
    )


def _modern(place: str, fault: ApiError) -> bytes:
    """The refusal by the face that serves what stands at that path; b"" where it is not a modern one's."""
    told = modern_api.unread(place, fault)
    if told is None:
        return b""
    status = f"{told.status} {HTTPStatus(told.status).phrase}"
    headers = (f"{name}: {value}" for name, value in told.headers.items())
    return _reply(status, b"".join(encoded(told.document)), "Content-Type: application/json", *headers)


def _reply(status: str, body: bytes, *headers: str) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        *headers,
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii") + body


def _status(fault: ApiError, *, always_200: bool, http_status: bool) -> str:
    if always_200 or (fault.category is ErrorCategory.SIZE and not http_status):
        return "200 OK"
    if fault.category is ErrorCategory.SIZE:
        return "413 Content Too Large"
    return "500 Internal Server Error" if fault.category is ErrorCategory.BUG else "400 Bad Request"
