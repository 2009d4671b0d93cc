"""What concerns browsers only: the cookie of a session, and requests that another site's page made them send."""

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


def pass_of(request: Request) -> str:
    """What the session's cookie holds, "" without one. Over HTTPS the secure one comes first: no plain page could set it."""
    names = (SECURE + COOKIE, COOKIE) if request.is_secure else (COOKIE,)
    return unquote(next((value for name in names if (value := request.cookies.get(name))), ""))


def give_pass(request: Request, response: Response, cookie_value: str, seconds: int | None) -> None:
    """Set the session's cookie. None: it ends with the browser."""
    _set(request, response, cookie_value, seconds)


def take_pass(request: Request, response: Response) -> None:
    """Remove the session's cookie."""
    _set(request, response, "", 0)


def is_foreign(request: Request) -> bool:
    """Whether a browser says that another origin's page made it send the request. Other clients say nothing of it."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() != f"{request.scheme}://{request.host}".lower():
        return True
    return request.headers.get("Sec-Fetch-Site", "").lower() in ("cross-site", "same-site")


def _set(request: Request, response: Response, value: str, seconds: int | None) -> None:
    secure = request.is_secure
    name = SECURE + COOKIE if secure else COOKIE
    response.set_cookie(name, value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="Lax")
