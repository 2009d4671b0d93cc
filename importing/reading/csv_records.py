"""Rows of files whose quoted values may span lines: records. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from importing.batch import Delimited
from importing.reading.lines import LINE_END, WholeLines
from importing.reading.split_rows import BLANKS, Cells, Flaw, QuotedRow, split_closed_row, split_row

MAX_REREAD_CHARACTERS = 8_000_000  # characters of files that may be read again after quotes that were never closed


@dataclass(frozen=True, slots=True)
class SplitRules:
    """How rows are cut: `most` cells one by one (see `cutting.groups`), `longest` characters of a row.

    `by_column`: see `decode.blocks`.
    """

    delimited: Delimited
    limit: int
    longest: int
    by_column: bool = False

    @property
    def blank(self) -> str:
        return BLANKS + self.delimited.delimiter

    def cut(self, line: str) -> Cells:
        cells = split_row(line, self.delimited.delimiter, self.delimited.quotes, self.limit)
        return replace(cells, line=line) if cells.flaw else cells

    def cut_beginning(self, line: str) -> Cells:
        """A line that is too long: its cells so far. A quote may be open only because of where it was cut."""
        return Cells(self.cut(line[: self.longest]).values, Flaw.LINE_TOO_LONG)


class RecordReader:
    """Cuts texts into rows whose quoted values may span lines. A row that needs no cutting is given as its text.

    A quote that is never closed, or is closed where it cannot be, spoils the row of its first line only: the lines
    after that are read again. How much is read again is bounded, for a hostile file could have every line read for
    every other one; beyond the bound quotes do not span lines any more.

    `position` is the byte behind the last row that was given, `rereads` what may still be read again; both count by
    rows alone, so that reading can go on from there as if it had never stopped. `sizes`: the bytes of a text.
    """

    def __init__(self, rules: SplitRules, sizes: Callable[[str], int], position: int, rereads: int | None) -> None:
        self._shape = rules
        self._sizes = sizes
        self._quoted = QuotedRow(rules.delimited.delimiter, rules.limit)
        self._held = io.StringIO()
        self.position = position
        self.rereads = MAX_REREAD_CHARACTERS if rereads is None else rereads

    @property
    def open(self) -> bool:
        return self._quoted.open

    def take(self, lines: WholeLines) -> Iterator[str | Cells]:
        """The rows that end in these lines."""
        if not lines.cut:
            yield from self._cut(lines.text)
            return
        yield from self.end()
        self.position = lines.end
        if lines.text:
            yield self._shape.cut_beginning(lines.text)

    def end(self) -> Iterator[str | Cells]:
        """The rows that are left when no more lines can belong to the open one."""
        while self.open:
            spoilt_row, again = self._give_up()
            yield spoilt_row
            yield from self._cut(again)

    def _cut(self, text: str) -> Iterator[str | Cells]:
        # Texts to read, the next one last: what is read again comes before the rest.
        stack = [io.StringIO(text, newline="")]
        while stack:
            line = stack[-1].readline()
            if not line:
                stack.pop()
                continue
            body = line.rstrip("\r\n")
            if self.open and len(body) > self._shape.longest:
                # No record has room for it. (Of such a line in a text of its own only the beginning is seen.)
                spoilt_row, again = self._give_up()
                yield spoilt_row
                stack += [io.StringIO(line, newline=""), io.StringIO(again, newline="")]
                continue
            if not self.open:
                if (row := self._alone(body)) is not None:
                    self.position += self._sizes(line)
                    if row:
                        yield row
                    continue
                self._quoted.begin()
            self._held.write(line)
            self._quoted.feed(body)
            if self._quoted.flawed or self._held.tell() > self._shape.longest + len("\r\n"):
                spoilt_row, again = self._give_up()
                yield spoilt_row
                stack.append(io.StringIO(again, newline=""))
            elif self.open:
                self._quoted.feed_end(line[len(body) :])
            else:
                self.position += self._sizes(self._held.getvalue())
                self._held = io.StringIO()
                yield self._quoted.cells()

    def _alone(self, line: str) -> str | Cells | None:
        """A line that is a row of its own, "" where it is blank; None where it may not be."""
        if not line.strip(self._shape.blank):
            return ""
        if len(line) > self._shape.longest:
            return self._shape.cut_beginning(line)
        if '"' not in line:
            return line
        if self.rereads <= 0:
            return self._shape.cut(line)
        return split_closed_row(line, self._shape.delimited.delimiter, self._shape.limit)

    def _give_up(self) -> tuple[Cells, str]:
        """The open row, spoilt after its first line, and the text of its other lines."""
        text = self._held.getvalue()
        self._held = io.StringIO()
        self._quoted.begin()
        line_end = LINE_END.search(text)
        end = line_end.end() if line_end else len(text)
        again = text[end:]
        self.rereads -= len(again)
        self.position += self._sizes(text[:end])
        return self._shape.cut(text[: line_end.start() if line_end else end]), again
