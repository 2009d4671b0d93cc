"""Recognises the kind of form of a body. Its first bytes count more than its Content-Type.

Source: docs/protocol.md, Transport.
"""

from __future__ import annotations

import re

from legacy_api.urlencoded import Urlencoded
from transport.form_sink import Sink
from transport.multipart import Multipart, declared_boundary, opened_boundary

# Bytes of a body that are looked at. They hold the first boundary and part header, or the first name of a form.
_HEAD_SIZE = 2 * 1024
_BOM = b"\xef\xbb\xbf"
_FIRST_NAME = re.compile(rb"[ \t\r\n&]*[\w.%+\-\[\]\x80-\xff][\w.%+\-\[\]\x80-\xff \t\r\n&]*=")


def is_recognisable(content_type: str, head: bytes) -> bool:
    """Whether `head` is enough to recognise the body, so that a sender who stalls is judged by what has come."""
    if len(head) >= _HEAD_SIZE or opened_boundary(head):
        return True
    return not _kind(content_type).startswith("multipart/") and _plainly_urlencoded(head)


def form_reader(content_type: str, head: bytes, sink: Sink) -> Urlencoded | Multipart | None:
    """The reader for a body that begins with `head`; None if it is no form.

    A boundary at the beginning of the body wins over that of the Content-Type: some clients set the type by hand and
    lose the boundary, or keep the boundary of an earlier request.
    """
    if opened := opened_boundary(head):
        return Multipart(opened, sink)
    kind = _kind(content_type)
    if kind == "application/x-www-form-urlencoded":
        return Urlencoded(sink)
    boundary = declared_boundary(content_type)
    if kind.startswith("multipart/") and boundary and (b"--" + boundary in head or not _plainly_urlencoded(head)):
        return Multipart(boundary, sink)
    return Urlencoded(sink) if _plainly_urlencoded(head) else None


def without_leading_blanks(head: bytes) -> bytes:
    """The bytes after a BOM and blank lines. A form that was written with an editor and posted as a file begins with them."""
    return head.removeprefix(_BOM).lstrip(b" \t\r\n")


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _plainly_urlencoded(head: bytes) -> bool:
    """Whether it begins with a name and an equals sign. JSON, XML and prose do not."""
    return _FIRST_NAME.match(head) is not None
