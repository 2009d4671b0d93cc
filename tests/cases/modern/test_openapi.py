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
from importing.errors import API_ERRORS, ApiError
from modern_api import openapi, pages, people
from modern_api.examples import ERRORS, EXAMPLES
from modern_api.grid_schemas import EXAMPLE
from modern_api.routes import Told
from storage.queries import admins
from tests.support.served_gateway import Serve

PAGES = {pages.DOCUMENT, pages.PAGE, pages.STYLE}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
BELOW = [rule for face in (*modern_api.FACES, *modern_api.PEOPLE) for rule in face.below]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document(modern_api.FACES, modern_api.PEOPLE)


def told() -> Iterator[tuple[str, int, Told]]:
    """Every reply of every operation at its first path, refusals too."""
    for face in modern_api.FACES:
        for route in face.routes:
            yield from ((route.name, status, told) for status, told in route.replies.items())
            yield from ((route.name, status, Told(face.error, "")) for status in face.errors)
    for of_people in modern_api.PEOPLE:
        for served in of_people.routes:
            yield from ((served.name, status, told) for status, told in served.replies.items())
            yield from ((served.name, status, Told(of_people.error, "")) for status in served.refusals)


TOLD = {(name, status): told for name, status, told in told()}


def fits(reply: object, told: Told) -> bool:
    """Whether a reply is what the schema says."""
    if reply is None:
        return told.or_null
    schema: Schema = told.schema()
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
    rules = [rule.rule for rule in app.url_map.iter_rules()]
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


def test_every_fault_status_of_a_face_is_known_to_it() -> None:
    for face in modern_api.FACES:
        declared = {int(s) for o in operations(openapi.document([face], [])) for s in o[2]["responses"]}
        assert {status for status in declared if status >= 400} <= set(face.errors)


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
def test_whatever_is_asked_for_below_a_face_is_refused_in_its_language(app: Flask, base: str, odd: str) -> None:
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
            assert fits(content["example"], TOLD[name, int(status)]), (name, status)
            seen += 1
    assert seen > 60


def test_the_bodies_of_the_examples_are_what_their_schemas_say() -> None:
    for face in modern_api.PEOPLE:
        for route in face.routes:
            if route.body is not None:
                assert route.body().validate(EXAMPLES[route.name].body) == {}


@pytest.mark.parametrize("face", modern_api.PEOPLE, ids=lambda face: face.name)
def test_the_refusals_in_the_examples_are_made_by_the_face(face: people.Face) -> None:
    values = {"seconds": 17, "limit": 10 * 1024 * 1024, "value": "2026-11-21-a"}
    made = []
    for code in API_ERRORS:
        try:
            made.append(face.refused(ApiError(code, **values)).document)  # type: ignore[arg-type]
        except KeyError:
            continue  # a fault with other values
    for status, example in ERRORS[face.name].items():
        if (face.name, status) != ("solivio", 400):  # one of a text, which no fault stands for
            assert example in made, status
    assert set(ERRORS[face.name]) == {status for route in face.routes for status in route.refusals}


# How it is served


def test_the_document_is_served(app: Flask, document: dict[str, Any]) -> None:
    reply = Client(app).get(pages.DOCUMENT)
    assert (reply.status_code, reply.content_type) == (200, "application/json")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.get_json() == json.loads(json.dumps(document))


def test_the_page_is_strict(app: Flask) -> None:
    client = Client(app)
    reply = client.get(pages.PAGE)
    assert reply.content_type == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    root = parsed(reply.text)
    assert root.xpath("//script | //style | //img | //iframe | //form | //@style | //@onclick") == []
    assert root.xpath("//link/@href") == [pages.STYLE]
    style = client.get(pages.STYLE)
    assert style.content_type == "text/css; charset=utf-8"
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_the_page_shows_everything(app: Flask, document: dict[str, Any]) -> None:
    root = parsed(Client(app).get(pages.PAGE).text)
    text = " ".join(root.text_content().split())
    shown = set(root.xpath("//article/@id"))
    assert shown == set(EXAMPLES)
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
    reply = Client(app).get(pages.PAGE, headers={"Host": host})
    assert host not in parsed(reply.text).text_content()


def test_a_host_that_is_one_is_in_the_examples(app: Flask) -> None:
    reply = Client(app).get(pages.PAGE, headers={"Host": "imports.example:8443"})
    assert "curl http://imports.example:8443/v1/customers/importCSV" in reply.text


# What it shows, done


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_examples_of_the_page_do_what_they_show(serve: Serve, tmp_path: Path) -> None:
    sign_in = EXAMPLES["signInEmail"].body
    with serve("--workers", "1") as (server, world):
        with world.context.database.writing() as connection:
            digest = digests.hash_password(str(sign_in["password"]))
            admins.create_admin(connection, str(sign_in["email"]), world.demo.number, "admin", digest)
        page = run(tmp_path, world.demo, f"curl {server.url}{pages.PAGE}")[1]
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
            assert status in EXAMPLES[name].replies, (name, body)
            assert fits(reply, TOLD[name, status]), (name, body)
            for shown, made in (("aa_0a875d56c805df66010b", "async_action_id"), (EXAMPLE, "jobId")):
                if status == 202 and made in reply:
                    replaced[shown] = reply[made]
        assert set(EXAMPLES) == {article.get("id") for article in articles}
        assert len(replaced) == 2
    assert reply == EXAMPLES["signOut"].replies[200]


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
