"""What kind of form a body is: what it plainly is counts more than its Content-Type. Source: docs/protocol.md, Transport."""

from __future__ import annotations

import re

from legacy_api.urlencoded import Urlencoded
from transport.multipart import Multipart, declared_boundary, opened_boundary
from transport.sink import Sink

# So much of a body is looked at: the first boundary and part header, or the first name of an urlencoded form.
_HEAD = 2 * 1024
_BOM = b"\xef\xbb\xbf"
_FIRST_NAME = re.compile(rb"[ \t\r\n&]*[\w.%+\-\[\]\x80-\xff][\w.%+\-\[\]\x80-\xff \t\r\n&]*=")


def is_plain(content_type: str, head: bytes) -> bool:
    """Whether `head` is enough to tell what the body is: a sender that stalls is judged by what has come."""
    if len(head) >= _HEAD or opened_boundary(head):
        return True
    return not _kind(content_type).startswith("multipart/") and _plainly_urlencoded(head)


def reader(content_type: str, head: bytes, sink: Sink) -> Urlencoded | Multipart | None:
    """The reader for a body that begins with `head`; None where it is no form.

    A boundary that the body itself begins with is believed before the Content-Type's: some set the type by hand and
    lose the boundary, or keep one from an earlier request.
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


def opening(head: bytes) -> bytes:
    """Without the BOM and blank lines that a form begins with that was written with an editor and posted as a file."""
    return head.removeprefix(_BOM).lstrip(b" \t\r\n")


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _plainly_urlencoded(head: bytes) -> bool:
    """It begins with a name and an equals sign. JSON, XML and prose do not."""
    return _FIRST_NAME.match(head) is not None
