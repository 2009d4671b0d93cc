"""Rows of named values → the text that a batch is read from, for protocols whose rows are not text, such as JSON.

A column that a row does not name is absent: the row is imported as if its batch did not have that column. A blank value
means what a blank cell of a file means.
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

    The batch needs `headers_of` the same fields, and is `delimited` as WRITTEN_ROWS. A row of blank values counts too.
    """
    names = [field.name for field in fields]
    cells = ([_cell(row[name]) if name in row else ABSENT for name in names] for row in rows)
    while chunk := list(islice(cells, ROWS_AT_ONCE)):
        text = io.StringIO()
        plain, quoted = csv.writer(text), csv.writer(text, quoting=csv.QUOTE_ALL)
        for row in chunk:
            # A line of delimiters only would be skipped.
            (plain if any(map(str.strip, row)) else quoted).writerow(row)
        file.write(text.getvalue().encode())
    return Source(file, "utf-8", file.tell())


def headers_of(fields: Sequence[Field]) -> tuple[Header, ...]:
    """The columns of written rows."""
    return tuple(Header(number, field) for number, field in enumerate(fields, 1))


def _cell(value: str) -> str:
    # Half a surrogate pair is no character. Browsers, too, replace it with this one.
    text = _SURROGATE.sub("\ufffd", value)
    # A value that looks like an absent one is refused as any other control character is.
    return text + ABSENT if text.strip() == ABSENT else text
