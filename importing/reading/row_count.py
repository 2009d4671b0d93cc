"""How many rows the data of a batch has, without cutting them: what the progress of a job is told against."""

from __future__ import annotations

from itertools import repeat

from importing.batch import Batch, Cursor
from importing.reading.column_layout import column_fields, max_row_characters
from importing.reading.csv_fast_path import MAX_CHARACTERS_AT_ONCE, line_feeds, outline_quotes
from importing.reading.csv_records import RecordReader, SplitRules
from importing.reading.lines import READ_BYTES, WholeLines, byte_counter, read_whole_lines
from importing.reading.row_reader import ALL_CELLS, BEGINNING


def count_rows(batch: Batch, start: Cursor = BEGINNING, piece: int = READ_BYTES) -> int:
    """The rows from `start` on that are not blank: as many as `Checked` numbers. Reads the data once."""
    longest = max_row_characters(column_fields(batch))
    shape = SplitRules(batch.delimited, ALL_CELLS, longest)
    texts = read_whole_lines(batch.source, start.position, longest, shape.blank, piece)
    if not (batch.delimited.quotes and batch.delimited.multiline):
        return sum(bool(text.text) if text.cut else _count_filled_lines(text.text, shape.blank) for text in texts)
    records = RecordReader(shape, byte_counter(batch.source), 0, start.rereads)
    limit = min(longest, MAX_CHARACTERS_AT_ONCE)
    rows = 0
    held = ""
    for text in texts:
        if not (text.cut or records.open) and records.rereads > 0 and len(held) + len(text.text) <= limit:
            held += text.text
            outline, closed = outline_quotes(held, batch.delimited.delimiter)
            if outline and not closed:
                continue
            rows += _count_filled_lines(outline, shape.blank) if outline else _count_taken(records, held)
            held = ""
        else:
            rows += _count_taken(records, held) + sum(1 for _ in records.take(text))
            held = ""
    return rows + _count_taken(records, held) + sum(1 for _ in records.end())


def _count_taken(records: RecordReader, text: str) -> int:
    return sum(1 for _ in records.take(WholeLines(text, 0))) if text else 0


def _count_filled_lines(text: str, blank: str) -> int:
    """Lines that are not blank."""
    return sum(map(bool, map(str.strip, line_feeds(text).split("\n"), repeat(blank))))
