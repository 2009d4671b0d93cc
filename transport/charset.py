"""The charset that a request declares. Source: docs/protocol.md, Transport."""

from __future__ import annotations

import re

# Characters of a declared name that are kept.
LONGEST_CHARSET_NAME = 40

_CHARSET_PARAMETER = re.compile(r"""charset\s*=\s*["']?\s*([^"';,\s]+)""", re.IGNORECASE)


def declared(content_type: str) -> str:
    """The `charset=` of a Content-Type, "" where it has none."""
    match = _CHARSET_PARAMETER.search(content_type)
    return match[1] if match else ""


def first_charset_name(*names: str) -> str | None:
    """The first of the declared names that is not blank, shortened for the store; None where it cannot be stored."""
    name = next(filter(None, names), "")[:LONGEST_CHARSET_NAME]
    return name if name and name.isprintable() else None
