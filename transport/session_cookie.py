"""What concerns browsers only: the session cookie, and requests sent by a page of another origin."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from werkzeug.wrappers import Request, Response

# The name that Better Auth's clients and Solivio's documents know.
COOKIE = "better-auth.session_token"
SECURE = "__Secure-"
# How OpenAPI names the cookie of a session.
SESSION_SECURITY: Mapping[str, Mapping[str, str]] = {
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "the session's cookie, set by signing in",
    }
}


def session_cookie(request: Request) -> str:
    """The value of the session cookie, "" without one. Over HTTPS the secure one wins: no page over HTTP can set it."""
    names = (SECURE + COOKIE, COOKIE) if request.is_secure else (COOKIE,)
    return unquote(next((value for name in names if (value := request.cookies.get(name))), ""))


def set_session_cookie(request: Request, response: Response, value: str = "", seconds: int | None = 0) -> None:
    """Set the session cookie for so many seconds, None: until the browser ends. Without a value it is removed."""
    secure = request.is_secure
    name = SECURE + COOKIE if secure else COOKIE
    response.set_cookie(name, value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="Lax")


def is_foreign(request: Request) -> bool:
    """Whether a browser reports that a page of another origin sent the request. Other clients send no such header."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() != f"{request.scheme}://{request.host}".lower():
        return True
    return request.headers.get("Sec-Fetch-Site", "").lower() in ("cross-site", "same-site")
