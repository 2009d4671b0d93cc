"""The failed rows of a batch as a file to be mended and imported again: for the command line and the console alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby

from importing import failed, follow
from importing.core import Core
from importing.faults import Fault, Problem
from storage import batches, jobs

Row = tuple[int, list[str], list[Problem]]


def file_of(core: Core, account: int, batch_id: str) -> Iterator[str]:
    """The CSV file of a batch's failed rows, line by line, streamed (see `importing.failed`).

    Raises Fault before the first line: unknown_batch, no_failed_rows.
    """
    with core.database.reading() as connection:
        batch = batches.find_in(connection, account, batch_id)
        if batch is None:
            raise Fault("unknown_batch", value=batch_id)
        if next(iter(jobs.failed(connection, account, batch_id)), None) is None:
            raise Fault("no_failed_rows", value=batch_id)
    return _lines(core, account, batch_id, batch["header"])


def _lines(core: Core, account: int, batch_id: str, header: list[str]) -> Iterator[str]:
    # What stood in front of a mended file that failed once more is out of date.
    own = failed.front(header)
    with core.database.reading() as connection:
        problems = follow.Rows(connection, account, batch_id).problems()
        rows = _joined(jobs.failed(connection, account, batch_id), problems)
        yield from failed.lines(header[own:], ((row, cells[own:], wrong) for row, cells, wrong in rows))


def _joined(rows: Iterable[tuple[int, str]], problems: Iterable[Problem]) -> Iterator[Row]:
    """Each row's cells with its problems; both come in row order."""
    grouped = groupby(problems, key=lambda problem: problem.row)
    number, found = next(grouped, (0, iter(())))
    for row, text in rows:
        while number < row and number:
            number, found = next(grouped, (0, iter(())))
        cells: list[str] = json.loads(text)
        yield row, cells, list(found) if number == row else []
