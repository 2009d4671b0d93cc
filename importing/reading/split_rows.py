"""Rows cut into cells: plain ones by column, many at once; those with quotes one by one. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress, repeat
from operator import contains
from types import MappingProxyType
from typing import NamedTuple

BLANKS = " \t\xa0"  # what is dropped around a value, and nothing else

_QUOTE_AFTER_BLANK = re.compile(f'[{BLANKS}]"')


class Flaw(StrEnum):
    """Why a row could not be cut to its end. The values are the codes of problems."""

    NONE = ""
    BAD_QUOTES = "bad_quotes"
    LINE_TOO_LONG = "line_too_long"


@dataclass(frozen=True, slots=True)
class Cells:
    """One row's trimmed cells. With a flaw, the last one is what stands where the cutting ended, as sent.

    `line` is all of a row whose quotes are misplaced.
    """

    values: list[str]
    flaw: Flaw = Flaw.NONE
    line: str = ""


class Block(NamedTuple):
    """Successive rows: `lines` are their texts, `first` is the number of the first.

    `cut` are, by index in `lines`, those that no plain split cuts (quotes, flaws). `text` has every character of every
    value, and `longest` is no less than the length of any. `end` is the byte of the source where reading goes on behind
    them, `rereads` what may be read again from there (see `Cursor`). `columns`: see `in_columns`; then there are no `lines`.
    """

    first: int
    lines: Sequence[str]
    text: str
    longest: int
    cut: Mapping[int, Cells] = MappingProxyType({})
    end: int = 0
    rereads: int | None = None
    columns: list[Sequence[str]] | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.lines if self.columns is None else self.columns[0])

    def longer(self, limit: int) -> bool:
        """Whether a value may have more than so many characters."""
        return self.longest > limit and (self.columns is None or _has_longer_line(self.text, limit))

    @property
    def flawed(self) -> Iterator[tuple[int, Cells]]:
        """Numbers and cells of the rows that could not be cut to their end."""
        return ((self.first + index, cells) for index, cells in self.cut.items() if cells.flaw)


class RowGroup(NamedTuple):
    """Rows of one width, by column: `columns[2][0]` is the third cell of row number `numbers[0]`."""

    numbers: Sequence[int]
    columns: list[Sequence[str]]

    def cells(self, index: int) -> Cells:
        """One of the rows."""
        return Cells([column[index] for column in self.columns])

    def blanked(self, cell: str) -> RowGroup:
        """The same rows with "" for each such cell."""
        return RowGroup(
            self.numbers,
            [
                ["" if value == cell else value for value in column] if cell in column else column
                for column in self.columns
            ],
        )

    def without(self, indices: Set[int]) -> RowGroup:
        """The other rows."""
        if not indices:
            return self
        is_kept = [index not in indices for index in range(len(self.numbers))]
        return RowGroup(
            list(compress(self.numbers, is_kept)), [list(compress(column, is_kept)) for column in self.columns]
        )


def split_block(block: Block, delimiter: str, limit: int) -> Iterator[RowGroup]:
    """The block's rows without flaws, by width, trimmed.

    Of the cells beyond `most` only the first that is not blank is given, "" where all of them are.
    """
    if block.columns is not None:
        yield RowGroup(range(block.first, block.first + block.rows), block.columns)
        return
    rows_by_width: dict[int, list[int]] = defaultdict(list)
    for index, cells in block.cut.items():
        if not cells.flaw:
            rows_by_width[len(cells.values)].append(index)
    for indices in rows_by_width.values():
        rows = [block.cut[index].values for index in indices]
        yield RowGroup([block.first + index for index in indices], list(zip(*rows, strict=True)))
    numbers: Sequence[int] = range(block.first, block.first + len(block.lines))
    lines = block.lines
    if block.cut:
        is_plain = [index not in block.cut for index in range(len(lines))]
        numbers, lines = list(compress(numbers, is_plain)), list(compress(lines, is_plain))
    # Columns are what makes it fast: one split for the whole group, and each check one pass over strings that lie
    # side by side (a list for each row costs twice the split).
    counts = list(map(str.count, lines, repeat(delimiter)))
    for count in set(counts):
        if counts.count(count) != len(counts):
            is_chosen = [other == count for other in counts]
            yield _split_group(
                list(compress(numbers, is_chosen)), list(compress(lines, is_chosen)), count + 1, delimiter, limit
            )
        else:
            yield _split_group(numbers, lines, count + 1, delimiter, limit)


def split_by_column(text: str, delimiter: str, limit: int) -> list[Sequence[str]] | None:
    """The trimmed columns of lines that end with LF, have as many cells each (two to `most`), and are not blank.

    None where it is otherwise. Half the work of looking at each line by itself, and most data are like that.
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
    blanks = [blank for blank in BLANKS if blank in text]
    columns = [
        list(map(str.strip, column, repeat(BLANKS))) if any(map(values.__contains__, blanks)) else column
        for column, values in zip(columns, joined, strict=True)
    ]
    if "" in columns[0]:
        first = (n for n, value in enumerate(columns[0]) if not value)
        if any(not any(column[n] for column in columns) for n in first):
            return None
    return columns


