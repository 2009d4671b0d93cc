"""Writes the reply tree as XML, JSON or JSONP. The format is chosen before anything can fail.

Source: docs/protocol.md, Replies.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from enum import StrEnum
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple, assert_never

from lxml import etree

from importing.errors import ApiError
from legacy_api.parameters import is_yes
from legacy_api.replies import GroupList, GroupNode, JsonTexts, RecordList, ReplyNode, TextNode

# A reply is given out in pieces of about this size: large enough to cost nothing, small enough to keep memory flat.
REPLY_PIECE_SIZE = 64 * 1024


class MediaType(StrEnum):
    """The Content-Type of a reply."""

    XML = "application/xml; charset=utf-8"
    JSON = "application/json; charset=utf-8"
    JSONP = "text/javascript"


class Encoder(NamedTuple):
    """How a reply is written. `error` says what is wrong with the format asked for; the caller raises it."""

    media_type: MediaType = MediaType.XML
    condensed: bool = False
    callback: str = ""
    error: ApiError | None = None

    def encode(self, root: GroupNode) -> Iterator[bytes]:
        """The bytes of the reply, in pieces of about 64 kB."""
        match self.media_type:
            case MediaType.XML:
                return _write_xml(root)
            case MediaType.JSON:
                return _write_json(root, self.condensed)
            case MediaType.JSONP:
                return _write_jsonp(root, self.condensed, self.callback)
            case _:
                assert_never(self.media_type)


def choose_encoder(fields: Mapping[str, str]) -> Encoder:
    """The encoder that the fields ask for. Never fails: XML reports a wrong `output`, JSON a wrong `callback`."""
    output = fields.get("output", "").strip()
    callback = fields.get("callback", "").strip()
    condensed = is_yes(fields.get("condensed", ""))
    match output.lower():
        case "xml":
            return Encoder()
        case "json" | "" if callback:
            if not is_callback(callback):
                return Encoder(MediaType.JSON, condensed, error=ApiError("bad_callback", value=callback))
            return Encoder(MediaType.JSONP, condensed, callback)
        case "json":
            return Encoder(MediaType.JSON, condensed)
        case "":
            return Encoder()
    return Encoder(error=ApiError("bad_output", value=output))


_IDENTIFIER = r"[A-Za-z_$][A-Za-z0-9_$]*"
_STEP = _IDENTIFIER + r"(?:\[[0-9]+\]|\['[A-Za-z0-9_$.\-]+'\])*"
_CALLBACK = re.compile(rf"{_STEP}(?:\.{_STEP})*")


def is_callback(value: str) -> bool:
    """Whether `value` may stand before the parenthesis of a JSONP reply: it cannot end or begin a statement.

    >>> is_callback("widgets[2].on['batch-done']"), is_callback("alert(1);f")
    (True, False)
    """
    return len(value) <= 128 and _CALLBACK.fullmatch(value) is not None


class _Output:
    """Holds the bytes of a reply until they are taken. lxml writes to it as to a file."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self._held += data

    @property
    def is_full(self) -> bool:
        """Whether the bytes are enough for a piece."""
        return len(self._held) >= REPLY_PIECE_SIZE

    def take(self) -> bytes:
        """The bytes so far. They are held no longer."""
        piece = bytes(self._held)
        self._held.clear()
        return piece


# XML

# lxml writes its declaration with single quotes; some clients compare the first bytes.
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def _write_xml(root: GroupNode) -> Iterator[bytes]:
    output = _Output()
    output.write(_DECLARATION)
    with etree.xmlfile(output, encoding="utf-8") as file:
        yield from _XmlWriter(file, output).write_root(root)
    output.write(b"\n")
    yield output.take()


