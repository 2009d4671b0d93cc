"""Sessions of the console's users, who sign in with e-mail address and password.

A session is opened by its token and the token's signature (`cookie_value`, which the browser stores). The token alone,
which replies show, opens nothing, so a script in a page cannot steal a session. The database holds a keyed digest only.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import RowMapping

from auth.authenticate import open_lockout
from crypto import digests
from importing.context import Context
from importing.errors import ApiError
from storage.engine import now_ms
from storage.queries import accounts, admins

SECOND_MS = 1_000
DAY_MS = 86_400 * SECOND_MS
SESSION_MS = 7 * DAY_MS
# A session that ends with the browser.
BROWSER_SESSION_MS = DAY_MS

# Checking a password takes 64 MB and 0.1 s of a processor: a process checks one at a time, and few wait for it.
MAX_WAITING_SIGN_INS = 8
RETRY_AFTER_SECONDS = 1

AGENT_CHARACTERS_KEPT = 255

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f\ud800-\udfff]+@[^@\s\x00-\x1f\x7f\ud800-\udfff]+")

_password_lock = threading.Lock()
_sign_in_slots = threading.BoundedSemaphore(1 + MAX_WAITING_SIGN_INS)


class Role(StrEnum):
    ADMIN = "admin"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Admin:
    """A user of the console. `account` is the store's number of the only account that the user may see; None: all.

    `public_id` is the protocols' name of that account, "" for all. `created_at` is in milliseconds since the epoch.
    """

    id: int
    email: str
    role: Role
    account: int | None
    public_id: str
    created_at: int


@dataclass(frozen=True, slots=True)
class AdminSession:
    """A session of a console user. Times are milliseconds since the epoch.

    `id` and `token` name the session without opening it; `cookie_value` opens it and is never shown.
    """

    id: str
    admin: Admin
    token: str
    cookie_value: str
    created_at: int
    expires_at: int
    address: str
    agent: str


def is_email(text: str) -> bool:
    """Whether the text can be the e-mail address of a console user."""
    return len(text) <= 255 and _EMAIL.fullmatch(text) is not None


def sign_in(
    context: Context, email: str, password: str, address: str, agent: str, *, remember: bool = True
) -> AdminSession:
    """Begin a session of a console user. `remember`: it outlives the browser.

    Raises ApiError: bad_password, for an unknown address too and at the same cost; locked_out, after as many failures as
    lock an API user (`authenticate`) or while too many others sign in; busy.
    """
    email = email.lower()
    lockout, lockout_name, now = open_lockout(context), f"console:{email}", now_ms()
    if wait := lockout.wait(lockout_name, address, now):
        raise ApiError("locked_out", retry_after=-(-wait // SECOND_MS))
    with context.database.reading() as connection:
        row = admins.find_admin(connection, email) if is_email(email) else None
    with _lock_password_check():
        if row is None:
            # It costs as much as a check.
            digests.hash_password(password)
        if row is None or not digests.verify_password(password, row["password_digest"]):
            lockout.count_failure(lockout_name, address, now)
            raise ApiError("bad_password")
    return _begin_session(context, row, address, agent, SESSION_MS if remember else BROWSER_SESSION_MS)


def find_session(context: Context, cookie_value: str) -> AdminSession | None:
    """The session that the cookie's value opens, unless it has ended."""
    token, _, signature = cookie_value.partition(".")
    if not hmac.compare_digest(_cookie_signature(context, token).encode(), signature.encode("utf-8", "replace")):
        return None
    with context.database.reading() as connection:
        row = admins.find_session(connection, _token_digest(context, token), now_ms())
    return _session_from(context, token, row) if row is not None else None


def sign_out(context: Context, session: AdminSession) -> None:
    """End a session."""
    with context.database.writing(context.write_wait) as connection:
        admins.end_session(connection, _token_digest(context, session.token))
        accounts.add_audit_line(connection, session.admin.account, session.admin.email, "sign out")


def drop_expired(context: Context) -> int:
    """Drop the sessions that have expired. Returns how many; raises Busy."""
    now = now_ms()
    with context.database.reading() as connection:
        if not admins.has_expired_sessions(connection, now):
            return 0
    with context.database.writing(context.write_wait) as connection:
        return admins.drop_expired_sessions(connection, now)


def _begin_session(context: Context, row: RowMapping, address: str, agent: str, duration_ms: int) -> AdminSession:
    token, now = secrets.token_urlsafe(24), now_ms()
    # PostgreSQL's text cannot hold NUL; a header can hold nothing worse.
    agent = agent[:AGENT_CHARACTERS_KEPT].replace("\0", "")
    values = {"created_at": now, "expires_at": now + duration_ms, "address": address, "agent": agent}
    with context.database.writing(context.write_wait) as connection:
        admins.add_session(connection, digest=_token_digest(context, token), admin_id=row["admin_id"], **values)
        accounts.add_audit_line(connection, row["account_id"], row["email"], "sign in")
    return _session_from(context, token, {**row, **values})


@contextmanager
def _lock_password_check() -> Iterator[None]:
    """Check passwords in here, one at a time. Raises ApiError("locked_out") while too many wait."""
    if not _sign_in_slots.acquire(blocking=False):
        raise ApiError("locked_out", retry_after=RETRY_AFTER_SECONDS)
    try:
        with _password_lock:
            yield
    finally:
        _sign_in_slots.release()


def _session_from(context: Context, token: str, row: RowMapping | dict[str, object]) -> AdminSession:
    values = dict(row)
    admin = Admin(
        values["admin_id"],
        values["email"],
        Role(values["role"]),
        values["account_id"],
        values["public_id"] or "",
        values["admin_created_at"],
    )
    return AdminSession(
        _token_digest(context, token)[:32],
        admin,
        token,
        f"{token}.{_cookie_signature(context, token)}",
        values["created_at"],
        values["expires_at"],
        values["address"],
        values["agent"],
    )


def _token_digest(context: Context, token: str) -> str:
    return _mac(context, "console session", token).hex()


def _cookie_signature(context: Context, token: str) -> str:
    return urlsafe_b64encode(_mac(context, "console cookie", token)).decode().rstrip("=")


def _mac(context: Context, purpose: str, token: str) -> bytes:
    return hmac.digest(context.digests.key(purpose), token.encode("utf-8", "replace"), "sha256")
