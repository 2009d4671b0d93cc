"""Turns every exception of a request into an ApiError, and logs it."""

from __future__ import annotations

import errno
import logging
import traceback

import sqlalchemy.exc

from importing.errors import ApiError
from storage.drivers import operational_errors
from storage.engine import Busy

NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM))
UNAVAILABLE = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError)


def to_api_error(error: Exception, request_id: str, log: logging.Logger) -> ApiError:
    """The ApiError for an exception. If the sender did not cause it, its type and places are logged, never a value."""
    if isinstance(error, ApiError):
        log.info("request %s refused: %s", request_id, error.code)
        return error
    if isinstance(error, Busy):
        log.info("request %s refused: busy", request_id)
        return ApiError("busy")
    if isinstance(error, (*UNAVAILABLE, *operational_errors())):
        # The driver's message names files, hosts and tables. Values appear only in errors of other types.
        message = " ".join(str(getattr(error, "orig", error)).split())
        log.error("request %s failed: %s; %s", request_id, message, _described(error))
        return ApiError("unavailable")
    log.error("request %s failed: %s", request_id, _described(error))
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
        return ApiError("out_of_room")
    return ApiError("bug", request_id=request_id)


def _described(error: BaseException) -> str:
    # An exception's message may quote what was sent, even a password; its type and its places cannot.
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    cause = error.__cause__ or error.__context__
    return f"{type(error).__qualname__} at {places}" + (f"; because of {_described(cause)}" if cause else "")
