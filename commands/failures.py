"""The sentence about an error that ended a command."""

from __future__ import annotations

import sqlalchemy.exc

from importing.errors import ApiError
from settings import BadSettings
from storage.drivers import driver_errors
from storage.engine import Busy


def sentence_of(error: Exception) -> str | None:
    """The sentence about an expected error; None for any other."""
    if isinstance(error, ApiError):
        return error.message
    if isinstance(error, BadSettings):
        return str(error)
    if isinstance(error, Busy):
        return "The database is busy with another import; nothing was changed."
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return f"The database cannot be used: {_first_line(error.orig)}."
    if isinstance(error, driver_errors()):
        return f"The database cannot be used: {_first_line(error)}."
    return None


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
