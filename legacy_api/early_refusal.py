"""The refusal of a request that could not be read as HTTP, in the format that its query asks for."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import parse_qsl
from uuid import uuid4

from importing.errors import ApiError, ErrorCategory
from legacy_api.encoders import MediaType, choose_encoder
from legacy_api.replies import error_tree


def refuse_unread(query: str, error: ApiError, *, http_status: bool) -> tuple[HTTPStatus, dict[str, str], bytes]:
    """Status, headers and body of the reply. `http_status`: a request that is too large gets a status of its own."""
    parameters = {name.strip().lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
    encoder = choose_encoder(parameters)
    status = HTTPStatus.BAD_REQUEST
    if encoder.media_type is MediaType.JSONP or (error.category is ErrorCategory.SIZE and not http_status):
        status = HTTPStatus.OK
    elif error.category is ErrorCategory.SIZE:
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    elif error.category is ErrorCategory.BUG:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    headers = {
        "Content-Type": encoder.media_type.value,
        "Access-Control-Allow-Origin": "*",
        "X-Request-Id": uuid4().hex,
    }
    return status, headers, b"".join(encoder.encode(error_tree(encoder.error or error)))
