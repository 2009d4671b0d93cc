"""Rows split into cells: plain ones by column, many at once; those with quotes one by one. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, compress, repeat
from operator import contains
from typing import NamedTuple

BLANKS = " \t\xa0"  # the characters that are dropped around a value, and no others

_QUOTE_AFTER_BLANK = re.compile(f'[{BLANKS}]"')


class RowFlaw(StrEnum):
    """Why a row could not be split to its end. The values are the codes of problems."""

    NONE = ""
    BAD_QUOTES = "bad_quotes"
    LINE_TOO_LONG = "line_too_long"


@dataclass(frozen=True, slots=True)
class RowCells:
    """One row's trimmed cells. With a flaw, the last cell is the text at which splitting ended, as sent.

    `line` is the whole text of a row whose quotes are misplaced.
    """

    values: list[str]
    flaw: RowFlaw = RowFlaw.NONE
    line: str = ""


class RowBlock(NamedTuple):
    """Successive rows: `lines` are their texts, `first` is the number of the first.

    `cells` are, by index in `lines`, the rows that a plain split cannot split (quotes, flaws). `text` contains every
    character of every value. `end` is the byte of the source behind the rows; `rereads`: see `Cursor`. A block with
    `columns` (see `split_by_column`) has no `lines`.
    """

    first: int
    lines: Sequence[str]
    text: str
    cells: Mapping[int, RowCells]
    end: int
    rereads: int | None = None
    columns: list[Sequence[str]] | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.lines if self.columns is None else self.columns[0])

    def may_exceed(self, limit: int) -> bool:
        """Whether a value may have more than `limit` characters."""
        if self.columns is not None:
            return _has_longer_line(self.text, limit)
        values = chain(self.lines, *[row.values for row in self.cells.values()])
        return max(map(len, values), default=0) > limit

    @property
    def flawed(self) -> Iterator[tuple[int, RowCells]]:
        """Numbers and cells of the rows that could not be split to their end."""
        return ((self.first + index, cells) for index, cells in self.cells.items() if cells.flaw)


class RowGroup(NamedTuple):
    """Rows of one width, by column: `columns[2][0]` is the third cell of row number `numbers[0]`."""

    numbers: Sequence[int]
    columns: list[Sequence[str]]

    def row(self, index: int) -> RowCells:
        """One of the rows."""
        return RowCells([column[index] for column in self.columns])

    def blanked(self, cell: str) -> RowGroup:
        """The same rows with "" for each such cell."""
        columns = self.columns
        return RowGroup(
            self.numbers, [["" if v == cell else v for v in column] if cell in column else column for column in columns]
        )

    def without(self, indices: Set[int]) -> RowGroup:
        """The other rows."""
        if not indices:
            return self
        kept = [index not in indices for index in range(len(self.numbers))]
        return RowGroup(list(compress(self.numbers, kept)), [list(compress(column, kept)) for column in self.columns])


def split_block(block: RowBlock, delimiter: str, limit: int) -> Iterator[RowGroup]:
    """The block's rows without flaws, by width, trimmed.

    Of the cells beyond `limit` only the first that is not blank is returned, "" where all of them are blank.
    """
    if block.columns is not None:
        yield RowGroup(range(block.first, block.first + block.rows), block.columns)
        return
    rows_by_width: dict[int, list[int]] = defaultdict(list)
    for index, cells in block.cells.items():
        if not cells.flaw:
            rows_by_width[len(cells.values)].append(index)
    for indices in rows_by_width.values():
        rows = [block.cells[index].values for index in indices]
        yield RowGroup([block.first + index for index in indices], list(zip(*rows, strict=True)))
    plain = [index for index in range(len(block.lines)) if index not in block.cells]
    counts = [block.lines[index].count(delimiter) for index in plain]
    for count in set(counts):
        chosen = list(compress(plain, [other == count for other in counts]))
        lines = [block.lines[index] for index in chosen]
        yield RowGroup([block.first + index for index in chosen], _split_lines(lines, count + 1, delimiter, limit))


def split_by_column(text: str, delimiter: str, limit: int) -> list[Sequence[str]] | None:
    """The trimmed columns of lines that end with LF, have the same number of cells (two to `limit`), and are not blank.

    None for other lines. Most data are like that, and this is half the work of splitting each line.
    """
    gaps = text.count(delimiter, 0, text.find("\n"))
    if not 0 < gaps < limit or not text.endswith("\n"):
        return None
    cells = text.split(delimiter)
    lines = (len(cells) - 1) // gaps
    # The last cell of a line and the first one of the next are one piece, with the line's end in it.
    seams = cells[gaps:-1:gaps]
    if len(cells) != gaps * lines + 1 or not all(map(contains, seams, repeat("\n"))):
        return None
    edges = "\n".join([cells[0], *seams, cells[-1]]).split("\n")
    if len(edges) != 2 * lines + 1:
        return None
    columns: list[Sequence[str]] = [edges[:-1:2], *(cells[n::gaps] for n in range(1, gaps)), edges[1::2]]
    joined = list(map("".join, columns))
    if any(map(contains, joined, repeat("\n"))):
        return None
    if any(map(text.__contains__, BLANKS)):
        columns = list(map(_trim, columns, joined))
    if "" in columns[0] and any(not any(row) for row in zip(*columns, strict=True)):
        return None
    return columns


def _has_longer_line(text: str, limit: int) -> bool:
    """Whether a line has more than `limit` characters. Measuring each line would take twice as long."""
    start, end = 0, len(text)
    while end - start > limit:
        start = text.rfind("\n", start, start + limit + 1) + 1
        if not start:
            return True
    return False


def _split_lines(lines: Sequence[str], width: int, delimiter: str, limit: int) -> list[Sequence[str]]:
    # One split for the whole group, then one pass a column: a list for each row costs twice the split.
    columns: list[Sequence[str]]
    if width > limit:
        columns = list(zip(*(line.split(delimiter, limit) for line in lines), strict=True))
        columns[limit] = [_first_filled(extra, delimiter) for extra in columns[limit]]
    else:
        flat = delimiter.join(lines).split(delimiter)
        columns = [flat[start::width] for start in range(width)]
    return [_trim(column, "".join(column)) for column in columns]


def _first_filled(text: str, delimiter: str) -> str:
    """The first cell that is not blank."""
    return text.strip(BLANKS + delimiter).split(delimiter, 1)[0].rstrip(BLANKS)


def _trim(column: Sequence[str], joined: str) -> Sequence[str]:
    # Half the columns of a batch have no blanks at all, and searching them joined is cheaper than each value.
    if not any(map(joined.__contains__, BLANKS)):
        return column
    return list(map(str.strip, column, repeat(BLANKS)))


def trim_row(values: list[str], limit: int) -> RowCells:
    """A row of these cells, with one cell for those beyond `limit` (see `split_block`)."""
    values = [value.strip(BLANKS) for value in values]
    if len(values) > limit:
        values[limit:] = [next(filter(None, values[limit:]), "")]
    return RowCells(values)


def split_row(line: str, delimiter: str, quotes: bool, limit: int) -> RowCells:
    """One line's cells (limit + 1 of them at most, see `split_block`). Quotes, where they count, do not span lines."""
    if not quotes or '"' not in line:
        values = line.split(delimiter, limit)
        if len(values) > limit:
            values[limit] = _first_filled(values[limit], delimiter)
        return trim_row(values, limit)
    cells = split_closed_row(line, delimiter, limit)
    if cells is None:
        quoted = QuotedRow(delimiter, limit)
        quoted.feed(line)
        cells = quoted.cells()
    return cells


