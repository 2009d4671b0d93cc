"""Bytes → text → rows, streaming: memory does not grow with the data, a line or a quote. Source: docs/protocol.md, Rows.

One line is a row; CR LF, LF and CR end lines, mixed too; lines of nothing but blanks and delimiters are skipped.
In files (`Delimited.multiline`) a quoted value may span lines.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from importing.batch import Delimited, Source
from importing.cutting import BLANKS, Block, Cells, Flaw, Quoted, cut, cut_closed
from importing.faults import Fault

PIECE = 64 * 1024  # bytes read at once
LONGEST = 1_000_000  # characters of a row, where its columns do not ask for more
ROWS_AT_ONCE = 1000  # of text that is read again, and may be long
EVERY = 1_000_000  # more columns than a row can have
REREAD = 8_000_000  # characters of files that may be read again after quotes that were never closed

_BOM = codecs.BOM_UTF8
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Row:
    """One row, by its number among those that are not blank, from 1."""

    number: int
    cells: list[str]
    flaw: Flaw = Flaw.NONE


def rows(source: Source, delimited: Delimited, start: int = 0) -> Iterator[list[Row]]:
    """Chunks of rows with trimmed cells, beginning at byte `start`. The last cell of a row with a flaw is as sent."""
    for block in blocks(source, delimited, start):
        yield [
            Row(number, cells.values, cells.flaw)
            for number, line in enumerate(block.lines, block.first)
            for cells in [block.cut.get(number - block.first) or cut(line, delimited.delimiter, False, EVERY)]
        ]


def first_row(source: Source, delimited: Delimited) -> tuple[list[str], int]:
    """The first row's trimmed cells, and the byte where the next row starts: for files whose first line names columns.

    Raises Fault `no_data` and `bad_header_line`.
    """
    pieces = _decoded(source, 0, PIECE)
    text = ""
    while len(text) < LONGEST and (piece := next(pieces, "")):
        text += piece
    end = 0
    quoted = Quoted(delimited.delimiter, EVERY)
    for line in io.StringIO(text, newline=""):
        end += len(line)
        body = line.rstrip("\r\n")
        if not quoted.open and not body.strip(BLANKS + delimited.delimiter):
            continue
        if not delimited.quotes:
            return cut(body, delimited.delimiter, False, EVERY).values, _bytes_before(source, text[:end])
        quoted.feed(body)
        if not (quoted.open and delimited.multiline):
            cells = quoted.cells()
            if cells.flaw:
                raise Fault("bad_header_line")
            return cells.values, _bytes_before(source, text[:end])
        quoted.feed_end(line[len(body) :])
    raise Fault("bad_header_line" if quoted.open else "no_data")


def wider(source: Source, delimited: Delimited, columns: int) -> bool:
    """Whether any row is wider than so many columns, trailing blank ones and rows with flaws not counted."""
    blank = BLANKS + delimited.delimiter
    for block in blocks(source, delimited, most=columns):
        if any(not cells.flaw and any(cells.values[columns:]) for cells in block.cut.values()):
            return True
        plain = (line for index, line in enumerate(block.lines) if index not in block.cut)
        if any(line.rstrip(blank).count(delimited.delimiter) >= columns for line in plain):
            return True
    return False


def blocks(
    source: Source,
    delimited: Delimited,
    start: int = 0,
    *,
    most: int = EVERY,
    longest: int = LONGEST,
    piece: int = PIECE,
) -> Iterator[Block]:
    """The rows, so many bytes' worth at once. `most`: cells beyond are not needed one by one (see `cutting.groups`).

    A row of more than `longest` characters has a flaw, its cells end there, and the rest is skipped as it streams by.
    """
    texts = _whole_lines(_decoded(source, start, piece), longest, BLANKS + delimited.delimiter)
    shape = _Shape(delimited, most, longest)
    if delimited.quotes and delimited.multiline:
        return _multiline_blocks(texts, shape)
    return _blocks(texts, shape)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The first characters of a line that is too long; the rest is skipped."""

    text: str


@dataclass(frozen=True, slots=True)
class _Shape:
    delimited: Delimited
    most: int
    longest: int

    @property
    def blank(self) -> str:
        return BLANKS + self.delimited.delimiter

    def cut(self, line: str) -> Cells:
        return cut(line, self.delimited.delimiter, self.delimited.quotes, self.most)

    def cut_beginning(self, line: str) -> Cells:
        """A line that is too long: its cells so far. A quote may be open only because of where it was cut."""
        return Cells(self.cut(line[: self.longest]).values, Flaw.LINE_TOO_LONG)


def _decoded(source: Source, start: int, piece: int) -> Iterator[str]:
    """The text in pieces, without a BOM; a CR LF is never cut in two. Raises UnicodeDecodeError."""
    decoder = codecs.getincrementaldecoder(source.charset)()
    source.file.seek(start)
    if start == 0 and source.file.read(len(_BOM)) != _BOM:
        source.file.seek(0)
    held = ""
    while raw := source.file.read(piece):
        text = held + decoder.decode(raw)
        held = "\r" if text.endswith("\r") else ""
        if text := text.removesuffix(held):
            yield text
    if text := held + decoder.decode(b"", final=True):
        yield text


