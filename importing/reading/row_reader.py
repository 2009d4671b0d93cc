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
from importing.errors import ApiError
from importing.reading.csv_fast_path import MAX_CHARACTERS_AT_ONCE, outline_quotes
from importing.reading.csv_fast_path import read_plain_records as regular_records
from importing.reading.csv_records import RecordReader, SplitRules
from importing.reading.lines import READ_BYTES, WholeLines, byte_counter, read_text, read_whole_lines, size_of_bom
from importing.reading.split_rows import BLANKS, Block, Cells, Flaw, QuotedRow, split_by_column, split_row

MIN_ROW_LIMIT = 1_000_000  # characters of a row, where its columns do not ask for more
REREAD_ROWS_AT_ONCE = 1000  # of text that is read again, and may be long
ALL_CELLS = 1_000_000  # more columns than a row can have
BEGINNING = Cursor()


@dataclass(frozen=True, slots=True)
class Row:
    """One row, by its number among those that are not blank, from 1."""

    number: int
    cells: list[str]
    flaw: Flaw = Flaw.NONE


def read_rows(source: Source, delimited: Delimited, start: int = 0) -> Iterator[list[Row]]:
    """Chunks of rows with trimmed cells, beginning at byte `start`. The last cell of a row with a flaw is as sent."""
    for block in read_blocks(source, delimited, Cursor(start)):
        yield [
            Row(number, cells.values, cells.flaw)
            for number, line in enumerate(block.lines, block.first)
            for cells in [block.cut.get(number - block.first) or split_row(line, delimited.delimiter, False, ALL_CELLS)]
        ]


def read_first_row(source: Source, delimited: Delimited) -> tuple[list[str], int]:
    """The first row's trimmed cells, and the byte where the next row starts: for files whose first line names columns.

    Raises ApiError `no_data` and `bad_header_line`.
    """
    pieces = read_text(source)
    before, size_of = size_of_bom(source), byte_counter(source)
    text = ""
    while len(text) < MIN_ROW_LIMIT and (piece := next(pieces, "")):
        text += piece
    end = 0
    quoted = QuotedRow(delimited.delimiter, ALL_CELLS)
    for line in io.StringIO(text, newline=""):
        end += len(line)
        body = line.rstrip("\r\n")
        if not quoted.open and not body.strip(BLANKS + delimited.delimiter):
            continue
        if not delimited.quotes:
            return split_row(body, delimited.delimiter, False, ALL_CELLS).values, before + size_of(text[:end])
        quoted.feed(body)
        if not (quoted.open and delimited.multiline):
            cells = quoted.cells()
            if cells.flaw:
                raise ApiError("bad_header_line")
            return cells.values, before + size_of(text[:end])
        quoted.feed_end(line[len(body) :])
    raise ApiError("bad_header_line" if quoted.open else "no_data")


def has_wider_row(source: Source, delimited: Delimited, columns: int) -> bool:
    """Whether any row is wider than so many columns, trailing blank ones and rows with flaws not counted."""
    blank = BLANKS + delimited.delimiter
    for block in read_blocks(source, delimited, limit=columns):
        if any(not cells.flaw and any(cells.values[columns:]) for cells in block.cut.values()):
            return True
        plain = (line for index, line in enumerate(block.lines) if index not in block.cut)
        if any(line.rstrip(blank).count(delimited.delimiter) >= columns for line in plain):
            return True
    return False


def read_blocks(
    source: Source,
    delimited: Delimited,
    start: Cursor = BEGINNING,
    *,
    limit: int = ALL_CELLS,
    longest: int = MIN_ROW_LIMIT,
    piece: int = READ_BYTES,
    by_column: bool = False,
) -> Iterator[Block]:
    """The rows from `start` on, so many bytes' worth at once. `most`: cells beyond are not needed one by one.

    A row of more than `longest` characters has a flaw, its cells end there, and the rest is skipped as it streams by.
    `by_column`: where all rows of a block have as many cells, it may come without lines (see `cutting.in_columns`).
    """
    texts = read_whole_lines(source, start.position, longest, BLANKS + delimited.delimiter, piece)
    shape = SplitRules(delimited, limit, longest, by_column)
    if not (delimited.quotes and delimited.multiline):
        return _read_blocks(texts, shape, start.rows + 1)
    records = RecordReader(shape, byte_counter(source), start.position or size_of_bom(source), start.rereads)
    return _read_multiline_blocks(texts, shape, records, start.rows + 1)


def _read_blocks(texts: Iterable[WholeLines], shape: SplitRules, first: int) -> Iterator[Block]:
    for text in texts:
        block = _make_block(first, text, shape)
        if block.rows:
            yield block
            first += block.rows


def _make_block(first: int, lines: WholeLines, shape: SplitRules, rereads: int | None = None) -> Block:
    if lines.cut:
        return _long_line_block(first, lines, shape)
    text = lines.text
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if shape.by_column and len(text) <= shape.longest and not (shape.delimited.quotes and '"' in text):
        columns = split_by_column(text, shape.delimited.delimiter, shape.limit)
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


def _long_line_block(first: int, lines: WholeLines, shape: SplitRules) -> Block:
    if not lines.text:
        return Block(first, [], "", 0, {}, lines.end)
    return Block(first, [""], lines.text, shape.longest, {0: shape.cut_beginning(lines.text)}, lines.end)


def _read_multiline_blocks(
    texts: Iterable[WholeLines], shape: SplitRules, records: RecordReader, first: int
) -> Iterator[Block]:
    held = ""  # regular so far, its last quote open
    for text in chain(texts, [None]):
        block = None
        if text is not None and not (records.open or text.cut):
            if not held and '"' not in text.text:
                block = _make_block(first, text, shape, records.rereads)
            elif records.rereads > 0 and len(held) + len(text.text) <= min(shape.longest, MAX_CHARACTERS_AT_ONCE):
                text = WholeLines(held + text.text, text.end)
                outline, closed = outline_quotes(text.text, shape.delimited.delimiter)
                held = text.text if outline and not closed else ""
                if held:
                    continue
                block = _fast_block(first, text, outline, shape, records.rereads) if outline else None
        if block is not None:
            records.position = block.end
            if block.rows:
                yield block
                first += block.rows
            continue
        found = records.end() if text is None else records.take(text)
        found = chain(records.take(WholeLines(held, 0)), found) if held else found
        held = ""
        while rows_at_once := list(islice(found, REREAD_ROWS_AT_ONCE)):
            yield _assemble_block(first, rows_at_once, records)
            first += len(rows_at_once)


def _fast_block(first: int, lines: WholeLines, outline: str, shape: SplitRules, rereads: int) -> Block | None:
    found = regular_records(lines.text, outline, shape.delimited.delimiter, shape.limit)
    if found is None:
        return None
    longest = max((len(value) for cells in found for value in cells.values), default=0)
    return Block(first, [""] * len(found), lines.text, longest, dict(enumerate(found)), lines.end, rereads)


def _assemble_block(first: int, found: list[str | Cells], records: RecordReader) -> Block:
    cells = {index: row for index, row in enumerate(found) if isinstance(row, Cells)}
    lines = ["" if isinstance(row, Cells) else row for row in found]
    values = [*lines, *chain.from_iterable(row.values for row in cells.values())]
    longest = max(map(len, values), default=0)
    return Block(first, lines, "".join(values), longest, cells, records.position, records.rereads)
