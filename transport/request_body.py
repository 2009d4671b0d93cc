"""The raw body of a WSGI request, in pieces: length, chunks, gzip, and the limit. Source: docs/protocol.md, Transport."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from importing.errors import ApiError

PIECE = 256 * 1024
# Pieces grow from this size on, doubling. Whoever sends a little and then stalls has half of it judged already,
# so a refusal by the fields at the beginning does not wait for the rest.
FIRST_PIECE = 2 * 1024
# bgzip and pigz make one member of every 64 kB or more. Without a bound, tiny members cost much time for few bytes.
MAX_MEMBERS = 20_000
_GZIP = 16 + zlib.MAX_WBITS


def read_body(environ: Mapping[str, Any], limit: int) -> Iterator[bytes]:
    """The body, unpacked, in pieces of at most 256 kB; at most `limit` bytes, both as sent and unpacked.

    Raises `bad_encoding` and, for an announced length above the limit, `body_too_large` at once, before
    anything is read; while iterating `body_too_large`, `body_incomplete`, and `bad_form` for corrupt gzip.
    """
    packed = _is_packed(environ)
    length = _announced(environ)
    if length is not None and length > limit:
        raise ApiError("body_too_large", limit=limit)
    if length is not None:
        pieces = _measured(environ["wsgi.input"], length)
    elif environ.get("wsgi.input_terminated"):
        pieces = _terminated(environ["wsgi.input"], limit)
    else:
        return iter(())  # neither a length nor an end: such a body cannot be read, and is none by HTTP's rules
    return _unpacked(pieces, limit) if packed else pieces


def _is_packed(environ: Mapping[str, Any]) -> bool:
    value = str(environ.get("HTTP_CONTENT_ENCODING", ""))
    encodings = [word for part in value.split(",") if (word := part.strip().lower()) not in ("", "identity")]
    if encodings and encodings not in (["gzip"], ["x-gzip"]):
        raise ApiError("bad_encoding", encoding=value.strip())
    return bool(encodings)


def _announced(environ: Mapping[str, Any]) -> int | None:
    """The Content-Length. None where there is none, where it is no number, or where chunks overrule it."""
    if environ.get("HTTP_TRANSFER_ENCODING") and environ.get("wsgi.input_terminated"):
        return None
    text = str(environ.get("CONTENT_LENGTH") or "").strip()
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text) if len(text) < 20 else 10**20  # Python refuses to convert absurdly many digits


def _measured(stream: Any, length: int) -> Iterator[bytes]:
    size = FIRST_PIECE
    while length:
        piece = _read(stream, min(size, length))
        if not piece:
            raise ApiError("body_incomplete")
        length -= len(piece)
        size = min(size * 2, PIECE)
        yield piece


def _terminated(stream: Any, limit: int) -> Iterator[bytes]:
    size = FIRST_PIECE
    total = 0
    while piece := _read(stream, size):
        total += len(piece)
        if total > limit:
            raise ApiError("body_too_large", limit=limit)
        size = min(size * 2, PIECE)
        yield piece


def _read(stream: Any, size: int) -> bytes:
    try:
        piece: bytes = stream.read(size)
    except Exception as error:  # WSGI names none: each server has errors of its own for a broken chunk or a lost sender
        raise ApiError("body_incomplete") from error
    return piece


def _unpacked(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """Gunzip, any number of members one after another, never more than a piece at a time: a bomb ends at the limit."""
    total = members = 0
    inflater = None
    for packed in pieces:
        while True:
            if inflater is None or inflater.eof:
                if members:
                    packed = packed.lstrip(b"\0")  # tape blocks are padded with zeros after the last member
                if not packed:
                    break
                members += 1
                inflater = _next_member(members)
            try:
                piece = inflater.decompress(packed, PIECE)
            except zlib.error as error:
                raise ApiError("bad_form", reason="its gzip data are corrupt") from error
            total += len(piece)
            if total > limit:
                raise ApiError("body_too_large", limit=limit)
            if piece:
                yield piece
            packed = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            if not packed and len(piece) < PIECE:
                break
    if inflater is not None and not inflater.eof:
        raise ApiError("body_incomplete")


def _next_member(number: int) -> Any:
    if number > MAX_MEMBERS:
        raise ApiError("bad_form", reason="its gzip data have too many members")
    return zlib.decompressobj(_GZIP)