def _bytes_before(source: Source, text: str) -> int:
    """Where in the source its beginning ends that reads `text`. All charsets but UTF-8 have one byte a character."""
    source.file.seek(0)
    before = len(_BOM) if source.file.read(len(_BOM)) == _BOM else 0
    return before + (len(text.encode()) if codecs.lookup(source.charset).name == "utf-8" else len(text))


def _whole_lines(texts: Iterator[str], longest: int, blank: str) -> Iterator[str | _Beginning]:
    """Texts of whole lines; of a line that outgrows `longest` only the beginning ("" where all of it is blank)."""
    carried: list[str] = []
    size = 0
    beginning: str | None = None
    only_blanks = True
    for text in texts:
        if beginning is not None:
            line_end = _LINE_END.search(text)
            only_blanks = only_blanks and not text[: line_end.start() if line_end else None].strip(blank)
            if line_end is None:
                continue
            yield _Beginning("" if only_blanks else beginning)
            beginning = None
            text = text[line_end.end() :]
        if end := max(text.rfind("\n"), text.rfind("\r")) + 1:
            yield "".join(carried) + text[:end]
            carried, size = [], 0
        carried.append(text[end:])
        size += len(text) - end
        if size > longest:
            line = "".join(carried)
            beginning, only_blanks = line[:longest], not line.strip(blank)
            carried, size = [], 0
    if beginning is not None:
        yield _Beginning("" if only_blanks else beginning)
    elif size:
        yield "".join(carried)


def _blocks(texts: Iterable[str | _Beginning], shape: _Shape) -> Iterator[Block]:
    first = 1
    for text in texts:
        block = _too_long(first, text, shape) if isinstance(text, _Beginning) else _block(first, text, shape)
        if block.lines:
            yield block
            first += len(block.lines)


def _block(first: int, text: str, shape: _Shape) -> Block:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    blank = shape.blank
    lines = [line for line in text.split("\n") if line.strip(blank)]
    longest = max(map(len, lines), default=0)
    cells: dict[int, Cells] = {}
    if shape.delimited.quotes and '"' in text:
        cells = {index: shape.cut(line) for index, line in enumerate(lines) if '"' in line}
    if longest > shape.longest:
        cells |= {index: shape.cut_beginning(line) for index, line in enumerate(lines) if len(line) > shape.longest}
    return Block(first, lines, text, longest, cells)


def _too_long(first: int, beginning: _Beginning, shape: _Shape) -> Block:
    if not beginning.text:
        return Block(first, [], "", 0)
    return Block(first, [""], beginning.text, shape.longest, {0: shape.cut_beginning(beginning.text)})


def _multiline_blocks(texts: Iterable[str | _Beginning], shape: _Shape) -> Iterator[Block]:
    first = 1
    records = _Records(shape)
    for text in chain(texts, [None]):
        if isinstance(text, str) and not records.open and '"' not in text:
            block = _block(first, text, shape)
            if block.lines:
                yield block
                first += len(block.lines)
            continue
        found = records.end() if text is None else records.take(text)
        while rows_at_once := list(islice(found, ROWS_AT_ONCE)):
            yield _assembled(first, rows_at_once)
            first += len(rows_at_once)


def _assembled(first: int, found: list[str | Cells]) -> Block:
    cells = {index: row for index, row in enumerate(found) if isinstance(row, Cells)}
    lines = ["" if isinstance(row, Cells) else row for row in found]
    values = [*lines, *chain.from_iterable(row.values for row in cells.values())]
    return Block(first, lines, "".join(values), max(map(len, values), default=0), cells)


class _Records:
    """Cuts texts into rows whose quoted values may span lines. A row that needs no cutting is given as its text.

    A quote that is never closed, or is closed where it cannot be, spoils the row of its first line only: the lines
    after that are read again. How much is read again is bounded, for a hostile file could have every line read for
    every other one; beyond the bound quotes do not span lines any more.
    """

    def __init__(self, shape: _Shape) -> None:
        self._shape = shape
        self._quoted = Quoted(shape.delimited.delimiter, shape.most)
        self._held = io.StringIO()
        self._rereads = REREAD

    @property
    def open(self) -> bool:
        return self._quoted.open

    def take(self, text: str | _Beginning) -> Iterator[str | Cells]:
        """The rows that end in the text."""
        if isinstance(text, str):
            yield from self._cut(text)
            return
        yield from self.end()
        if text.text:
            yield self._shape.cut_beginning(text.text)

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
            if not self.open:
                if (row := self._alone(body)) is not None:
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
                yield self._quoted.cells()
                self._held = io.StringIO()

    def _alone(self, line: str) -> str | Cells | None:
        """A line that is a row of its own, "" where it is blank; None where it may not be."""
        if not line.strip(self._shape.blank):
            return ""
        if len(line) > self._shape.longest:
            return self._shape.cut_beginning(line)
        if '"' not in line:
            return line
        if self._rereads <= 0:
            return self._shape.cut(line)
        return cut_closed(line, self._shape.delimited.delimiter, self._shape.most)

    def _give_up(self) -> tuple[Cells, str]:
        """The open row, spoilt after its first line, and the text of its other lines."""
        text = self._held.getvalue()
        self._held = io.StringIO()
        self._quoted.begin()
        line_end = _LINE_END.search(text)
        line, again = (text[: line_end.start()], text[line_end.end() :]) if line_end else (text, "")
        self._rereads -= len(again)
        return self._shape.cut(line), again
