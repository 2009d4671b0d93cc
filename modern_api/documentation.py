"""Serves the OpenAPI document of the modern protocols, and the same as a page for people, without scripts."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from flask import Blueprint, Request, Response, request
from jinja2 import Environment, PackageLoader, StrictUndefined

from modern_api import openapi
from modern_api.routes import ModernOptions, ModernProtocol

DOCUMENT, PAGE, STYLE = "/openapi.json", "/docs/api", "/docs/api.css"
FILE = "customers.csv"
COOKIES = "cookies.txt"
# The server in the examples if the Host header of the request is invalid.
ANY_SERVER = "http://127.0.0.1:8080"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_ADDRESS = re.compile(r"https?://[\w.\-:\[\]]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class SchemaMember:
    """A member of a JSON document: `path` such as `result.failed[].row`."""

    path: str
    kind: str
    needed: bool
    meaning: str


def blueprint_of(protocols: Sequence[ModernProtocol], options: ModernOptions) -> Blueprint:
    """The document, the page, and its style."""
    blueprint = Blueprint("documentation", __name__)
    limits = {whose.value: limit for whose, limit in options.limiter.limits().items()}

    @cache
    def document() -> dict[str, Any]:
        return openapi.document(protocols)

    @blueprint.get(DOCUMENT)
    def openapi_document() -> Response:
        return _response(json.dumps(document(), ensure_ascii=False), "application/json")

    @blueprint.get(PAGE)
    def api_page() -> Response:
        page = rendered(document(), _address(request), {**limits, "body": f"{options.max_body:,} bytes"})
        response = _response(page, "text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @blueprint.get(STYLE)
    def api_style() -> Response:
        return _response((files("modern_api") / "static" / "api.css").read_text("utf-8"), "text/css; charset=utf-8")

    return blueprint


def rendered(document: Mapping[str, Any], address: str, limits: Mapping[str, str]) -> str:
    """The page of a document, for a server at an address. `limits`: of the `body`, of a `user` and an `address`."""
    loader = PackageLoader("modern_api")
    template = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("api.html")
    groups = [(tag, list(_operations(document, tag["name"], address))) for tag in document["tags"]]
    links = {"style": STYLE, "document": DOCUMENT, "file": FILE}
    return template.render(info=document["info"], groups=groups, limits=limits, **links)


def members(schema: Mapping[str, Any], document: Mapping[str, Any], path: str = "") -> Iterator[SchemaMember]:
    """The members of a schema and of all in it, in their order."""
    schema, _ = _resolved(schema, document)
    if "items" in schema:
        yield from members(schema["items"], document, f"{path}[]")
    for name, member in schema.get("properties", {}).items():
        member_path = f"{path}.{name}".lstrip(".")
        resolved, nullable = _resolved(member, document)
        kind = _kind(resolved) + (" or null" if nullable else "")
        meaning = member.get("description") or resolved.get("description", "")
        yield SchemaMember(member_path, kind, name in schema.get("required", ()), meaning)
        yield from members(member, document, member_path)


def _operations(document: Mapping[str, Any], tag: str, address: str) -> Iterator[dict[str, Any]]:
    """The operations of a protocol for the template. One that is served at several paths appears once."""
    paths: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if tag in operation["tags"]:
                paths.setdefault(operation["operationId"].partition("At")[0], []).append(path)
    for name, (path, *others) in paths.items():
        [(method, operation)] = [item for item in document["paths"][path].items() if item[1]["operationId"] == name]
        [(media, body)] = operation.get("requestBody", {}).get("content", {"": {}}).items()
        example = body.get("example", {})
        replies = [_reply(document, status, reply) for status, reply in operation["responses"].items()]
        yield {
            "name": name,
            "method": method.upper(),
            "path": path,
            "at": others,
            "summary": operation["summary"],
            "security": _security(document, operation),
            "parameters": [_parameter(parameter) for parameter in operation.get("parameters", [])],
            "media": media,
            "body_members": list(members(body.get("schema", {}), document)),
            "body": example["file"] if "file" in example else _pretty(example) if example else "",
            "curl": _curl(document, f"{address}{path}", method.upper(), operation, example),
            "good": [reply for reply in replies if reply["status"] < "300"],
            "bad": [reply for reply in replies if reply["status"] >= "300"],
        }


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, SchemaMember]:
    """Where a parameter stands, and what it is."""
    schema = parameter["schema"]
    meaning = parameter.get("description", "")
    if "example" in schema:
        meaning = f"{meaning} such as {schema['example']}".strip()
    return parameter["in"], SchemaMember(parameter["name"], _kind(schema), parameter.get("required", False), meaning)


def _reply(document: Mapping[str, Any], status: str, reply: Mapping[str, Any]) -> dict[str, Any]:
    [content] = reply["content"].values()
    return {
        "status": status,
        "meaning": reply["description"],
        "headers": list(reply["headers"]),
        "members": list(members(content["schema"], document)),
        "example": _pretty(content["example"]),
    }


def _security(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    alternatives = operation.get("security", [])
    if not alternatives:
        return "none"
    texts = []
    for scheme in (document["components"]["securitySchemes"][name] for name in alternatives[0]):
        name = (
            f"HTTP {scheme['scheme'].capitalize()}" if scheme["type"] == "http" else f"{scheme['in']} {scheme['name']}"
        )
        texts.append(f"{name} ({scheme['description']})")
    return " and ".join(texts) + ("" if all(alternatives) else ", or none")


def _curl(
    document: Mapping[str, Any], url: str, method: str, operation: Mapping[str, Any], example: Mapping[str, Any]
) -> str:
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            url = url.replace(f"{{{parameter['name']}}}", str(parameter["schema"]["example"]))
    words = [f"curl {url}"]
    if method != "GET" and not example:
        words.append(f"-X {method}")
    schemes = document["components"]["securitySchemes"]
    for alternative in operation.get("security", [])[:1]:
        words += [_flag(schemes[name]) for name in alternative]
    if "file" in example:
        words.append(f"-F file=@{FILE}")
    elif example:
        words += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(json.dumps(example, ensure_ascii=False))}"]
    if any("Set-Cookie" in reply["headers"] for reply in operation["responses"].values()):
        words.append(f"-c {COOKIES}")
    return " \\\n  ".join(words)


def _flag(scheme: Mapping[str, str]) -> str:
    """The option of curl for a security scheme; the shell replaces the variables."""
    if scheme["type"] == "http":
        return '-u "$USER_ID:$API_KEY"'
    if scheme["in"] == "cookie":
        return f"-b {COOKIES}"
    variable = "$USER_ID" if scheme["description"] == "the user id" else "$API_KEY"
    return f'-H "{scheme["name"]}: {variable}"'


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema behind a reference, and whether it may be null."""
    if "$ref" in schema:
        return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], False
    if "anyOf" in schema:
        [other] = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
        return _resolved(other, document)[0], True
    kind = schema.get("type")
    if isinstance(kind, list):
        return {**schema, "type": next(name for name in kind if name != "null")}, "null" in kind
    return schema, False


def _kind(schema: Mapping[str, Any]) -> str:
    words = str(schema.get("type", "any"))
    if "enum" in schema:
        words += f": {', '.join(map(str, schema['enum']))}"
    if "format" in schema:
        words += f", {schema['format']}"
    if "minimum" in schema:
        words += f", {schema['minimum']} to {schema['maximum']}"
    if "maxLength" in schema:
        words += f", at most {schema['maxLength']} characters"
    return words + (f", else {schema['default']}" if "default" in schema else "")


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _address(request: Request) -> str:
    address = request.host_url.rstrip("/")
    return address if _ADDRESS.fullmatch(address) else ANY_SERVER


def _response(text: str, kind: str) -> Response:
    response = Response(text, content_type=kind)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
