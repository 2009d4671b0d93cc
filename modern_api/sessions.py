"""Signing in, for Solivio's clients and the console alike: what Better Auth's clients ask for under `/api/auth`.

Source: docs/modern_protocols.md, Solivio.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flask import Response
from marshmallow import EXCLUDE, Schema, fields

from auth import admin_sessions
from auth.admin_sessions import AdminSession
from importing.errors import ApiError
from importing.times import iso_milliseconds
from modern_api.json_stream import json_body, json_response
from modern_api.routes import ApiCall, JsonBody, ModernProtocol, Refusal, ReplySpec, Route
from transport.session_cookie import SESSION_SECURITY, is_foreign, session_cookie, set_session_cookie

PATH = "/api/auth"
MAX_BODY = 16 * 1024
# A path of this server, so that the reply is no open redirect.
_PATH = re.compile(r"/(?![/\\])[\w\-.~+/@%]*(?:[?#][\w\-.~+/=&%@]*)?", re.ASCII)

# Better Auth's codes and messages, by error code, else by status.
_BY_CODE: Mapping[str, tuple[str, str]] = {
    "bad_password": ("INVALID_EMAIL_OR_PASSWORD", "Invalid email or password"),
    "bad_email": ("INVALID_EMAIL", "Invalid email"),
    "bad_body": ("VALIDATION_ERROR", ""),
    "bad_callback_url": ("INVALID_CALLBACK_URL", "Invalid callbackURL"),
    "foreign_origin": ("INVALID_ORIGIN", "Invalid origin"),
}
_BY_STATUS: Mapping[int, tuple[str, str]] = {
    400: ("BAD_REQUEST", "Invalid JSON in request body"),
    404: ("NOT_FOUND", "Not found"),
    405: ("METHOD_NOT_ALLOWED", "Method not allowed"),
    413: ("PAYLOAD_TOO_LARGE", "Request body too large"),
    429: ("TOO_MANY_REQUESTS", "Too many requests. Please try again later."),
    500: ("INTERNAL_SERVER_ERROR", "Internal Server Error"),
    503: ("SERVICE_UNAVAILABLE", "Service unavailable. Please try again."),
}


class SessionsSignInBody(Schema):
    """What a user of the console types in."""

    email = fields.String(required=True, metadata={"format": "email", "maxLength": 255})
    password = fields.String(required=True)
    callbackURL = fields.String(metadata={"description": "A path of this server, given back as `url`."})  # noqa: N815
    rememberMe = fields.Boolean(  # noqa: N815 - names on the wire
        truthy={True},
        falsy={False},
        metadata={"description": "false: the session ends with the browser, or after a day."},
    )


class SessionsUser(Schema):
    id = fields.String(required=True)
    email = fields.String(required=True)
    name = fields.String(required=True)
    image = fields.String(required=True, allow_none=True)
    emailVerified = fields.Boolean(required=True)  # noqa: N815
    role = fields.String(required=True)
    createdAt = fields.AwareDateTime(required=True)  # noqa: N815
    updatedAt = fields.AwareDateTime(required=True)  # noqa: N815


class SessionsSessionMembers(Schema):
    id = fields.String(required=True)
    userId = fields.String(required=True)  # noqa: N815
    token = fields.String(required=True)
    expiresAt = fields.AwareDateTime(required=True)  # noqa: N815
    createdAt = fields.AwareDateTime(required=True)  # noqa: N815
    updatedAt = fields.AwareDateTime(required=True)  # noqa: N815
    ipAddress = fields.String(required=True)  # noqa: N815
    userAgent = fields.String(required=True)  # noqa: N815


class SessionsSignedIn(Schema):
    redirect = fields.Boolean(required=True)
    token = fields.String(required=True)
    url = fields.String()
    user = fields.Nested(SessionsUser, required=True)


class SessionsSessionReply(Schema):
    session = fields.Nested(SessionsSessionMembers, required=True)
    user = fields.Nested(SessionsUser, required=True)


class SessionsSignedOut(Schema):
    success = fields.Boolean(required=True)


class SessionsError(Schema):
    message = fields.String(required=True)
    code = fields.String(required=True)


def sign_in(call: ApiCall) -> Response:
    """`POST /sign-in/email`: a session, its cookie and its user."""
    request = call.request
    if is_foreign(request):
        raise ApiError("foreign_origin")
    # Better Auth ignores other members too.
    body = json_body(request, SessionsSignInBody(unknown=EXCLUDE), MAX_BODY)
    if not admin_sessions.is_email(body["email"]):
        raise ApiError("bad_email")
    url, remember = body.get("callbackURL", ""), body.get("rememberMe", True)
    if url and not _PATH.fullmatch(url.removeprefix(f"{request.scheme}://{request.host}")):
        raise ApiError("bad_callback_url")
    address, agent = request.remote_addr or "", request.headers.get("User-Agent", "")
    session = admin_sessions.sign_in(call.context, body["email"], body["password"], address, agent, remember=remember)
    document = {"redirect": bool(url), "token": session.token, "user": _user_document(session)}
    response = json_response({**document, "url": url} if url else document)
    seconds = admin_sessions.SESSION_MS // admin_sessions.SECOND_MS if remember else None
    set_session_cookie(request, response, session.cookie_value, seconds)
    return response


def sign_out(call: ApiCall) -> Response:
    """`POST /sign-out`: the end of the session, if there is one, and of its cookie."""
    if is_foreign(call.request):
        raise ApiError("foreign_origin")
    session = admin_sessions.find_session(call.context, session_cookie(call.request))
    if session is not None:
        admin_sessions.sign_out(call.context, session)
    response = json_response({"success": True})
    set_session_cookie(call.request, response)
    return response


def get_session(call: ApiCall) -> Response:
    """`GET /get-session`: who is signed in, or null."""
    cookie = session_cookie(call.request)
    session = admin_sessions.find_session(call.context, cookie)
    if session is not None:
        return json_response({"session": _session_document(session), "user": _user_document(session)})
    response = json_response(None)
    if cookie:
        set_session_cookie(call.request, response)
    return response


def refused(refusal: Refusal) -> Mapping[str, object]:
    """A refusal as Better Auth words it."""
    code, message = _BY_CODE.get(refusal.error.code) or _BY_STATUS[refusal.status]
    return {"message": message or refusal.error.message, "code": code}


def _user_document(session: AdminSession) -> dict[str, object]:
    admin, created_at = session.admin, iso_milliseconds(session.admin.created_at)
    return {
        "id": str(admin.id),
        "email": admin.email,
        "name": admin.email.partition("@")[0],
        "image": None,
        "emailVerified": True,  # the operator of the server entered it
        "role": admin.role.value,
        "createdAt": created_at,
        "updatedAt": created_at,
    }


def _session_document(session: AdminSession) -> dict[str, object]:
    created_at = iso_milliseconds(session.created_at)
    return {
        "id": session.id,
        "userId": str(session.admin.id),
        "token": session.token,
        "expiresAt": iso_milliseconds(session.expires_at),
        "createdAt": created_at,
        "updatedAt": created_at,
        "ipAddress": session.address,
        "userAgent": session.agent,
    }


_EXAMPLE_TIME = "2026-11-21T09:00:00.000Z"
_EXAMPLE_TOKEN = "uX3q0l5w7bJ9Zr2kTn8vYc4mHs6pDf1a"  # noqa: S105 - an example
_EXAMPLE_USER = {
    "id": "1",
    "email": "kim@greatwidgets.example",
    "name": "kim",
    "image": None,
    "emailVerified": True,
    "role": "admin",
    "createdAt": _EXAMPLE_TIME,
    "updatedAt": _EXAMPLE_TIME,
}
_EXAMPLE_SESSION = {
    "id": "5d0c1f8e7a6b4932810fedcba9876543",
    "userId": "1",
    "token": _EXAMPLE_TOKEN,
    "expiresAt": "2026-11-28T09:00:00.000Z",
    "createdAt": _EXAMPLE_TIME,
    "updatedAt": _EXAMPLE_TIME,
    "ipAddress": "192.0.2.7",
    "userAgent": "curl/8.5.0",
}

PROTOCOL = ModernProtocol(
    name="auth",
    title="Signing in",
    routes=(
        Route(
            "POST",
            f"{PATH}/sign-in/email",
            "signInEmail",
            "Sign in with e-mail address and password",
            sign_in,
            ReplySpec(
                SessionsSignedIn,
                "Signed in; the session's cookie is set.",
                {"redirect": False, "token": _EXAMPLE_TOKEN, "user": _EXAMPLE_USER},
                headers=("Set-Cookie",),
            ),
            (400, 401, 403, 413, 429, 500, 503),
            body=JsonBody(
                SessionsSignInBody, {"email": _EXAMPLE_USER["email"], "password": "correct horse battery staple"}
            ),
            credentials=False,
        ),
        Route(
            "POST",
            f"{PATH}/sign-out",
            "signOut",
            "End the session",
            sign_out,
            ReplySpec(SessionsSignedOut, "Nobody is signed in any more; the cookie is removed.", {"success": True}),
            (403, 429, 500, 503),
        ),
        Route(
            "GET",
            f"{PATH}/get-session",
            "getSession",
            "Who is signed in",
            get_session,
            ReplySpec(
                SessionsSessionReply,
                "The session and its user; null where nobody is signed in.",
                {"session": _EXAMPLE_SESSION, "user": _EXAMPLE_USER},
                or_null=True,
            ),
            (429, 500, 503),
        ),
    ),
    below=(PATH,),
    authenticate=None,
    refused=refused,
    error_schema=SessionsError,
    refusals={
        400: "The body is no JSON, a member is missing, or the e-mail address is none.",
        401: "Wrong e-mail address or password.",
        403: "The request comes from a page of another origin, or the callbackURL leads away.",
        404: "Nothing is served there.",
        405: "Not by that method.",
        413: "The body is too large.",
        429: "Too many failures, or too many people sign in at once; see Retry-After.",
        500: "A fault of the server.",
        503: "The server is busy; see Retry-After.",
    },
    example_errors={400: ApiError("bad_email"), 401: ApiError("bad_password"), 403: ApiError("foreign_origin")},
    security=SESSION_SECURITY,
    # Better Auth's clients read the first, HTTP knows the second.
    retry_headers=("X-Retry-After", "Retry-After"),
)
