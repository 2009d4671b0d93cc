"""The console's users sign in with e-mail address and password, and have a session of 7 days by a token.

A session opens with the token and its signature (`Session.pass_`, what a browser keeps in its cookie); the token alone,
which replies show, opens nothing, so that a script in a page cannot carry a session away. Only a keyed digest is kept.
"""

from __future__ import annotations

import hmac
import re
import secrets as randomness
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import RowMapping

from importing import secrets
from importing.access import lockout_of
from importing.core import Core
from importing.faults import Fault
from storage import accounts, admins
from storage.engine import now

SECOND = 1_000
DAY = 86_400 * SECOND
LASTS = 7 * DAY
# Of a session that ends with its browser.
LASTS_UNREMEMBERED = DAY

# Checking a password takes 64 MB and a tenth of a second of a processor: one at a time in a process, and few wait.
WAITING = 8
RETRY_AFTER = 1  # seconds

KEPT = 255  # characters of what a browser calls itself

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f\ud800-\udfff]+@[^@\s\x00-\x1f\x7f\ud800-\udfff]+")

_checking = threading.Lock()
_admitted = threading.BoundedSemaphore(1 + WAITING)


class Role(StrEnum):
    ADMIN = "admin"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Admin:
    """A user of the console. `account` is the store's number of the one account that is theirs; None: all are.

    `account_id` is what people call that account, "" for all. `created_at` is in milliseconds since the epoch.
    """

    id: int
    email: str
    role: Role
    account: int | None
    account_id: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a user of the console. Times are milliseconds since the epoch.

    `id` names it and `token` too, without opening it; `pass_` opens it and is never shown.
    """

    id: str
    admin: Admin
    token: str
    pass_: str
    created_at: int
    expires_at: int
    address: str
    agent: str


def is_email(text: str) -> bool:
    """Whether a user of the console can have that e-mail address."""
    return len(text) <= 255 and _EMAIL.fullmatch(text) is not None


def sign_in(core: Core, email: str, password: str, address: str, agent: str, *, remember: bool = True) -> Session:
    """A new session of the console's user. `remember`: it outlives its browser.

    Raises Fault: bad_password, for an unknown address too and at the same cost; locked_out, after so many failures as
    `access.authenticate` counts them or while too many others are signing in; busy.
    """
    email = email.lower()
    lockout, who, moment = lockout_of(core), f"console:{email}", now()
    if wait := lockout.wait(who, address, moment):
        raise Fault("locked_out", retry_after=-(-wait // SECOND))
    with core.database.reading() as connection:
        row = admins.find(connection, email) if is_email(email) else None
    with _turn():
        if row is None:
            # As dear as looking whether it is right.
            secrets.password(password)
        if row is None or not secrets.verify_password(password, row["password_digest"]):
            lockout.failed(who, address, moment)
            raise Fault("bad_password")
    return _begin(core, row, address, agent, LASTS if remember else LASTS_UNREMEMBERED)


def find(core: Core, pass_: str) -> Session | None:
    """The session that the pass opens, unless it has ended."""
    token, _, signature = pass_.partition(".")
    if not hmac.compare_digest(_signature(core, token).encode(), signature.encode("utf-8", "replace")):
        return None
    with core.database.reading() as connection:
        row = admins.find_session(connection, _digest(core, token), now())
    return _session(core, token, row) if row is not None else None


def sign_out(core: Core, session: Session) -> None:
    """End a session."""
    with core.database.writing(core.write_wait) as connection:
        admins.end_session(connection, _digest(core, session.token))
        accounts.note(connection, session.admin.account, session.admin.email, "sign out")


def drop_expired(core: Core) -> int:
    """Drop the sessions that have expired. Returns how many; raises Busy."""
    moment = now()
    with core.database.reading() as connection:
        expired = admins.any_expired(connection, moment)
    if not expired:
        return 0
    with core.database.writing(core.write_wait) as connection:
        return admins.drop_expired(connection, moment)


def _begin(core: Core, row: RowMapping, address: str, agent: str, lasts: int) -> Session:
    token, moment = randomness.token_urlsafe(24), now()
    values = {"created_at": moment, "expires_at": moment + lasts, "address": address, "agent": _kept(agent)}
    with core.database.writing(core.write_wait) as connection:
        admins.add_session(connection, digest=_digest(core, token), admin_id=row["admin_id"], **values)
        accounts.note(connection, row["account_id"], row["email"], "sign in")
    return _session(core, token, {**row, **values})


@contextmanager
def _turn() -> Iterator[None]:
    """One's turn to check a password. Raises Fault("locked_out") while too many wait for theirs."""
    if not _admitted.acquire(blocking=False):
        raise Fault("locked_out", retry_after=RETRY_AFTER)
    try:
        with _checking:
            yield
    finally:
        _admitted.release()


def _session(core: Core, token: str, row: RowMapping | dict[str, object]) -> Session:
    values = dict(row)
    admin = Admin(
        values["admin_id"],
        values["email"],
        Role(values["role"]),
        values["account_id"],
        values["account_name_id"] or "",
        values["admin_created_at"],
    )
    return Session(
        _digest(core, token)[:32],
        admin,
        token,
        f"{token}.{_signature(core, token)}",
        values["created_at"],
        values["expires_at"],
        values["address"],
        values["agent"],
    )


def _digest(core: Core, token: str) -> str:
    return _mac(core, "console session", token).hex()


def _signature(core: Core, token: str) -> str:
    return urlsafe_b64encode(_mac(core, "console cookie", token)).decode().rstrip("=")


def _mac(core: Core, purpose: str, token: str) -> bytes:
    return hmac.digest(core.digests.key(purpose), token.encode("utf-8", "replace"), "sha256")


def _kept(agent: str) -> str:
    # PostgreSQL's text cannot hold NUL; a header can hold nothing worse.
    return agent[:KEPT].replace("\0", "")
