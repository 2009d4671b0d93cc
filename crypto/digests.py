"""Digests of API keys, passwords and PINs: no secret is stored in clear text, or cached."""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode

import bcrypt

CUSTOMER_PREFIX = "$tg1$"
SALT_BYTES = 12

_ARGON2ID = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,10}),t=(\d{1,10}),p=(\d{1,8})\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}"
)
_BCRYPT = re.compile(r"\$2[yb]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")

# A sender chooses the cost of the hashes that it sends. Verifying one that costs more could stall the server.
MAX_ARGON2_MEMORY_KB = 256 * 1024
MAX_ARGON2_TIME = 16
MAX_ARGON2_LANES = 16
MAX_BCRYPT_ROUNDS = 15


class Digests:
    """The digests of an installation, keyed by its secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._api_key = hmac.digest(secret, b"tillgate api key", "sha256")
        self._customer = hmac.digest(secret, b"tillgate customer secret", "sha256")

    def api_key(self, key: str) -> str:
        """The stored digest of an API key: HMAC-SHA-256, hexadecimal."""
        return hmac.digest(self._api_key, _to_bytes(key), "sha256").hex()

    def key(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose. It reveals neither the secret nor another key."""
        return hmac.digest(self._secret, f"tillgate {purpose}".encode(), "sha256")

    def customer_secret(self, value: str) -> str:
        """The salted, keyed digest of a customer's password or PIN: `$tg1$<salt>$<mac>`.

        It is fast on purpose, for a batch may have a million of them; without the installation's secret nobody can try
        guesses. A value that is an argon2id or bcrypt hash is stored as it is (docs/protocol.md, Rows).
        """
        if value.startswith("$") and (_ARGON2ID.fullmatch(value) or _BCRYPT.fullmatch(value)):
            return value
        salt = secrets.token_bytes(SALT_BYTES)
        return f"{CUSTOMER_PREFIX}{_to_base64(salt)}${_to_base64(self._mac(salt, value))}"

    def verify_customer_secret(self, value: str, digest: str) -> bool:
        """Whether the digest is of this password or PIN. The digest "" is of none."""
        if digest.startswith(CUSTOMER_PREFIX):
            salt, _, mac = digest.removeprefix(CUSTOMER_PREFIX).partition("$")
            return hmac.compare_digest(_to_base64(self._mac(urlsafe_b64decode(salt), value)).encode(), mac.encode())
        if digest.startswith("$argon2id$"):
            return _is_affordable(digest) and verify_password(value, digest)
        return digest.startswith("$2") and _verify_bcrypt(value, digest)

    def _mac(self, salt: bytes, value: str) -> bytes:
        return hmac.digest(self._customer, salt + _to_bytes(value), "sha256")


def is_same_digest(one: str, other: str) -> bool:
    """Compare two digests of API keys in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def hash_password(value: str) -> str:
    """The argon2id hash of a console administrator's password."""
    # Imported here because it costs every command 25 ms of processor time and 3 MB.
    import argon2

    return argon2.PasswordHasher().hash(_to_bytes(value))


def verify_password(value: str, digest: str) -> bool:
    """Whether the argon2id hash is of this password."""
    import argon2

    try:
        return argon2.PasswordHasher().verify(digest, _to_bytes(value))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def new_api_key() -> str:
    """A new API key: 160 random bits in hexadecimal, which needs no quoting anywhere."""
    return secrets.token_hex(20)


def _is_affordable(digest: str) -> bool:
    if (match := _ARGON2ID.fullmatch(digest)) is None:
        return False
    memory, time, lanes = map(int, match.groups())
    return memory <= MAX_ARGON2_MEMORY_KB and time <= MAX_ARGON2_TIME and lanes <= MAX_ARGON2_LANES


def _verify_bcrypt(value: str, digest: str) -> bool:
    match = _BCRYPT.fullmatch(digest)
    if match is None or int(match.group(1)) > MAX_BCRYPT_ROUNDS:
        return False
    # PHP, where such hashes come from, uses the first 72 bytes; the library refuses longer passwords.
    try:
        return bcrypt.checkpw(_to_bytes(value)[:72], digest.encode())
    except ValueError:
        return False


def _to_bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _to_base64(value: bytes) -> str:
    return urlsafe_b64encode(value).decode()
