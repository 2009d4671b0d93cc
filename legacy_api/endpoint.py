"""Serves the legacy form protocol: its URLs, its HTTP, and the one handler that turns errors into replies.

Source: docs/protocol.md, Transport and Replies.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import chain
from secrets import token_hex
from urllib.parse import parse_qsl

from flask import Blueprint, Response, g, request
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import Rule

from auth.authenticate import Access, authenticate
from importing.context import Context
from importing.errors import ApiError, ErrorCategory
from legacy_api.calls import find_call
from legacy_api.encoders import Encoder, MediaType, choose_encoder
from legacy_api.form import Form, FormLimits, UnreadableForm, read_form
from legacy_api.parameters import CallContext, check_api_number, is_yes
from legacy_api.replies import CallReply, error_tree
from transport.rate import Limiter, Whose, unlimited
from transport.unexpected_errors import to_api_error

PATHS = ("/", "/api.php", "/api")

# For senders that prefer statuses. By default all errors have status 200: many clients read the body on 2xx only.
STATUS: Mapping[ErrorCategory, HTTPStatus] = {
    ErrorCategory.CREDENTIALS: HTTPStatus.UNAUTHORIZED,
    ErrorCategory.RIGHTS: HTTPStatus.FORBIDDEN,
    ErrorCategory.METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    ErrorCategory.SIZE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCategory.RATE: HTTPStatus.TOO_MANY_REQUESTS,
}
BUSY_RETRY_AFTER = 5  # seconds
# Bytes. A body of this size arrives together with its head, so reading it to its end keeps nobody waiting.
SHORT_BODY_SIZE = 16 * 1024

# Any page may read the reply: the credentials are in the fields, never in a cookie.
CORS_HEADERS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "X-Request-Id, X-Batch-Id, Idempotent-Replayed, Retry-After"),
)
COMMON_HEADERS = (*CORS_HEADERS, ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
# A preflight's reply repeats the header names that it asks for, if they are names and nothing else.
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]*")

log = logging.getLogger("tillgate.legacy")


@dataclass(frozen=True, slots=True)
class LegacyOptions:
    """What the settings say. `get`: GET is served too. `http_status`: errors of the client have their own statuses."""

    limits: FormLimits
    get: bool = True
    http_status: bool = False
    limiter: Limiter = field(default_factory=unlimited)


@dataclass(slots=True)
class RequestState:
    """What is known of the present request so far. It is enough to refuse the request in its own format at any moment."""

    request_id: str = field(default_factory=lambda: token_hex(16))
    fields: Mapping[str, str] = field(default_factory=dict)
    credentials: tuple[str, str, str] | None = None
    # The result for these credentials.
    access: Access | ApiError | None = None


def legacy_blueprint(context: Context, options: LegacyOptions) -> Blueprint:
    """The protocol at its paths, for every method: a method that is not served is refused in the caller's format."""
    blueprint = Blueprint("legacy", __name__)
    endpoint = LegacyEndpoint(context, options)
    blueprint.before_request(endpoint.begin)
    blueprint.endpoint("legacy.call")(endpoint.serve)
    blueprint.register_error_handler(Exception, endpoint.refuse)
    blueprint.after_request(endpoint.end)
    blueprint.record(_add_rules)
    return blueprint


def _add_rules(state: BlueprintSetupState) -> None:
    # Flask's own `route` takes a list of methods, and refuses any other in its own words.
    for path in PATHS:
        # A request that asks for a websocket is served too, as if it had not.
        for websocket in (False, True):
            # Without `strict_slashes` "/" serves a bare host, for which some servers give no path at all.
            rule = Rule(path, endpoint="legacy.call", strict_slashes=path != "/", websocket=websocket)
            state.app.url_map.add(rule)


