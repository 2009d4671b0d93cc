"""The failed rows of a batch: read again as they were sent, and exported as a CSV file to be corrected and imported."""

from __future__ import annotations

import csv
import io
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from importing.batch import ABSENT, Batch, Cursor
from importing.batch_status import problem_from_row
from importing.context import Context
from importing.errors import ApiError, Problem
from importing.fields import SECRET_MASK, Field, FieldKind
from importing.reading.column_layout import column_fields, max_row_characters
from importing.reading.csv_formula_guard import guard, unguard
from importing.reading.row_reader import ALL_CELLS, read_blocks
from importing.reading.split_rows import RowBlock, split_row
from storage.queries import batches, jobs

ADDED_COLUMNS = ("row", "field", "code", "message")
FailedRow = tuple[int, list[str], list[Problem]]


def reread_cells(batch: Batch, rows: Sequence[int], start: Cursor) -> Iterator[tuple[int, list[str]]]:
    """The cells of `rows` (growing numbers), read again from a cursor before the first of them.

    Secrets are masked; where quotes or delimiters may have shifted one into another column, every cell is.
    """
    fields = column_fields(batch)
    blocks = read_blocks(batch.source, batch.delimited, start, longest=max_row_characters(fields))
    next_index = 0
    while next_index < len(rows) and (block := next(blocks, None)):
        end = bisect_left(rows, block.first + len(block.lines), next_index)
        for number in rows[next_index:end]:
            yield number, _mask(*_row_cells(block, number, batch), fields)
        next_index = end


def export_csv(context: Context, account: int, batch_id: str) -> Iterator[str]:
    """The CSV file of a batch's failed rows, streamed line by line.

    Raises ApiError before the first line: unknown_batch, no_failed_rows.
    """
    with context.database.reading() as connection:
        batch = batches.find_batch(connection, account, batch_id)
        if batch is None:
            raise ApiError("unknown_batch", value=batch_id)
        if next(iter(jobs.stream_failed_rows(connection, account, batch_id)), None) is None:
            raise ApiError("no_failed_rows", value=batch_id)
    return _stream_csv(context, account, batch_id, batch["header"])


def _stream_csv(context: Context, account: int, batch_id: str, header: list[str]) -> Iterator[str]:
    # In an exported file that failed again the added columns are out of date.
    added = count_added_columns(header)
    with context.database.reading() as connection:
        problems = map(problem_from_row, batches.stream_problems(connection, account, batch_id))
        rows = _join_problems(jobs.stream_failed_rows(connection, account, batch_id), problems)
        yield from csv_lines(header[added:], ((row, cells[added:], row_problems) for row, cells, row_problems in rows))


def _join_problems(rows: Iterable[tuple[int, str]], problems: Iterable[Problem]) -> Iterator[FailedRow]:
    """Each row's cells (a JSON list) with its problems; both come in row order."""
    problem_groups = groupby(problems, key=lambda problem: problem.row)
    number, row_problems = next(problem_groups, (0, iter(())))
    for row, text in rows:
        while number < row and number:
            number, row_problems = next(problem_groups, (0, iter(())))
        yield row, json.loads(text), list(row_problems) if number == row else []


def csv_lines(header: Iterable[str], rows: Iterable[tuple[int, Sequence[str], Sequence[Problem]]]) -> Iterator[str]:
    """A CSV file (RFC 4180) of failed rows, line by line, with the problems of each in front of its cells.

    `rows`: number, cells, problems. No cell runs as a formula in a spreadsheet (importing/reading/csv_formula_guard.py).
    """
    yield _csv_line([*ADDED_COLUMNS, *header])
    for number, cells, problems in rows:
        texts = [(problem.field, problem.code, problem.message) for problem in problems] or [("", "", "")]
        yield _csv_line(
            [str(number), *("; ".join(filter(None, column)) for column in zip(*texts, strict=True)), *cells]
        )


def count_added_columns(names: Sequence[str]) -> int:
    """How many columns at the beginning of a file were added by `csv_lines`: all four or 0."""
    first_names = [name.strip().casefold() for name in names[: len(ADDED_COLUMNS)]]
    return len(ADDED_COLUMNS) if first_names == list(ADDED_COLUMNS) else 0


def _row_cells(block: RowBlock, number: int, batch: Batch) -> tuple[list[str], bool]:
    """A row's cells, and whether the row has a flaw. A row with misplaced quotes is split as if it had none."""
    index = number - block.first
    row = block.cells.get(index)
    line = block.lines[index] if row is None else row.line
    values = row.values if row else []
    if line:
        values = split_row(line, batch.delimited.delimiter, False, ALL_CELLS).values
    if batch.delimited.guarded:
        values = [unguard(value) for value in values]
    if batch.delimited.has_absent:
        values = ["" if value == ABSENT else value for value in values]
    return values, row is not None and bool(row.flaw)


def _mask(values: list[str], is_flawed: bool, fields: Sequence[Field | None]) -> list[str]:
    is_secret = [field is not None and field.kind is FieldKind.SECRET for field in fields]
    if not any(is_secret):
        return values
    if is_flawed or any(values[len(fields) :]):
        return [SECRET_MASK] * len(values)
    is_secret += [False] * (len(values) - len(is_secret))
    return [SECRET_MASK if value and hide else value for value, hide in zip(values, is_secret, strict=False)]


def _csv_line(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([guard(value) for value in values])
    return text.getvalue()
