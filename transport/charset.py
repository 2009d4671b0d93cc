"""The charset that a request declares. Source: docs/protocol.md, Transport."""

from __future__ import annotations

import re

_CHARSET_PARAMETER = re.compile(r"""charset\s*=\s*["']?\s*([^"';,\s]+)""", re.IGNORECASE)


def declared(content_type: str) -> str:
    """The `charset=` of a Content-Type, "" where it has none."""
    match = _CHARSET_PARAMETER.search(content_type)
    return match[1] if match else ""
