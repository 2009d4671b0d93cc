"""The formats of a reply: XML, JSON and JSONP. One is chosen before anything can fail. Source: docs/protocol.md, Replies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cache
from itertools import chain, groupby
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple

from importing.errors import ApiError
from legacy_api.envelope import is_yes
from legacy_api.replies import Group, Groups, Node, Rows, Text, Texts

# Bytes are handed out in pieces of about this size: large enough to cost nothing, small enough to keep memory flat.
PIECE = 64 * 1024


class Kind(StrEnum):
    XML = "application/xml; charset=utf-8"
    JSON = "application/json; charset=utf-8"
    JSONP = "text/javascript"


class Format(NamedTuple):
    """How a reply is written. `fault` is what was wrong with the request's choice; the caller raises it in its turn."""

    kind: Kind = Kind.XML
    condensed: bool = False
    callback: str = ""
    fault: ApiError | None = None

    def encode(self, root: Group) -> Iterator[bytes]:
        """The reply's bytes, in pieces of about 64 kB."""
        if self.kind is Kind.XML:
            return _pieces(_xml_document(root))
        json = _json_group(root, 0, self.condensed)
        return _pieces(json) if self.kind is Kind.JSON else _jsonp(self.callback, json)


def choose(fields: Mapping[str, str]) -> Format:
    """The format that the fields ask for. Never fails: a wrong `output` is told in XML, a wrong `callback` in JSON."""
    output = fields.get("output", "").strip()
    callback = fields.get("callback", "").strip()
    condensed = is_yes(fields.get("condensed", ""))
    match output.lower():
        case "xml":
            return Format()
        case "json" | "" if callback:
            if not is_callback(callback):
                return Format(Kind.JSON, condensed, fault=ApiError("bad_callback", value=callback))
            return Format(Kind.JSONP, condensed, callback)
        case "json":
            return Format(Kind.JSON, condensed)
        case "":
            return Format()
    return Format(fault=ApiError("bad_output", value=output))


_IDENTIFIER = r"[A-Za-z_$][A-Za-z0-9_$]*"
_STEP = _IDENTIFIER + r"(?:\[[0-9]+\]|\['[A-Za-z0-9_$.\-]+'\])*"
_CALLBACK = re.compile(rf"{_STEP}(?:\.{_STEP})*")


def is_callback(value: str) -> bool:
    """Whether `value` may stand before the parenthesis of a JSONP reply: nothing in it can end or begin a statement.

    >>> is_callback("widgets[2].on['batch-done']"), is_callback("alert(1);f")
    (True, False)
    """
    return len(value) <= 128 and _CALLBACK.fullmatch(value) is not None


def _pieces(texts: Iterable[str]) -> Iterator[bytes]:
    held: list[str] = []
    length = 0
    for text in texts:
        held.append(text)
        length += len(text)
        if length >= PIECE:
            yield "".join(held).encode()
            held, length = [], 0
    if held:
        yield "".join(held).encode()


# XML


def _xml_document(root: Group) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield from _xml_group(root, "")


def _xml_group(group: Group, indent: str) -> Iterator[str]:
    status = f' status="{_escaped(group.status)}"' if group.status else ""
    yield f"{indent}<{group.name}{status}>\n"
    inner = indent + "  "
    for member in group.members:
        match member:
            case Text(name, value):
                yield f"{inner}<{name}>{_escaped(value)}</{name}>\n"
            case Rows():
                yield from _xml_rows(member, inner)
            case Group():
                yield from _xml_group(member, inner)
            case Groups(name, items):
                yield f"{inner}<{name}>\n"
                for item in items:
                    yield from _xml_group(item, inner + "  ")
                yield f"{inner}</{name}>\n"
            case Texts():
                pass
    yield f"{indent}</{group.name}>\n"


def _xml_rows(rows: Rows, indent: str) -> Iterator[str]:
    if not rows.wrapper:
        yield from _xml_records(rows, indent)
        return
    opening = f"{indent}<{rows.wrapper}>"
    for record in _xml_records(rows, indent + "  "):
        yield f"{opening}\n" if opening else ""
        yield record
        opening = ""
    yield f"{opening}</{rows.wrapper}>\n" if opening else f"{indent}</{rows.wrapper}>\n"


