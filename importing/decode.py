"""Bytes → text → rows, streaming: memory does not grow with the data, a line or a quote. Source: docs/protocol.md, Rows.

One line is a row; CR LF, LF and CR end lines, mixed too; lines of nothing but blanks and delimiters are skipped.
In files (`Delimited.multiline`) a quoted value may span lines. Reading can stop behind any block and go on from there.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from importing.batch import Cursor, Delimited, Source
from importing.cutting import BLANKS, Block, Cells, Flaw, Quoted, cut, in_columns
from importing.faults import Fault
from importing.lines import PIECE, Lines, decoded, size_of_bom, sizes, whole_lines
from importing.records import Records, Shape
from importing.regular import MOST, outside
from importing.regular import records as regular_records

LONGEST = 1_000_000  # characters of a row, where its columns do not ask for more
ROWS_AT_ONCE = 1000  # of text that is read again, and may be long
EVERY = 1_000_000  # more columns than a row can have
BEGINNING = Cursor()


@dataclass(frozen=True, slots=True)
class Row:
    """One row, by its number among those that are not blank, from 1."""

    number: int
    cells: list[str]
    flaw: Flaw = Flaw.NONE


def rows(source: Source, delimited: Delimited, start: int = 0) -> Iterator[list[Row]]:
    """Chunks of rows with trimmed cells, beginning at byte `start`. The last cell of a row with a flaw is as sent."""
    for block in blocks(source, delimited, Cursor(start)):
        yield [
            Row(number, cells.values, cells.flaw)
            for number, line in enumerate(block.lines, block.first)
            for cells in [block.cut.get(number - block.first) or cut(line, delimited.delimiter, False, EVERY)]
        ]


def first_row(source: Source, delimited: Delimited) -> tuple[list[str], int]:
    """The first row's trimmed cells, and the byte where the next row starts: for files whose first line names columns.

    Raises Fault `no_data` and `bad_header_line`.
    """
    pieces = decoded(source)
    before, size_of = size_of_bom(source), sizes(source)
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
            return cut(body, delimited.delimiter, False, EVERY).values, before + size_of(text[:end])
        quoted.feed(body)
        if not (quoted.open and delimited.multiline):
            cells = quoted.cells()
            if cells.flaw:
                raise Fault("bad_header_line")
            return cells.values, before + size_of(text[:end])
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
    start: Cursor = BEGINNING,
    *,
    most: int = EVERY,
    longest: int = LONGEST,
    piece: int = PIECE,
    by_column: bool = False,
) -> Iterator[Block]:
    """The rows from `start` on, so many bytes' worth at once. `most`: cells beyond are not needed one by one.

    A row of more than `longest` characters has a flaw, its cells end there, and the rest is skipped as it streams by.
    `by_column`: where all rows of a block have as many cells, it may come without lines (see `cutting.in_columns`).
    """
    texts = whole_lines(source, start.position, longest, BLANKS + delimited.delimiter, piece)
    shape = Shape(delimited, most, longest, by_column)
    if not (delimited.quotes and delimited.multiline):
        return _blocks(texts, shape, start.rows + 1)
    records = Records(shape, sizes(source), start.position or size_of_bom(source), start.rereads)
    return _multiline_blocks(texts, shape, records, start.rows + 1)


def _blocks(texts: Iterable[Lines], shape: Shape, first: int) -> Iterator[Block]:
    for text in texts:
        block = _block(first, text, shape)
        if block.rows:
            yield block
            first += block.rows


def _block(first: int, lines: Lines, shape: Shape, rereads: int | None = None) -> Block:
    if lines.cut:
        return _too_long(first, lines, shape)
    text = lines.text
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if shape.by_column and len(text) <= shape.longest and not (shape.delimited.quotes and '"' in text):
        columns = in_columns(text, shape.delimited.delimiter, shape.most)
        if columns is not None:
            return Block(first, (), text, len(text), {}, lines.end, rereads, columns)
    blank = shape.blank
    rows = [line for line in text.split("\n") if line.strip(blank)]
    longest = max(map(len, rows), default=0)
    cells: dict[int, Cells] = {}
    if shape.delimited.quotes and '"' in text:
        cells = {index: shape.cut(line) for index, line in enumerate(rows) if '"' in line}
    if longest > shape.longest:
        cells |= {index: shape.cut_beginning(line) for index, line in enumerate(rows) if len(line) > shape.longest}
    return Block(first, rows, text, longest, cells, lines.end, rereads)


def _too_long(first: int, lines: Lines, shape: Shape) -> Block:
    if not lines.text:
        return Block(first, [], "", 0, {}, lines.end)
    return Block(first, [""], lines.text, shape.longest, {0: shape.cut_beginning(lines.text)}, lines.end)


def _multiline_blocks(texts: Iterable[Lines], shape: Shape, records: Records, first: int) -> Iterator[Block]:
    waiting = ""  # regular so far, its last quote open
    for text in chain(texts, [None]):
        block = None
        if text is not None and not (records.open or text.cut):
            if not waiting and '"' not in text.text:
                block = _block(first, text, shape, records.rereads)
            elif records.rereads > 0 and len(waiting) + len(text.text) <= min(shape.longest, MOST):
                text = Lines(waiting + text.text, text.end)
                told, closed = outside(text.text, shape.delimited.delimiter)
                waiting = text.text if told and not closed else ""
                if waiting:
                    continue
                block = _regular(first, text, told, shape, records.rereads) if told else None
        if block is not None:
            records.position = block.end
            if block.rows:
                yield block
                first += block.rows
            continue
        found = records.end() if text is None else records.take(text)
        found = chain(records.take(Lines(waiting, 0)), found) if waiting else found
        waiting = ""
        while rows_at_once := list(islice(found, ROWS_AT_ONCE)):
            yield _assembled(first, rows_at_once, records)
            first += len(rows_at_once)


def _regular(first: int, lines: Lines, told: str, shape: Shape, rereads: int) -> Block | None:
    found = regular_records(lines.text, told, shape.delimited.delimiter, shape.most)
    if found is None:
        return None
    longest = max((len(value) for cells in found for value in cells.values), default=0)
    return Block(first, [""] * len(found), lines.text, longest, dict(enumerate(found)), lines.end, rereads)


def _assembled(first: int, found: list[str | Cells], records: Records) -> Block:
    cells = {index: row for index, row in enumerate(found) if isinstance(row, Cells)}
    lines = ["" if isinstance(row, Cells) else row for row in found]
    values = [*lines, *chain.from_iterable(row.values for row in cells.values())]
    longest = max(map(len, values), default=0)
    return Block(first, lines, "".join(values), longest, cells, records.position, records.rereads)
