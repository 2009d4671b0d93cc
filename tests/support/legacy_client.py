"""The one helper that sends a request of the legacy protocol: in any encoding, asking for any format, read strictly."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any
from urllib.parse import quote_from_bytes, quote_plus

from lxml import etree
from webtest import TestApp  # type: ignore[import-untyped]

from tests.cases.legacy.case_files import SCHEMA, Fields

BOUNDARY = b"------------------------d74496d66958873e"
CALLBACK = "widgets.done"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')

# Failed log-ins count by address: each request comes from another one.
_addresses = (f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in itertools.count(1))


class Encoding(StrEnum):
    URLENCODED = "urlencoded"
    MULTIPART = "multipart"
    GET = "get"


class Format(StrEnum):
    XML = "xml"
    JSON = "json"
    CONDENSED = "condensed"
    JSONP = "jsonp"


FORMAT_FIELDS: Mapping[Format, Fields] = {
    Format.XML: (),
    Format.JSON: ((b"output", b"JSON"),),
    Format.CONDENSED: ((b"output", b"json"), (b"condensed", b"yes")),
    Format.JSONP: ((b"callback", CALLBACK.encode()),),
}
CONTENT_TYPES = {
    Format.XML: "application/xml; charset=utf-8",
    Format.JSON: "application/json; charset=utf-8",
    Format.CONDENSED: "application/json; charset=utf-8",
    Format.JSONP: "text/javascript",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of this protocol, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def xml(self) -> str:
        """The canonical text, one element a line. Fails unless it is as docs/protocol.md, Replies, says."""
        assert self.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
        root = etree.fromstring(self.body)
        _schema().assertValid(root)
        return canonical_xml(self.body.decode())

    @property
    def json(self) -> Any:
        """The tree, members in order as they came."""
        return json.loads(self.text)

    @property
    def text(self) -> str:
        return self.body.decode()

    def tree(self, form: Format) -> Any:
        """The tree of a JSON or JSONP reply, whose white space is checked."""
        text = self.text
        if form is Format.JSONP:
            start, end = f"/**/{CALLBACK}(", ");"
            assert text.startswith(start), text[:80]
            assert text.endswith(end), text[-80:]
            assert not {"<", "\u2028", "\u2029"} & set(text)
            text = text[len(start) : -len(end)]
        tree = json.loads(text)
        condensed = form is Format.CONDENSED
        wanted = json.dumps(tree, separators=(",", ":")) if condensed else json.dumps(tree, indent=4)
        assert _STRING.sub('""', text) == _STRING.sub('""', wanted)
        return tree


def send(
    client: TestApp,
    fields: Iterable[tuple[bytes, bytes]],
    encoding: Encoding = Encoding.URLENCODED,
    form: Format | None = None,
    headers: Mapping[str, str] | None = None,
    path: str = "/api.php",
) -> Reply:
    """Send the fields, with those that ask for the format at their end. Fails unless the reply's head is in order.

    Without a format the fields ask for one themselves, or for none.
    """
    fields = [*fields, *(FORMAT_FIELDS[form] if form else ())]
    request: dict[str, Any] = {"environ": {"REMOTE_ADDR": next(_addresses)}, "headers": dict(headers or {})}
    if encoding is Encoding.GET:
        path = f"{path}?{urlencoded(fields).decode()}"
    elif encoding is Encoding.URLENCODED:
        request |= {"method": "POST", "content_type": "application/x-www-form-urlencoded", "body": urlencoded(fields)}
    else:
        kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
        request |= {"method": "POST", "content_type": kind, "body": multipart(fields)}
    # Not `client.post`: it would encode a form itself.
    response = client.request(path, expect_errors=True, **request)
    reply = Reply(response.status_int, response.headers, response.body)
    _check_head(reply, form)
    return reply


def urlencoded(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """As PHP's http_build_query writes it."""
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields).encode()


def percent_encoded(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """As browsers' encodeURIComponent writes it."""
    return "&".join(f"{quote_from_bytes(name)}={quote_from_bytes(value)}" for name, value in fields).encode()


def multipart(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """As PHP's CURLOPT_POSTFIELDS with an array sends it."""
    head = b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    return b"".join(head % (BOUNDARY, name, value) for name, value in fields) + b"--" + BOUNDARY + b"--\r\n"


def canonical_xml(text: str) -> str:
    """The document without its white space between elements, one element a line."""
    root = etree.fromstring(text.encode(), etree.XMLParser(remove_blank_text=True))
    return etree.tostring(root, pretty_print=True, encoding="unicode")


def canonical_json(tree: Any) -> str:
    """The tree as text, members in their order."""
    return json.dumps(tree, indent=4, ensure_ascii=False) + "\n"


def _check_head(reply: Reply, form: Format | None) -> None:
    assert reply.status == 200, (reply.status, reply.body[:300])
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Request-Id"]
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in reply.headers
    assert "Set-Cookie" not in reply.headers
    if form is not None:
        assert reply.headers["Content-Type"] == CONTENT_TYPES[form]
    if form is Format.JSONP:
        assert reply.headers["X-Content-Type-Options"] == "nosniff"


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(SCHEMA))
