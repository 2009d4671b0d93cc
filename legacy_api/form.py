"""Reads the form of a raw WSGI request: canonical fields, and data in a temporary file.

Source: docs/protocol.md, Transport.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from importing.batch import Source
from importing.errors import ApiError
from importing.reading.charset import WINDOWS_1252
from legacy_api.form_collector import Admit, FormCollector
from legacy_api.request_digest import request_digest
from legacy_api.spool_budget import UNAUTHENTICATED_SPOOL, SpoolLoan
from legacy_api.urlencoded import Urlencoded
from transport.form_sink import Sink
from transport.multipart import Multipart, declared_boundary, declared_charset, opened_boundary
from transport.request_body import read_body

# Bytes of a body that are looked at. They hold the first boundary and part header, or the first name of a form.
_HEAD_SIZE = 2 * 1024
_BOM = b"\xef\xbb\xbf"
_FIRST_NAME = re.compile(rb"[ \t\r\n&]*[\w.%+\-\[\]\x80-\xff][\w.%+\-\[\]\x80-\xff \t\r\n&]*=")


@dataclass(frozen=True, slots=True)
class FormLimits:
    """Limits in bytes. `max_body` is for one body, as sent and unpacked. `spool_budget` is for the data of all senders of
    this process who have not authenticated yet.

    `spool_dir` is the folder of the temporary files; by default the system's.
    """

    max_body: int
    spool_budget: int = 1 << 30
    spool_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """The form of one request. Close it, or use it in a `with`, when the data are no longer needed.

    `fields` has the trimmed text of every field but `profiles_data` by canonical name. `delimiter` is not trimmed. The one
    API key that counts is `user_api_key`, wherever it came from. `data` is None if no `profiles_data` came. `charset` is a
    name for people, `declared_charset` what the sender calls it. `data_digest` is the SHA-256 of the data as UTF-8 text,
    b"" if there are none.
    """

    fields: Mapping[str, str]
    data: Source | None
    charset: str
    data_digest: bytes
    declared_charset: str | None = None

    @property
    def digest(self) -> bytes:
        """32 bytes. A repeated request has the same digest, in whatever encoding it comes."""
        return request_digest(self.fields, self.data_digest)

    def close(self) -> None:
        if self.data is not None:
            self.data.file.close()

    def __enter__(self) -> Form:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class UnreadableForm(Exception):
    """A form could not be read. `fields` are those read so far, from the query too: they say the format of the reply."""

    def __init__(self, fault: ApiError, fields: Mapping[str, str]) -> None:
        self.fault = fault
        self.fields = fields
        super().__init__(fault.code)


def read_form(environ: Mapping[str, Any], limits: FormLimits, admit: Admit) -> Form:
    """Read the query and, unless the method is GET or HEAD, the body. A field of the body wins over one of the query.

    When `profiles_data` begin to arrive and user, key and account are known, it calls `admit(fields so far)` once. If that
    raises an ApiError, the rest of the request is not read. If the credentials come later, the data are spooled within the
    budget. Raises UnreadableForm for every ApiError. No request makes it raise anything else.
    """
    loan = SpoolLoan(UNAUTHENTICATED_SPOOL, limits.spool_budget)
    label = declared_charset(str(environ.get("CONTENT_TYPE") or ""))
    collector = FormCollector(limits.spool_dir, loan, admit, _header_key(environ), label)
    try:
        _read_query(environ, collector)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            collector.asks_early = True
            _read_body(environ, limits, collector)
        charset = collector.charset
        digest = collector.digest(charset)
        fields, data = collector.fields(), collector.data(charset)
        return Form(fields, data, charset.name, digest, collector.declared_charset)
    except ApiError as fault:
        collector.close()
        raise UnreadableForm(fault, collector.fields()) from fault
    except BaseException:
        collector.close()
        raise
    finally:
        loan.give_back()


def _header_key(environ: Mapping[str, Any]) -> str:
    """The `api_access_key` header. In WSGI its name is the same with underscores and with hyphens."""
    raw = _octets(environ.get("HTTP_API_ACCESS_KEY"))
    try:
        return raw.decode().strip()
    except UnicodeDecodeError:
        return raw.decode(WINDOWS_1252.codec).strip()


def _read_query(environ: Mapping[str, Any], collector: FormCollector) -> None:
    if query := _octets(environ.get("QUERY_STRING")):
        form = Urlencoded(collector)
        form.feed(query)
        form.close()


def _read_body(environ: Mapping[str, Any], limits: FormLimits, collector: FormCollector) -> None:
    content_type = str(environ.get("CONTENT_TYPE") or "")
    pieces = read_body(environ, limits.max_body)
    head, failure = _head(pieces, content_type)
    form = _form_reader(content_type, head, collector) if head else None
    if form is not None:
        form.feed(head)
    if failure is not None:
        raise failure
    if form is None:
        if head and collector.is_empty:
            raise ApiError("bad_form", reason="it is neither urlencoded nor multipart")
        return  # PHP's rule: a body of another kind has no fields, so those of the query count
    for piece in pieces:
        form.feed(piece)
    form.close()


def _head(pieces: Iterator[bytes], content_type: str) -> tuple[bytes, ApiError | None]:
    """The first bytes of a body, enough to recognise it, and the error that ended them. Their fields count even then."""
    head = b""
    try:
        for piece in pieces:
            head = _without_leading_blanks(head + piece)
            if _is_recognisable(content_type, head):
                break
    except ApiError as fault:
        return head, fault
    return head, None


def _is_recognisable(content_type: str, head: bytes) -> bool:
    """Whether `head` is enough to recognise the body, so that a sender who stalls is judged by what has come."""
    if len(head) >= _HEAD_SIZE or opened_boundary(head):
        return True
    return not _kind(content_type).startswith("multipart/") and _plainly_urlencoded(head)


def _form_reader(content_type: str, head: bytes, sink: Sink) -> Urlencoded | Multipart | None:
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


def _without_leading_blanks(head: bytes) -> bytes:
    """The bytes after a BOM and blank lines. A form that was written with an editor and posted as a file begins with them."""
    return head.removeprefix(_BOM).lstrip(b" \t\r\n")


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _plainly_urlencoded(head: bytes) -> bool:
    """Whether it begins with a name and an equals sign. JSON, XML and prose do not."""
    return _FIRST_NAME.match(head) is not None


def _octets(text: Any) -> bytes:
    """The raw bytes of a WSGI text, which is always Latin-1."""
    return str(text or "").encode("latin-1", "replace")
