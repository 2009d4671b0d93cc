"""Bytes → text → rows, streaming: memory does not grow with the data, a line or a quote. Source: docs/protocol.md, Rows.

One line is a row; CR LF, LF and CR end lines, mixed too; lines of nothing but blanks and delimiters are skipped.
In files (`Delimited.multiline`) a quoted value may span lines. Reading can stop behind any block and resume there.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat

from importing.batch import Cursor, Delimited, Source
from importing.errors import ApiError
from importing.reading.csv_records import (
    MAX_CHARACTERS_AT_ONCE,
    RecordReader,
    SplitRules,
    line_feeds,
    outline_quotes,
    read_plain_records,
)
from importing.reading.lines import WholeLines, byte_counter, count_bom_bytes, read_text, read_whole_lines
from importing.reading.split_rows import BLANKS, QuotedRow, RowBlock, RowCells, split_by_column, split_row

MIN_ROW_LIMIT = 1_000_000  # characters of a row, where its columns do not ask for more
REREAD_ROWS_AT_ONCE = 1000
ALL_CELLS = 1_000_000  # more columns than a row can have
BEGINNING = Cursor()


def read_first_row(source: Source, delimited: Delimited) -> tuple[list[str], int]:
    """The first row's trimmed cells, and the byte where the next row starts: for files whose first line names columns.

    Raises ApiError `no_data` and `bad_header_line`.
    """
    text = ""
    for piece, _ in read_text(source):
        text += piece
        if len(text) >= MIN_ROW_LIMIT:
            break
    end = 0
    quoted = QuotedRow(delimited.delimiter, ALL_CELLS)
    for line in io.StringIO(text, newline=""):
        end += len(line)
        body = line.rstrip("\r\n")
        if not quoted.open and not body.strip(BLANKS + delimited.delimiter):
            continue
        if delimited.quotes:
            quoted.feed(body, line[len(body) :])
            if quoted.open and delimited.multiline:
                continue
            cells = quoted.cells()
        else:
            cells = split_row(body, delimited.delimiter, False, ALL_CELLS)
        if cells.flaw:
            raise ApiError("bad_header_line")
        return cells.values, count_bom_bytes(source) + byte_counter(source)(text[:end])
    raise ApiError("bad_header_line" if quoted.open else "no_data")


def count_rows(source: Source, delimited: Delimited, longest: int, start: Cursor = BEGINNING) -> int:
    """The rows from `start` on that are not blank, as many as `read_blocks` numbers, without splitting them.

    Reads the data once. Of quoted files that takes a quarter of the time that `read_blocks` takes.
    """
    rules = SplitRules(delimited, ALL_CELLS, longest)
    texts = read_whole_lines(source, start.position, longest, rules.blank)
    if not (delimited.quotes and delimited.multiline):
        return sum(bool(text.text) if text.truncated else _count_lines(text.text, rules.blank) for text in texts)
    records = RecordReader(rules, byte_counter(source), 0, start.rereads)
    rows = 0
    held = ""
    for text in texts:
        if _can_join(held, text, records, longest):
            held += text.text
            outline, closed = outline_quotes(held, delimited.delimiter)
            if outline and not closed:
                continue
            rows += _count_lines(outline, rules.blank) if outline else _count_records(records, held)
        else:
            rows += _count_records(records, held) + sum(1 for _ in records.read(text))
        held = ""
    return rows + _count_records(records, held) + sum(1 for _ in records.end())


def _count_records(records: RecordReader, text: str) -> int:
    return sum(1 for _ in records.read(WholeLines(text, 0)))


def _count_lines(text: str, blank: str) -> int:
    """Lines that are not blank."""
    return sum(map(bool, map(str.strip, line_feeds(text).split("\n"), repeat(blank))))


def read_blocks(
    source: Source,
    delimited: Delimited,
    start: Cursor = BEGINNING,
    *,
    limit: int = ALL_CELLS,
    longest: int = MIN_ROW_LIMIT,
    by_column: bool = False,
) -> Iterator[RowBlock]:
    """The rows from `start` on, in blocks of about 64 kB. Cells beyond `limit`: see `split_block`.

    A row of more than `longest` characters has a flaw: its cells end there, and the rest is skipped as it is read.
    `by_column`: where all rows of a block have as many cells, it may come without lines (see `split_by_column`).
    """
    rules = SplitRules(delimited, limit, longest, by_column)
    texts = read_whole_lines(source, start.position, longest, rules.blank)
    if not (delimited.quotes and delimited.multiline):
        return _read_line_blocks(texts, rules, start.rows + 1)
    position = start.position or count_bom_bytes(source)
    records = RecordReader(rules, byte_counter(source), position, start.rereads)
    return _read_record_blocks(texts, rules, records, start.rows + 1)


def _read_line_blocks(texts: Iterable[WholeLines], rules: SplitRules, first: int) -> Iterator[RowBlock]:
    for text in texts:
        block = _make_block(first, text, rules)
        if block.rows:
            yield block
            first += block.rows


def _make_block(first: int, lines: WholeLines, rules: SplitRules, rereads: int | None = None) -> RowBlock:
    if lines.truncated:
        cells = {0: rules.split_beginning(lines.text)} if lines.text else {}
        return RowBlock(first, [""] * len(cells), lines.text, cells, lines.end)
    text = line_feeds(lines.text)
    has_quotes = rules.delimited.quotes and '"' in text
    if rules.by_column and len(text) <= rules.longest and not has_quotes:
        columns = split_by_column(text, rules.delimited.delimiter, rules.limit)
        if columns is not None:
            return RowBlock(first, (), text, {}, lines.end, rereads, columns)
    blank = rules.blank
    rows = [line for line in text.split("\n") if line.strip(blank)]
    cells = {index: rules.split(line) for index, line in enumerate(rows) if '"' in line} if has_quotes else {}
    if max(map(len, rows), default=0) > rules.longest:
        cells |= {index: rules.split_beginning(line) for index, line in enumerate(rows) if len(line) > rules.longest}
    return RowBlock(first, rows, text, cells, lines.end, rereads)


def _can_join(held: str, text: WholeLines, records: RecordReader, longest: int) -> bool:
    """Whether plain records may span the held text and this one."""
    is_plain = not (records.open or text.truncated) and records.rereads > 0
    return is_plain and len(held) + len(text.text) <= min(longest, MAX_CHARACTERS_AT_ONCE)


def _read_record_blocks(
    texts: Iterable[WholeLines], rules: SplitRules, records: RecordReader, first: int
) -> Iterator[RowBlock]:
    held = ""  # plain records so far, the last of them not closed yet
    for text in chain(texts, [None]):
        block = None
        if text is not None and not (held or '"' in text.text or records.open or text.truncated):
            block = _make_block(first, text, rules, records.rereads)
        elif text is not None and _can_join(held, text, records, rules.longest):
            text = WholeLines(held + text.text, text.end)
            outline, closed = outline_quotes(text.text, rules.delimited.delimiter)
            held = text.text if outline and not closed else ""
            if held:
                continue
            block = _make_plain_block(first, text, outline, rules, records.rereads) if outline else None
        if block is not None:
            records.position = block.end
            if block.rows:
                yield block
                first += block.rows
            continue
        rows = chain(records.read(WholeLines(held, 0)), records.end() if text is None else records.read(text))
        held = ""
        while rows_at_once := list(islice(rows, REREAD_ROWS_AT_ONCE)):
            yield _assemble_block(first, rows_at_once, records)
            first += len(rows_at_once)


def _make_plain_block(first: int, lines: WholeLines, outline: str, rules: SplitRules, rereads: int) -> RowBlock | None:
    rows = read_plain_records(lines.text, outline, rules.delimited.delimiter, rules.limit)
    if rows is None:
        return None
    return RowBlock(first, [""] * len(rows), lines.text, dict(enumerate(rows)), lines.end, rereads)


def _assemble_block(first: int, rows: list[str | RowCells], records: RecordReader) -> RowBlock:
    cells = {index: row for index, row in enumerate(rows) if isinstance(row, RowCells)}
    lines = ["" if isinstance(row, RowCells) else row for row in rows]
    text = "".join(chain(lines, *[row.values for row in cells.values()]))
    return RowBlock(first, lines, text, cells, records.position, records.rereads)
