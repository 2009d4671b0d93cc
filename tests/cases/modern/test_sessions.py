"""Signing in to the console and to Solivio: sessions, their cookie, refusals, and what a flood of guesses meets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update
from webtest import TestApp  # type: ignore[import-untyped]

from app import create_app
from auth import admin_sessions, lockout
from auth.admin_sessions import Role
from crypto import digests
from importing.context import Context
from importing.errors import ApiError
from modern_api import sessions
from server import maintenance
from storage import tables
from storage.engine import Busy
from storage.queries import admins
from storage.tables import admin_session
from tests.conftest import settings_for
from tests.support.admin_sign_in import EMAIL, PASSWORD, SIGN_IN, administrator, sign_in
from tests.support.demo_accounts import Demo
from transport.session_cookie import COOKIE

SIGN_OUT, GET_SESSION = "/api/auth/sign-out", "/api/auth/get-session"
WRONG = {"message": "Invalid email or password", "code": "INVALID_EMAIL_OR_PASSWORD"}


@pytest.fixture
def admin(context: Context, account: Demo) -> str:
    """An administrator of the demo account."""
    administrator(context, account)
    return EMAIL


def stored(context: Context) -> list[dict[str, Any]]:
    with context.database.reading() as connection:
        return [dict(row) for row in connection.execute(select(admin_session)).mappings()]


def set_cookie(reply: Any) -> str:
    [line] = reply.headers.getall("Set-Cookie")
    return str(line)


class TestSigningIn:
    def test_gives_a_session_and_its_cookie(self, client: TestApp, admin: str) -> None:
        reply = sign_in(client, admin.upper())
        user = reply.json["user"]
        assert reply.json == {"redirect": False, "token": reply.json["token"], "user": user}
        assert (user["email"], user["name"], user["role"], user["image"]) == (EMAIL, "ann", "admin", None)
        assert sessions.SessionsSignedIn().validate(reply.json) == {}
        cookie = set_cookie(reply)
        for part in ("HttpOnly", "SameSite=Lax", "Path=/", f"Max-Age={7 * 24 * 3600}"):
            assert part in cookie.split("; ")
        assert cookie.startswith(f"{COOKIE}=")
        assert "Secure" not in cookie
        assert reply.headers["Cache-Control"] == "no-store"
        found = client.get(GET_SESSION).json
        assert found["user"] == user
        assert found["session"]["token"] == reply.json["token"]
        assert sessions.SessionsSessionReply().validate(found) == {}

    def test_over_https_the_cookie_is_secure(self, context: Context, admin: str) -> None:
        app = create_app(settings_for(context.database, trust_proxy=1), context)
        client = TestApp(
            app, extra_environ={"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": "shop.example"}
        )
        reply = sign_in(client, admin, headers={"Origin": "https://shop.example"})
        name, _, rest = set_cookie(reply).partition("=")
        assert name == f"__Secure-{COOKIE}"
        assert "Secure" in rest.split("; ")
        cookie = rest.partition(";")[0]
        for sent in (f"{name}={cookie}", f"{COOKIE}={cookie}", f"{name}={cookie}; {COOKIE}=planted"):
            assert TestApp(app, extra_environ=client.extra_environ).get(GET_SESSION, headers={"Cookie": sent}).json

    def test_keeps_a_keyed_digest_only(self, client: TestApp, context: Context, admin: str) -> None:
        reply = sign_in(client, admin)
        token = reply.json["token"]
        [row] = stored(context)
        assert token not in str(row)
        assert row["expires_at"] - row["created_at"] == 7 * maintenance.DAY
        other = admin_sessions.find_session(
            Context(context.database, digests.Digests(b"y" * 32)), set_cookie(reply).split("=")[1].split(";")[0]
        )
        assert other is None

    def test_the_token_that_replies_show_opens_nothing(self, app: Flask, client: TestApp, admin: str) -> None:
        token = sign_in(client, admin).json["token"]
        for value in (token, f"{token}.", f"{token}.{'A' * 43}", f".{token}", "ä", ""):
            assert TestApp(app).get(GET_SESSION, headers={"Cookie": f"{COOKIE}={value}"}).json is None

    def test_may_end_with_the_browser(self, client: TestApp, context: Context, admin: str) -> None:
        reply = client.post_json(SIGN_IN, {"email": admin, "password": PASSWORD, "rememberMe": False})
        assert "Max-Age" not in set_cookie(reply)
        [row] = stored(context)
        assert row["expires_at"] - row["created_at"] == maintenance.DAY

    @pytest.mark.parametrize(
        ("url", "good"),
        [
            ("/console", True),
            ("/a/b?x=1&y=2", True),
            ("http://localhost/console", True),
            ("//elsewhere.example", False),
            ("/\\elsewhere.example", False),
            ("https://elsewhere.example/", False),
            ("http://localhost.elsewhere.example/", False),
            ("javascript:alert(1)", False),
            ("/a\r\nSet-Cookie: x=y", False),
        ],
    )
    def test_leads_on_to_a_page_of_this_server_only(self, client: TestApp, admin: str, url: str, good: bool) -> None:
        body = {"email": admin, "password": PASSWORD, "callbackURL": url}
        reply = client.post_json(SIGN_IN, body, headers={"Host": "localhost"}, expect_errors=True)
        if good:
            assert (reply.json["redirect"], reply.json["url"]) == (True, url)
        else:
            assert (reply.status_int, reply.json["code"]) == (403, "INVALID_CALLBACK_URL")

    def test_is_in_the_audit(self, client: TestApp, context: Context, account: Demo, admin: str) -> None:
        sign_in(client, admin)
        client.post_json(SIGN_OUT, {})
        table = tables.audit
        with context.database.reading() as connection:
            lines = connection.execute(
                select(table.c.account_id, table.c.actor, table.c.action).order_by(table.c.id)
            ).all()
        assert [tuple(line) for line in lines] == [
            (account.number, EMAIL, "sign in"),
            (account.number, EMAIL, "sign out"),
        ]

    def test_tells_whose_account_and_role_it_is(self, context: Context, account: Demo) -> None:
        administrator(context, account, role="user")
        administrator(context, None, "all@example.com")
        one = admin_sessions.sign_in(context, EMAIL, PASSWORD, "192.0.2.1", "x" * 999)
        every = admin_sessions.sign_in(context, "all@example.com", PASSWORD, "192.0.2.1", "Mozilla\0")
        assert (one.admin.role, one.admin.account, one.admin.public_id) == (Role.USER, account.number, "greatwidgets")
        assert (every.admin.role, every.admin.account, every.admin.public_id) == (Role.ADMIN, None, "")
        assert (
            admin_sessions.find_session(context, one.cookie_value),
            admin_sessions.find_session(context, every.cookie_value),
        ) == (one, every)
        assert (len(one.agent), every.agent) == (255, "Mozilla")


class TestRefusals:
    def test_a_wrong_password_and_an_unknown_address_are_refused_alike(
        self, client: TestApp, context: Context, admin: str
    ) -> None:
        for email, password in ((admin, "wrong"), ("bob@example.com", PASSWORD), (admin, "\ud800"), (admin, "")):
            reply = sign_in(client, email, password, expect_errors=True)
            assert (reply.status_int, reply.json) == (401, WRONG)
            assert "Set-Cookie" not in reply.headers
        assert stored(context) == []

    def test_an_unknown_address_costs_a_hash_too(
        self, context: Context, admin: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[str] = []

        def counted(name: str) -> Callable[..., Any]:
            real = getattr(digests, name)

            def call(*arguments: str) -> Any:
                calls.append(name)
                return real(*arguments)

            return call

        for name in ("hash_password", "verify_password"):
            monkeypatch.setattr(digests, name, counted(name))
        for email in (admin, "bob@example.com"):
            with pytest.raises(ApiError, match="bad_password"):
                admin_sessions.sign_in(context, email, "wrong", "192.0.2.1", "")
        assert calls == ["verify_password", "hash_password"]

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", "BAD_REQUEST"),
            (b"{", "BAD_REQUEST"),
            (b"\xff", "BAD_REQUEST"),
            (b"[" * 9000, "BAD_REQUEST"),
            (b"[]", "VALIDATION_ERROR"),
            (b"null", "VALIDATION_ERROR"),
            (b'{"email": "a@b"}', "VALIDATION_ERROR"),
            (b'{"email": "a@b", "password": 7}', "VALIDATION_ERROR"),
            (b'{"email": ["a@b"], "password": "x"}', "VALIDATION_ERROR"),
            (b'{"email": "a@b", "password": "x", "rememberMe": "maybe"}', "VALIDATION_ERROR"),
            (b'{"email": "ann", "password": "x"}', "INVALID_EMAIL"),
            (b'{"email": "a\\u0000@b", "password": "x"}', "INVALID_EMAIL"),
            (b'{"email": "a\\ud800@b", "password": "x"}', "INVALID_EMAIL"),
        ],
    )
    def test_bad_bodies(self, client: TestApp, body: bytes, code: str) -> None:
        reply = client.post(SIGN_IN, body, content_type="application/json", expect_errors=True)
        assert (reply.status_int, reply.json["code"]) == (400, code)
        assert sessions.SessionsError().validate(reply.json) == {}

    def test_a_body_that_is_too_large(self, client: TestApp) -> None:
        reply = client.post(SIGN_IN, b" " * (sessions.MAX_BODY + 1), expect_errors=True)
        assert (reply.status_int, reply.json["code"]) == (413, "PAYLOAD_TOO_LARGE")

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://elsewhere.example"},
            {"Origin": "null"},
            {"Origin": "https://localhost"},
            {"Origin": "http://localhost:81"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_a_page_of_another_origin(
        self, client: TestApp, context: Context, admin: str, headers: dict[str, str]
    ) -> None:
        reply = sign_in(client, admin, headers={"Host": "localhost", **headers}, expect_errors=True)
        assert (reply.status_int, reply.json["code"]) == (403, "INVALID_ORIGIN")
        sign_in(
            client, admin, headers={"Host": "localhost", "Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
        )
        assert client.post_json(SIGN_OUT, {}, headers={"Host": "localhost", **headers}, status=403)
        assert len(stored(context)) == 1

    def test_what_is_not_served_is_refused_in_json(self, client: TestApp) -> None:
        for path, method, status, code in (
            (SIGN_IN, "GET", 405, "METHOD_NOT_ALLOWED"),
            (GET_SESSION, "POST", 405, "METHOD_NOT_ALLOWED"),
            ("/api/auth/sign-up/email", "POST", 404, "NOT_FOUND"),
        ):
            reply = client.request(path, method=method, expect_errors=True)
            assert (reply.status_int, reply.json["code"]) == (status, code)
        assert client.request(GET_SESSION, method="PUT", status=405).headers["Allow"] == "GET, HEAD"

    def test_a_busy_and_a_broken_server(self, client: TestApp, admin: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for error, status, code in ((Busy(), 503, "SERVICE_UNAVAILABLE"), (ValueError(), 500, "INTERNAL_SERVER_ERROR")):
            monkeypatch.setattr(admin_sessions, "_begin_session", failing(error))
            reply = sign_in(client, admin, expect_errors=True)
            assert (reply.status_int, reply.json["code"]) == (status, code)
            assert reply.headers.get("Retry-After") == ("5" if status == 503 else None)


class TestGuessing:
    def test_locks_out_for_a_minute(
        self, client: TestApp, context: Context, admin: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(digests, "verify_password", lambda _value, _digest: False)
        for _ in range(lockout.PAIR_LIMIT):
            assert sign_in(client, admin, expect_errors=True).status_int == 401
        monkeypatch.undo()
        reply = sign_in(client, admin, expect_errors=True)
        assert (reply.status_int, reply.json["message"]) == (429, "Too many requests. Please try again later.")
        assert 55 <= int(reply.headers["X-Retry-After"]) <= 60
        assert reply.headers["Retry-After"] == reply.headers["X-Retry-After"]
        # From another address the same user may.
        assert admin_sessions.sign_in(context, admin, PASSWORD, "192.0.2.9", "").admin.email == admin

    def test_checks_one_password_at_a_time_and_lets_few_wait(
        self, context: Context, admin: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, go_on = threading.Event(), threading.Event()
        running: list[int] = []
        limit: list[int] = []

        def slow(_value: str, _digest: str) -> bool:
            running.append(1)
            limit.append(len(running))
            begun.set()
            go_on.wait(30)
            running.pop()
            return True

        monkeypatch.setattr(digests, "verify_password", slow)
        waiting = threading.Semaphore(0)
        admitted = admin_sessions._sign_in_slots

        class Counted:
            def acquire(self, blocking: bool) -> bool:
                got = admitted.acquire(blocking)
                waiting.release()
                return got

            def release(self) -> None:
                admitted.release()

        monkeypatch.setattr(admin_sessions, "_sign_in_slots", Counted())
        done: list[str] = []

        def one() -> None:
            done.append(admin_sessions.sign_in(context, admin, PASSWORD, "192.0.2.1", "").admin.email)

        threads = [threading.Thread(target=one) for _ in range(1 + admin_sessions.MAX_WAITING_SIGN_INS)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert waiting.acquire(timeout=30)
        assert begun.wait(30)
        with pytest.raises(ApiError, match="locked_out") as refused:
            admin_sessions.sign_in(context, admin, PASSWORD, "192.0.2.1", "")
        assert refused.value.retry_after == admin_sessions.RETRY_AFTER_SECONDS
        go_on.set()
        for thread in threads:
            thread.join(30)
        assert done == [admin] * len(threads)
        assert max(limit) == 1


class TestTheEnd:
    def test_signing_out_ends_the_session_and_takes_the_cookie(
        self, app: Flask, client: TestApp, context: Context, admin: str
    ) -> None:
        cookie = set_cookie(sign_in(client, admin)).partition(";")[0]
        reply = client.post_json(SIGN_OUT, {})
        assert reply.json == {"success": True}
        assert "Max-Age=0" in set_cookie(reply)
        assert stored(context) == []
        # Nor does the cookie open anything for who kept it; one that opens nothing is taken away.
        late = TestApp(app).get(GET_SESSION, headers={"Cookie": cookie})
        assert (late.json, "Max-Age=0" in set_cookie(late)) == (None, True)
        assert client.post_json(SIGN_OUT, {}).json == {"success": True}

    def test_an_expired_session_is_none_and_upkeep_drops_it(
        self, client: TestApp, context: Context, admin: str
    ) -> None:
        sign_in(client, admin)
        with context.database.writing() as connection:
            connection.execute(update(admin_session).values(expires_at=admin_session.c.created_at))
        assert client.get(GET_SESSION).json is None
        sign_in(client, admin)
        assert len(stored(context)) == 2
        maintenance.run_once(context)
        assert len(stored(context)) == 1
        assert client.get(GET_SESSION).json["user"]["email"] == admin

    def test_a_role_counts_as_it_is_now(self, client: TestApp, context: Context, admin: str) -> None:
        sign_in(client, admin)
        with context.database.writing() as connection:
            connection.execute(update(tables.admin_user).values(role="user"))
        assert client.get(GET_SESSION).json["user"]["role"] == "user"


def test_routes_say_which_refusals_they_give() -> None:
    protocol = sessions.PROTOCOL
    assert {status for route in protocol.routes for status in route.refusals} | {404, 405} == set(protocol.refusals)


def test_an_admin_is_found_with_its_account(context: Context, account: Demo) -> None:
    administrator(context, account)
    with context.database.reading() as connection:
        found = admins.find_admin(connection, EMAIL)
    assert found is not None
    assert (found["account_id"], found["public_id"]) == (account.number, "greatwidgets")


def failing(error: Exception) -> Callable[..., Any]:
    """Something that raises it."""

    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    return fail
