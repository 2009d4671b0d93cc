"""How many rows the data of a batch has, without cutting them: what the progress of a job is told against."""

from __future__ import annotations

from itertools import repeat

from importing.batch import Batch, Cursor
from importing.decode import BEGINNING, EVERY
from importing.layout import layout, longest_row
from importing.lines import PIECE, Lines, sizes, whole_lines
from importing.records import Records, Shape
from importing.regular import MOST, line_feeds, outside


def count(batch: Batch, start: Cursor = BEGINNING, piece: int = PIECE) -> int:
    """The rows from `start` on that are not blank: as many as `Checked` numbers. Reads the data once."""
    longest = longest_row(layout(batch))
    shape = Shape(batch.delimited, EVERY, longest)
    texts = whole_lines(batch.source, start.position, longest, shape.blank, piece)
    if not (batch.delimited.quotes and batch.delimited.multiline):
        return sum(bool(text.text) if text.cut else _filled(text.text, shape.blank) for text in texts)
    records = Records(shape, sizes(batch.source), 0, start.rereads)
    most = min(longest, MOST)
    rows = 0
    waiting = ""
    for text in texts:
        if not (text.cut or records.open) and records.rereads > 0 and len(waiting) + len(text.text) <= most:
            waiting += text.text
            told, closed = outside(waiting, batch.delimited.delimiter)
            if told and not closed:
                continue
            rows += _filled(told, shape.blank) if told else _taken(records, waiting)
            waiting = ""
        else:
            rows += _taken(records, waiting) + sum(1 for _ in records.take(text))
            waiting = ""
    return rows + _taken(records, waiting) + sum(1 for _ in records.end())


def _taken(records: Records, text: str) -> int:
    return sum(1 for _ in records.take(Lines(text, 0))) if text else 0


def _filled(text: str, blank: str) -> int:
    """Lines that are not blank."""
    return sum(map(bool, map(str.strip, line_feeds(text).split("\n"), repeat(blank))))
