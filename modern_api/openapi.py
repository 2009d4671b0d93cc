"""The OpenAPI 3.1 document of the modern faces, written from their routes and schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from importing.errors import ApiError
from modern_api import people, routes
from modern_api.examples import ERRORS, EXAMPLES, FAULTS, REQUEST_ID, Example
from modern_api.routes import Refusal, Told
from transport.browsers import COOKIE

JSON = "application/json"
TITLE = "Tillgate: the modern import protocols"
VERSION = "1.0"
IDEMPOTENCY_KEY: Mapping[str, object] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key with the same request gives the first one's reply again, and imports nothing.",
    "schema": {"type": "string", "maxLength": 255, "pattern": r"^[^\x00-\x1f\x7f]*$"},
}
SESSION = {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "the session's cookie, set by signing in"}

_CONVERTED = re.compile(r"<(?:(?P<converter>\w+):)?(?P<name>\w+)>")
_DATE = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "example": "2025-10-13"}
_TEXT: Mapping[str, str] = {"type": "string"}
_HEADERS: Mapping[str, Mapping[str, object]] = {
    "X-Request-Id": {"description": "names the request; the server's log does too", "schema": _TEXT},
    "Retry-After": {"description": "seconds to wait before the next request", "schema": {"type": "integer"}},
    "Idempotent-Replayed": {"description": "`true`: this is the reply to an earlier request", "schema": _TEXT},
    "Set-Cookie": {"description": "the session's cookie", "schema": _TEXT},
    "WWW-Authenticate": {"description": "how to authenticate", "schema": _TEXT},
    "X-Rate-Limit-Limit": {"description": "requests in a period", "schema": {"type": "integer"}},
    "X-Rate-Limit-Remaining": {"description": "requests that are left in this period", "schema": {"type": "integer"}},
    "X-Rate-Limit-Reset": {
        "description": "when the next period begins, in seconds since 1970-01-01 UTC",
        "schema": {"type": "integer"},
    },
}


def document(faces: Sequence[routes.Face], for_people: Sequence[people.Face]) -> dict[str, Any]:
    """The document, as JSON has it."""
    spec = APISpec(
        title=TITLE,
        version=VERSION,
        openapi_version="3.1.0",
        plugins=[MarshmallowPlugin(schema_name_resolver=_schema_name)],
        info={"description": "Customer imports in the protocols of Voucherify, Grid and Solivio."},
        servers=[{"url": "/", "description": "this server"}],
    )
    for header, described in _HEADERS.items():
        spec.components.header(header, dict(described))
    for face in faces:
        spec.tag({"name": face.name, "description": face.title})
        for name, scheme in face.security.items():
            spec.components.security_scheme(name, dict(scheme))
        for path, route, parameters, name in _places(face):
            spec.path(path=path, operations={route.method.lower(): _operation(face, route, parameters, name)})
    spec.components.security_scheme("session", SESSION)
    for face_for_people in for_people:
        spec.tag({"name": face_for_people.name, "description": face_for_people.title})
        for served in face_for_people.routes:
            operation = _operation_for_people(face_for_people, served)
            spec.path(path=served.path, operations={served.method.lower(): operation})
    return dict(spec.to_dict())


def path_of(rule: str) -> str:
    """A rule of Flask's as OpenAPI writes it.

    >>> path_of("/grid/<date:version>/jobs/<job_id>")
    '/grid/{version}/jobs/{job_id}'
    """
    return _CONVERTED.sub(r"{\g<name>}", rule)


def _places(face: routes.Face) -> Iterator[tuple[str, routes.Route, list[dict[str, Any]], str]]:
    """Each path with its route, the parameters of the prefix, and the operation's name there."""
    for prefix in face.prefixes:
        found = list(_CONVERTED.finditer(prefix))
        parameters = [
            {"name": match["name"], "in": "path", "required": True, "schema": _DATE if match["converter"] else _TEXT}
            for match in found
        ]
        for route in face.routes:
            name = route.name + "".join(f"At{match['name'].capitalize()}" for match in found)
            yield path_of(prefix + route.path), route, parameters, name


