"""Rows of files whose quoted values may span lines: records. Source: docs/protocol.md, Rows.

Most files have quotes only next to a delimiter or a line's end, or doubled inside a value. The standard library's
reader splits their records many at once, in a fifth of the time that `RecordReader` takes for one by one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from importing.batch import Delimited
from importing.reading.lines import LINE_END, WholeLines
from importing.reading.split_rows import BLANKS, QuotedRow, RowCells, RowFlaw, split_closed_row, split_row, trim_row

MAX_CHARACTERS_AT_ONCE = 256 * 1024  # of records that are split together
MAX_REREAD_CHARACTERS = 8_000_000  # of a file that are read again after quotes that were never closed


def outline_quotes(text: str, delimiter: str) -> tuple[str, bool]:
    """Whole lines with "x" for each quoted value, and whether the last one is closed; "" where quotes are unusual."""
    if '"' not in text:
        return text, True
    pieces = text.split('"')
    between = pieces[::2]
    closed = len(pieces) % 2 == 1
    borders = (delimiter, "\n", "\r")
    first, last = between[0], between[-1] if closed else ""
    if (first and not first.endswith(borders)) or (last and not last.startswith(borders)):
        return "", closed
    others = set(between[1:-1] if closed else between[1:]) - {"", delimiter}
    if all(piece.startswith(borders) and piece.endswith(borders) for piece in others):
        return "x".join(between) or "x", closed
    return "", closed


def line_feeds(text: str) -> str:
    """The text with LF for every line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def read_plain_records(text: str, outline: str, delimiter: str, limit: int) -> list[RowCells] | None:
    """The records of whole lines that are not blank; `outline` is theirs. None where `RecordReader` has to read them.

    For such records the standard library's reader agrees with `QuotedRow` (the tests compare them).
    """
    blank = BLANKS + delimiter
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = zip(line_feeds(outline).split("\n"), chain(reader, [[]]), strict=False)
        return [trim_row(record, limit) for line, record in lines if line.strip(blank)]
    except csv.Error:
        return None


@dataclass(frozen=True, slots=True)
class SplitRules:
    """How rows are split: `limit` cells one by one (see `split_block`), `longest` characters of a row.

    `by_column`: see `read_blocks`.
    """

    delimited: Delimited
    limit: int
    longest: int
    by_column: bool = False

    @property
    def blank(self) -> str:
        return BLANKS + self.delimited.delimiter

    def split(self, line: str) -> RowCells:
        cells = split_row(line, self.delimited.delimiter, self.delimited.quotes, self.limit)
        return replace(cells, line=line) if cells.flaw else cells

    def split_beginning(self, line: str) -> RowCells:
        """The first cells of a line that is too long. A quote may be open only because of where the line was cut."""
        return RowCells(self.split(line[: self.longest]).values, RowFlaw.LINE_TOO_LONG)


class RecordReader:
    """Splits texts into rows whose quoted values may span lines. A row without quotes is returned as its text.

    A quote that is never closed, or is closed where it cannot be, spoils the row of its first line only: the lines
    after that are read again. A hostile file could have every line read again for every other one, so the amount is
    bounded. Beyond the bound quotes no longer span lines.

    `position` is the byte behind the last row that was returned, `rereads` the characters that may still be read again.
    Both change by whole rows, so that reading can resume from them with the same result. `count_bytes`: of a text.
    """

    def __init__(
        self, rules: SplitRules, count_bytes: Callable[[str], int], position: int, rereads: int | None
    ) -> None:
        self._rules = rules
        self._count_bytes = count_bytes
        self._quoted = QuotedRow(rules.delimited.delimiter, rules.limit)
        self._open_lines = io.StringIO()
        self.position = position
        self.rereads = MAX_REREAD_CHARACTERS if rereads is None else rereads

    @property
    def open(self) -> bool:
        return self._quoted.open

    def read(self, lines: WholeLines) -> Iterator[str | RowCells]:
        """The rows that end in these lines."""
        if not lines.truncated:
            yield from self._split(lines.text)
            return
        yield from self.end()
        self.position = lines.end
        if lines.text:
            yield self._rules.split_beginning(lines.text)

    def end(self) -> Iterator[str | RowCells]:
        """The remaining rows, when no more lines can belong to the open one."""
        while self.open:
            flawed_row, rest = self._give_up()
            yield flawed_row
            yield from self._split(rest)

    def _split(self, text: str) -> Iterator[str | RowCells]:
        # The texts to read, the next one last: what is read again comes before the rest.
        stack = [io.StringIO(text, newline="")]
        while stack:
            line = stack[-1].readline()
            if not line:
                stack.pop()
                continue
            body = line.rstrip("\r\n")
            if self.open and len(body) > self._rules.longest:
                # No record has room for it. (Of such a line in a text of its own only the beginning is read.)
                flawed_row, rest = self._give_up()
                yield flawed_row
                stack += [io.StringIO(line, newline=""), io.StringIO(rest, newline="")]
                continue
            if not self.open:
                if (row := self._split_single(body)) is not None:
                    self.position += self._count_bytes(line)
                    if row:
                        yield row
                    continue
                self._quoted.begin()
            self._open_lines.write(line)
            self._quoted.feed(body, line[len(body) :])
            if self._quoted.flaw or self._open_lines.tell() > self._rules.longest + len("\r\n"):
                flawed_row, rest = self._give_up()
                yield flawed_row
                stack.append(io.StringIO(rest, newline=""))
            elif not self.open:
                self.position += self._count_bytes(self._open_lines.getvalue())
                self._open_lines = io.StringIO()
                yield self._quoted.cells()

    def _split_single(self, line: str) -> str | RowCells | None:
        """A line that is a row of its own, "" where it is blank; None where it may not be one."""
        if not line.strip(self._rules.blank):
            return ""
        if len(line) > self._rules.longest:
            return self._rules.split_beginning(line)
        if '"' not in line:
            return line
        if self.rereads <= 0:
            return self._rules.split(line)
        return split_closed_row(line, self._rules.delimited.delimiter, self._rules.limit)

    def _give_up(self) -> tuple[RowCells, str]:
        """The open row, which ends with its first line and has a flaw, and the text of its other lines."""
        text = self._open_lines.getvalue()
        self._open_lines = io.StringIO()
        self._quoted.begin()
        line_end = LINE_END.search(text)
        end = line_end.end() if line_end else len(text)
        rest = text[end:]
        self.rereads -= len(rest)
        self.position += self._count_bytes(text[:end])
        return self._rules.split(text[: line_end.start() if line_end else end]), rest
