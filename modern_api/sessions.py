"""Signing in, for Solivio's clients and the console alike: what Better Auth's clients ask for under `/api/auth`.

Source: docs/faces.md, Solivio.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from flask import Response
from marshmallow import EXCLUDE, Schema, fields

from auth import admin_sessions
from auth.admin_sessions import AdminSession
from importing.errors import ApiError, ErrorCategory
from modern_api.people import Call, Face, Route, answered, body_of
from modern_api.routes import Reply, Told
from modern_api.told import stamp
from transport.browsers import give_pass, is_foreign, pass_of, take_pass

PATH = "/api/auth"
MAX_BODY = 16 * 1024
RETRY_AFTER = 5  # seconds
# What is no open redirect: a path of this server.
_PATH = re.compile(r"/(?![/\\])[\w\-.~+/@%]*(?:[?#][\w\-.~+/=&%@]*)?", re.ASCII)

# Better Auth's codes, messages and statuses: those of single faults, then those of whole categories.
FAULTS: Mapping[str, tuple[HTTPStatus, str, str]] = {
    "bad_password": (HTTPStatus.UNAUTHORIZED, "INVALID_EMAIL_OR_PASSWORD", "Invalid email or password"),
    "bad_email": (HTTPStatus.BAD_REQUEST, "INVALID_EMAIL", "Invalid email"),
    "bad_body": (HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", ""),
    "bad_callback_url": (HTTPStatus.FORBIDDEN, "INVALID_CALLBACK_URL", "Invalid callbackURL"),
    "foreign_origin": (HTTPStatus.FORBIDDEN, "INVALID_ORIGIN", "Invalid origin"),
}
CATEGORIES: Mapping[ErrorCategory, tuple[HTTPStatus, str, str]] = {
    ErrorCategory.REQUEST: (HTTPStatus.BAD_REQUEST, "BAD_REQUEST", "Invalid JSON in request body"),
    ErrorCategory.MISSING: (HTTPStatus.NOT_FOUND, "NOT_FOUND", "Not found"),
    ErrorCategory.METHOD: (HTTPStatus.METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed"),
    ErrorCategory.SIZE: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "PAYLOAD_TOO_LARGE", "Request body too large"),
    ErrorCategory.RATE: (
        HTTPStatus.TOO_MANY_REQUESTS,
        "TOO_MANY_REQUESTS",
        "Too many requests. Please try again later.",
    ),
    ErrorCategory.BUSY: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "SERVICE_UNAVAILABLE",
        "Service unavailable. Please try again.",
    ),
}
BUG = (HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL_SERVER_ERROR", "Internal Server Error")


class SignInBody(Schema):
    """What a user of the console types in. Other members are ignored, as Better Auth ignores them."""

    class Meta:
        unknown = EXCLUDE

    email = fields.String(required=True, metadata={"format": "email", "maxLength": 255})
    password = fields.String(required=True)
    callbackURL = fields.String(metadata={"description": "A path of this server, given back as `url`."})  # noqa: N815
    rememberMe = fields.Boolean(  # noqa: N815 - names on the wire
        truthy={True},
        falsy={False},
        metadata={"description": "false: the session ends with the browser, or after a day."},
    )


class User(Schema):
    id = fields.String(required=True)
    email = fields.String(required=True)
    name = fields.String(required=True)
    image = fields.String(required=True, allow_none=True)
    emailVerified = fields.Boolean(required=True)  # noqa: N815
    role = fields.String(required=True)
    createdAt = fields.AwareDateTime(required=True)  # noqa: N815
    updatedAt = fields.AwareDateTime(required=True)  # noqa: N815


class SessionMembers(Schema):
    id = fields.String(required=True)
    userId = fields.String(required=True)  # noqa: N815
    token = fields.String(required=True)
    expiresAt = fields.AwareDateTime(required=True)  # noqa: N815
    createdAt = fields.AwareDateTime(required=True)  # noqa: N815
    updatedAt = fields.AwareDateTime(required=True)  # noqa: N815
    ipAddress = fields.String(required=True)  # noqa: N815
    userAgent = fields.String(required=True)  # noqa: N815


class SignedIn(Schema):
    redirect = fields.Boolean(required=True)
    token = fields.String(required=True)
    url = fields.String()
    user = fields.Nested(User, required=True)


class SessionReply(Schema):
    session = fields.Nested(SessionMembers, required=True)
    user = fields.Nested(User, required=True)


class SignedOut(Schema):
    success = fields.Boolean(required=True)


class Error(Schema):
    message = fields.String(required=True)
    code = fields.String(required=True)


def sign_in(call: Call) -> Response:
    """`POST /sign-in/email`: a session, its cookie and its user."""
    request = call.request
    if is_foreign(request):
        raise ApiError("foreign_origin")
    body = body_of(call, SignInBody(), MAX_BODY)
    if not admin_sessions.is_email(body["email"]):
        raise ApiError("bad_email")
    url, remember = body.get("callbackURL", ""), body.get("rememberMe", True)
    if url and not _PATH.fullmatch(url.removeprefix(f"{request.scheme}://{request.host}")):
        raise ApiError("bad_callback_url")
    address, agent = request.remote_addr or "", request.headers.get("User-Agent", "")
    session = admin_sessions.sign_in(call.context, body["email"], body["password"], address, agent, remember=remember)
    reply = {"redirect": bool(url), "token": session.token, "user": _user(session)}
    response = answered(call, {**reply, "url": url} if url else reply)
    give_pass(
        request,
        response,
        session.cookie_value,
        admin_sessions.SESSION_MS // admin_sessions.SECOND_MS if remember else None,
    )
    return response


def sign_out(call: Call) -> Response:
    """`POST /sign-out`: the end of the session, if there is one, and of its cookie."""
    if is_foreign(call.request):
        raise ApiError("foreign_origin")
    session = admin_sessions.find_session(call.context, pass_of(call.request))
    if session is not None:
        admin_sessions.sign_out(call.context, session)
    response = answered(call, {"success": True})
    take_pass(call.request, response)
    return response


def get_session(call: Call) -> Response:
    """`GET /get-session`: who is signed in, or null."""
    sent = pass_of(call.request)
    session = admin_sessions.find_session(call.context, sent)
    if session is not None:
        return answered(call, {"session": _members(session), "user": _user(session)})
    response = answered(call, None)
    if sent:
        take_pass(call.request, response)
    return response


def refused(fault: ApiError) -> Reply:
    """A fault as Better Auth tells of it."""
    status, code, message = FAULTS.get(fault.code) or CATEGORIES.get(fault.category, BUG)
    headers = {}
    if fault.category in (ErrorCategory.RATE, ErrorCategory.BUSY):
        # The one is what Better Auth's clients read, the other what HTTP knows.
        headers = dict.fromkeys(("X-Retry-After", "Retry-After"), str(fault.retry_after or RETRY_AFTER))
    return Reply({"message": message or fault.message, "code": code}, status, headers)


FACE = Face(
    name="auth",
    title="Signing in",
    routes=(
        Route(
            "POST",
            f"{PATH}/sign-in/email",
            "signInEmail",
            "Sign in with e-mail address and password",
            sign_in,
            {200: Told(SignedIn, "Signed in; the session's cookie is set.")},
            (400, 401, 403, 413, 429, 500, 503),
            body=SignInBody,
        ),
        Route(
            "POST",
            f"{PATH}/sign-out",
            "signOut",
            "End the session",
            sign_out,
            {200: Told(SignedOut, "Nobody is signed in any more; the cookie is removed.")},
            (403, 429, 500, 503),
            signed_in=True,
        ),
        Route(
            "GET",
            f"{PATH}/get-session",
            "getSession",
            "Who is signed in",
            get_session,
            {200: Told(SessionReply, "The session and its user; null where nobody is signed in.", or_null=True)},
            (429, 500, 503),
            signed_in=True,
        ),
    ),
    below=(PATH, f"{PATH}/", f"{PATH}/<path:_rest>"),
    refused=refused,
    error=Error,
    errors={
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
)


def _user(session: AdminSession) -> dict[str, object]:
    admin, made = session.admin, stamp(session.admin.created_at)
    return {
        "id": str(admin.id),
        "email": admin.email,
        "name": admin.email.partition("@")[0],
        "image": None,
        "emailVerified": True,  # whoever runs the server wrote it down
        "role": admin.role.value,
        "createdAt": made,
        "updatedAt": made,
    }


def _members(session: AdminSession) -> dict[str, object]:
    began = stamp(session.created_at)
    return {
        "id": session.id,
        "userId": str(session.admin.id),
        "token": session.token,
        "expiresAt": stamp(session.expires_at),
        "createdAt": began,
        "updatedAt": began,
        "ipAddress": session.address,
        "userAgent": session.agent,
    }
