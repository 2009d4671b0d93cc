"""Credentials in headers → the sender. The user selects the account: these protocols name none."""

from __future__ import annotations

from flask import Request

from auth.authenticate import authenticate
from importing.context import Context
from importing.errors import ApiError
from importing.reading.charset import WINDOWS_1252
from modern_api.routes import Sender


def sender_by_key(context: Context, request: Request, user_id: str, key: str) -> Sender:
    """The API user with this key. Raises bad_credentials; a request without credentials counts as no attempt."""
    if not user_id or not key:
        raise ApiError("bad_credentials")
    access = authenticate(context, user_id, key, None, request.remote_addr or "")
    return Sender(access.account, access.user_id, access.user_id, "" if access.may_import else "no_permission")


def header_text(request: Request, name: str) -> str:
    """A header as text, "" without one: UTF-8, else Windows-1252. (WSGI hands over raw bytes as Latin-1.)"""
    raw = request.headers.get(name, "").strip().encode("latin-1", "replace")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode(WINDOWS_1252.codec)
