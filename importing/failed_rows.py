"""The failed rows of a batch as they were sent, and as a file that can be mended and uploaded again."""

from __future__ import annotations

import csv
import io
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from importing.batch import ABSENT, Batch, Cursor
from importing.errors import Problem
from importing.fields import SECRET_MASK, Field, FieldKind
from importing.reading.column_layout import column_fields, max_row_characters
from importing.reading.csv_formula_guard import guard, unguard
from importing.reading.row_reader import ALL_CELLS, read_blocks
from importing.reading.split_rows import RowBlock, split_row

ADDED_COLUMNS = ("row", "field", "code", "message")


def reread_cells(batch: Batch, rows: Sequence[int], start: Cursor) -> Iterator[tuple[int, list[str]]]:
    """The cells of those `rows` (numbers, growing), read again from a cursor that lies before the first of them.

    Secrets are masked; where quotes or delimiters may have moved one into another column, every cell is.
    """
    fields = column_fields(batch)
    found = read_blocks(batch.source, batch.delimited, start, longest=max_row_characters(fields))
    next_one = 0
    while next_one < len(rows) and (block := next(found, None)):
        behind = bisect_left(rows, block.first + len(block.lines), next_one)
        for number in rows[next_one:behind]:
            yield number, _mask(*_row_cells(block, number, batch), fields)
        next_one = behind


def csv_lines(header: Iterable[str], rows: Iterable[tuple[int, Sequence[str], Sequence[Problem]]]) -> Iterator[str]:
    """The CSV file (RFC 4180) of failed rows, line by line: what is wrong with each stands in front of its cells.

    `rows`: number, cells, problems. No cell runs as a formula in a spreadsheet (see `importing.reading.csv_formula_guard`).
    """
    yield _csv_line([*ADDED_COLUMNS, *header])
    for number, row, problems in rows:
        texts_of_problems = [(problem.field, problem.code, problem.message) for problem in problems] or [("", "", "")]
        yield _csv_line(
            [str(number), *("; ".join(filter(None, texts)) for texts in zip(*texts_of_problems, strict=True)), *row]
        )


def count_added_columns(names: Sequence[str]) -> int:
    """How many columns in front of a file's own are those that `lines` puts there: all four or 0."""
    return (
        len(ADDED_COLUMNS)
        if [name.strip().casefold() for name in names[: len(ADDED_COLUMNS)]] == list(ADDED_COLUMNS)
        else 0
    )


def _row_cells(block: RowBlock, number: int, batch: Batch) -> tuple[list[str], bool]:
    """A row's cells, and whether the row has a flaw. One with misplaced quotes is cut as if they were none."""
    index = number - block.first
    found = block.cells.get(index)
    line = block.lines[index] if found is None else found.line
    values = (
        split_row(line, batch.delimited.delimiter, False, ALL_CELLS).values if line else found.values if found else []
    )
    if batch.delimited.guarded:
        values = [unguard(value) for value in values]
    if batch.delimited.has_absent:
        values = ["" if value == ABSENT else value for value in values]
    return values, found is not None and bool(found.flaw)


def _mask(values: list[str], flawed: bool, fields: Sequence[Field | None]) -> list[str]:
    secret = [field is not None and field.kind is FieldKind.SECRET for field in fields]
    if not any(secret):
        return values
    if flawed or any(values[len(fields) :]):
        return [SECRET_MASK] * len(values)
    is_hidden = [*secret, *[False] * (len(values) - len(secret))]
    return [SECRET_MASK if value and hide else value for value, hide in zip(values, is_hidden, strict=False)]


def _csv_line(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([guard(value) for value in values])
    return text.getvalue()