def split_closed_row(line: str, delimiter: str, limit: int) -> RowCells | None:
    """The cells of a line whose quotes are plainly right; None where only `QuotedRow` can decide.

    The standard library's reader is four times as fast. Where it is strict and raises no error, both agree.
    """
    if _QUOTE_AFTER_BLANK.search(line):
        return None
    try:
        return trim_row(next(csv.reader((line,), delimiter=delimiter, strict=True)), limit)
    except csv.Error:
        return None


class QuotedRow:
    """Splits one row in which quotes count, line by line; `open` says that a quoted value is not closed yet.

    Blanks around the quotes are dropped. Other text after a closing quote is a flaw, and so is a quote that is never
    closed. A quote inside an unquoted value is a plain character.
    """

    def __init__(self, delimiter: str, limit: int) -> None:
        blanks = BLANKS.replace(delimiter, "")
        self._opening = re.compile(f'[{blanks}]*"')
        self._closed = re.compile(f"[{blanks}]*(?:({re.escape(delimiter)})|\\Z)")
        self._delimiter = delimiter
        self._limit = limit
        self.begin()

    def begin(self) -> None:
        """Forget the row so far; the next line begins one."""
        self._values: list[str] = []
        self._value = io.StringIO()
        self.flaw = RowFlaw.NONE
        self.open = False

    def feed(self, line: str, end: str = "") -> None:
        """Add a line to the row. The line's end is part of a quoted value that is still open."""
        position: int | None = 0
        while position is not None:
            if self.open:
                position = self._feed_quoted(line, position)
            elif opening := self._opening.match(line, position):
                self.open, position = True, opening.end()
            else:
                gap = line.find(self._delimiter, position)
                self._add(line[position : gap if gap >= 0 else len(line)])
                position = gap + 1 if gap >= 0 else None
        if self.open:
            self._value.write(end)

    def cells(self) -> RowCells:
        """The row. A quote that is still open now is never closed."""
        if self.open:
            self._end_with_flaw("")
        return RowCells(self._values, self.flaw)

    def _feed_quoted(self, line: str, position: int) -> int | None:
        while (end := line.find('"', position)) >= 0 and line.startswith('"', end + 1):
            self._value.write(line[position : end + 1])
            position = end + 2
        if end < 0:
            self._value.write(line[position:])
            return None
        self._value.write(line[position:end])
        closed = self._closed.match(line, end + 1)
        if closed is None:
            self._end_with_flaw(line[end:].split(self._delimiter, 1)[0])
            return None
        self.open = False
        self._add(self._value.getvalue())
        self._value = io.StringIO()
        return closed.end() if closed[1] else None

    def _add(self, value: str) -> None:
        value = value.strip(BLANKS)
        if len(self._values) <= self._limit:
            self._values.append(value)
        elif not self._values[self._limit]:
            self._values[self._limit] = value

    def _end_with_flaw(self, rest: str) -> None:
        self.open = False
        self.flaw = RowFlaw.BAD_QUOTES
        as_sent = '"' + self._value.getvalue().replace('"', '""') + rest
        self._values = [*self._values[: self._limit], as_sent]