def _xml_records(rows: Rows, indent: str) -> Iterator[str]:
    # Guarded text: measured, four times as fast as an XML library's own writer. A value of letters and digits only,
    # as nearly all are, needs no escaping, and finding that out is one call.
    inner = indent + "  "
    tags = [(f"{inner}<{column}>", f"</{column}>\n") for column in rows.columns]
    opening, closing = f"{indent}<{rows.name}>\n", f"{indent}</{rows.name}>\n"
    for values in rows:
        text = opening
        for (start, end), value in zip(tags, values, strict=True):
            if value is not None:
                text += f"{start}{value if value.isalnum() else _escaped(value)}{end}"
        yield text + closing


_UNSAFE = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}


def _escaped(value: str) -> str:
    """A text as XML carries it. A character that XML 1.0 cannot carry, which no import lets in, becomes U+FFFD."""
    return _UNSAFE.sub(lambda found: _ENTITIES.get(found[0], "\ufffd"), value)


# JSON


def _json_group(group: Group, depth: int, condensed: bool) -> Iterator[str]:
    opening, comma, colon = _marks(depth + 1, condensed)
    # What is yielded passes through all the levels above: as few pieces as can be, and most members are texts.
    text, separator = "", opening
    if group.status:
        text, separator = f'{opening}"status"{colon}{quoted(group.status)}', comma
    for kind, members in groupby(group.members, type):
        if kind is Text:
            texts: Any = members
            text += separator + comma.join([f'"{name}"{colon}{quoted(value)}' for name, value in texts])
            separator = comma
            continue
        for member in members:
            name = member.wrapper or member.name if isinstance(member, Rows) else member.name
            text += f'{separator}"{name}"{colon}'
            separator = comma
            inner = _json_member(member, depth + 1, condensed)
            if _is_short(member):
                text += "".join(inner)
            else:
                yield text
                text = ""
                yield from inner
    yield text + _line(depth, condensed) + "}"


def _is_short(member: Node) -> bool:
    """Whether a member is of few pieces, which may go along with what stands before it."""
    match member:
        case Group():
            return {*map(type, member.members)} == {Text}
        case Rows() | Groups():
            return not member.items
    return True


def _json_member(member: Node, depth: int, condensed: bool) -> Iterable[str]:
    match member:
        case Group():
            return _json_group(member, depth, condensed)
        case Rows():
            return (
                _json_array(_json_records(member, depth + 1, condensed), depth, condensed) if member.items else ("[]",)
            )
        case Groups():
            return _json_groups(member, depth, condensed)
        case Texts():
            return _json_array(map(quoted, member.values), depth, condensed)
        case Text():
            return (quoted(member.value),)


def _json_groups(groups: Groups, depth: int, condensed: bool) -> Iterator[str]:
    line = _line(depth + 1, condensed)
    separator = "[" + line
    for group in groups.items:
        yield separator
        yield from _json_group(group, depth + 1, condensed)
        separator = "," + line
    yield "[]" if separator.startswith("[") else _line(depth, condensed) + "]"


def _json_array(items: Iterable[str], depth: int, condensed: bool) -> Iterator[str]:
    line = _line(depth + 1, condensed)
    separator = "[" + line
    for item in items:
        yield separator + item
        separator = "," + line
    yield "[]" if separator.startswith("[") else _line(depth, condensed) + "]"


def _json_records(rows: Rows, depth: int, condensed: bool) -> Iterator[str]:
    line = _line(depth + 1, condensed)
    colon = ":" if condensed else ": "
    names = [f"{line}{quoted(column)}{colon}" for column in rows.columns]
    closing = _line(depth, condensed) + "}"
    for values in rows:
        members = [name + quoted(value) for name, value in zip(names, values, strict=True) if value is not None]
        yield "{" + ",".join(members) + closing


@cache
def _marks(depth: int, condensed: bool) -> tuple[str, str, str]:
    """What stands before the first member of an object, before each other one, and behind its name."""
    line = _line(depth, condensed)
    return "{" + line, "," + line, ":" if condensed else ": "


@cache
def _line(depth: int, condensed: bool) -> str:
    return "" if condensed else "\n" + "    " * depth


def _jsonp(callback: str, json: Iterable[str]) -> Iterator[bytes]:
    # The comment in front keeps the reply from being taken for a file of another type by its first bytes. `<` occurs
    # in strings only; U+2028 and U+2029 are escaped with everything else beyond ASCII.
    for piece in _pieces(chain((f"/**/{callback}(",), json, (");",))):
        yield piece.replace(b"<", b"\\u003c")
