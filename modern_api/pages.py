"""Serves what describes the modern faces: the OpenAPI document, and the same for people, as a page without scripts."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from flask import Flask, Request, Response, request
from jinja2 import Environment, PackageLoader, StrictUndefined

from modern_api import openapi, people, routes

DOCUMENT, PAGE, STYLE = "/openapi.json", "/docs/api", "/docs/api.css"
FILE = "customers.csv"
COOKIES = "cookies.txt"
# Where the server is, for who asked by a name that no address has.
SOMEWHERE = "http://127.0.0.1:8080"
# A style of our own, and nothing else.
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_ADDRESS = re.compile(r"https?://[\w.\-:\[\]]+", re.ASCII)
# What a header or a flag of curl is for a security scheme; the shell fills the variables in.
_BASIC = '-u "$USER_ID:$API_KEY"'
_VARIABLES: Mapping[str, str] = {"X-App-Id": "$USER_ID", "X-App-Token": "$API_KEY"}


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a JSON document: `path` such as `result.failed[].row`."""

    path: str
    kind: str
    needed: bool
    meaning: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: its status, when it comes, its headers, its members, and an example of it."""

    status: str
    meaning: str
    headers: Sequence[str]
    members: Sequence[Member]
    example: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as the page shows it. `at` are the other paths where it is served; `security` is in words."""

    name: str
    method: str
    path: str
    at: Sequence[str]
    summary: str
    security: str
    parameters: Sequence[tuple[str, Member]]
    media: str
    takes: Sequence[Member]
    sent: str
    curl: str
    good: Sequence[Answer]
    bad: Sequence[Answer]


def mount(app: Flask, faces: Sequence[routes.Face], for_people: Sequence[people.Face], options: routes.Options) -> None:
    """Serve the document and the page."""
    limits = {whose.value: limit for whose, limit in options.limiter.limits().items()}

    @cache
    def document() -> dict[str, Any]:
        return openapi.document(faces, for_people)

    @app.get(DOCUMENT)
    def openapi_document() -> Response:
        return _response(json.dumps(document(), ensure_ascii=False), "application/json")

    @app.get(PAGE)
    def api_page() -> Response:
        response = _response(
            rendered(document(), _address(request), {**limits, "body": f"{options.max_body:,} bytes"}),
            "text/html; charset=utf-8",
        )
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @app.get(STYLE)
    def api_style() -> Response:
        return _response((files("modern_api") / "static" / "api.css").read_text("utf-8"), "text/css; charset=utf-8")


