"""Refuses requests that cannot be read as HTTP, in the format of the protocol at their path."""

from __future__ import annotations

from http import HTTPStatus

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException

import modern_api
from importing.errors import ApiError
from legacy_api.endpoint import refuse_unread

REQUEST_LINE_SIZE = 1024 * 1024
HEADERS_SIZE = 256 * 1024
ALWAYS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Connection": "close"}


def error_of(error: BaseException) -> ApiError:
    """The ApiError for a request that did not reach the application."""
    if isinstance(error, LimitRequestLine):
        return ApiError("body_too_large", limit=REQUEST_LINE_SIZE)
    if isinstance(error, LimitRequestHeaders):
        return ApiError("body_too_large", limit=HEADERS_SIZE)
    if isinstance(error, ParseException):
        return ApiError("bad_form", reason="it is not HTTP as this server knows it")
    return ApiError("bug", request_id="none")


def refusal(target: bytes, error: ApiError, *, http_status: bool) -> bytes:
    """The whole response to a request of that target. `http_status`: the legacy protocol's status is not always 200."""
    path, _, query = target.decode("latin-1").partition("?")
    response = modern_api.early_refusal(path, error)
    if response is None:
        status, headers, body = refuse_unread(query, error, http_status=http_status)
    else:
        status, headers, body = HTTPStatus(response.status_code), dict(response.headers), response.get_data()
    lines = (f"{name}: {value}\r\n" for name, value in {**headers, "Content-Length": len(body), **ALWAYS}.items())
    return f"HTTP/1.1 {status} {status.phrase}\r\n{''.join(lines)}\r\n".encode("ascii") + body
