"""What the tests of the whole protocol share: a batch, plain posts of it, and what a reply says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lxml import etree
from webtest import TestApp, TestResponse  # type: ignore[import-untyped]

from app import create_app
from importing.context import Context
from tests.conftest import settings_for
from tests.support.case_database import World
from tests.support.legacy_client import urlencoded

URLENCODED = "application/x-www-form-urlencoded"
ASKED = {
    "API": "1.5",
    "user_id": "john1970",
    "user_api_key": "1959caadac9b13dcb3",
    "account_id": "greatwidgets",
    "type": "customers_batch",
    "delimiter": "pipe",
    "campaigns_to_include": "898989889",
    "profiles_header_1": "code",
    "profiles_header_2": "first_name",
}
BATCH = {**ASKED, "profiles_data": "A1|Ann"}
WRONG_KEY = {**BATCH, "user_api_key": "wrong"}


def pairs(fields: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields.items()]


def body(fields: Mapping[str, str], **more: str) -> bytes:
    return urlencoded(pairs({**fields, **more}))


def post(client: TestApp, fields: Mapping[str, str], **more: str) -> TestResponse:
    """A plain post, whatever its status."""
    return client.request(
        "/api.php", method="POST", body=body(fields, **more), content_type=URLENCODED, expect_errors=True
    )


def error_of(response: TestResponse) -> str:
    """The message of an error in XML or JSON."""
    if response.content_type == "application/json":
        tree = response.json
        assert tree["status"] == "error"
        return str(tree["error"])
    root = etree.fromstring(response.body)
    assert root.get("status") == "error"
    return root.findtext("error") or ""


def client_for(context: Context, **settings: Any) -> TestApp:
    return TestApp(create_app(settings_for(context.database, **settings), context))


def codes(world: World) -> list[str]:
    return [customer["code"] for customer in world.customers([])]