def rendered(document: Mapping[str, Any], address: str, limits: Mapping[str, str]) -> str:
    """The page of a document, for a server at an address. `limits`: of the `body`, of a `user` and an `address`."""
    environment = Environment(
        loader=PackageLoader("modern_api"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("api.html")
    groups = [(tag, list(_operations(document, tag["name"], address))) for tag in document["tags"]]
    links = {"style": STYLE, "document": DOCUMENT, "file": FILE}
    return template.render(info=document["info"], groups=groups, limits=limits, **links)


def members(schema: Mapping[str, Any], document: Mapping[str, Any], path: str = "") -> Iterator[Member]:
    """The members of a schema and of all in it, in their order."""
    schema, _ = _resolved(schema, document)
    if "items" in schema:
        yield from members(schema["items"], document, f"{path}[]")
    for name, member in schema.get("properties", {}).items():
        where = f"{path}.{name}".lstrip(".")
        found, null = _resolved(member, document)
        meaning = member.get("description") or found.get("description", "")
        yield Member(where, _kind(found) + (" or null" if null else ""), name in schema.get("required", ()), meaning)
        yield from members(member, document, where)


def _operations(document: Mapping[str, Any], tag: str, address: str) -> Iterator[Operation]:
    """The operations of a face. The same one at a second path is not shown twice."""
    shown: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if tag in operation["tags"]:
                shown.setdefault(operation["operationId"].partition("At")[0], []).append(path)
    for name, (path, *others) in shown.items():
        [(method, operation)] = [found for found in document["paths"][path].items() if found[1]["operationId"] == name]
        yield _operation(document, address, (method.upper(), path, others), operation)


def _operation(
    document: Mapping[str, Any], address: str, place: tuple[str, str, list[str]], operation: Mapping[str, Any]
) -> Operation:
    method, path, others = place
    [(media, body)] = operation.get("requestBody", {}).get("content", {"": {}}).items()
    sent = body.get("example", {})
    answers = [_answer(document, status, reply) for status, reply in operation["responses"].items()]
    return Operation(
        name=operation["operationId"],
        method=method,
        path=path,
        at=others,
        summary=operation["summary"],
        security=_security(document, operation),
        parameters=[_parameter(parameter) for parameter in operation.get("parameters", [])],
        media=media,
        takes=list(members(body.get("schema", {}), document)),
        sent=sent["file"] if "file" in sent else _pretty(sent) if sent else "",
        curl=_curl(document, address, (method, path), operation, sent),
        good=[answer for answer in answers if answer.status < "300"],
        bad=[answer for answer in answers if answer.status >= "300"],
    )


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, Member]:
    """Where a parameter stands, and what it is."""
    schema = parameter["schema"]
    meaning = parameter.get("description", "")
    if "example" in schema:
        meaning = f"{meaning} such as {schema['example']}".strip()
    return parameter["in"], Member(parameter["name"], _kind(schema), parameter.get("required", False), meaning)


def _answer(document: Mapping[str, Any], status: str, reply: Mapping[str, Any]) -> Answer:
    [content] = reply["content"].values()
    found = list(members(content["schema"], document))
    return Answer(status, reply["description"], list(reply["headers"]), found, _pretty(content["example"]))


def _security(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    ways = operation.get("security", [])
    if not ways:
        return "none"
    schemes = document["components"]["securitySchemes"]
    said = [_scheme(schemes[name]) for name in ways[0]]
    return " and ".join(said) + ("" if all(ways) else ", or none")


def _scheme(scheme: Mapping[str, str]) -> str:
    if scheme["type"] == "http":
        return f"HTTP {scheme['scheme'].capitalize()} ({scheme['description']})"
    return f"{scheme['in']} {scheme['name']} ({scheme['description']})"


def _curl(
    document: Mapping[str, Any],
    address: str,
    place: tuple[str, str],
    operation: Mapping[str, Any],
    sent: Mapping[str, Any],
) -> str:
    method, path = place
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["schema"]["example"]))
    words = [f"curl {address}{path}"]
    if method != "GET" and not sent:
        words.append(f"-X {method}")
    schemes = document["components"]["securitySchemes"]
    for way in operation.get("security", [])[:1]:
        words += [_flag(schemes[name]) for name in way]
    if "file" in sent:
        words.append(f"-F file=@{FILE}")
    elif sent:
        words += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(json.dumps(sent, ensure_ascii=False))}"]
    if any("Set-Cookie" in reply["headers"] for reply in operation["responses"].values()):
        words.append(f"-c {COOKIES}")
    return " \\\n  ".join(words)


def _flag(scheme: Mapping[str, str]) -> str:
    if scheme["type"] == "http":
        return _BASIC
    if scheme["in"] == "cookie":
        return f"-b {COOKIES}"
    return f'-H "{scheme["name"]}: {_VARIABLES[scheme["name"]]}"'


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema behind a reference, and whether it may be null."""
    if "$ref" in schema:
        return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], False
    if "anyOf" in schema:
        [found] = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
        return _resolved(found, document)[0], True
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
    found = request.host_url.rstrip("/")
    return found if _ADDRESS.fullmatch(found) else SOMEWHERE


def _response(text: str, kind: str) -> Response:
    response = Response(text, content_type=kind)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
