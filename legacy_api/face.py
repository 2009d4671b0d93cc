"""The face of the legacy form protocol: its URLs, its HTTP, and the one place where faults become replies.

A WSGI application in front of Flask's, which would be two fifths of what a terminal's question costs: of a form that is
read raw, and a reply of seven headers, nothing is left for a framework to do. Source: docs/protocol.md, Transport and 6.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import chain, count
from secrets import token_hex
from typing import Any

from flask import Flask

from auth.authenticate import Access, authenticate
from importing.context import Context
from importing.errors import ApiError, ErrorCategory
from legacy_api import calls, envelope, replies
from legacy_api.envelope import Asked, is_yes
from legacy_api.form import Form, Limits, Unreadable, read_form
from legacy_api.formats import Format, Kind, choose
from legacy_api.replies import Answer
from transport.door import fault_of
from transport.rate import Limiter, Whose, unlimited

PATHS = ("/", "/api.php", "/api")

# For senders that prefer statuses. By default they all get 200: many clients read the body on 2xx only.
STATUS: Mapping[ErrorCategory, HTTPStatus] = {
    ErrorCategory.CREDENTIALS: HTTPStatus.UNAUTHORIZED,
    ErrorCategory.RIGHTS: HTTPStatus.FORBIDDEN,
    ErrorCategory.METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    ErrorCategory.SIZE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCategory.RATE: HTTPStatus.TOO_MANY_REQUESTS,
}
RETRY_AFTER = 5  # seconds
# Bytes. A body of this size comes in the same breath as its head: to read it costs less than to misread its sender.
SHORT = 16 * 1024

# Any page may read the reply: who asks is in the fields, never in a cookie.
CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "X-Request-Id, X-Batch-Id, Idempotent-Replayed, Retry-After"),
)
ALWAYS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
STATUS_LINES = {status: f"{status.value} {status.phrase}" for status in HTTPStatus}
# What a preflight asks for is said again in its reply: names of headers, and nothing else.
HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]*")

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]

log = logging.getLogger("tillgate.legacy")


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say about this face. `get`: served by GET too; `http_status`: client errors get statuses."""

    limits: Limits
    get: bool = True
    http_status: bool = False
    limiter: Limiter = field(default_factory=unlimited)


def mount(app: Flask, context: Context, options: Options) -> None:
    """Serve the protocol at its paths, for every method: what is not served is refused in the caller's format."""
    face, others = Face(context, options), app.wsgi_app

    def serve(environ: Environ, start_response: Any) -> Iterable[bytes]:
        # Some servers say nothing of a bare host's path, and some clients put a slash before one.
        if "/" + environ.get("PATH_INFO", "").lstrip("/") in PATHS:
            return face(environ, start_response)
        return others(environ, start_response)

    app.wsgi_app = serve  # type: ignore[method-assign]


@dataclass(slots=True)
class Response:
    """What is sent: the status, the headers, and the body, one that is long as it is written."""

    headers: list[tuple[str, str]]
    body: Iterable[bytes]
    status: HTTPStatus = HTTPStatus.OK


@dataclass(slots=True)
class Exchange:
    """What is known of one request so far: enough to refuse it in its own language at any moment."""

    environ: Environ
    request_id: str
    fields: Mapping[str, str]
    credentials: tuple[str, str, str] | None = None
    access: Access | ApiError | None = None

    @property
    def is_short(self) -> bool:
        """Whether the body is announced, and so short that it has most likely arrived already."""
        environ = self.environ
        if "HTTP_CONTENT_ENCODING" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            return False
        length = environ.get("CONTENT_LENGTH") or ""
        return re.fullmatch("[0-9]{1,9}", length) is not None and int(length) <= SHORT


