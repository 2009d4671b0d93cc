"""What must be kept for a while but be readable by nobody else: sealed with a key that only the installation's secret gives."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


class DecryptionError(Exception):
    """A sealed piece was sealed under another secret, for another place, or is damaged."""


class Cipher:
    """Seals pieces of bytes with AES-256-GCM. `key` is 32 bytes (see `Digests.key`)."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt(self, piece: bytes, place: str) -> bytes:
        """The piece sealed: nonce, ciphertext, tag. It opens in the same `place` only."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, piece, place.encode())

    def decrypt(self, sealed: bytes, place: str) -> bytes:
        """The piece. Raises DecryptionError."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.encode())
        except InvalidTag as error:
            raise DecryptionError(place) from error
