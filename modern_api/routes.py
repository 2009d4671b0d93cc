"""What a face is made of: its routes with the schemas of what they take and give, its credentials, its refusals.

The table of routes is what is served, and what the OpenAPI document is written from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Request
from marshmallow import Schema

from auth.authenticate import Access
from importing.context import Context
from importing.errors import ApiError
from transport.rate import Limiter, Standing, unlimited


def no_headers(_standing: Standing) -> Mapping[str, str]:
    """What a protocol says of limits that it says nothing of."""
    return {}


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say: the largest body in bytes, where uploads are spooled, and how often whom is served."""

    max_body: int
    spool_dir: Path | None = None
    limiter: Limiter = field(default_factory=unlimited)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a route, from a known user. `path` and `query` are its parameters, checked by their schemas."""

    context: Context
    options: Options
    access: Access
    request: Request
    request_id: str
    path: Mapping[str, str]
    query: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a call. Iterators in the document become arrays, and are written as they are read."""

    document: Mapping[str, object]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a face puts into words: the fault, the status that it gets, and the request (its id, its path's parameters)."""

    status: int
    fault: ApiError
    request_id: str
    path: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """A reply as the OpenAPI document tells of it. `or_null`: it may be null instead."""

    schema: type[Schema]
    description: str
    or_null: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that a face serves. `path` is a rule of Flask's; `name` is the operation's.

    `imports`: it takes a file (the part `file` of a multipart form), and needs the right to import. `replies` are the
    good ones, by status; the refusals are the face's.
    """

    method: str
    path: str
    name: str
    summary: str
    answer: Callable[[Call], Reply]
    replies: Mapping[int, Told]
    parameters: type[Schema] | None = None
    query: type[Schema] | None = None
    imports: bool = False


@dataclass(frozen=True, slots=True)
class Face:
    """One protocol. Its routes are served behind each of `prefixes`, which may have parameters of their own.

    `below`: paths (rules) under which everything else is refused in the face's language. `errors` are the refusals by
    status, all of the schema `error`. `rate_headers`: what every reply says of the sender's limit.
    `security`: where the credentials are, all of them, as OpenAPI's security schemes.
    """

    name: str
    title: str
    prefixes: tuple[str, ...]
    below: tuple[str, ...]
    routes: tuple[Route, ...]
    new_request_id: Callable[[], str]
    authenticate: Callable[[Context, Request], Access]
    refused: Callable[[Refusal], Mapping[str, object]]
    error: type[Schema]
    errors: Mapping[int, str]
    refusal_headers: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    rate_headers: Callable[[Standing], Mapping[str, str]] = no_headers
    security: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
