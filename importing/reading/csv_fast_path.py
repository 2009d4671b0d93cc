"""Many records at once where quotes are plainly right: next to a delimiter or a line's end, or two by two inside a value.

Most files are so, and cutting them record by record (importing/reading/csv_records.py) costs five times as much.
"""

from __future__ import annotations

import csv
import io
from itertools import chain

from importing.reading.split_rows import BLANKS, Cells

MAX_CHARACTERS_AT_ONCE = 256 * 1024  # characters at once


def outline_quotes(text: str, delimiter: str) -> tuple[str, bool]:
    """Whole lines with "x" for each quoted value, and whether the last one is closed; "" where quotes are not plainly right."""
    if '"' not in text:
        return text, True
    pieces = text.split('"')
    between = pieces[::2]
    closed = len(pieces) % 2 == 1
    borders = (delimiter, "\n", "\r")
    first, last = between[0], between[-1] if closed else ""
    if (first and not first.endswith(borders)) or (last and not last.startswith(borders)):
        return "", closed
    others = set(between[1:-1] if closed else between[1:]) - {"", delimiter}
    if all(piece.startswith(borders) and piece.endswith(borders) for piece in others):
        return "x".join(between) or "x", closed
    return "", closed


def line_feeds(text: str) -> str:
    """The text with LF for every line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def read_plain_records(text: str, outline: str, delimiter: str, limit: int) -> list[Cells] | None:
    """The records of whole lines that are not blank; `told` is what `outside` says of them. None where they need a look.

    The standard library's reader says the same of such records as `cutting.Quoted` (the tests hold them together).
    """
    blank = BLANKS + delimiter
    rows = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for line, record in zip(line_feeds(outline).split("\n"), chain(reader, [[]]), strict=False):
            if line.strip(blank):
                values = [value.strip(BLANKS) for value in record]
                if len(values) > limit:
                    values[limit:] = [next(filter(None, values[limit:]), "")]
                rows.append(Cells(values))
    except csv.Error:
        return None
    return rows
