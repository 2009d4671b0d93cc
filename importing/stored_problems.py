"""Problems of rows ↔ what is written down of them. Written down and read again, a problem says exactly the same."""

from __future__ import annotations

import re

from importing.errors import Problem

# Characters that are kept of a text; of the values fewer are shown.
CHARACTERS_KEPT = 255

# PostgreSQL's text cannot hold NUL. Escaped, for a reply that is given again must be the same to the byte.
_ESCAPE_TABLE = str.maketrans({"\0": "\x1b0", "\x1b": "\x1b1"})
_ESCAPES = {"\x1b0": "\0", "\x1b1": "\x1b"}
_ESCAPE = re.compile("\x1b[01]")


def to_row(problem: Problem) -> tuple[int, str, str, str, str, str]:
    """A problem as the store keeps it: row, field, code, value, limit, ref.

    >>> read(*written(Problem(2, "first_name", "bad_character", "A\\0B"))).value
    'A\\x00B'
    """
    value, ref = (text[:CHARACTERS_KEPT].translate(_ESCAPE_TABLE) for text in (problem.value, problem.ref))
    return problem.row, problem.field, problem.code, value, str(problem.limit or ""), ref


def from_row(row: int, field: str, code: str, value: str, limit: str, ref: str) -> Problem:
    """The problem that the store keeps as that."""
    return Problem(row, field, code, _unescape(value), int(limit or 0), _unescape(ref))


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES[match[0]], text) if "\x1b" in text else text
