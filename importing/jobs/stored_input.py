"""The data of a job: in the database, in sealed pieces, so that any host can go on with it and nobody else can read it."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import BinaryIO

from sqlalchemy.exc import SQLAlchemyError

from crypto.encryption import Cipher
from importing.context import Context
from storage.engine import Busy
from storage.queries import jobs

PIECE_BYTES = 512 * 1024
# Pieces written in one transaction: a short one, so that a large upload keeps nobody from writing.
PIECES_AT_ONCE = 8
# Seconds: a sender who is refused anyway does not wait long for what he has sent to be gone.
DROP_WAIT_SECONDS = 1.0


def make_cipher(context: Context) -> Cipher:
    """What the data of jobs is sealed with."""
    return Cipher(context.digests.key("job input"))


def store_input(context: Context, account: int, file: BinaryIO, wait: float) -> tuple[str, int]:
    """Keep a file's bytes from where it stands; returns their input id and count. Raises Busy.

    No job has them yet: should none ever, they are dropped after a day.
    """
    input_id = secrets.token_hex(16)
    encrypt = make_cipher(context).encrypt
    size = 0

    def pieces() -> Iterator[bytes]:
        nonlocal size
        for n, piece in enumerate(iter(lambda: file.read(PIECE_BYTES), b"")):
            size += len(piece)
            yield encrypt(piece, _piece_place(account, input_id, n))

    encrypted_pieces = pieces()
    first = 0
    try:
        while encrypted := list(islice(encrypted_pieces, PIECES_AT_ONCE)):
            with context.database.writing(wait, large=True) as connection:
                jobs.add_pieces(connection, account, input_id, first, encrypted)
            first += len(encrypted)
    except BaseException:
        if first:
            drop_input(context, account, input_id)
        raise
    return input_id, size


def drop_input(context: Context, account: int, input_id: str) -> None:
    """Drop data that no job needs. What cannot be dropped now is dropped by the server's maintenance."""
    with suppress(Busy, SQLAlchemyError), context.database.writing(DROP_WAIT_SECONDS) as connection:
        jobs.drop_input(connection, account, input_id)


class StoredInput(io.RawIOBase):
    """The data of a job as a file to read and seek in. Holds one piece in memory."""

    def __init__(self, context: Context, account: int, input_id: str, size: int) -> None:
        super().__init__()
        self._core = context
        self._vault = make_cipher(context)
        self._account = account
        self._input_id = input_id
        self._size = size
        self._position = 0
        self._held: tuple[int, bytes] = (-1, b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, fewer at the end only. Raises DecryptionError."""
        left = self._size - self._position if size is None or size < 0 else size
        parts = []
        while left > 0 and self._position < self._size:
            n, start = divmod(self._position, PIECE_BYTES)
            part = self._piece(n)[start : start + left]
            parts.append(part)
            self._position += len(part)
            left -= len(part)
        return b"".join(parts)

    def _piece(self, n: int) -> bytes:
        if self._held[0] != n:
            with self._core.database.reading() as connection:
                encrypted = jobs.load_piece(connection, self._account, self._input_id, n)
            if encrypted is None:
                raise LookupError(f"piece {n} of a job's data is gone")
            self._held = (n, self._vault.decrypt(encrypted, _piece_place(self._account, self._input_id, n)))
        return self._held[1]


def _piece_place(account: int, input_id: str, n: int) -> str:
    return f"{account}/{input_id}/{n}"
