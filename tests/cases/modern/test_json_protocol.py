"""A protocol whose rows are JSON costs one file: this one is it. Members that are left out of a row are left as stored."""

from __future__ import annotations

from collections.abc import Mapping
from tempfile import TemporaryFile
from typing import Any

import pytest
from flask import Flask, Request, Response
from marshmallow import Schema, fields
from werkzeug.test import Client

import modern_api
from importing import import_batch
from importing.batch import Batch, Mode, OnError, Requirement
from importing.context import Context
from importing.fields import FIELD_BY_NAME, Field, FieldDestination, FieldKind
from importing.row_writer import WRITTEN_ROWS, headers_of, write_rows
from modern_api.credentials import header_text, sender_by_key
from modern_api.json_stream import json_body, json_response
from modern_api.routes import ApiCall, JsonBody, ModernOptions, ModernProtocol, Refusal, ReplySpec, Route, Sender
from tests.support.case_database import World
from tests.support.demo_accounts import Demo

CODE, NAME = Field("id", FieldKind.KEY, column="code"), Field("name", FieldKind.FULL_NAME)
FIELDS = (CODE, NAME, FIELD_BY_NAME["email"], Field("tier", FieldKind.TYPED, FieldDestination.ATTRIBUTE))


class CrmContact(Schema):
    id = fields.String(required=True)
    name = fields.String()
    email = fields.String()
    tier = fields.String()


class CrmContacts(Schema):
    contacts = fields.List(fields.Nested(CrmContact), required=True)


class CrmUpserted(Schema):
    created = fields.Integer(required=True)
    updated = fields.Integer(required=True)
    errors = fields.List(fields.String(), required=True)


class CrmError(Schema):
    error = fields.String(required=True)


def upsert(call: ApiCall) -> Response:
    """Create or update the contacts; members that a contact lacks are left as they are."""
    contacts = json_body(call.request, CrmContacts(), call.options.max_body)["contacts"]
    with TemporaryFile() as file:
        batch = Batch(
            account=call.sender.account,
            user=call.sender.user,
            protocol="crm",
            headers=headers_of(FIELDS),
            delimited=WRITTEN_ROWS,
            source=write_rows(file, FIELDS, contacts),
            mode=Mode.UPDATE,
            on_error=OnError.SKIP,
            request_key=call.idempotency_key(),
            requirements=(Requirement((CODE.name,)),),
            reference=(CODE.name,),
        )
        outcome = import_batch.run(call.context, batch)
    problems = (problem.message for problem in outcome.problems)
    return json_response({"created": outcome.counts.new, "updated": outcome.counts.updated, "errors": problems})


def authenticate(context: Context, request: Request) -> Sender:
    return sender_by_key(context, request, header_text(request, "X-User"), header_text(request, "X-Key"))


def refused(refusal: Refusal) -> Mapping[str, object]:
    return {"error": refusal.error.message}


PROTOCOL = ModernProtocol(
    name="crm",
    title="A protocol of contacts",
    prefixes=("/crm/v1",),
    below=("/crm",),
    routes=(
        Route(
            "POST",
            "/contacts",
            "upsertContacts",
            "Create or update contacts",
            upsert,
            ReplySpec(CrmUpserted, "How many were created and updated.", {"created": 1, "updated": 0, "errors": []}),
            (400, 401, 403, 413, 422, 429, 500, 503),
            body=JsonBody(CrmContacts, {"contacts": [{"id": "c-1", "name": "Kim Lee"}]}),
            imports=True,
        ),
    ),
    authenticate=authenticate,
    refused=refused,
    error_schema=CrmError,
    refusals=dict.fromkeys((400, 401, 403, 404, 405, 413, 422, 429, 500, 503), "An error."),
    security={"crmKey": {"type": "apiKey", "in": "header", "name": "X-Key", "description": "the user's key"}},
)


# Its tests


@pytest.fixture
def crm(context: Context) -> Client:
    app = Flask("crm")
    modern_api.register(app, context, ModernOptions(max_body=100_000), (PROTOCOL,))
    return Client(app)


def send(crm: Client, account: Demo, *contacts: Mapping[str, str], **headers: str) -> Any:
    sent = {"X-User": account.user_id, "X-Key": account.key, **headers}
    return crm.post("/crm/v1/contacts", json={"contacts": contacts}, headers=sent)


def test_members_that_are_left_out_are_left_as_stored(crm: Client, context: Context, account: Demo) -> None:
    send(crm, account, {"id": "1", "name": "Ann Lee", "email": "ann@example.com", "tier": "gold"}, {"id": "2"})
    reply = send(crm, account, {"id": "1", "email": ""}, {"id": "2", "tier": "3"}, {"id": "3", "name": "Bo"})
    assert reply.get_json() == {"created": 1, "updated": 2, "errors": []}
    customers = [
        (found["code"], found.get("last_name"), found.get("email"), found.get("attributes"))
        for found in World(context, account).customers([])
    ]
    assert customers == [("1", "Lee", None, {"tier": "gold"}), ("2", None, None, {"tier": 3}), ("3", None, None, None)]


def test_rows_are_refused_as_those_of_files_are(crm: Client, account: Demo) -> None:
    reply = send(crm, account, {"id": ""}, {"id": "2", "name": "a\x00"}, {"id": "3"}).get_json()
    assert reply["created"] == 1
    assert reply["errors"] == ["Row 1, id: The value is missing.", 'Row 2, name: "a\\x00" has a control character.']


def test_it_is_served_and_described_as_the_others_are(crm: Client, account: Demo) -> None:
    assert send(crm, account, **{"X-Key": "wrong"}).status_code == 401
    refusals = (crm.get("/crm/elsewhere"), crm.get("/crm/v1/contacts"), crm.post("/crm/v1/contacts"))
    assert [(reply.status_code, list(reply.get_json())) for reply in refusals] == [
        (404, ["error"]),
        (405, ["error"]),
        (401, ["error"]),
    ]
    [path] = crm.get("/openapi.json").get_json()["paths"]
    assert path == "/crm/v1/contacts"
    assert "upsertContacts" in crm.get("/docs/api").text