class LegacyEndpoint:
    """The functions that Flask calls for a request of this protocol, in their order."""

    def __init__(self, context: Context, options: LegacyOptions) -> None:
        self._context = context
        self._options = options

    def begin(self) -> Response | None:
        """Answer what is no call, and refuse methods that are not served."""
        g.state = state = RequestState()
        method = request.method
        if method == "OPTIONS" and "Origin" in request.headers and "Access-Control-Request-Method" in request.headers:
            return _preflight_response(state)
        if method == "POST" or (method == "GET" and self._options.get):
            return None
        self._read_format(state)
        if method == "HEAD":
            return _response(state, choose_encoder(state.fields), b"")
        raise ApiError("get_disabled") if method == "GET" else ApiError("method_not_allowed", method=method)

    def serve(self) -> Response:
        """Read the form, make the call, and write its reply."""
        state: RequestState = g.state
        with self._read_form(state) as form:
            encoder = _check_format_and_api(form.fields)
            reply = self._call(state, form)
        response = _response(state, encoder, _body(encoder.encode(reply.root)))
        if reply.batch_id:
            response.headers["X-Batch-Id"] = reply.batch_id
        if reply.replayed:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    def refuse(self, exception: Exception) -> Response:
        """The reply to whatever went wrong, in the format that the fields so far ask for."""
        state: RequestState = g.state
        error = to_api_error(exception, state.request_id, log)
        encoder = choose_encoder(state.fields)
        root = error_tree(error, details=is_yes(state.fields.get("details", "")))
        response = _response(state, encoder, _body(encoder.encode(root)))
        if error.category is ErrorCategory.BUSY or error.retry_after:
            response.headers["Retry-After"] = str(error.retry_after or BUSY_RETRY_AFTER)
        # A page never sees the body of a script with another status.
        jsonp = encoder.media_type is MediaType.JSONP
        status = HTTPStatus.OK if jsonp else error_status(error.category, http_status=self._options.http_status)
        response.status = f"{status.value} {status.phrase}"
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = "GET, HEAD, POST" if self._options.get else "HEAD, POST"
        return response

    def end(self, response: Response) -> Response:
        """A reply to HEAD has no body, whatever went wrong."""
        if request.method == "HEAD":
            response.response = ()
        return response

    def _call(self, state: RequestState, form: Form) -> CallReply:
        access = self._authenticate(state)
        standing = self._options.limiter.count(Whose.LEGACY_USER, access.user_id)
        if standing is not None:
            standing.admit()
        call = find_call(form.fields)
        if call.imports and not access.may_import:
            raise ApiError("no_permission")
        key = request.headers.get("Idempotency-Key", "").strip()
        return call.serve(CallContext(self._context, access, form, key, state.request_id, request.remote_addr))

    def _read_form(self, state: RequestState) -> Form:
        def admit(fields: Mapping[str, str]) -> None:
            state.fields = fields
            try:
                self._authenticate(state)
            except ApiError:
                if _has_short_body():
                    return  # refused at the end: the fields after the data may ask for another format
                # The format and the number of the API are checked before the credentials.
                _check_format_and_api(fields)
                raise

        try:
            form = read_form(request.environ, self._options.limits, admit)
        except UnreadableForm as error:
            state.fields = error.fields
            raise error.fault from error
        state.fields = form.fields
        return form

    def _read_format(self, state: RequestState) -> None:
        """Read the fields of a request that is no call, for its format: those of the query, and of a short body."""
        limits = replace(self._options.limits, max_body=min(SHORT_BODY_SIZE, self._options.limits.max_body))
        try:
            with read_form(request.environ, limits, lambda _: None) as form:
                state.fields = form.fields
        except UnreadableForm as error:
            state.fields = error.fields

    def _authenticate(self, state: RequestState) -> Access:
        fields = state.fields
        sent = (fields.get("user_id", ""), fields.get("user_api_key", ""), fields.get("account_id", ""))
        # Called before the data and again at the end, because the fields after the data may differ. A wrong key counts
        # once, so the same credentials are not checked twice.
        if state.credentials != sent:
            state.credentials = sent
            try:
                address = request.remote_addr or ""
                state.access = authenticate(self._context, *sent, address)
            except ApiError as error:
                state.access = error
        if not isinstance(state.access, Access):
            raise state.access or ApiError("bad_credentials")
        return state.access


def error_status(category: ErrorCategory, *, http_status: bool) -> HTTPStatus:
    """The status of a refusal, JSONP apart. `http_status`: errors of the client have their own statuses."""
    if category is ErrorCategory.BUSY:
        return HTTPStatus.SERVICE_UNAVAILABLE
    if category is ErrorCategory.BUG:
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return STATUS.get(category, HTTPStatus.BAD_REQUEST) if http_status else HTTPStatus.OK


def refuse_unread(query: str, error: ApiError, *, http_status: bool) -> tuple[HTTPStatus, dict[str, str], bytes]:
    """The status, headers and body for a request that cannot be read as HTTP, in the format that its query asks for.

    `http_status`: a request that is too large has a status of its own.
    """
    encoder = choose_encoder({name.strip().lower(): value for name, value in parse_qsl(query, keep_blank_values=True)})
    status = error_status(error.category, http_status=http_status or error.category is not ErrorCategory.SIZE)
    if encoder.media_type is MediaType.JSONP:
        status = HTTPStatus.OK
    headers = {"Content-Type": encoder.media_type.value, **dict(CORS_HEADERS[:1]), "X-Request-Id": token_hex(16)}
    return status, headers, b"".join(encoder.encode(error_tree(encoder.error or error)))


def _check_format_and_api(fields: Mapping[str, str]) -> Encoder:
    """Check what comes before the credentials: `output` and `callback`, then `API`."""
    encoder = choose_encoder(fields)
    if encoder.error is not None:
        raise encoder.error
    check_api_number(fields)
    return encoder


def _has_short_body() -> bool:
    """Whether the announced length of the body is short. Packed and chunked bodies announce none."""
    if "Content-Encoding" in request.headers or "Transfer-Encoding" in request.headers:
        return False
    length = request.environ.get("CONTENT_LENGTH") or ""
    return re.fullmatch("[0-9]{1,9}", length) is not None and int(length) <= SHORT_BODY_SIZE


def _response(state: RequestState, encoder: Encoder, body: bytes | Iterator[bytes]) -> Response:
    headers = [("Content-Type", encoder.media_type.value), ("X-Request-Id", state.request_id), *COMMON_HEADERS]
    return Response(body, "200 OK", headers)


def _body(pieces: Iterator[bytes]) -> bytes | Iterator[bytes]:
    """A reply of one piece as a whole, so that it has a Content-Length. A longer one is written while it is sent."""
    first = next(pieces, b"")
    second = next(pieces, None)
    return first if second is None else chain((first, second), pieces)


def _preflight_response(state: RequestState) -> Response:
    headers = [*CORS_HEADERS, ("Access-Control-Allow-Methods", "GET, POST"), ("Access-Control-Max-Age", "86400")]
    names = request.headers.get("Access-Control-Request-Headers", "")
    if names and _HEADER_NAMES.fullmatch(names):
        headers.append(("Access-Control-Allow-Headers", names))
    headers += [("X-Request-Id", state.request_id), ("Cache-Control", "no-store")]
    response = Response(None, "204 No Content", headers)
    del response.headers["Content-Type"]
    return response