def _operation(face: routes.Face, route: routes.Route, prefix: list[dict[str, Any]], name: str) -> dict[str, Any]:
    example = EXAMPLES[route.name]
    schemas = (("path", route.parameters), ("query", route.query))
    parameters = prefix + [{"in": where, "schema": schema} for where, schema in schemas if schema]
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [face.name],
        "summary": route.summary,
        "security": [{scheme: [] for scheme in face.security}],
        "parameters": [*parameters, IDEMPOTENCY_KEY] if route.imports else parameters,
        "responses": {},
    }
    if route.imports:
        operation["requestBody"] = _file(example)
    ever = ["X-Request-Id"]
    if face.rate_headers is not routes.no_headers:
        ever += ["X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "X-Rate-Limit-Reset"]
    for status, told in route.replies.items():
        headers = [*ever, "Idempotent-Replayed"] if route.imports else ever
        operation["responses"][str(status)] = _reply(told, example.replies[status], headers)
        if example.leads_to is not None:
            operation["responses"][str(status)]["links"] = _link(
                example.leads_to, name.removeprefix(route.name), prefix
            )
    for status in _refusals(face, route, prefix):
        headers = [*ever, *face.refusal_headers.get(status, {}), *(["Retry-After"] if status in (429, 503) else [])]
        told = Told(face.error, face.errors[status])
        operation["responses"][str(status)] = _reply(told, _error(face, route, status), headers)
    return operation


def _refusals(face: routes.Face, route: routes.Route, prefix: Sequence[object]) -> Iterator[int]:
    """The statuses of the refusals that a route can answer with."""
    may = {401, 429, 500, 503}
    if route.imports:
        may |= {400, 403, 413, 422}
    if route.query is not None:
        may.add(400)
    if route.parameters is not None or prefix:
        may.add(404)
    return (status for status in sorted(face.errors) if status in may)


def _link(leads_to: tuple[str, str, str], suffix: str, prefix: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where to go on, under the same prefix."""
    operation, parameter, member = leads_to
    parameters = {parameter: f"$response.body#/{member}"} | {p["name"]: f"$request.path.{p['name']}" for p in prefix}
    return {"follow": {"operationId": operation + suffix, "parameters": parameters}}


def _error(face: routes.Face, route: routes.Route, status: int) -> Mapping[str, object]:
    """What the face says of a typical fault."""
    declared = route.parameters._declared_fields if route.parameters is not None else {}
    path = {name: str(field.metadata.get("example", name)) for name, field in declared.items()}
    others = {
        400: ApiError("missing_file") if route.imports else ApiError("bad_limit", value="1000"),
        404: ApiError("unknown_batch", value=next(iter(path.values()))) if path else ApiError("unknown_path"),
    }
    fault = FAULTS.get(status) or others[status]
    return face.refused(Refusal(status, fault, REQUEST_ID, path))


def _operation_for_people(face: people.Face, route: people.Route) -> dict[str, Any]:
    example = EXAMPLES[route.name]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [face.name],
        "summary": route.summary,
        "responses": {},
    }
    if 422 in route.refusals:
        operation["parameters"] = [IDEMPOTENCY_KEY]
    if route.signed_in:
        # Where nobody who is not signed in is refused, the cookie is optional.
        operation["security"] = [{"session": []}] + ([] if 401 in route.refusals else [{}])
    if route.body is not None:
        content = {JSON: {"schema": route.body, "example": dict(example.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    for status, told in route.replies.items():
        headers = ["X-Request-Id"] if route.body is None or route.signed_in else ["X-Request-Id", "Set-Cookie"]
        operation["responses"][str(status)] = _reply(told, example.replies[status], headers)
    for status in route.refusals:
        headers = ["X-Request-Id", *(["Retry-After"] if status in (429, 503) else [])]
        told = Told(face.error, face.errors[status])
        operation["responses"][str(status)] = _reply(told, ERRORS[face.name][status], headers)
    return operation


def _file(example: Example) -> dict[str, Any]:
    part = {
        "type": "string",
        "contentMediaType": "text/csv",
        "description": "a CSV file in UTF-8 or Windows-1252, its first line naming the columns; "
        "the part's name counts, its file name and type do not",
    }
    schema = {"type": "object", "properties": {"file": part}, "required": ["file"]}
    content = {"multipart/form-data": {"schema": schema, "example": {"file": example.file}}}
    return {"required": True, "content": content}


def _reply(told: Told, example: object, headers: Sequence[str]) -> dict[str, Any]:
    schema: Any = {"anyOf": [told.schema, {"type": "null"}]} if told.or_null else told.schema
    return {
        "description": told.description,
        "headers": {name: name for name in headers},  # references, by apispec
        "content": {JSON: {"schema": schema, "example": example}},
    }


def _schema_name(schema: type[Schema] | Schema | str) -> str:
    """Names that no two faces share: the face's and the schema's, such as GridError."""
    found = schema if isinstance(schema, type) else type(schema)
    face = found.__module__.rpartition(".")[2].removesuffix("_schemas")
    return face.capitalize() + found.__name__