class _XmlWriter:
    """Writes a tree into an `etree.xmlfile` and yields the pieces of its output as they become full.

    `line` is a line break and the indentation of a node. The root has none before it, but one before its end tag.
    """

    def __init__(self, file: Any, output: _Output) -> None:
        self._file = file
        self._output = output

    def write_root(self, root: GroupNode) -> Iterator[bytes]:
        """Write the whole tree."""
        yield from self._write_element(root.name, root.members, "\n", root.status)

    def _write_node(self, node: ReplyNode, line: str) -> Iterator[bytes]:
        match node:
            case TextNode(name, text):
                self._write_text(name, text, line)
            case GroupNode(name, members, status):
                self._file.write(line)
                yield from self._write_element(name, members, line, status)
            case GroupList(name, items):
                self._file.write(line)
                yield from self._write_element(name, items, line)
            case RecordList(wrapper=""):
                yield from self._write_records(node, line)
            case RecordList():
                self._file.write(line)
                with self._file.element(node.wrapper):
                    if (yield from self._write_records(node, line + "  ")):
                        self._file.write(line)
            case JsonTexts():
                pass
            case _:
                assert_never(node)

    def _write_element(self, name: str, members: Iterable[ReplyNode], line: str, status: str = "") -> Iterator[bytes]:
        with self._file.element(name, {"status": status} if status else None):
            for member in members:
                yield from self._write_node(member, line + "  ")
            self._file.write(line)

    def _write_records(self, records: RecordList, line: str) -> Generator[bytes, None, bool]:
        """Returns whether there was a record."""
        record = None
        for record in records:
            self._file.write(line)
            with self._file.element(records.name):
                for column, text in record:
                    self._write_text(column, text, line + "  ")
                self._file.write(line)
            if self._output.is_full:
                yield self._output.take()
        return record is not None

    def _write_text(self, name: str, text: str, line: str) -> None:
        self._file.write(line)
        with self._file.element(name):
            # No import lets a character in that XML 1.0 forbids, but an error message may quote one.
            self._file.write(_FORBIDDEN.sub("\ufffd", text))


# JSON


def _write_json(root: GroupNode, condensed: bool) -> Iterator[bytes]:
    output = _Output()
    yield from _JsonWriter(output, condensed).write(root, 0)
    yield output.take()


def _write_jsonp(root: GroupNode, condensed: bool, callback: str) -> Iterator[bytes]:
    output = _Output()
    # The comment in front keeps a browser from taking the reply for another file type by its first bytes.
    output.write(f"/**/{callback}(".encode())
    for piece in _JsonWriter(output, condensed).write(root, 0):
        yield _without_tags(piece)
    output.write(b");")
    yield _without_tags(output.take())


def _without_tags(piece: bytes) -> bytes:
    """`<` escaped, so that no tag ends the script. It occurs in strings only."""
    return piece.replace(b"<", b"\\u003c")


class _JsonWriter:
    """Writes a tree into the output, with the white space of PHP's pretty print or with none. Yields full pieces."""

    def __init__(self, output: _Output, condensed: bool) -> None:
        self._output = output
        self._colon = ":" if condensed else ": "
        self._line_break = "" if condensed else "\n"
        self._indent = "" if condensed else "    "

    def write(self, node: ReplyNode, depth: int) -> Iterator[bytes]:
        """Write the node's value. `depth` counts the objects and arrays around it."""
        match node:
            case TextNode():
                self._write(quoted(node.text))
            case JsonTexts():
                yield from self._write_array(map(quoted, node.texts), depth)
            case GroupNode():
                yield from self._write_group(node, depth)
            case GroupList():
                yield from self._write_array(node.items, depth)
            case RecordList():
                yield from self._write_array(self._records(node, depth + 1), depth)
            case _:
                assert_never(node)

    def _write_group(self, group: GroupNode, depth: int) -> Iterator[bytes]:
        line = self._line(depth + 1)
        start = "{"
        if group.status:
            self._write(f'{start}{line}"status"{self._colon}{quoted(group.status)}')
            start = ","
        for member in group.members:
            name = member.wrapper or member.name if isinstance(member, RecordList) else member.name
            self._write(f'{start}{line}"{name}"{self._colon}')
            yield from self.write(member, depth + 1)
            start = ","
        self._write(self._line(depth) + "}")

    def _write_array(self, items: Iterable[GroupNode | str], depth: int) -> Iterator[bytes]:
        """Write groups, or values that are written already."""
        start = "["
        for item in items:
            self._write(start + self._line(depth + 1))
            if isinstance(item, str):
                self._write(item)
            else:
                yield from self._write_group(item, depth + 1)
            start = ","
            if self._output.is_full:
                yield self._output.take()
        self._write("[]" if start == "[" else self._line(depth) + "]")

    def _records(self, records: RecordList, depth: int) -> Iterator[str]:
        member = f"{self._line(depth + 1)}%s{self._colon}%s"
        for record in records:
            members = [member % (quoted(column), quoted(text)) for column, text in record]
            yield "{" + ",".join(members) + self._line(depth) + "}"

    def _write(self, text: str) -> None:
        self._output.write(text.encode())

    def _line(self, depth: int) -> str:
        return self._line_break + self._indent * depth
