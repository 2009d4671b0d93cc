"""Credentials to an account and rights. All refusals are alike, so that nobody can enumerate users."""

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
    """An authenticated user. `account` is the store's number, `public_id` the protocols' name of the account.

    `last_change` is the number of the account's newest change at the time of the request.
    """

    account: int
    public_id: str
    user_id: str
    may_import: bool
    last_change: int | None = None


def authenticate(context: Context, user_id: str, key: str, account_id: str | None, address: str) -> Access:
    """The access of a user with a key, from an address. Raises bad_credentials, whatever the cause.

    The user must belong to `account_id`; None: the user's account. After 20 failures of a user from an address within
    10 minutes, or 200 from an address, all are refused for a minute, then two, up to 15 (docs/protocol.md, Transport).
    """
    lockout, now = open_lockout(context), now_ms()
    is_locked = lockout.wait(user_id, address, now) > 0
    user = None
    if _is_storable(user_id):
        with context.database.read_connection() as work:
            user = request_lookups.find_user(work, user_id)
    # Both digests are always compared, with "" where there is no user, so that the time reveals nothing.
    digest = context.digests.api_key(key)
    is_key = is_same_digest(digest, user["key_digest"] if user else "")
    is_old_key = is_same_digest(digest, user["old_key_digest"] if user else "")
    if not is_locked and user is not None and (is_key or (is_old_key and user["old_key_until"] > now)):
        access = Access(
            user["account_id"], user["public_id"], user["user_id"], bool(user["may_import"]), user["newest"]
        )
        if account_id in (None, access.public_id) and not user["disabled"]:
            return access
    if not is_locked:
        lockout.count_failure(user_id, address, now)
    raise ApiError("bad_credentials")


def _is_storable(text: str) -> bool:
    # The databases raise errors of their own for NUL and lone surrogates.
    return "\0" not in text and (text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text))


def open_lockout(context: Context) -> Lockout:
    """The failed logins that this machine has counted."""
    return _open_lockout(context.database.data_dir)


@lru_cache(maxsize=8)
def _open_lockout(data_dir: Path) -> Lockout:
    return Lockout(data_dir / "lockout.db")
