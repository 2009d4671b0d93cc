"""Encryption of stored data with a key derived from the installation's secret."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


class DecryptionError(Exception):
    """The ciphertext was made under another secret or for another place, or is damaged."""


class Cipher:
    """AES-256-GCM. `key` is 32 bytes (see `Digests.key`)."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt(self, data: bytes, place: str) -> bytes:
        """Returns nonce, ciphertext and tag, which decrypt with the same `place` only."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, place.encode())

    def decrypt(self, encrypted: bytes, place: str) -> bytes:
        """The data. Raises DecryptionError."""
        try:
            return self._cipher.decrypt(encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:], place.encode())
        except InvalidTag as error:
            raise DecryptionError(place) from error
