"""Rows of named values → the text that a batch is read from, for protocols whose rows are not text, such as JSON.

A column that a row does not name is absent: it is not given for that row, which then counts as if it came in a batch
without that column. A blank value is given, and means what a blank cell of a file means.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import BinaryIO

from importing.batch import ABSENT, Delimited, Header, Source
from importing.fields import Field

ROWS_AT_ONCE = 1000
WRITTEN_ROWS = Delimited(",", quotes=True, multiline=True, has_absent=True)

_SURROGATE = re.compile("[\ud800-\udfff]")


def write_rows(file: BinaryIO, fields: Sequence[Field], rows: Iterable[Mapping[str, str]]) -> Source:
    """Write the rows (field name → value) into an empty seekable file, and return it as the source of a batch.

    The batch needs `headers_of` the same fields, and is `delimited` as WRITTEN_ROWS. Every row counts, one of blank
    values too.
    """
    names = [field.name for field in fields]
    cells = ([_cell(row[name]) if name in row else ABSENT for name in names] for row in rows)
    while some := list(islice(cells, ROWS_AT_ONCE)):
        text = io.StringIO()
        plain, quoted = csv.writer(text), csv.writer(text, quoting=csv.QUOTE_ALL)
        for row in some:
            # A line of nothing but delimiters would be no row.
            (plain if any(map(str.strip, row)) else quoted).writerow(row)
        file.write(text.getvalue().encode())
    return Source(file, "utf-8", file.tell())


def headers_of(fields: Sequence[Field]) -> tuple[Header, ...]:
    """The columns of written rows."""
    return tuple(Header(number, field) for number, field in enumerate(fields, 1))


def _cell(value: str) -> str:
    # Half a surrogate pair is no character; browsers, too, send this one for it.
    text = _SURROGATE.sub("\ufffd", value)
    # The value that stands for an absent one is refused as any control character is.
    return text + ABSENT if text.strip() == ABSENT else text
