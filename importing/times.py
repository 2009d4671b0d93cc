"""Times as the protocols and the command line write them: UTC, from milliseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_seconds(milliseconds: int) -> str:
    """ISO 8601, to the second: the command line and webhooks.

    >>> iso_seconds(1795251600042)
    '2026-11-21T09:00:00Z'
    """
    return f"{_utc(milliseconds):%Y-%m-%dT%H:%M:%SZ}"


def iso_milliseconds(milliseconds: int) -> str:
    """ISO 8601, to the millisecond: the modern protocols.

    >>> iso_milliseconds(1795251600042)
    '2026-11-21T09:00:00.042Z'
    """
    return f"{_utc(milliseconds):%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def with_space(milliseconds: int) -> str:
    """Date and time with a space between them: the legacy protocol.

    >>> with_space(1795251600042)
    '2026-11-21 09:00:00'
    """
    return f"{_utc(milliseconds):%Y-%m-%d %H:%M:%S}"


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // 1000, UTC)
