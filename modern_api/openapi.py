"""The OpenAPI 3.1 document of the modern protocols, written from their routes and schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from importing.errors import ApiError
from modern_api.json_stream import JSON, json_pieces
from modern_api.routes import FileBody, JsonBody, ModernProtocol, Refusal, ReplySpec, Route, no_rate_headers

TITLE = "Tillgate: the modern import protocols"
VERSION = "1.0"
IDEMPOTENCY_KEY: Mapping[str, object] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key with the same request gives the first one's reply again, and imports nothing.",
    "schema": {"type": "string", "maxLength": 255, "pattern": r"^[^\x00-\x1f\x7f]*$"},
}
REQUEST_ID = "4f1c0de2b7a94c53a1f6d2e8c9b07a35"
# A typical error of each status, for routes and protocols without one of their own.
TYPICAL_ERRORS: Mapping[int, ApiError] = {
    400: ApiError("missing_file"),
    401: ApiError("bad_credentials"),
    403: ApiError("no_permission"),
    404: ApiError("unknown_path"),
    413: ApiError("body_too_large", limit=134217728),
    422: ApiError("request_id_reused", value="2026-11-21-a"),
    429: ApiError("too_many_requests", seconds=17, retry_after=17),
    500: ApiError("bug", request_id=REQUEST_ID),
    503: ApiError("busy"),
}

_CONVERTED = re.compile(r"<(?:(?P<converter>\w+):)?(?P<name>\w+)>")
_DATE = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "example": "2025-10-13"}
_TEXT: Mapping[str, str] = {"type": "string"}
_INTEGER: Mapping[str, str] = {"type": "integer"}
_HEADERS: Mapping[str, Mapping[str, object]] = {
    "X-Request-Id": {"description": "names the request; the server's log does too", "schema": _TEXT},
    "Retry-After": {"description": "seconds to wait before the next request", "schema": _INTEGER},
    "Idempotent-Replayed": {"description": "`true`: this is the reply to an earlier request", "schema": _TEXT},
    "Set-Cookie": {"description": "the session's cookie", "schema": _TEXT},
    "WWW-Authenticate": {"description": "how to authenticate", "schema": _TEXT},
    "X-Rate-Limit-Limit": {"description": "requests in a period", "schema": _INTEGER},
    "X-Rate-Limit-Remaining": {"description": "requests that are left in this period", "schema": _INTEGER},
    "X-Rate-Limit-Reset": {
        "description": "when the next period begins, in seconds since 1970-01-01 UTC",
        "schema": _INTEGER,
    },
}


def document(protocols: Sequence[ModernProtocol]) -> dict[str, Any]:
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
    for name, scheme in {name: s for protocol in protocols for name, s in protocol.security.items()}.items():
        spec.components.security_scheme(name, dict(scheme))
    for protocol in protocols:
        spec.tag({"name": protocol.name, "description": protocol.title})
        for prefix in protocol.prefixes:
            for route in protocol.routes:
                operation = _operation(protocol, route, prefix)
                spec.path(path=path_of(prefix + route.path), operations={route.method.lower(): operation})
    return dict(spec.to_dict())


def path_of(rule: str) -> str:
    """A rule of Flask's as OpenAPI writes it.

    >>> path_of("/grid/<date:version>/jobs/<job_id>")
    '/grid/{version}/jobs/{job_id}'
    """
    return _CONVERTED.sub(r"{\g<name>}", rule)


def example_refusal(protocol: ModernProtocol, route: Route, status: int) -> Mapping[str, Any]:
    """The protocol's reply to a typical error of the route."""
    error = route.example_errors.get(status) or protocol.example_errors.get(status) or TYPICAL_ERRORS[status]
    path_fields = route.path_schema._declared_fields if route.path_schema is not None else {}
    path = {name: str(field.metadata.get("example", name)) for name, field in path_fields.items()}
    refusal = protocol.refused(Refusal(status, error, REQUEST_ID, path))
    example: Mapping[str, Any] = json.loads(b"".join(json_pieces(refusal)))
    return example


