"""Serves a face: finds the route, asks who it is, answers; and the one place where faults become its refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

from flask import Flask, Request, Response, request
from marshmallow import EXCLUDE, ValidationError
from werkzeug.routing import BaseConverter, Rule

from importing.context import Context
from importing.errors import ApiError, ErrorCategory
from modern_api.encoding import encoded
from modern_api.routes import Call, Face, Options, Refusal, Reply, Route
from transport.door import fault_of
from transport.rate import Standing, Whose, tightest

RETRY_AFTER = 5  # seconds
JSON = "application/json"

STATUS: Mapping[ErrorCategory, HTTPStatus] = {
    ErrorCategory.REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorCategory.CREDENTIALS: HTTPStatus.UNAUTHORIZED,
    ErrorCategory.RIGHTS: HTTPStatus.FORBIDDEN,
    ErrorCategory.MISSING: HTTPStatus.NOT_FOUND,
    ErrorCategory.METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    ErrorCategory.SIZE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCategory.RATE: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCategory.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCategory.BUG: HTTPStatus.INTERNAL_SERVER_ERROR,
}
# Not 409, which clients of these protocols send again: the same key will never do for another file.
REUSED_KEY = HTTPStatus.UNPROCESSABLE_ENTITY

log = logging.getLogger("tillgate.modern")


class Rest(BaseConverter):
    """The rest of a path, whatever it is: the library's own converter knows no line breaks and no slash at its beginning."""

    part_isolating = False
    regex = r"[\s\S]+"
    weight = 200


class DateVersion(BaseConverter):
    """A version of a protocol that is a date, YYYY-MM-DD."""

    regex = "[0-9]{4}-[0-9]{2}-[0-9]{2}"


def mount(app: Flask, context: Context, face: Face, options: Options) -> None:
    """Serve the face at its paths, for every method: what is not served there is refused in its language."""
    app.url_map.converters["date"] = DateVersion
    server = _Server(context, face, options)
    by_path: dict[str, dict[str, Route]] = {}
    for route in face.routes:
        by_path.setdefault(route.path, {})[route.method] = route
    places = [(prefix + path, routes) for prefix in face.prefixes for path, routes in by_path.items()]
    places += [(path, {}) for path in face.below]
    for path, routes in places:
        endpoint = f"{face.name} {path}"
        app.view_functions[endpoint] = _view(server, routes)
        app.url_map.add(Rule(path, endpoint=endpoint))


def status_of(fault: ApiError) -> HTTPStatus:
    """The HTTP status of a refusal."""
    return REUSED_KEY if fault.code == "request_id_reused" else STATUS[fault.category]


def refused(face: Face, fault: ApiError, request_id: str, path: Mapping[str, str]) -> Reply:
    """The refusal of a request as the face words it."""
    status = status_of(fault)
    headers = {**face.refusal_headers.get(status, {}), "X-Request-Id": request_id}
    if fault.category is ErrorCategory.BUSY or fault.retry_after:
        headers["Retry-After"] = str(fault.retry_after or RETRY_AFTER)
    return Reply(face.refused(Refusal(status, fault, request_id, path)), status, headers)


def _view(server: _Server, routes: Mapping[str, Route]) -> Callable[..., Response]:
    return lambda **path: server.serve(request, routes, path)


class _Server:
    def __init__(self, context: Context, face: Face, options: Options) -> None:
        self._core = context
        self._face = face
        self._options = options

    def serve(self, request: Request, routes: Mapping[str, Route], path: Mapping[str, str]) -> Response:
        """The response to any request below the face's paths."""
        request_id = self._face.new_request_id()
        headers: dict[str, str] = {}
        try:
            reply = self._answered(request, request_id, routes, path, headers)
        except Exception as error:  # the outermost door
            fault = fault_of(error, request_id, log)
            reply = refused(self._face, fault, request_id, path)
            if fault.category is ErrorCategory.METHOD:
                headers["Allow"] = ", ".join(sorted(_allowed(routes)))
        return _response(reply, request_id, headers)

    def _answered(
        self,
        request: Request,
        request_id: str,
        routes: Mapping[str, Route],
        path: Mapping[str, str],
        headers: dict[str, str],
    ) -> Reply:
        address = self._options.limiter.count(Whose.ADDRESS, request.remote_addr or "")
        self._admit(address, headers)
        if not routes:
            raise ApiError("unknown_path")
        route = routes.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            raise ApiError("method_not_served", method=request.method, allowed=", ".join(sorted(_allowed(routes))))
        access = self._face.authenticate(self._core, request)
        self._admit(tightest(self._options.limiter.count(Whose.USER, access.user_id), address), headers)
        if route.imports and not access.may_import:
            raise ApiError("no_permission")
        query = _query(route, request)
        return route.answer(Call(self._core, self._options, access, request, request_id, path, query))

    def _admit(self, standing: Standing | None, headers: dict[str, str]) -> None:
        if standing is not None:
            headers.update(self._face.rate_headers(standing))
            standing.admit()


def _allowed(routes: Mapping[str, Route]) -> set[str]:
    return {*routes, "HEAD"} if "GET" in routes else set(routes)


def _query(route: Route, request: Request) -> Mapping[str, object]:
    if route.query is None:
        return {}
    try:
        loaded: Mapping[str, object] = route.query(unknown=EXCLUDE).load(request.args.to_dict())
    except ValidationError as error:
        name = next(iter(error.messages_dict))
        raise ApiError(f"bad_{name}", value=request.args.get(name, "")) from error
    return loaded


def _response(reply: Reply, request_id: str, headers: Mapping[str, str]) -> Response:
    pieces = encoded(reply.document)
    first = next(pieces)
    second = next(pieces, None)
    # A reply of one piece as a whole, so that it has a Content-Length; a longer one as it is written.
    body: bytes | Iterator[bytes] = first if second is None else _chained(first, second, pieces)
    response = Response(body, reply.status, content_type=JSON)
    response.headers.update({**reply.headers, **headers})
    response.headers["X-Request-Id"] = request_id
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _chained(first: bytes, second: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    yield from rest
