"""Digests of keys, passwords and PINs. Nothing secret is kept in clear, and nothing here remembers what it is given."""

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

# A sender chooses the cost of a hash that it brings; verifying a dearer one would let it stop the server.
MAX_ARGON2_MEMORY_KB = 256 * 1024
MAX_ARGON2_TIME = 16
MAX_ARGON2_LANES = 16
MAX_BCRYPT_ROUNDS = 15


class Digests:
    """All digests of one installation, keyed by its secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._api = hmac.digest(secret, b"tillgate api key", "sha256")
        self._customer = hmac.digest(secret, b"tillgate customer secret", "sha256")

    def api_key(self, key: str) -> str:
        """The keyed digest (HMAC-SHA-256, hexadecimal) under which an API key is kept."""
        return hmac.digest(self._api, _to_bytes(key), "sha256").hex()

    def key(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, which tells nothing of the secret or of other keys."""
        return hmac.digest(self._secret, f"tillgate {purpose}".encode(), "sha256")

    def customer_secret(self, value: str) -> str:
        """The salted, keyed digest of a customer's password or PIN: `$tg1$<salt>$<mac>`.

        Fast on purpose: a batch brings one for each of a million rows. Without the installation's secret it cannot be
        guessed at. A value that already is an argon2id or bcrypt hash is kept as given (docs/protocol.md, Rows).
        """
        if value.startswith("$") and (_ARGON2ID.fullmatch(value) or _BCRYPT.fullmatch(value)):
            return value
        salt = secrets.token_bytes(SALT_BYTES)
        return f"{CUSTOMER_PREFIX}{_to_base64(salt)}${_to_base64(self._mac(salt, value))}"

    def verify_customer_secret(self, value: str, digest: str) -> bool:
        """Whether the password or PIN is the one behind the digest. A digest of "" has none."""
        if digest.startswith(CUSTOMER_PREFIX):
            salt, _, mac = digest.removeprefix(CUSTOMER_PREFIX).partition("$")
            return hmac.compare_digest(_to_base64(self._mac(urlsafe_b64decode(salt), value)).encode(), mac.encode())
        if digest.startswith("$argon2id$"):
            return _is_affordable(digest) and verify_password(value, digest)
        return digest.startswith("$2") and _verify_bcrypt(value, digest)

    def _mac(self, salt: bytes, value: str) -> bytes:
        return hmac.digest(self._customer, salt + _to_bytes(value), "sha256")


def is_same_digest(one: str, other: str) -> bool:
    """Whether two digests of API keys are the same, compared in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def hash_password(value: str) -> str:
    """The argon2id hash of a console administrator's password."""
    # Loaded where a password is: 25 ms of processor time and 3 MB, for every command.
    import argon2

    return argon2.PasswordHasher().hash(_to_bytes(value))


def verify_password(value: str, digest: str) -> bool:
    """Whether the password is the one behind the argon2id hash."""
    import argon2

    try:
        return argon2.PasswordHasher().verify(digest, _to_bytes(value))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def new_api_key() -> str:
    """A new API key: 160 random bits in hexadecimal, so that it needs no quoting anywhere."""
    return secrets.token_hex(20)


def _is_affordable(digest: str) -> bool:
    match = _ARGON2ID.fullmatch(digest)
    if match is None:
        return False
    memory, time, lanes = map(int, match.groups())
    return memory <= MAX_ARGON2_MEMORY_KB and time <= MAX_ARGON2_TIME and lanes <= MAX_ARGON2_LANES


def _verify_bcrypt(value: str, digest: str) -> bool:
    match = _BCRYPT.fullmatch(digest)
    if match is None or int(match.group(1)) > MAX_BCRYPT_ROUNDS:
        return False
    # PHP, where such hashes come from, reads 72 bytes and no further; the library refuses longer ones.
    try:
        return bcrypt.checkpw(_to_bytes(value)[:72], digest.encode())
    except ValueError:
        return False


def _to_bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _to_base64(value: bytes) -> str:
    return urlsafe_b64encode(value).decode()
