"""Which format a reply comes in, whatever goes wrong. Source: docs/protocol.md, Formats."""

from __future__ import annotations

import json

import pytest
from webtest import TestApp  # type: ignore[import-untyped]

from tests.support.case_database import World
from tests.support.legacy_posts import BATCH, URLENCODED, WRONG_KEY, body, codes, error_of, post

DOCUMENTED = b"""<?xml version="1.0" encoding="UTF-8"?>
<response status="success">
  <batch status="imported">
    <customers>
      <new>2</new>
      <updated>1</updated>
    </customers>
  </batch>
</response>
"""
THREE = {**BATCH, "profiles_data": "A1|Ann\nA2|Ben\nA3|Cid", "overwrite_duplicates": "update"}


def test_the_documented_reply_to_the_byte(client: TestApp, world: World) -> None:
    world.begin([{"code": "A2"}])
    assert post(client, THREE).body.rstrip() == DOCUMENTED.rstrip()


def test_the_documented_reply_in_json_to_the_byte(client: TestApp, world: World) -> None:
    world.begin([{"code": "A2"}])
    condensed = post(client, THREE, output="JSON", condensed="yes")
    wanted = '{"status":"success","batch":{"status":"imported","customers":{"new":"2","updated":"1"}}}'
    assert condensed.text == wanted
    world.begin([{"code": "A2"}])
    assert post(client, THREE, output="JSON").text.rstrip() == json.dumps(json.loads(wanted), indent=4)


def test_condensed_is_for_json_only(client: TestApp, world: World) -> None:
    world.begin([{"code": "A2"}])
    assert post(client, THREE, condensed="yes").body.rstrip() == DOCUMENTED.rstrip()


@pytest.mark.parametrize(("output", "kind"), [("xml", "xml"), ("XML", "xml"), (" Json ", "json"), ("", "xml")])
def test_output_in_any_case_and_xml_by_default(client: TestApp, output: str, kind: str) -> None:
    assert post(client, WRONG_KEY, output=output).content_type == f"application/{kind}"


@pytest.mark.parametrize("output", ["yaml", "JSONP", "application/json"])
def test_an_unknown_output_is_an_error_in_xml(client: TestApp, world: World, output: str) -> None:
    response = post(client, BATCH, output=output)
    assert response.content_type == "application/xml"
    assert error_of(response) == f"Invalid output: {output}. Use XML or JSON."
    assert codes(world) == []


def test_output_and_callback_are_judged_before_all_else(client: TestApp) -> None:
    wrong = {**WRONG_KEY, "API": "9", "type": "x"}
    assert error_of(post(client, wrong, output="yaml")).startswith("Invalid output")
    assert error_of(post(client, wrong, callback="no()")).startswith("Invalid callback")


def test_a_callback_with_explicit_xml_is_ignored(client: TestApp) -> None:
    for callback in ("done", "not a callback!"):
        response = post(client, BATCH, output="xml", callback=callback)
        assert response.content_type == "application/xml"
        assert b'status="success"' in response.body


@pytest.mark.parametrize(
    "callback",
    ["f", "$", "_a1.b$", "jQuery17_8", "a[0].b[12]", "app['till-7'].done", "a['x.y']", "x" * 128],
)
def test_a_callback_is_a_dotted_path_of_identifiers(client: TestApp, callback: str) -> None:
    response = post(client, BATCH, callback=callback)
    assert response.content_type == "text/javascript"
    assert response.text.startswith(f"/**/{callback}(")
    assert response.text.endswith(");")
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "callback",
    ["alert(1)", "a b", "1a", "a.", ".a", "a..b", "a[b]", 'a["b"]', "a['<']", "a[']", "a;b", "é", "x" * 129, "a-b"],
)
@pytest.mark.parametrize("output", ["", "JSON"])
def test_any_other_callback_is_a_plain_json_error(client: TestApp, world: World, callback: str, output: str) -> None:
    response = post(client, BATCH, callback=callback, output=output)
    assert response.content_type == "application/json"
    assert error_of(response).startswith("Invalid callback")
    assert codes(world) == []


def test_a_blank_callback_counts_as_absent(client: TestApp) -> None:
    assert post(client, BATCH, callback=" ").content_type == "application/xml"
    assert post(client, BATCH, callback="", output="json").content_type == "application/json"


def test_the_format_is_known_even_when_reading_fails(client: TestApp) -> None:
    for name, kind in (("output", "application/json"), ("callback", "text/javascript")):
        response = client.request(
            f"/api?{name}=json",
            method="POST",
            body=body(BATCH),
            content_type=URLENCODED,
            headers={"Content-Encoding": "br"},
            expect_errors=True,
        )
        assert response.content_type == kind
        assert "The Content-Encoding br is not served; send the body plain or as gzip." in response.text


def test_every_request_has_an_id_of_its_own(client: TestApp) -> None:
    assert len({post(client, WRONG_KEY).headers["X-Request-Id"] for _ in range(3)}) == 3
