"""Calls a protocol as its clients do, and checks that whatever comes back is well formed and what the schemas say."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import marshmallow
from flask import Flask
from werkzeug.test import Client, TestResponse

import modern_api
from modern_api.routes import ModernProtocol
from tests.support.demo_accounts import Demo

BOUNDARY = "----one-of-a-kind"
PROTOCOLS = {protocol.name: protocol for protocol in modern_api.PROTOCOLS}
READER = ("reader", "0000aaaa1111bbbb22")


@dataclass(frozen=True, slots=True)
class Api:
    """Where a protocol with jobs is called, and what it calls things."""

    upload: str
    job: str
    job_id: str
    credentials: Callable[[str, str], Mapping[str, str]]

    def of(self, job_id: str) -> str:
        """The path of a job."""
        return self.job + job_id


def basic(user: str, key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{key}".encode()).decode()}


APIS: Mapping[str, Api] = {
    "voucherify": Api(
        "/v1/customers/importCSV",
        "/v1/async-actions/",
        "async_action_id",
        lambda user, key: {"X-App-Id": user, "X-App-Token": key},
    ),
    "grid": Api("/grid/2025-10-13/customers/bulk/csv", "/grid/2025-10-13/customers/bulk/jobs/", "jobId", basic),
}


def form(file: bytes | None, name: str = "file", filename: str | None = "customers.csv") -> bytes:
    """A multipart form: with the file as a part of that name, and another field; or without a file."""
    parts = [b'Content-Disposition: form-data; name="note"\r\n\r\nnothing']
    if file is not None:
        kind = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: text/csv'
        parts.append(f'Content-Disposition: form-data; name="{name}"{kind}\r\n\r\n'.encode() + file)
    mark = b"--" + BOUNDARY.encode()
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


@dataclass(frozen=True, slots=True)
class Caller:
    """A client of one protocol, with a user's credentials."""

    name: str
    client: Client
    headers: Mapping[str, str]

    @classmethod
    def of(cls, name: str, app: Flask, demo: Demo) -> Caller:
        return cls(name, Client(app), APIS[name].credentials(demo.user_id, demo.key))

    @property
    def api(self) -> Api:
        return APIS[self.name]

    @property
    def protocol(self) -> ModernProtocol:
        return PROTOCOLS[self.name]

    def being(self, user: str, key: str) -> Caller:
        """The same with other credentials."""
        return replace(self, headers=self.api.credentials(user, key))

    def call(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> TestResponse:
        """Send anything. The reply must be JSON of the protocol's, whatever it says."""
        sent = {**self.headers, **(headers or {})}
        response = self.client.open(path, method=method, data=body, headers=sent)
        assert response.content_type == "application/json"
        assert response.headers["X-Request-Id"]
        assert response.headers["Cache-Control"] == "no-store"
        if method != "HEAD":
            self.check(method, response)
        return response

    def check(self, method: str, response: TestResponse) -> None:
        """Fails unless the reply is of a schema that the protocol declares for its status."""
        document = json.loads(response.data)
        if response.status_code >= 400:
            assert response.status_code in self.protocol.refusals
            schemas = [self.protocol.error_schema]
        else:
            replies = [route.reply for route in self.protocol.routes if route.method == method]
            schemas = [reply.schema for reply in replies if reply.status == response.status_code]
        assert any(not _errors(schema, document) for schema in schemas), document

    def send(self, file: bytes, **headers: str) -> TestResponse:
        """Upload a file."""
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return self.call("POST", self.api.upload, form(file), {"Content-Type": kind, **headers})

    def queued(self, file: bytes, **headers: str) -> str:
        """Upload a file, which must be queued; its job's id."""
        response = self.send(file, **headers)
        assert response.status_code == 202, response.data
        return str(json.loads(response.data)[self.api.job_id])

    def job(self, job_id: str) -> Any:
        """What became of a file."""
        response = self.call("GET", self.api.of(job_id))
        assert response.status_code == 200, response.data
        return json.loads(response.data)

    def refused(self, response: TestResponse, status: int, code: str) -> Any:
        """The refusal, which must be this one."""
        document = json.loads(response.data)
        assert response.status_code == status, document
        assert document["key" if self.name == "voucherify" else "code"] == code, document
        return document


def _errors(schema: type[marshmallow.Schema], document: Any) -> Mapping[str, Any]:
    return schema(unknown=marshmallow.RAISE).validate(document)
