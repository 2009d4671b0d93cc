"""What the faces for people in a browser share: JSON in and out, a table of routes, and where faults become refusals.

Who is asking is in a cookie there, not in credentials of the request, so they are served apart from `modern_api.serving`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any
from uuid import uuid4

from flask import Flask, Request, Response, request
from marshmallow import Schema, ValidationError
from werkzeug.routing import Rule

from importing.context import Context
from importing.errors import ApiError
from modern_api.encoding import encoded
from modern_api.routes import Reply, Told
from transport.door import fault_of
from transport.rate import Limiter, Whose
from transport.reading import read_body

log = logging.getLogger("tillgate.people")


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    context: Context
    request: Request
    request_id: str
    limiter: Limiter

    def count(self, whose: Whose, name: str) -> None:
        """Count the request for whoever sends it. Raises ApiError("too_many_requests")."""
        standing = self.limiter.count(whose, name)
        if standing is not None:
            standing.admit()


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that a face serves. `body`: the schema of the JSON that it takes. `replies` are the good ones, by status.

    `signed_in`: it asks for the session's cookie. `refusals` are those of the face's `errors` that it may answer with.
    """

    method: str
    path: str
    name: str
    summary: str
    answer: Callable[[Call], Response]
    replies: Mapping[int, Told]
    refusals: tuple[int, ...]
    body: type[Schema] | None = None
    signed_in: bool = False


@dataclass(frozen=True, slots=True)
class Face:
    """One protocol. `below`: a rule under which everything else is refused in the face's language.

    `refused` puts a fault into words; `errors` are the refusals by status, all of the schema `error`.
    """

    name: str
    title: str
    routes: tuple[Route, ...]
    below: tuple[str, ...]
    refused: Callable[[ApiError], Reply]
    error: type[Schema]
    errors: Mapping[int, str]


def mount(app: Flask, context: Context, face: Face, limiter: Limiter) -> None:
    """Serve the face at its paths, for every method: what is not served there is refused in its language."""
    by_path: dict[str, dict[str, Route]] = {path: {} for path in face.below}
    for route in face.routes:
        by_path.setdefault(route.path, {})[route.method] = route
    for path, routes in by_path.items():
        endpoint = f"{face.name} {path}"
        app.view_functions[endpoint] = _view(context, face, routes, limiter)
        app.url_map.add(Rule(path, endpoint=endpoint))


def unread(face: Face, fault: ApiError) -> Reply:
    """The refusal of a request that could not be read."""
    reply = face.refused(fault)
    return replace(reply, headers={**reply.headers, "X-Request-Id": uuid4().hex})


def answered(call: Call, document: Mapping[str, object] | None, status: int = 200) -> Response:
    """A JSON reply; iterators in it become arrays, and are written as they are read."""
    pieces = encoded(document) if document is not None else iter([b"null"])
    first = next(pieces)
    second = next(pieces, None)
    # A reply of one piece as a whole, so that it has a Content-Length.
    body = first if second is None else chain((first, second), pieces)
    response = Response(body, status, content_type="application/json")
    response.headers["X-Request-Id"] = call.request_id
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def body_of(call: Call, schema: Schema, limit: int) -> Any:
    """The request's JSON, at most `limit` bytes, as the schema loads it; its Content-Type does not matter.

    Raises ApiError: bad_json, bad_body, and what reading a body raises.
    """
    try:
        content = json.loads(b"".join(read_body(call.request.environ, limit)))
    except (ValueError, RecursionError) as error:
        raise ApiError("bad_json") from error
    try:
        return schema.load(content)
    except ValidationError as error:
        name = next(iter(error.messages_dict))
        raise ApiError("bad_body", member="the body" if name == "_schema" else name) from error


def _view(context: Context, face: Face, routes: Mapping[str, Route], limiter: Limiter) -> Callable[..., Response]:
    def view(**_path: str) -> Response:
        call = Call(context, request, uuid4().hex, limiter)
        try:
            call.count(Whose.ADDRESS, request.remote_addr or "")
            return _route(routes, request.method).answer(call)
        except Exception as error:  # the outermost door
            reply = face.refused(fault_of(error, call.request_id, log))
            response = answered(call, reply.document, reply.status)
            response.headers.update(reply.headers)
            if response.status_code == 405:
                response.headers["Allow"] = _allowed(routes)
            return response

    return view


def _route(routes: Mapping[str, Route], method: str) -> Route:
    if not routes:
        raise ApiError("unknown_path")
    route = routes.get("GET" if method == "HEAD" else method)
    if route is None:
        raise ApiError("method_not_served", method=method, allowed=_allowed(routes))
    return route


def _allowed(routes: Mapping[str, Route]) -> str:
    return ", ".join(sorted({*routes, "HEAD"} if "GET" in routes else routes))
