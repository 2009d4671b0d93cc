"""What a modern protocol consists of: routes with their schemas and examples, credentials and refusals.

The routes are both what is served and what the OpenAPI document is written from, so each has examples of its body and its
reply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

from flask import Request, Response
from marshmallow import Schema

from importing.batch import Origin
from importing.context import Context
from importing.errors import ApiError, ErrorCategory
from transport.multipart import declared_charset, first_charset_name
from transport.rate import Limiter, Standing, unlimited

LONGEST_IDEMPOTENCY_KEY = 255
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")

STATUSES: Mapping[ErrorCategory, HTTPStatus] = {
    ErrorCategory.REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorCategory.CREDENTIALS: HTTPStatus.UNAUTHORIZED,
    ErrorCategory.RIGHTS: HTTPStatus.FORBIDDEN,
    ErrorCategory.MISSING: HTTPStatus.NOT_FOUND,
    ErrorCategory.METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    ErrorCategory.SIZE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCategory.RATE: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCategory.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCategory.BUG: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def no_rate_headers(_standing: Standing) -> Mapping[str, str]:
    """For a protocol without headers about rate limits."""
    return {}


@dataclass(frozen=True, slots=True)
class ModernOptions:
    """What the settings say: the largest body in bytes, the folder of uploads, and the rate limits."""

    max_body: int
    spool_dir: Path | None = None
    limiter: Limiter = field(default_factory=unlimited)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends a request: the number of the account in the database, and the user as batches name it.

    `counted_as`: the name under which the rate limit counts the user. `import_refusal`: the code of the error that
    refuses an import of this sender, "" where the sender may import.
    """

    account: int
    user: str
    counted_as: str
    import_refusal: str = ""


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One request to a route. `path` and `query` are its parameters, the latter checked by their schema."""

    context: Context
    options: ModernOptions
    request: Request
    request_id: str
    path: Mapping[str, str]
    query: Mapping[str, Any]
    authenticated: Sender | None

    @property
    def sender(self) -> Sender:
        """Who sends the request, of a protocol that authenticates."""
        assert self.authenticated is not None
        return self.authenticated

    def origin(self, delimiter: str | None = None, charset_name: str = "") -> Origin:
        """Where a batch of the request comes from. `charset_name`: the one that a part of its body declares."""
        names = charset_name, declared_charset(self.request.headers.get("Content-Type", ""))
        return Origin(self.request.remote_addr, delimiter, self.request_id, first_charset_name(*names))

    def idempotency_key(self) -> str | None:
        """The header `Idempotency-Key`, None without one. Raises ApiError("bad_request_id")."""
        key = self.request.headers.get("Idempotency-Key", "").strip()
        if len(key) > LONGEST_IDEMPOTENCY_KEY or _CONTROL_CHARACTER.search(key):
            raise ApiError("bad_request_id")
        return key or None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a protocol renders as a refusal: the status, the error, the request's id and the parameters of its path."""

    status: int
    error: ApiError
    request_id: str
    path: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReplySpec:
    """A reply of success for the OpenAPI document. `or_null`: it may be null instead. `headers`: of this reply only.

    `next_call`: a route that the client calls next, its parameter, and the member of this reply that goes there.
    """

    schema: type[Schema]
    description: str
    example: object
    or_null: bool = False
    headers: tuple[str, ...] = ()
    next_call: tuple[str, str, str] | None = None
    status: int = 200


@dataclass(frozen=True, slots=True)
class FileBody:
    """A body that is a multipart form with a CSV file as its part `file`. `example` is the text of such a file."""

    example: str


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A body of JSON."""

    schema: type[Schema]
    example: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of a protocol. `path` is a rule of Flask's; `name` is the operation's id in the OpenAPI document.

    `reply` is the reply of success, `refusals` are the statuses of refusals, `example_errors` examples of those typical of
    this route. `imports`: it needs the right to import, and takes an Idempotency-Key. `credentials`: it reads the
    protocol's credentials.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[[ApiCall], Response]
    reply: ReplySpec
    refusals: tuple[int, ...]
    body: FileBody | JsonBody | None = None
    path_schema: type[Schema] | None = None
    query_schema: type[Schema] | None = None
    imports: bool = False
    credentials: bool = True
    example_errors: Mapping[int, ApiError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModernProtocol:
    """One protocol. Its routes are served behind each of `prefixes`, which may have parameters of their own.

    `below`: paths below which everything else is refused in the protocol's format. `refused` renders an error;
    `refusals` says what each status means, `example_errors` has typical errors by status. `security` are the credentials as
    OpenAPI's security schemes, all of them needed; `authenticate` reads them, None where a route does it itself.
    `statuses` of error categories and single error codes, `retry_headers` that say in seconds when to try again.
    """

    name: str
    title: str
    routes: tuple[Route, ...]
    below: tuple[str, ...]
    refused: Callable[[Refusal], Mapping[str, object]]
    error_schema: type[Schema]
    refusals: Mapping[int, str]
    security: Mapping[str, Mapping[str, str]]
    authenticate: Callable[[Context, Request], Sender] | None
    prefixes: tuple[str, ...] = ("",)
    new_request_id: Callable[[], str] = lambda: uuid4().hex
    example_errors: Mapping[int, ApiError] = field(default_factory=dict)
    statuses: Mapping[ErrorCategory, HTTPStatus] = field(default_factory=lambda: STATUSES)
    refusal_headers: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    rate_headers: Callable[[Standing], Mapping[str, str]] = no_rate_headers
    retry_headers: tuple[str, ...] = ("Retry-After",)

    def paths(self) -> tuple[str, ...]:
        """The rules of all routes."""
        return tuple(prefix + route.path for prefix in self.prefixes for route in self.routes)

    def serves_below(self, path: str) -> bool:
        """Whether a request to a path, routes or not, is one of this protocol."""
        rules = (rule for rule in (*self.below, *self.paths()) if "<" not in rule)
        return any(path == rule or path.startswith(f"{rule}/") for rule in rules)
