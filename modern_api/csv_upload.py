"""Queues an uploaded CSV file as a job. The file is streamed to disk; its first line names the columns."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from flask import Response

from importing import failed_rows
from importing.batch import Batch, Delimited, Header, Mode, OnError, Requirement, Source
from importing.errors import ApiError
from importing.fields import Field
from importing.jobs import lifecycle
from importing.jobs.lifecycle import SubmittedBatch
from importing.reading.charset import CharsetDetector
from importing.reading.csv_formula_guard import unguard
from importing.reading.row_reader import read_first_row
from modern_api.json_stream import json_response
from modern_api.routes import ApiCall
from transport.form_sink import Sink
from transport.multipart import Multipart, declared_boundary, opened_boundary
from transport.request_body import read_body

PART_NAME = b"file"
LONGEST_COLUMN_NAME = 255
MAX_COLUMNS = 1000
IN_MEMORY_SIZE = 256 * 1024
# Bytes at the beginning of a form that hold its first boundary and part header.
FORM_HEAD_SIZE = 2 * 1024
# Bytes at the beginning of a file that say whether it is text, and what delimits its columns.
FILE_HEAD_SIZE = 64 * 1024
DISK_FULL_RETRY_AFTER = 60
# A comma where none is more frequent: it is what these protocols say.
DELIMITERS = (",", ";", "\t", "|")

_QUOTED = re.compile(r'"[^"]*"?')
_UNFIT_IN_NAME = re.compile("[\x00-\x1f\x7f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """How a protocol reads a file's columns and rows.

    `field_of`: the field of a column with that name, None for a column that is ignored. `needed`: a file must have a
    column of each group of field names. The others are as in `Batch`.
    """

    protocol: str
    mode: Mode
    field_of: Callable[[str], Field | None]
    needed: tuple[tuple[str, ...], ...]
    requirements: tuple[Requirement, ...]
    reference: tuple[str, ...]


def accepted(
    call: ApiCall, csv_format: CsvFormat, document: Callable[[SubmittedBatch], Mapping[str, object]]
) -> Response:
    """Queue the file of a request as a job, and reply 202. A file that cannot be read is a job that failed.

    Raises ApiError: what `received_file` and `importing.jobs.lifecycle.submit` raise, and bad_request_id.
    """
    job = _submit(call, csv_format)
    return json_response(document(job), 202, {"Idempotent-Replayed": "true"} if job.replayed else {})


def _submit(call: ApiCall, csv_format: CsvFormat) -> SubmittedBatch:
    key, sender = call.idempotency_key(), call.sender
    with received_file(call.request.environ, call.options.max_body, call.options.spool_dir) as upload:
        charset = upload.evidence.charset(())
        request = json.dumps([csv_format.protocol, sender.user, upload.hash.hexdigest()])
        batch = Batch(
            account=sender.account,
            user=sender.user,
            protocol=csv_format.protocol,
            headers=(),
            delimited=Delimited(","),
            source=Source(cast(BinaryIO, upload.file), charset.codec, upload.size),
            mode=csv_format.mode,
            on_error=OnError.SKIP,
            request_key=key,
            # Without a key an equal file is another request.
            request_digest=sha256(request.encode()).digest() if key else b"",
            charset=charset.name,
            requirements=csv_format.requirements,
            reference=csv_format.reference,
            origin=call.origin(charset_name=upload.declared_charset),
        )
        try:
            batch = with_columns(batch, csv_format)
        except ApiError as error:
            return lifecycle.submit_failed(call.context, batch, error, call.request_id)
        return lifecycle.submit(call.context, batch, call.request_id)


def with_columns(batch: Batch, csv_format: CsvFormat) -> Batch:
    """The batch of a whole file with the columns that its first line names, and with the other lines as its source.

    Raises ApiError: unreadable_file, no_data, bad_header_line, too_many_columns, bad_column, column_twice, missing_column.
    """
    delimited = Delimited(_delimiter_of_file(batch.source), quotes=True, multiline=True)
    names, start = read_first_row(batch.source, delimited)
    # A file of failed rows, written by Tillgate, has added columns in front, and guards against formulas.
    added = failed_rows.count_added_columns(names)
    columns = names[added:]
    if added:
        columns = [unguard(name) for name in columns]
        delimited = replace(delimited, guarded=True)
    fields = _fields(columns, csv_format)
    file = cast(BinaryIO, _FileTail(batch.source.file, start))
    return batch._replace(
        headers=tuple(Header(number, field) for number, field in enumerate([*[None] * added, *fields], 1)),
        delimited=delimited,
        source=replace(batch.source, file=file, size=batch.source.size - start),
        names=tuple(names[:added]) + tuple(columns),
        origin=batch.origin._replace(delimiter=delimited.delimiter),
    )


def delimiter_of(line: str, delimiters: Sequence[str]) -> str:
    """The delimiter that is most frequent in a line outside of quotes; the first of those that are equally frequent."""
    return max(delimiters, key=_QUOTED.sub("", line).count)


def _delimiter_of_file(source: Source) -> str:
    source.file.seek(0)
    head = source.file.read(FILE_HEAD_SIZE)
    # A text has no NUL; archives, spreadsheets and UTF-16 begin with some.
    if b"\0" in head:
        raise ApiError("unreadable_file")
    lines = re.split("[\r\n]+", head.decode(source.charset, "replace").lstrip("\ufeff \t\r\n"))
    return delimiter_of(lines[0], DELIMITERS)


def _fields(columns: Sequence[str], csv_format: CsvFormat) -> list[Field | None]:
    # Spreadsheets write blank columns behind the last one; a value in such a column is a problem of its row.
    while columns and not columns[-1]:
        columns = columns[:-1]
    if len(columns) > MAX_COLUMNS:
        raise ApiError("too_many_columns", limit=MAX_COLUMNS)
    fields: list[Field | None] = []
    names: set[str] = set()
    for number, column in enumerate(columns, 1):
        if len(column) > LONGEST_COLUMN_NAME or _UNFIT_IN_NAME.search(column):
            raise ApiError("bad_column", number=number, limit=LONGEST_COLUMN_NAME)
        field = csv_format.field_of(column) if column else None
        if field is not None:
            if field.name in names:
                raise ApiError("column_twice", value=column)
            names.add(field.name)
        fields.append(field)
    for group in csv_format.needed:
        if names.isdisjoint(group):
            raise ApiError("missing_column", value=" or ".join(group))
    return fields


@contextmanager
def received_file(environ: Mapping[str, Any], max_body: int, folder: Path | None) -> Iterator[_FilePart]:
    """The file of the request, until the context ends.

    Raises ApiError: missing_file, bad_form, bad_encoding, body_too_large, body_incomplete, spool_full.
    """
    part = _FilePart(folder)
    try:
        _read_form(environ, max_body, part)
        part.check()
        yield part
    finally:
        part.file.close()


def _read_form(environ: Mapping[str, Any], max_body: int, part: _FilePart) -> None:
    pieces = read_body(environ, max_body)
    head = b""
    while len(head) < FORM_HEAD_SIZE and (piece := next(pieces, b"")):
        head += piece
    # A boundary at the beginning of the body wins: some clients set the Content-Type by hand, without a boundary.
    boundary = opened_boundary(head) or declared_boundary(str(environ.get("CONTENT_TYPE") or ""))
    if not boundary:
        raise ApiError("missing_file")
    form = Multipart(boundary, part)
    form.feed(head)
    for piece in pieces:
        form.feed(piece)
    form.close()


class _FileTail(io.RawIOBase):
    """A file from byte `start` on, as if it began there."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        super().__init__()
        self._file = file
        self._start = start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset + self._start if whence == io.SEEK_SET else offset, whence) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def read(self, size: int | None = -1) -> bytes:
        return self._file.read(-1 if size is None else size)


