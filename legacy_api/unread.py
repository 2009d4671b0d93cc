"""The refusal of a request that could not be read as HTTP, in the format that its query asks for."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import parse_qsl
from uuid import uuid4

from importing.errors import ApiError, ErrorCategory
from legacy_api import formats, replies


def unread(query: str, error: ApiError, *, http_status: bool) -> tuple[HTTPStatus, dict[str, str], bytes]:
    """Status, headers and body of the reply. `http_status`: a request that is too large gets a status of its own."""
    parameters = {name.strip().lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
    chosen = formats.choose(parameters)
    status = HTTPStatus.BAD_REQUEST
    if chosen.kind is formats.Kind.JSONP or (error.category is ErrorCategory.SIZE and not http_status):
        status = HTTPStatus.OK
    elif error.category is ErrorCategory.SIZE:
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    elif error.category is ErrorCategory.BUG:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    headers = {"Content-Type": chosen.kind.value, "Access-Control-Allow-Origin": "*", "X-Request-Id": uuid4().hex}
    return status, headers, b"".join(chosen.encode(replies.refused(chosen.fault or error)))
