"""Rows of files whose quoted values may span lines: records. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from importing.batch import Delimited
from importing.cutting import BLANKS, Cells, Flaw, Quoted, cut, cut_closed
from importing.lines import LINE_END, Lines

REREAD = 8_000_000  # characters of files that may be read again after quotes that were never closed


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows are cut: `most` cells one by one (see `cutting.groups`), `longest` characters of a row.

    `by_column`: see `decode.blocks`.
    """

    delimited: Delimited
    most: int
    longest: int
    by_column: bool = False

    @property
    def blank(self) -> str:
        return BLANKS + self.delimited.delimiter

    def cut(self, line: str) -> Cells:
        cells = cut(line, self.delimited.delimiter, self.delimited.quotes, self.most)
        return replace(cells, line=line) if cells.flaw else cells

    def cut_beginning(self, line: str) -> Cells:
        """A line that is too long: its cells so far. A quote may be open only because of where it was cut."""
        return Cells(self.cut(line[: self.longest]).values, Flaw.LINE_TOO_LONG)


class Records:
    """Cuts texts into rows whose quoted values may span lines. A row that needs no cutting is given as its text.

    A quote that is never closed, or is closed where it cannot be, spoils the row of its first line only: the lines
    after that are read again. How much is read again is bounded, for a hostile file could have every line read for
    every other one; beyond the bound quotes do not span lines any more.

    `position` is the byte behind the last row that was given, `rereads` what may still be read again; both count by
    rows alone, so that reading can go on from there as if it had never stopped. `sizes`: the bytes of a text.
    """

    def __init__(self, shape: Shape, sizes: Callable[[str], int], position: int, rereads: int | None) -> None:
        self._shape = shape
        self._sizes = sizes
        self._quoted = Quoted(shape.delimited.delimiter, shape.most)
        self._held = io.StringIO()
        self.position = position
        self.rereads = REREAD if rereads is None else rereads

    @property
    def open(self) -> bool:
        return self._quoted.open

    def take(self, lines: Lines) -> Iterator[str | Cells]:
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
            spoilt, again = self._give_up()
            yield spoilt
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
                spoilt, again = self._give_up()
                yield spoilt
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
                spoilt, again = self._give_up()
                yield spoilt
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
        return cut_closed(line, self._shape.delimited.delimiter, self._shape.most)

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
