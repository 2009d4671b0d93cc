"""Which field stands in which column of the data: what gaps in the headers' numbers mean, and how long a row may be."""

from __future__ import annotations

from collections.abc import Sequence

from importing.batch import Batch, Delimited, Header, Source
from importing.fields import Field
from importing.reading.row_reader import MIN_ROW_LIMIT, has_wider_row

MAX_ROW_CHARACTERS = 16_000_000  # characters of a row, however many long columns it has


def column_fields(batch: Batch) -> tuple[Field | None, ...]:
    """The field of each column, None for an unused one.

    With a gap in the numbers the widest row decides for the whole batch: wider than the count of headers, and the
    missing numbers are unused columns; else the headers stand side by side. Source: docs/protocol.md, Headers.
    """
    return tuple([header.field for header in close_gaps(batch.headers, batch.source, batch.delimited)])


def close_gaps(headers: tuple[Header, ...], source: Source, delimited: Delimited) -> tuple[Header, ...]:
    """The same headers without gaps, so that nobody need look for the widest row of the data again."""
    if not headers or headers[-1].position == len(headers):
        return headers
    if not has_wider_row(source, delimited, len(headers)):
        return tuple(Header(number, header.field) for number, header in enumerate(headers, 1))
    by_position = {header.position: header.field for header in headers}
    return tuple(Header(number, by_position.get(number)) for number in range(1, headers[-1].position + 1))


def max_row_characters(fields: Sequence[Field | None]) -> int:
    """How many characters a row with these columns may have, quotes around every value and each doubled inside."""
    longest = sum(2 * field.limit + len('"",') for field in fields if field is not None) + len(fields)
    return min(max(longest, MIN_ROW_LIMIT), MAX_ROW_CHARACTERS)
