"""The data of a job, in encrypted pieces in the database, so that any host can continue the job and nobody else reads it."""

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
# So few that the transaction is short: a large upload must not block other writers.
PIECES_PER_TRANSACTION = 8
# Short, because a refused sender waits for it.
DROP_WAIT_SECONDS = 1.0


def make_cipher(context: Context) -> Cipher:
    """The cipher of the data of jobs."""
    return Cipher(context.digests.key("job input"))


def store_input(context: Context, account: int, file: BinaryIO, wait: float) -> tuple[str, int]:
    """Store a file's bytes from its position on; returns their input id and count. Raises Busy.

    They are dropped after a day unless a job is submitted with them.
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
        while encrypted := list(islice(encrypted_pieces, PIECES_PER_TRANSACTION)):
            with context.database.writing(wait, large=True) as connection:
                jobs.add_pieces(connection, account, input_id, first, encrypted)
            first += len(encrypted)
    except BaseException:
        if first:
            drop_input(context, account, input_id)
        raise
    return input_id, size


def drop_input(context: Context, account: int, input_id: str) -> None:
    """Drop data that no job needs. If that fails now, the server's maintenance drops them."""
    with suppress(Busy, SQLAlchemyError), context.database.writing(DROP_WAIT_SECONDS) as connection:
        jobs.drop_input(connection, account, input_id)


class StoredInput(io.RawIOBase):
    """The data of a job as a seekable file, with one piece in memory."""

    def __init__(self, context: Context, account: int, input_id: str, size: int) -> None:
        super().__init__()
        self._database = context.database
        self._cipher = make_cipher(context)
        self._account = account
        self._input_id = input_id
        self._size = size
        self._position = 0
        self._cached_piece: tuple[int, bytes] = (-1, b"")

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
        """`size` bytes, fewer at the end only. Raises DecryptionError."""
        left = self._size - self._position if size is None or size < 0 else size
        parts = []
        while left > 0 and self._position < self._size:
            n, start = divmod(self._position, PIECE_BYTES)
            part = self._load_piece(n)[start : start + left]
            parts.append(part)
            self._position += len(part)
            left -= len(part)
        return b"".join(parts)

    def _load_piece(self, n: int) -> bytes:
        if self._cached_piece[0] != n:
            with self._database.reading() as connection:
                encrypted = jobs.load_piece(connection, self._account, self._input_id, n)
            if encrypted is None:
                raise LookupError(f"piece {n} of a job's data is missing")
            self._cached_piece = (n, self._cipher.decrypt(encrypted, _piece_place(self._account, self._input_id, n)))
        return self._cached_piece[1]


def _piece_place(account: int, input_id: str, n: int) -> str:
    return f"{account}/{input_id}/{n}"
