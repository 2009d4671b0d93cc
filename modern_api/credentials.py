"""Credentials in headers → the access that they give. The user selects the account: these protocols name none."""

from __future__ import annotations

from flask import Request

from auth.authenticate import Access, authenticate_user
from importing.context import Context
from importing.errors import ApiError
from importing.reading.charset import WINDOWS_1252


def access(context: Context, request: Request, user_id: str, key: str) -> Access:
    """The access of a user. Raises bad_credentials; credentials that did not come are no attempt, and count as none."""
    if not user_id or not key:
        raise ApiError("bad_credentials")
    return authenticate_user(context, user_id, key, request.remote_addr or "")


def header(request: Request, name: str) -> str:
    """A header as text, "" without one: UTF-8, else Windows-1252. (WSGI hands over raw bytes as Latin-1.)"""
    raw = request.headers.get(name, "").strip().encode("latin-1", "replace")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode(WINDOWS_1252.codec)
