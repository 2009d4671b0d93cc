"""What the tests of reading share: rows one by one, and reads of few bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple
from unittest.mock import patch

from importing.batch import Cursor, Delimited, Source
from importing.reading import lines
from importing.reading.row_reader import ALL_CELLS, read_blocks
from importing.reading.split_rows import RowFlaw, split_row


class Row(NamedTuple):
    """One row, by its number among those that are not blank, from 1."""

    number: int
    cells: list[str]
    flaw: RowFlaw


def read_rows(source: Source, delimited: Delimited, start: int = 0) -> Iterator[Row]:
    """Rows with trimmed cells, beginning at byte `start`. The last cell of a row with a flaw is as sent."""
    for block in read_blocks(source, delimited, Cursor(start)):
        for index, line in enumerate(block.lines):
            cells = block.cells.get(index) or split_row(line, delimited.delimiter, False, ALL_CELLS)
            yield Row(block.first + index, cells.values, cells.flaw)


def bytes_at_once(count: int) -> AbstractContextManager[object]:
    """Sources are read so many bytes at once."""
    return patch.object(lines, "READ_BYTES", count)
