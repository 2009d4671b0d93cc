"""The failed rows of a batch as a file to be mended and imported again: for the command line and the console alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby

from importing import batch_status, failed_rows
from importing.context import Context
from importing.errors import ApiError, Problem
from storage.queries import batches, jobs

FailedRow = tuple[int, list[str], list[Problem]]


def failed_rows_csv(context: Context, account: int, batch_id: str) -> Iterator[str]:
    """The CSV file of a batch's failed rows, line by line, streamed (see `importing.failed_rows`).

    Raises ApiError before the first line: unknown_batch, no_failed_rows.
    """
    with context.database.reading() as connection:
        batch = batches.find_batch(connection, account, batch_id)
        if batch is None:
            raise ApiError("unknown_batch", value=batch_id)
        if next(iter(jobs.stream_failed_rows(connection, account, batch_id)), None) is None:
            raise ApiError("no_failed_rows", value=batch_id)
    return _csv_lines(context, account, batch_id, batch["header"])


def _csv_lines(context: Context, account: int, batch_id: str, header: list[str]) -> Iterator[str]:
    # What stood in front of a mended file that failed once more is out of date.
    added = failed_rows.count_added_columns(header)
    with context.database.reading() as connection:
        problems = batch_status.RowResults(connection, account, batch_id).problems()
        rows = _join_problems(jobs.stream_failed_rows(connection, account, batch_id), problems)
        yield from failed_rows.csv_lines(
            header[added:], ((row, cells[added:], row_problems) for row, cells, row_problems in rows)
        )


def _join_problems(rows: Iterable[tuple[int, str]], problems: Iterable[Problem]) -> Iterator[FailedRow]:
    """Each row's cells with its problems; both come in row order."""
    grouped = groupby(problems, key=lambda problem: problem.row)
    number, row_problems = next(grouped, (0, iter(())))
    for row, text in rows:
        while number < row and number:
            number, row_problems = next(grouped, (0, iter(())))
        cells: list[str] = json.loads(text)
        yield row, cells, list(row_problems) if number == row else []