def _operation(protocol: ModernProtocol, route: Route, prefix: str) -> dict[str, Any]:
    suffix = "".join(f"At{match['name'].capitalize()}" for match in _CONVERTED.finditer(prefix))
    of_prefix = list(_prefix_parameters(prefix))
    schemas = (("path", route.path_schema), ("query", route.query_schema))
    parameters = of_prefix + [{"in": where, "schema": schema} for where, schema in schemas if schema]
    operation: dict[str, Any] = {
        "operationId": route.name + suffix,
        "tags": [protocol.name],
        "summary": route.summary,
        "responses": {},
    }
    if route.credentials:
        # A route that authenticates by itself also serves those who are not signed in.
        needed: dict[str, list[str]] = {scheme: [] for scheme in protocol.security}
        operation["security"] = [needed] if protocol.authenticate else [needed, {}]
    if route.imports:
        parameters.append(dict(IDEMPOTENCY_KEY))
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = _request_body(route.body)
    headers = ["X-Request-Id"]
    if protocol.rate_headers is not no_rate_headers:
        headers += ["X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "X-Rate-Limit-Reset"]
    replayed = ["Idempotent-Replayed"] if route.imports else []
    reply = _reply(route.reply, [*headers, *replayed, *route.reply.headers])
    operation["responses"][str(route.reply.status)] = reply
    if route.reply.next_call is not None:
        reply["links"] = _link(route.reply.next_call, suffix, of_prefix)
    # A prefix with a parameter may be one that is not served.
    for status in sorted({*route.refusals, *([404] if of_prefix else [])}):
        retry = ["Retry-After"] if status in (429, 503) else []
        example = example_refusal(protocol, route, status)
        refusal = ReplySpec(protocol.error_schema, protocol.refusals[status], example)
        refusal_headers = [*headers, *protocol.refusal_headers.get(status, {}), *retry]
        operation["responses"][str(status)] = _reply(refusal, refusal_headers)
    return operation


def _prefix_parameters(prefix: str) -> Iterator[dict[str, Any]]:
    for match in _CONVERTED.finditer(prefix):
        schema = _DATE if match["converter"] else _TEXT
        yield {"name": match["name"], "in": "path", "required": True, "schema": schema}


def _link(next_call: tuple[str, str, str], suffix: str, prefix: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The call that follows, under the same prefix."""
    operation, parameter, member = next_call
    parameters = {parameter: f"$response.body#/{member}"} | {p["name"]: f"$request.path.{p['name']}" for p in prefix}
    return {"follow": {"operationId": operation + suffix, "parameters": parameters}}


def _request_body(body: FileBody | JsonBody) -> dict[str, Any]:
    if isinstance(body, JsonBody):
        content: dict[str, Any] = {JSON: {"schema": body.schema, "example": dict(body.example)}}
        return {"required": True, "content": content}
    part = {
        "type": "string",
        "contentMediaType": "text/csv",
        "description": "a CSV file in UTF-8 or Windows-1252, its first line naming the columns; "
        "the part's name counts, its file name and type do not",
    }
    schema = {"type": "object", "properties": {"file": part}, "required": ["file"]}
    content = {"multipart/form-data": {"schema": schema, "example": {"file": body.example}}}
    return {"required": True, "content": content}


def _reply(spec: ReplySpec, headers: Sequence[str]) -> dict[str, Any]:
    schema: Any = {"anyOf": [spec.schema, {"type": "null"}]} if spec.or_null else spec.schema
    return {
        "description": spec.description,
        "headers": {name: name for name in headers},  # references, by apispec
        "content": {JSON: {"schema": schema, "example": spec.example}},
    }


def _schema_name(schema: type[Schema] | Schema | str) -> str:
    """The name of a schema's class, which begins with its protocol: no two have the same."""
    return (schema if isinstance(schema, type) else type(schema)).__name__
