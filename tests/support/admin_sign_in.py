"""Administrators for the tests, and how they sign in."""

from __future__ import annotations

from typing import Any

import argon2
from webtest import TestApp  # type: ignore[import-untyped]

from importing.context import Context
from storage.queries import admins
from tests.support.demo_accounts import Demo

EMAIL = "ann@example.com"
PASSWORD = "correct horse"  # noqa: S105
SIGN_IN = "/api/auth/sign-in/email"

# As `secrets.password` makes it but for its cost: a hash says what it costs to check, there a sixth of a second.
DIGEST = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)


def administrator(context: Context, account: Demo | None, email: str = EMAIL, role: str = "admin") -> None:
    """Make a user of the console, of one account or of all."""
    with context.database.writing() as connection:
        number = account.number if account is not None else None
        admins.create_admin(connection, email, number, role, DIGEST)


def sign_in(client: TestApp, email: str = EMAIL, password: str = PASSWORD, **options: Any) -> Any:
    """The reply to signing in; the client keeps the cookie."""
    return client.post_json(SIGN_IN, {"email": email, "password": password}, **options)
