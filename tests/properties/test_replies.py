"""Any bytes as a request give a well-formed reply in the caller's format: never a 500, never a page."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pydantic import SecretStr
from webtest import TestApp, TestResponse  # type: ignore[import-untyped]

from app import create_app
from importing.context import Context
from settings import Settings
from storage.queries import accounts
from tests.support.real_core import Actual
from tests.support.strategies import profile

FORM = "application/x-www-form-urlencoded"
KINDS = (FORM, "multipart/form-data; boundary=b", "multipart/form-data", "text/plain", "application/json", "", 'é;="')
KEY = "properties-key"
VALID = {
    "API": "1.5",
    "user_id": "properties-user",
    "user_api_key": KEY,
    "account_id": "properties",
    "type": "customers_batch",
    "delimiter": "pipe",
    "overwrite_duplicates": "update",
    "campaigns_to_include": "club,gift",
    "profiles_header_1": "code",
    "profiles_header_2": "card_number",
    "profiles_header_3": "first_name",
    "profiles_data": "1|11|jane\r\n2|22|jim\n",
}
NAMES = (
    *VALID,
    "output",
    "callback",
    "condensed",
    "details",
    "dry_run",
    "on_error",
    "card_number_generate",
    "batch_id",
)
VALUES = (
    "yes",
    "1",
    "0",
    "json",
    "JSON",
    "xml",
    "f",
    "a.b[0]",
    "",
    "tab",
    "comma",
    "skip",
    "ignore",
    "\x00",
    "é",
    "1e9",
)
JSONP = re.compile(rb"/\*\*/([A-Za-z0-9_$.\[\]'-]+)\((.*)\);\n?", re.DOTALL)
ADDRESSES = (f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in itertools.count(1))


@pytest.fixture
def client(context: Context, tmp_path: Path) -> TestApp:
    actual = Actual(context)
    actual.reset()
    with context.database.writing() as connection:
        if accounts.find_user(connection, VALID["user_id"]) is None:
            digest = context.digests.api_key(KEY)
            accounts.create_user(connection, actual.number, VALID["user_id"], digest, may_import=True)
    settings = Settings(data_dir=tmp_path, secret=SecretStr("properties"), max_body=64 * 1024)
    return TestApp(create_app(settings, context))


def ask(client: TestApp, method: str, query: str, body: bytes, kind: str) -> TestResponse:
    """Send it from an address that nobody has been locked out at."""
    environ = {"REMOTE_ADDR": next(ADDRESSES), "CONTENT_TYPE": kind.encode().decode("latin-1"), "QUERY_STRING": query}
    return client.request("/", method=method, body=body, environ=environ, expect_errors=True)


def check(reply: TestResponse) -> None:
    """It is one of the protocol's three forms, and says that it succeeded or what is wrong."""
    assert reply.status_int in (200, 503), (reply.status, reply.body)
    assert reply.headers["X-Request-Id"]
    assert reply.headers["Cache-Control"] == "no-store"
    kind = reply.headers["Content-Type"].partition(";")[0]
    if kind == "application/xml":
        root = etree.fromstring(reply.body)
        assert (root.tag, root.get("status") == "error") == ("response", root.find("error") is not None)
        return
    body = reply.body
    if kind == "text/javascript":
        match = JSONP.fullmatch(body)
        assert match
        body = match[2]
    else:
        assert kind == "application/json"
    tree = json.loads(body)
    assert (tree["status"] == "error") == ("error" in tree)


# Bytes of a good request with something done to them reach much further than bytes from nowhere.
URLENCODED = "&".join(f"{name}={quote_plus(value)}" for name, value in VALID.items()).encode()
MULTIPART = (
    b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value.encode())
        for name, value in VALID.items()
    )
    + b"--b--\r\n"
)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(st.sampled_from((URLENCODED, MULTIPART))))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.sampled_from((0, 0, 1, 3, 40))))
        body[start:end] = draw(
            st.binary(max_size=3) | st.sampled_from((b"%", b"%0", b"&", b"=", b"\r\n", b"--b", b"|", b'"'))
        )
    return bytes(body)


@profile(150, 10_000)
@given(
    body=spoiled() | st.binary(max_size=200), kind=st.sampled_from(KINDS), query=st.sampled_from(("", "output=json"))
)
def test_any_bytes_get_a_well_formed_reply(client: TestApp, body: bytes, kind: str, query: str) -> None:
    check(ask(client, "POST", query, body, kind))


@profile(100, 5000)
@given(
    changed=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=12), max_size=4),
    left_out=st.sets(st.sampled_from(NAMES), max_size=1),
    method=st.sampled_from(("POST", "POST", "GET")),
)
def test_any_values_get_a_well_formed_reply(
    client: TestApp, changed: dict[str, str], left_out: set[str], method: str
) -> None:
    fields = {name: value for name, value in {**VALID, **changed}.items() if name not in left_out}
    encoded = "&".join(f"{name}={quote_plus(value.encode('utf-8', 'surrogatepass'))}" for name, value in fields.items())
    check(ask(client, "POST", "", encoded.encode(), FORM) if method == "POST" else ask(client, "GET", encoded, b"", ""))


@profile(25, 500)
@given(
    method=st.sampled_from(("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS")),
    output=st.sampled_from(("json", "xml", "")),
)
def test_any_other_method_is_refused_in_the_callers_format(client: TestApp, method: str, output: str) -> None:
    reply = ask(client, method, f"output={output}", b"", "")
    check(reply)
    assert ("json" in reply.headers["Content-Type"]) == (output == "json")
