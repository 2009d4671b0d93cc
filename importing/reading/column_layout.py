"""Which field each column of the data holds: what gaps in the headers' numbers mean, and how long a row may be."""

from __future__ import annotations

from collections.abc import Sequence

from importing.batch import Batch, Delimited, Header, Source
from importing.fields import Field
from importing.reading.row_reader import MIN_ROW_LIMIT, read_blocks
from importing.reading.split_rows import BLANKS

MAX_ROW_CHARACTERS = 16_000_000  # of a row, however many long columns it has


def column_fields(batch: Batch) -> tuple[Field | None, ...]:
    """The field of each column, None for an unused one."""
    return tuple([header.field for header in close_gaps(batch.headers, batch.source, batch.delimited)])


def close_gaps(headers: tuple[Header, ...], source: Source, delimited: Delimited) -> tuple[Header, ...]:
    """The same headers without gaps in their numbers.

    The widest row decides for the whole batch: if it is wider than the count of headers, the missing numbers are unused
    columns; otherwise the headers name the columns side by side. Source: docs/protocol.md, Headers.
    """
    if not headers or headers[-1].position == len(headers):
        return headers
    if not has_wider_row(source, delimited, len(headers)):
        return tuple(Header(number, header.field) for number, header in enumerate(headers, 1))
    by_position = {header.position: header.field for header in headers}
    return tuple(Header(number, by_position.get(number)) for number in range(1, headers[-1].position + 1))


def has_wider_row(source: Source, delimited: Delimited, columns: int) -> bool:
    """Whether any row is wider than so many columns. Trailing blank columns and rows with flaws do not count."""
    blank = BLANKS + delimited.delimiter
    for block in read_blocks(source, delimited, limit=columns):
        if any(not cells.flaw and any(cells.values[columns:]) for cells in block.cells.values()):
            return True
        plain = (line for index, line in enumerate(block.lines) if index not in block.cells)
        if any(line.rstrip(blank).count(delimited.delimiter) >= columns for line in plain):
            return True
    return False


def max_row_characters(fields: Sequence[Field | None]) -> int:
    """How many characters a row with these columns may have, if every value is quoted and all its quotes are doubled."""
    longest = sum(2 * field.limit + len('"",') for field in fields if field is not None) + len(fields)
    return min(max(longest, MIN_ROW_LIMIT), MAX_ROW_CHARACTERS)
