"""Credentials to an account and rights. Every refusal is the same, so that nothing can be enumerated."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from auth.lockout import Lockout
from crypto.digests import is_same_digest
from importing.context import Context
from importing.errors import ApiError
from storage.engine import now_ms
from storage.queries import request_lookups


class Access(NamedTuple):
    """Who is asking. `account` is the store's number, `public_id` what the protocols call it.

    `newest` is the number of the account's newest change when it was asked.
    """

    account: int
    public_id: str
    user_id: str
    may_import: bool
    newest: int | None = None


def authenticate(context: Context, user_id: str, key: str, account: str, address: str) -> Access:
    """The access that the credentials give, from an address. Raises bad_credentials, for whatever cause.

    `account` is what the protocols call it; the user must belong to it.

    After 20 failures of a user from an address within 10 minutes, or 200 of an address, it is refused without a look
    for a minute, then two, up to 15. While locked out, the same refusal (docs/protocol.md, Transport).
    """
    return _authenticate(context, user_id, key, account, address)


def authenticate_user(context: Context, user_id: str, key: str, address: str) -> Access:
    """The same for protocols that name no account: the user, who belongs to one, selects it."""
    return _authenticate(context, user_id, key, None, address)


def _authenticate(context: Context, user_id: str, key: str, account: str | None, address: str) -> Access:
    lockout = open_lockout(context)
    now = now_ms()
    is_locked = lockout.locked(user_id, address, now)
    user = _look_up_user(context, user_id) if _is_storable(user_id) else None
    digest, old_digest = (user["key_digest"], user["old_key_digest"]) if user else ("", "")
    # Both are always compared, with nothing where there is no user: the time tells nothing either.
    given_digest = context.digests.api_key(key)
    is_key = is_same_digest(given_digest, digest)
    is_old_key = is_same_digest(given_digest, old_digest)
    if not is_locked and user is not None and (is_key or (is_old_key and user["old_key_until"] > now)):
        access = Access(
            user["account_id"],
            user["public_id"],
            user["user_id"],
            bool(user["may_import"]),
            user["newest"],
        )
        if account in (None, access.public_id) and not user["disabled"]:
            return access
    if not is_locked:
        lockout.failed(user_id, address, now)
    raise ApiError("bad_credentials")


def _look_up_user(context: Context, user_id: str) -> request_lookups.LookupRow | None:
    with context.database.read_connection() as work:
        return request_lookups.find_user(work, user_id)


def _is_storable(text: str) -> bool:
    # What no user can be called, the databases refuse in their own words: NUL and lone surrogates.
    return "\0" not in text and (text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text))


def open_lockout(context: Context) -> Lockout:
    """The failures to log in that this machine has seen."""
    return _open_lockout(context.database.data_dir)


@lru_cache(maxsize=8)
def _open_lockout(data_dir: Path) -> Lockout:
    return Lockout(data_dir / "lockout.db")
