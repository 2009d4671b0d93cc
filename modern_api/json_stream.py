"""JSON in and out of HTTP. A reply may list a million rows, so it is written in pieces and memory does not grow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from flask import Request, Response
from marshmallow import Schema, ValidationError

from importing.errors import ApiError
from transport.request_body import read_body

JSON = "application/json"
# Items of a long list that are encoded at once, and characters that are sent at once.
ITEMS_AT_ONCE = 500
PIECE_SIZE = 64 * 1024


def json_response(
    document: Mapping[str, object] | None, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The document as a response. Iterators in it become arrays, and are written as they are read."""
    pieces = json_pieces(document)
    first = next(pieces)
    second = next(pieces, None)
    # A reply of one piece is sent as a whole, so that it has a Content-Length.
    body: bytes | Iterable[bytes] = first if second is None else chain((first, second), pieces)
    return Response(body, status, headers, content_type=JSON)


def json_body(request: Request, schema: Schema, limit: int) -> Any:
    """The request's JSON, at most `limit` bytes, as the schema loads it; its Content-Type does not matter.

    Raises ApiError: bad_json, bad_body, and what reading a body raises.
    """
    try:
        content = json.loads(b"".join(read_body(request.environ, limit)))
    except (ValueError, RecursionError) as error:
        raise ApiError("bad_json") from error
    try:
        return schema.load(content)
    except ValidationError as error:
        name = next(iter(error.messages_dict))
        raise ApiError("bad_body", member="the body" if name == "_schema" else name) from error


def json_pieces(document: Mapping[str, object] | None) -> Iterator[bytes]:
    """The document as UTF-8 JSON, in pieces of 64 kB or more; at least one. Iterators in it become arrays."""
    held: list[str] = []
    size = 0
    for text in _texts(document):
        held.append(text)
        size += len(text)
        if size >= PIECE_SIZE:
            yield "".join(held).encode()
            held, size = [], 0
    yield "".join(held).encode()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield "{"
        for n, (name, member) in enumerate(value.items()):
            yield f"{',' if n else ''}{json.dumps(name)}:"
            yield from _texts(member)
        yield "}"
    elif isinstance(value, Iterator):
        separator = "["
        while items := list(islice(value, ITEMS_AT_ONCE)):
            # All items at once, in C.
            yield separator + json.dumps(items, separators=(",", ":"))[1:-1]
            separator = ","
        yield "[]" if separator == "[" else "]"
    else:
        yield json.dumps(value, separators=(",", ":"))
