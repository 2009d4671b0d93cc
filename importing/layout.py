"""Which field stands in which column of the data: what gaps in the headers' numbers mean, and how long a row may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from importing.batch import Batch, Header
from importing.decode import LONGEST, wider
from importing.fields import Field

LONGEST_EVER = 16_000_000  # characters of a row, however many long columns it has


def layout(batch: Batch) -> tuple[Field | None, ...]:
    """The field of each column, None for an unused one.

    With a gap in the numbers the widest row decides for the whole batch: wider than the count of headers, and the
    missing numbers are unused columns; else the headers stand side by side. Source: docs/protocol.md, Headers.
    """
    headers = batch.headers
    if not _has_gaps(headers) or not wider(batch.source, batch.delimited, len(headers)):
        return tuple(header.field for header in headers)
    by_position = {header.position: header.field for header in headers}
    return tuple(by_position.get(position) for position in range(1, headers[-1].position + 1))


def _has_gaps(headers: Sequence[Header]) -> bool:
    return bool(headers) and headers[-1].position != len(headers)


def laid_out(batch: Batch) -> Batch:
    """The same batch with headers side by side, so that its portions need not look for its widest row again."""
    if not _has_gaps(batch.headers):
        return batch
    return replace(batch, headers=tuple(Header(number, field) for number, field in enumerate(layout(batch), 1)))


def longest_row(fields: Sequence[Field | None]) -> int:
    """How many characters a row with these columns may have, quotes around every value and each doubled inside."""
    longest = sum(2 * field.limit + len('"",') for field in fields if field is not None) + len(fields)
    return min(max(longest, LONGEST), LONGEST_EVER)