class Face:
    """The view. Everything that can go wrong in it ends in `serve`, as a reply."""

    def __init__(self, context: Context, options: Options) -> None:
        self._core = context
        self._options = options
        # Of a request's id this half is the process's; the other one counts.
        self._series, self._numbers = token_hex(8), count()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI: the response to any request."""
        exchange = Exchange(environ, f"{self._series}{next(self._numbers):016x}", {})
        try:
            response = self._answered(exchange)
        except Exception as error:  # the outermost door
            response = self._refused(exchange, fault_of(error, exchange.request_id, log))
        start_response(STATUS_LINES[response.status], response.headers)
        return response.body if environ["REQUEST_METHOD"].upper() != "HEAD" else ()

    def _answered(self, exchange: Exchange) -> Response:
        environ = exchange.environ
        method = environ["REQUEST_METHOD"].upper()
        if method == "OPTIONS" and "HTTP_ORIGIN" in environ and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            return _preflight(exchange)
        if method == "HEAD":
            self._learn_format(exchange)
            return _response(exchange, choose(exchange.fields), b"")
        if method != "POST" and not (method == "GET" and self._options.get):
            self._learn_format(exchange)
            raise ApiError("get_disabled") if method == "GET" else ApiError("method_not_allowed", method=method)
        with self._read(exchange) as form:
            chosen = _check_common(form.fields)
            answer = self._call(exchange, form)
        response = _response(exchange, chosen, _body(chosen.encode(answer.root)))
        if answer.batch_id:
            response.headers.append(("X-Batch-Id", answer.batch_id))
        if answer.replayed:
            response.headers.append(("Idempotent-Replayed", "true"))
        return response

    def _call(self, exchange: Exchange, form: Form) -> Answer:
        access = self._authenticated(exchange)
        standing = self._options.limiter.count(Whose.LEGACY_USER, access.user_id)
        if standing is not None:
            standing.admit()
        call = calls.find(form.fields)
        if call.imports and not access.may_import:
            raise ApiError("no_permission")
        key = exchange.environ.get("HTTP_IDEMPOTENCY_KEY", "").strip()
        return call.answer(Asked(self._core, access, form, key, exchange.request_id))

    def _read(self, exchange: Exchange) -> Form:
        def admit(fields: Mapping[str, str]) -> None:
            exchange.fields = fields
            try:
                self._authenticated(exchange)
            except ApiError:
                if exchange.is_short:
                    return  # refused at the end, in the format that may be asked for only there
                # Judged before the credentials, so told before them.
                _check_common(fields)
                raise

        try:
            form = read_form(exchange.environ, self._options.limits, admit)
        except Unreadable as error:
            exchange.fields = error.fields
            raise error.fault from error
        exchange.fields = form.fields
        return form

    def _learn_format(self, exchange: Exchange) -> None:
        """Read a request that is refused anyway, if it is short, for the format that it asks for; else its query."""
        limits = replace(self._options.limits, max_body=min(SHORT, self._options.limits.max_body))
        try:
            with read_form(exchange.environ, limits, lambda _: None) as form:
                exchange.fields = form.fields
        except Unreadable as error:
            exchange.fields = error.fields

    def _authenticated(self, exchange: Exchange) -> Access:
        fields = exchange.fields
        sent = (fields.get("user_id", ""), fields.get("user_api_key", ""), fields.get("account_id", ""))
        # Asked before the data and again at the end: the fields after it may say otherwise. The same is asked once.
        if exchange.credentials != sent:
            exchange.credentials = sent
            try:
                address = exchange.environ.get("REMOTE_ADDR") or ""
                exchange.access = authenticate(self._core, *sent, address, calls.told_of(fields))
            except ApiError as fault:
                exchange.access = fault
        if not isinstance(exchange.access, Access):
            raise exchange.access or ApiError("bad_credentials")
        return exchange.access

    def _refused(self, exchange: Exchange, fault: ApiError) -> Response:
        chosen = choose(exchange.fields)
        root = replies.refused(fault, details=is_yes(exchange.fields.get("details", "")))
        response = _response(exchange, chosen, _body(chosen.encode(root)))
        if fault.category is ErrorCategory.BUSY or fault.retry_after:
            response.headers.append(("Retry-After", str(fault.retry_after or RETRY_AFTER)))
        if chosen.kind is not Kind.JSONP:
            response.status = self._status(fault)
        if response.status is HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers.append(("Allow", "GET, HEAD, POST" if self._options.get else "HEAD, POST"))
        return response

    def _status(self, fault: ApiError) -> HTTPStatus:
        if fault.category is ErrorCategory.BUSY:
            return HTTPStatus.SERVICE_UNAVAILABLE
        if fault.category is ErrorCategory.BUG:
            return HTTPStatus.INTERNAL_SERVER_ERROR
        return STATUS.get(fault.category, HTTPStatus.BAD_REQUEST) if self._options.http_status else HTTPStatus.OK


def _check_common(fields: Mapping[str, str]) -> Format:
    """What is judged before the credentials: `output` and `callback`, then `API`."""
    chosen = choose(fields)
    if chosen.fault is not None:
        raise chosen.fault
    envelope.check_api(fields)
    return chosen


def _response(exchange: Exchange, chosen: Format, body: bytes | Iterator[bytes]) -> Response:
    headers = [("Content-Type", chosen.kind.value), ("X-Request-Id", exchange.request_id), *CORS, *ALWAYS]
    if not isinstance(body, bytes):
        return Response(headers, body)
    headers.append(("Content-Length", str(len(body))))
    return Response(headers, (body,))


def _body(pieces: Iterator[bytes]) -> bytes | Iterator[bytes]:
    """A reply of one piece as a whole, so that it has a Content-Length; a longer one as it is written."""
    first = next(pieces, b"")
    second = next(pieces, None)
    return first if second is None else chain((first, second), pieces)


def _preflight(exchange: Exchange) -> Response:
    headers = [*CORS, ("Access-Control-Allow-Methods", "GET, POST"), ("Access-Control-Max-Age", "86400")]
    wanted = exchange.environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
    if wanted and HEADER_NAMES.fullmatch(wanted):
        headers.append(("Access-Control-Allow-Headers", wanted))
    headers += [("X-Request-Id", exchange.request_id), ("Cache-Control", "no-store")]
    return Response(headers, (), HTTPStatus.NO_CONTENT)
