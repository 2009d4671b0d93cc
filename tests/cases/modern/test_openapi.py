"""The OpenAPI document and its page say what is served: all of it, nothing else, and examples that are true."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from flask import Flask
from lxml import html
from marshmallow import Schema
from werkzeug.test import Client

import modern_api
from crypto import digests
from modern_api import documentation, openapi
from modern_api.grid import EXAMPLE_ID
from modern_api.routes import JsonBody, ReplySpec, Route
from storage.queries import admins
from tests.support.served_gateway import Serve

PAGES = {documentation.DOCUMENT, documentation.PAGE, documentation.STYLE}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
BELOW = [
    base + rest
    for protocol in modern_api.PROTOCOLS
    for base in protocol.below
    for rest in ("", "/", "/<anything:_rest>")
]
ROUTES = {route.name: route for protocol in modern_api.PROTOCOLS for route in protocol.routes}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document(modern_api.PROTOCOLS)


def replies() -> Iterator[tuple[str, int, ReplySpec]]:
    """Every reply of every operation at its first path, refusals too."""
    for protocol in modern_api.PROTOCOLS:
        for route in protocol.routes:
            yield route.name, route.reply.status, route.reply
            yield from ((route.name, status, ReplySpec(protocol.error_schema, "", {})) for status in protocol.refusals)


REPLIES = {(name, status): spec for name, status, spec in replies()}


def fits(reply: object, spec: ReplySpec) -> bool:
    """Whether a reply is what the schema says."""
    if reply is None:
        return spec.or_null
    schema: Schema = spec.schema()
    return schema.validate(cast(Any, reply)) == {}


def parsed(page: str) -> Any:
    """A page as a tree; the types of lxml know no `text_content`."""
    return html.document_fromstring(page)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


# What is in it


def test_every_route_is_in_the_document_and_nothing_else(app: Flask, document: dict[str, Any]) -> None:
    rules = [rule.rule for rule in app.url_map.iter_rules() if not rule.endpoint.startswith("legacy.")]
    assert set(BELOW) <= set(rules)
    routes = {openapi.path_of(rule) for rule in rules if rule not in BELOW}
    assert routes - PAGES == set(document["paths"])
    assert routes >= PAGES


def test_each_path_is_served_by_the_methods_in_the_document_alone(app: Flask, document: dict[str, Any]) -> None:
    client = Client(app)
    declared = {(path, method) for path, method, _ in operations(document)}
    for path in document["paths"]:
        served = path.replace("{version}", "2025-10-13").replace("{action_id}", "aa_0").replace("{job_id}", "Job:0")
        for method in METHODS:
            refused = client.open(served, method=method).status_code == 405
            assert refused == ((path, method) not in declared), (method, path)


def test_it_is_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert {tag["name"] for tag in document["tags"]} == {o["tags"][0] for _, _, o in operations(document)}
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        found: Any = document
        for step in reference.split("/"):
            found = found[step]
    for path, _, operation in operations(document):
        in_path = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        for way in operation.get("security", []):
            assert set(way) <= set(document["components"]["securitySchemes"])
        for reply in operation["responses"].values():
            for link in reply.get("links", {}).values():
                assert link["operationId"] in names


def test_credentials_are_those_of_the_protocols(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert {(s["type"], s.get("in") or s["scheme"], s.get("name")) for s in schemes.values()} == {
        ("apiKey", "header", "X-App-Id"),
        ("apiKey", "header", "X-App-Token"),
        ("http", "basic", None),
        ("apiKey", "cookie", "better-auth.session_token"),
    }
    ways = {operation["operationId"]: operation.get("security", []) for _, _, operation in operations(document)}
    assert ways["importCustomersCsv"] == [{"voucherifyId": [], "voucherifyToken": []}]
    assert ways["signInEmail"] == []
    assert ways["getSession"] == [{"session": []}, {}]
    assert ways["importCustomers"] == [{"session": []}]


BASES = ("/v1", "/grid", "/customers/bulk", "/api/auth")
ODD = ("", "/", "//", "//x", "/%0A", "/a%0Ab", "/a%0Ab/customers/bulk/csv", "/%00", "/%ff", "/a/../b", "/" + "x" * 5000)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:20] or "nothing")
@pytest.mark.parametrize("base", BASES)
def test_whatever_is_asked_for_below_a_protocol_is_refused_in_its_language(app: Flask, base: str, odd: str) -> None:
    reply = Client(app).get(base + odd)
    assert reply.status_code == 404
    assert {"code", "message"} <= set(reply.get_json())


# Its examples


def test_every_example_is_what_its_schema_says(document: dict[str, Any]) -> None:
    seen = 0
    for _, _, operation in operations(document):
        name = operation["operationId"].partition("At")[0]
        for status, reply in operation["responses"].items():
            [content] = reply["content"].values()
            assert fits(content["example"], REPLIES[name, int(status)]), (name, status)
            seen += 1
    assert seen > 60


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_the_body_of_an_example_is_what_its_schema_says(route: Route) -> None:
    if isinstance(route.body, JsonBody):
        assert route.body.schema().validate(route.body.example) == {}
    elif route.body is not None:
        assert route.body.example


def test_a_reply_without_an_example_cannot_be_made() -> None:
    [route] = (route for route in ROUTES.values() if route.name == "signOut")
    with pytest.raises(TypeError, match="example"):
        ReplySpec(route.reply.schema, "a reply")  # type: ignore[call-arg]


# How it is served


def test_the_document_is_served(app: Flask, document: dict[str, Any]) -> None:
    reply = Client(app).get(documentation.DOCUMENT)
    assert (reply.status_code, reply.content_type) == (200, "application/json")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.get_json() == json.loads(json.dumps(document))


def test_the_page_is_strict(app: Flask) -> None:
    client = Client(app)
    reply = client.get(documentation.PAGE)
    assert reply.content_type == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    root = parsed(reply.text)
    assert root.xpath("//script | //style | //img | //iframe | //form | //@style | //@onclick") == []
    assert root.xpath("//link/@href") == [documentation.STYLE]
    style = client.get(documentation.STYLE)
    assert style.content_type == "text/css; charset=utf-8"
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_the_page_shows_everything(app: Flask, document: dict[str, Any]) -> None:
    root = parsed(Client(app).get(documentation.PAGE).text)
    text = " ".join(root.text_content().split())
    shown = set(root.xpath("//article/@id"))
    assert shown == set(ROUTES)
    for path, _, operation in operations(document):
        assert path in text
        assert operation["summary"] in text
        assert all(reply["description"] in text for reply in operation["responses"].values())
    ids = root.xpath("//@id")
    assert len(set(ids)) == len(ids)
    assert {link[1:] for link in root.xpath("//a/@href") if link.startswith("#")} <= set(ids)
    assert "result.failed[].source_id" in text
    assert "6000 per minute" in text


@pytest.mark.parametrize("host", ["$(reboot)", "a b", "x<y>", "a`b`"])
def test_a_host_that_is_none_is_not_repeated(app: Flask, host: str) -> None:
    reply = Client(app).get(documentation.PAGE, headers={"Host": host})
    assert host not in parsed(reply.text).text_content()


def test_a_host_that_is_one_is_in_the_examples(app: Flask) -> None:
    reply = Client(app).get(documentation.PAGE, headers={"Host": "imports.example:8443"})
    assert "curl http://imports.example:8443/v1/customers/importCSV" in reply.text


# What it shows, done


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_examples_of_the_page_do_what_they_show(serve: Serve, tmp_path: Path) -> None:
    sign_in = cast(JsonBody, ROUTES["signInEmail"].body).example
    with serve("--workers", "1") as (server, world):
        with world.context.database.writing() as connection:
            digest = digests.hash_password(str(sign_in["password"]))
            admins.create_admin(connection, str(sign_in["email"]), world.demo.number, "admin", digest)
        page = run(tmp_path, world.demo, f"curl {server.url}{documentation.PAGE}")[1]
        articles = parsed(page).xpath("//article")
        replaced: dict[str, str] = {}
        # A session that has ended opens nothing: its end comes last.
        for article in sorted(articles, key=lambda article: article.get("id") == "signOut"):
            name = article.get("id")
            [command] = article.xpath(".//pre[@class='curl']")
            commands = command.text_content()
            for shown, made in replaced.items():
                commands = commands.replace(shown, made)
            if "@customers.csv" in commands:
                [file] = article.xpath(".//pre[@class='sent']")
                (tmp_path / "customers.csv").write_text(file.text_content(), encoding="utf-8")
            status, body = run(tmp_path, world.demo, commands)
            reply = json.loads(body)
            assert status == ROUTES[name].reply.status, (name, body)
            assert fits(reply, REPLIES[name, status]), (name, body)
            for shown, made in (("aa_0a875d56c805df66010b", "async_action_id"), (EXAMPLE_ID, "jobId")):
                if status == 202 and made in reply:
                    replaced[shown] = reply[made]
        assert set(ROUTES) == {article.get("id") for article in articles}
        assert len(replaced) == 2
    assert reply == ROUTES["signOut"].reply.example


def run(folder: Path, demo: Any, commands: str) -> tuple[int, str]:
    """The status and the body that a command of curl's gets."""
    done = subprocess.run(  # noqa: S603
        ["/bin/sh", "-e", "-c", commands.replace("curl ", "curl -sS -w '\\n%{http_code}' ", 1)],
        cwd=folder,
        env={**os.environ, "USER_ID": demo.user_id, "API_KEY": demo.key},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body