class _FilePart(Sink):
    """The sink for the parts of a form: keeps the file, hashes it and detects its charset. Other parts are ignored."""

    def __init__(self, folder: Path | None) -> None:
        self.file = SpooledTemporaryFile(max_size=IN_MEMORY_SIZE, dir=str(folder) if folder else None)  # noqa: SIM115 - closed by its user
        self.hash = sha256()
        self.evidence = CharsetDetector()
        self.size = 0
        self.declared_charset = ""
        self._is_in_file = self._has_file = self._was_chosen = False

    def begin(self, name: bytes, filename: bytes | None = None, charset: str = "") -> None:
        self._is_in_file = name.strip() == PART_NAME
        if self._is_in_file:
            if self._has_file:
                raise ApiError("bad_form", reason="it has more than one part file")
            self._has_file = True
            self.declared_charset = charset
            # Browsers send a blank file name where no file was chosen.
            self._was_chosen = filename != b""

    def write(self, piece: bytes) -> None:
        if not self._is_in_file:
            return
        self.hash.update(piece)
        self.evidence.take(piece)
        self.size += len(piece)
        try:
            self.file.write(piece)
        except OSError as error:  # the disk is full: the sender can do nothing about it
            raise ApiError("spool_full", retry_after=DISK_FULL_RETRY_AFTER) from error

    def end(self) -> None:
        if self._is_in_file:
            self.evidence.end()

    def check(self) -> None:
        """Raises missing_file."""
        if not self._has_file or not (self._was_chosen or self.size):
            raise ApiError("missing_file")
