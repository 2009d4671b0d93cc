"""The file of a request: the part `file` of a multipart form, streamed into an unlinked temporary file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from importing.batch import Batch, Delimited, OnError, Source
from importing.errors import ApiError
from importing.jobs import lifecycle
from importing.jobs.lifecycle import SubmittedBatch
from importing.reading.charset import Charset, CharsetDetector
from modern_api.files import Format, batch_of
from modern_api.routes import Call
from transport.multipart import Multipart, declared_boundary, opened_boundary
from transport.reading import read_body
from transport.sink import Sink

PART = b"file"
IN_MEMORY = 256 * 1024
# Bytes in which the first boundary and part header of a form stand.
HEAD = 2 * 1024
DISK_FULL_RETRY_AFTER = 60
LONGEST_KEY = 255

_CONTROL = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has come: positioned anywhere, its size in bytes, its charset, the SHA-256 of its bytes."""

    file: BinaryIO
    size: int
    charset: Charset
    digest: bytes


def submitted(call: Call, format: Format) -> SubmittedBatch:
    """Queue the file that a request brings as a job. A file that cannot be read is a job that failed.

    Raises ApiError: what `received` and `importing.jobs.lifecycle.submit` raise, and bad_request_id.
    """
    key = call.request.headers.get("Idempotency-Key", "").strip()
    if len(key) > LONGEST_KEY or _CONTROL.search(key):
        raise ApiError("bad_request_id")
    with received(call.request.environ, call.options.max_body, call.options.spool_dir) as upload:
        batch = Batch(
            account=call.access.account,
            user=call.access.user_id,
            face=format.face,
            headers=(),
            delimited=Delimited(","),
            source=Source(upload.file, upload.charset.codec, upload.size),
            mode=format.mode,
            on_error=OnError.SKIP,
            request_key=key or None,
            # Only who sends a key asks for repetitions to be known: two equal files may well be meant.
            request_digest=_same_request(format.face, call.access.user_id, upload.digest) if key else b"",
            charset=upload.charset.name,
            requirements=format.requirements,
            reference=format.reference,
        )
        try:
            batch = batch_of(batch, format)
        except ApiError as fault:
            return lifecycle.submit_failed(call.context, batch, fault, call.request_id)
        return lifecycle.submit(call.context, batch, call.request_id)


def replayed(queued: SubmittedBatch) -> Mapping[str, str]:
    """The header that says that the same request has queued this job before."""
    return {"Idempotent-Replayed": "true"} if queued.replayed else {}


@contextmanager
def received(environ: Mapping[str, Any], max_body: int, folder: Path | None) -> Iterator[Upload]:
    """The file that the request brings, for as long as the context lasts.

    Raises ApiError: missing_file, bad_form, bad_encoding, body_too_large, body_incomplete, spool_full.
    """
    part = _Part(folder)
    try:
        _read(environ, max_body, part)
        yield part.upload()
    finally:
        part.file.close()


def _read(environ: Mapping[str, Any], max_body: int, part: _Part) -> None:
    pieces = read_body(environ, max_body)
    head = b""
    while len(head) < HEAD and (piece := next(pieces, b"")):
        head += piece
    # A boundary that the body itself begins with is believed first: some clients set the type by hand, and lose it.
    boundary = opened_boundary(head) or declared_boundary(str(environ.get("CONTENT_TYPE") or ""))
    if not boundary:
        raise ApiError("missing_file")
    form = Multipart(boundary, part)
    form.feed(head)
    for piece in pieces:
        form.feed(piece)
    form.close()


def _same_request(face: str, user: str, digest: bytes) -> bytes:
    return sha256(json.dumps([face, user, digest.hex()]).encode()).digest()


class _Part(Sink):
    """The sink of a form's parts: keeps the file, hashes it and looks at its charset as it passes. Others are ignored."""

    def __init__(self, folder: Path | None) -> None:
        self.file = SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(folder) if folder else None)  # noqa: SIM115 - closed by its user
        self._hash = sha256()
        self._evidence = CharsetDetector()
        self._size = 0
        self._writes = self._came = self._chosen = False

    def begin(self, name: bytes, filename: bytes | None = None, charset: str = "") -> None:  # noqa: ARG002 - they differ by client
        self._writes = name.strip() == PART
        if self._writes:
            if self._came:
                raise ApiError("bad_form", reason="it has more than one part file")
            self._came = True
            # What browsers send where no file was chosen.
            self._chosen = filename != b""

    def write(self, piece: bytes) -> None:
        if not self._writes:
            return
        self._hash.update(piece)
        self._evidence.take(piece)
        self._size += len(piece)
        try:
            self.file.write(piece)
        except OSError as error:  # the disk is full: nothing that this sender could mend
            raise ApiError("spool_full", retry_after=DISK_FULL_RETRY_AFTER) from error

    def end(self) -> None:
        if self._writes:
            self._evidence.end()

    def upload(self) -> Upload:
        if not self._came or not (self._chosen or self._size):
            raise ApiError("missing_file")
        self.file.seek(0, io.SEEK_SET)
        return Upload(cast(BinaryIO, self.file), self._size, self._evidence.charset(()), self._hash.digest())
