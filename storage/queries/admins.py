"""The plain queries of the console's users and of their sessions. All take an SQLAlchemy connection first.

Rows are mappings of columns; times are milliseconds since the epoch. A session is known by the digest of its token.
"""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, delete, insert, select

from storage.engine import now_ms
from storage.tables import account, admin_session, admin_user

_ADMIN_COLUMNS = (
    admin_user.c.id.label("admin_id"),
    admin_user.c.email,
    admin_user.c.role,
    admin_user.c.account_id,
    account.c.public_id,
    admin_user.c.created_at.label("admin_created_at"),
)


def find_admin(connection: Connection, email: str) -> RowMapping | None:
    """The console user of that e-mail address, with `password_digest` and its account's `public_id`."""
    query = (
        select(*_ADMIN_COLUMNS, admin_user.c.password_digest)
        .join(account, account.c.id == admin_user.c.account_id, isouter=True)
        .where(admin_user.c.email == email)
    )
    return connection.execute(query).mappings().first()


def create_admin(connection: Connection, email: str, account: int | None, role: str, password_digest: str) -> None:
    """Create a console user."""
    values = {
        "email": email,
        "account_id": account,
        "role": role,
        "password_digest": password_digest,
        "created_at": now_ms(),
    }
    connection.execute(insert(admin_user).values(values))


def find_session(connection: Connection, digest: str, now: int) -> RowMapping | None:
    """The session of that digest with the columns of its console user, if it has not expired."""
    query = (
        select(admin_session, *(column for column in _ADMIN_COLUMNS if column.key != "admin_id"))
        .join(admin_user, admin_user.c.id == admin_session.c.admin_id)
        .join(account, account.c.id == admin_user.c.account_id, isouter=True)
        .where(admin_session.c.digest == digest, admin_session.c.expires_at > now)
    )
    return connection.execute(query).mappings().first()


def add_session(connection: Connection, **values: object) -> None:
    """Begin a session: digest, admin_id, created_at, expires_at, address, agent."""
    connection.execute(insert(admin_session).values(values))


def end_session(connection: Connection, digest: str) -> None:
    """End a session."""
    connection.execute(delete(admin_session).where(admin_session.c.digest == digest))


def has_expired_sessions(connection: Connection, now: int) -> bool:
    """Whether a session has expired. Takes no lock."""
    expired = select(admin_session.c.digest).where(admin_session.c.expires_at <= now)
    return connection.execute(expired).first() is not None


def drop_expired_sessions(connection: Connection, now: int) -> int:
    """Drop the sessions that have expired; returns how many."""
    return connection.execute(delete(admin_session).where(admin_session.c.expires_at <= now)).rowcount
