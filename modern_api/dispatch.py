"""Serves a protocol as a Flask blueprint: finds the route, authenticates, calls its handler, and renders errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from flask import Blueprint, Request, Response, request
from flask.blueprints import BlueprintSetupState
from marshmallow import EXCLUDE, ValidationError
from werkzeug.routing import BaseConverter, Rule

from importing.context import Context
from importing.errors import ApiError, ErrorCategory
from modern_api.json_stream import json_response
from modern_api.routes import ApiCall, ModernOptions, ModernProtocol, Refusal, Route
from transport.rate import Standing, Whose, tightest
from transport.unexpected_errors import to_api_error

DEFAULT_RETRY_SECONDS = 5
# Not 409: clients of these protocols send that again, but the key never fits another file.
REUSED_KEY_STATUS = 422

log = logging.getLogger("tillgate.modern")


class AnythingConverter(BaseConverter):
    """The rest of a path, whatever it is. (The library's own converter allows no line break, and no slash in front.)"""

    part_isolating = False
    regex = r"[\s\S]+"
    weight = 200


class DateConverter(BaseConverter):
    """A version of a protocol that is a date, YYYY-MM-DD."""

    regex = "[0-9]{4}-[0-9]{2}-[0-9]{2}"


CONVERTERS: Mapping[str, type[BaseConverter]] = {"anything": AnythingConverter, "date": DateConverter}


def blueprint_of(protocol: ModernProtocol, context: Context, options: ModernOptions) -> Blueprint:
    """The protocol at its paths, for every method: what is not served there is refused in the protocol's format."""
    blueprint = Blueprint(protocol.name, __name__)
    routes_by_path: dict[str, dict[str, Route]] = {}
    for route in protocol.routes:
        routes_by_path.setdefault(route.path, {})[route.method] = route
    rules = [(prefix + path, routes) for prefix in protocol.prefixes for path, routes in routes_by_path.items()]
    rules += [(base + rest, {}) for base in protocol.below for rest in ("", "/", "/<anything:_rest>")]
    for number, (path, routes) in enumerate(rules):
        view = Dispatcher(protocol, context, options, routes).response
        # `add_url_rule` takes a list of methods, and Flask would answer all others with a page.
        blueprint.record(partial(_add_rule, Rule(path, endpoint=f"{protocol.name}.{number}"), view))
    return blueprint


def refusal(protocol: ModernProtocol, error: ApiError, request_id: str, path: Mapping[str, str]) -> Response:
    """The refusal of a request in the protocol's format."""
    status = REUSED_KEY_STATUS if error.code == "request_id_reused" else protocol.statuses[error.category]
    headers = dict(protocol.refusal_headers.get(status, {}))
    if error.category in (ErrorCategory.BUSY, ErrorCategory.RATE) or error.retry_after:
        headers |= dict.fromkeys(protocol.retry_headers, str(error.retry_after or DEFAULT_RETRY_SECONDS))
    response = json_response(protocol.refused(Refusal(status, error, request_id, path)), status, headers)
    response.headers["X-Request-Id"] = request_id
    return response


def _add_rule(rule: Rule, view: Callable[..., Response], state: BlueprintSetupState) -> None:
    state.app.view_functions[rule.endpoint] = view
    state.app.url_map.add(rule)


class Dispatcher:
    """Answers the requests to one path. `routes` are those of the path, by method."""

    def __init__(
        self, protocol: ModernProtocol, context: Context, options: ModernOptions, routes: Mapping[str, Route]
    ) -> None:
        self._protocol = protocol
        self._context = context
        self._options = options
        self._routes = routes
        self._allowed = ", ".join(sorted({*routes, "HEAD"} if "GET" in routes else routes))

    def response(self, **path: str) -> Response:
        """The view: the response to any request to the path."""
        request_id = self._protocol.new_request_id()
        rate_headers: dict[str, str] = {}
        try:
            response = self._handled(request_id, path, rate_headers)
        except Exception as error:  # the error boundary of all protocols
            response = refusal(self._protocol, to_api_error(error, request_id, log), request_id, path)
            if response.status_code == 405:
                response.headers["Allow"] = self._allowed
        response.headers.update(rate_headers)
        response.headers["X-Request-Id"] = request_id
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def _handled(self, request_id: str, path: Mapping[str, str], rate_headers: dict[str, str]) -> Response:
        limiter, sender = self._options.limiter, None
        by_address = limiter.count(Whose.ADDRESS, request.remote_addr or "")
        self._admit(by_address, rate_headers)
        route = self._route(request.method)
        if self._protocol.authenticate is not None:
            sender = self._protocol.authenticate(self._context, request)
            self._admit(tightest(limiter.count(Whose.USER, sender.counted_as), by_address), rate_headers)
            if route.imports and sender.import_refusal:
                raise ApiError(sender.import_refusal)
        query = _query(route, request)
        return route.handler(ApiCall(self._context, self._options, request, request_id, path, query, sender))

    def _route(self, method: str) -> Route:
        if not self._routes:
            raise ApiError("unknown_path")
        route = self._routes.get("GET" if method == "HEAD" else method)
        if route is None:
            raise ApiError("method_not_served", method=method, allowed=self._allowed)
        return route

    def _admit(self, standing: Standing | None, rate_headers: dict[str, str]) -> None:
        if standing is not None:
            rate_headers.update(self._protocol.rate_headers(standing))
            standing.admit()


def _query(route: Route, request: Request) -> Mapping[str, object]:
    if route.query_schema is None:
        return {}
    try:
        loaded: Mapping[str, object] = route.query_schema(unknown=EXCLUDE).load(request.args.to_dict())
    except ValidationError as error:
        name = next(iter(error.messages_dict))
        raise ApiError(f"bad_{name}", value=request.args.get(name, "")) from error
    return loaded