def _has_longer_line(text: str, limit: int) -> bool:
    """Whether a line has more than so many characters. A look for each line would take twice as long."""
    start, end = 0, len(text)
    while end - start > limit:
        start = text.rfind("\n", start, start + limit + 1) + 1
        if not start:
            return True
    return False


def _split_group(numbers: Sequence[int], lines: Sequence[str], width: int, delimiter: str, limit: int) -> RowGroup:
    columns: list[Sequence[str]]
    if width > limit:
        columns = list(zip(*(line.split(delimiter, limit) for line in lines), strict=True))
        columns[limit] = [_first_filled(extra, delimiter) for extra in columns[limit]]
    else:
        flat = delimiter.join(lines).split(delimiter)
        columns = [flat[start::width] for start in range(width)]
    return RowGroup(numbers, [_trim(column) for column in columns])


def _first_filled(text: str, delimiter: str) -> str:
    """The first cell that is not blank."""
    return text.strip(BLANKS + delimiter).split(delimiter, 1)[0].rstrip(BLANKS)


def _trim(column: Sequence[str]) -> Sequence[str]:
    # Half the columns of a batch have no blanks at all, and looking at them joined is cheaper than at each value.
    joined = "".join(column)
    if not any(map(joined.__contains__, BLANKS)):
        return column
    return list(map(str.strip, column, repeat(BLANKS)))


def split_row(line: str, delimiter: str, quotes: bool, limit: int) -> Cells:
    """One line's cells (most + 1 of them at most, see `groups`). Quotes, where they count, do not span lines."""
    if not quotes or '"' not in line:
        values = line.split(delimiter, limit)
        if len(values) > limit:
            values[limit] = _first_filled(values[limit], delimiter)
        return Cells([value.strip(BLANKS) for value in values])
    cells = split_closed_row(line, delimiter, limit)
    if cells is None:
        quoted = QuotedRow(delimiter, limit)
        quoted.feed(line)
        cells = quoted.cells()
    return cells


def split_closed_row(line: str, delimiter: str, limit: int) -> Cells | None:
    """The cells of a line with quotes that are plainly right; None where `Quoted` has to look.

    The standard library's reader is four times as fast. Where it is strict and raises no error, both say the same.
    """
    if _QUOTE_AFTER_BLANK.search(line):
        return None
    try:
        values = next(csv.reader((line,), delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    values = [value.strip(BLANKS) for value in values]
    if len(values) > limit:
        values[limit:] = [next(filter(None, values[limit:]), "")]
    return Cells(values)


class QuotedRow:
    """Cuts one row in which quotes count, line by line; `open` says that a quoted value is not closed yet.

    Blanks around the quotes are dropped; other text after a closing quote is a flaw, and so is a quote never closed;
    a quote inside an unquoted value is a plain character.
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
        self._flaw = Flaw.NONE
        self.open = False

    def feed(self, line: str) -> None:
        """The next line of the row, without its end."""
        position: int | None = 0
        while position is not None:
            if self.open:
                position = self._inside(line, position)
            elif opening := self._opening.match(line, position):
                self.open, position = True, opening.end()
            else:
                end = line.find(self._delimiter, position)
                self._add(line[position : end if end >= 0 else len(line)])
                position = end + 1 if end >= 0 else None

    def feed_end(self, end: str) -> None:
        """A line's end inside a quoted value is part of it."""
        self._value.write(end)

    @property
    def flawed(self) -> bool:
        return bool(self._flaw)

    def cells(self) -> Cells:
        """The row. A quote that is still open now is never closed."""
        if self.open:
            self._spoil(self._as_sent())
        return Cells(self._values, self._flaw)

    def _inside(self, line: str, position: int) -> int | None:
        while (end := line.find('"', position)) >= 0 and line.startswith('"', end + 1):
            self._value.write(line[position : end + 1])
            position = end + 2
        if end < 0:
            self._value.write(line[position:])
            return None
        self._value.write(line[position:end])
        self.open = False
        closed = self._closed.match(line, end + 1)
        if closed is None:
            self._spoil(self._as_sent() + line[end:].split(self._delimiter, 1)[0])
            return None
        self._add(self._value.getvalue())
        self._value = io.StringIO()
        return closed.end() if closed[1] else None

    def _add(self, value: str) -> None:
        value = value.strip(BLANKS)
        if len(self._values) <= self._limit:
            self._values.append(value)
        elif not self._values[self._limit]:
            self._values[self._limit] = value

    def _as_sent(self) -> str:
        return '"' + self._value.getvalue().replace('"', '""')

    def _spoil(self, value: str) -> None:
        self.open = False
        self._flaw = Flaw.BAD_QUOTES
        self._values = [*self._values[: self._limit], value]
