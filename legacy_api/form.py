"""Reads the form of a raw WSGI request: canonical fields, and data in a temporary file.

Source: docs/protocol.md, Transport.
"""

from __future__ import annotations

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
from legacy_api.sniffing import form_reader, is_recognisable, without_leading_blanks
from legacy_api.spool_budget import UNAUTHENTICATED_SPOOL, SpoolLoan
from legacy_api.urlencoded import Urlencoded
from transport.multipart import declared_charset
from transport.request_body import read_body


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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
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
    raises a ApiError, the rest of the request is not read. If the credentials come later, the data are spooled within the
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
    form = form_reader(content_type, head, collector) if head else None
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
            head = without_leading_blanks(head + piece)
            if is_recognisable(content_type, head):
                break
    except ApiError as fault:
        return head, fault
    return head, None


def _octets(text: Any) -> bytes:
    """The raw bytes of a WSGI text, which is always Latin-1."""
    return str(text or "").encode("latin-1", "replace")
