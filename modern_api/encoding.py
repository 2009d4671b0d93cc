"""Documents → JSON, in pieces: a reply may tell of a million rows, and memory must not grow with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice

# Items of a long list that are encoded at once, and characters that are sent at once.
ITEMS = 500
PIECE = 64 * 1024


def encoded(document: Mapping[str, object]) -> Iterator[bytes]:
    """The document as UTF-8 JSON, in pieces of 64 kB or more; at least one. Iterators in it become arrays."""
    waiting: list[str] = []
    size = 0
    for text in _texts(document):
        waiting.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join(waiting).encode()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield "{"
        for n, (name, member) in enumerate(value.items()):
            yield f"{',' if n else ''}{json.dumps(name)}:"
            yield from _texts(member)
        yield "}"
    elif isinstance(value, Iterator):
        separator = "["
        while items := list(islice(value, ITEMS)):
            # All items at once, in C.
            yield separator + json.dumps(items, separators=(",", ":"))[1:-1]
            separator = ","
        yield "[]" if separator == "[" else "]"
    else:
        yield json.dumps(value, separators=(",", ":"))
