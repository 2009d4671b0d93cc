"""A raw WSGI request becomes canonical fields and spooled data. Source: docs/protocol.md, Transport."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from importing.batch import Source
from importing.errors import ApiError
from importing.reading.charset import WINDOWS_1252
from legacy_api.budget import UNAUTHENTICATED, Loan
from legacy_api.collector import Admit, Collector
from legacy_api.digest import request_digest
from legacy_api.sniffing import is_plain, opening, reader
from legacy_api.urlencoded import Urlencoded
from transport.charset import declared
from transport.reading import read_body


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes: `max_body` of one body, as sent and unpacked; `spool_budget` of all not yet authenticated, process-wide.

    `spool_dir`: where data are spooled, the system's temporary folder by default.
    """

    max_body: int
    spool_budget: int = 1 << 30
    spool_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """A request that was read. Close it, or use it as a context, when the data are no longer needed.

    `fields`: canonical name -> text, trimmed but for `delimiter`, without `profiles_data`; the one API key that counts
    is `user_api_key`, wherever it came from. `data`: None where no `profiles_data` came. `charset` for people to read.
    `data_digest`: the SHA-256 of the data as UTF-8 text, b"" where there are none.
    """

    fields: Mapping[str, str]
    data: Source | None
    charset: str
    data_digest: bytes

    @property
    def digest(self) -> bytes:
        """32 bytes, equal for "the same request" in whatever encoding."""
        return request_digest(self.fields, self.data_digest)

    def close(self) -> None:
        if self.data is not None:
            self.data.file.close()

    def __enter__(self) -> Form:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Unreadable(Exception):
    """A failure while reading. `fields` is what was read so far, the query included: the reply's format is in it."""

    def __init__(self, fault: ApiError, fields: Mapping[str, str]) -> None:
        self.fault = fault
        self.fields = fields
        super().__init__(fault.code)


def read_form(environ: Mapping[str, Any], limits: Limits, admit: Admit) -> Form:
    """Read the query and, for any method but GET and HEAD, the body, which wins.

    `admit(fields so far)` is asked once, at the moment the body's `profiles_data` begin to arrive, if user, key and
    account have come by then; the ApiError that it raises refuses the request, and the rest is not read. Otherwise the
    data are spooled within the budget. Raises `Unreadable` for every ApiError; no request makes it raise anything else.
    """
    loan = Loan(UNAUTHENTICATED, limits.spool_budget)
    label = declared(str(environ.get("CONTENT_TYPE") or ""))
    collector = Collector(limits.spool_dir, loan, admit, _header_key(environ), label)
    try:
        _read_query(environ, collector)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            collector.early = True
            _read_body(environ, limits, collector)
        charset = collector.charset
        digest = collector.digest(charset)
        return Form(collector.fields(), collector.data(charset), charset.name, digest)
    except ApiError as fault:
        collector.close()
        raise Unreadable(fault, collector.fields()) from fault
    except BaseException:
        collector.close()
        raise
    finally:
        loan.give_back()


def _header_key(environ: Mapping[str, Any]) -> str:
    """The `api_access_key` header; WSGI spells it the same with underscores and with hyphens."""
    raw = _octets(environ.get("HTTP_API_ACCESS_KEY"))
    try:
        return raw.decode().strip()
    except UnicodeDecodeError:
        return raw.decode(WINDOWS_1252.codec).strip()


def _read_query(environ: Mapping[str, Any], collector: Collector) -> None:
    if query := _octets(environ.get("QUERY_STRING")):
        Urlencoded(collector).feed_all(query)


def _read_body(environ: Mapping[str, Any], limits: Limits, collector: Collector) -> None:
    content_type = str(environ.get("CONTENT_TYPE") or "")
    pieces = read_body(environ, limits.max_body)
    head, failure = _head(pieces, content_type)
    form = reader(content_type, head, collector) if head else None
    if form is not None:
        form.feed(head)
    if failure is not None:
        raise failure
    if form is None:
        if head and collector.is_empty:
            raise ApiError("bad_form", reason="it is neither urlencoded nor multipart")
        return  # PHP's rule: a body of another kind has no fields, those of the query count
    for piece in pieces:
        form.feed(piece)
    form.close()


def _head(pieces: Iterator[bytes], content_type: str) -> tuple[bytes, ApiError | None]:
    """The beginning of a body, as much as says what it is, and the failure that met it: its fields count even then."""
    head = b""
    try:
        for piece in pieces:
            head = opening(head + piece)
            if is_plain(content_type, head):
                break
    except ApiError as fault:
        return head, fault
    return head, None


def _octets(text: Any) -> bytes:
    """WSGI hands over raw bytes as Latin-1 text."""
    return str(text or "").encode("latin-1", "replace")
