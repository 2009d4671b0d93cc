"""CSV files → batches: the delimiter, the columns by their names in the first line, and the data behind it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from importing import failed_rows
from importing.batch import Batch, Delimited, Header, Mode, Requirement, Source
from importing.errors import ApiError
from importing.fields import Field
from importing.reading.csv_formula_guard import unguard
from importing.reading.row_reader import read_first_row

LONGEST_NAME = 255
MOST_COLUMNS = 1000
# Bytes at the beginning of a file that tell whether it is text, and what delimits its columns.
HEAD = 64 * 1024
# A comma where none is more frequent: it is what these protocols say.
DELIMITERS = (",", ";", "\t", "|")

_QUOTED = re.compile(r'"[^"]*"?')
_CONTROL = re.compile("[\x00-\x1f\x7f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Format:
    """What a face makes of a file's columns, and of a row.

    `field`: the field of a column of that name, None for one that is not read. `needed`: of each group (names of
    fields) a file must have a column. The rest is as `Batch` has it.
    """

    face: str
    mode: Mode
    field: Callable[[str], Field | None]
    needed: tuple[tuple[str, ...], ...]
    requirements: tuple[Requirement, ...]
    reference: tuple[str, ...]


def batch_of(batch: Batch, format: Format) -> Batch:
    """The batch whose source is the whole file, with its columns, and with the data behind the first line as the source.

    Raises ApiError: unreadable_file, no_data, bad_header_line, too_many_columns, bad_column, column_twice, missing_column.
    """
    delimited = Delimited(_delimiter(batch.source), quotes=True, multiline=True)
    names, start = read_first_row(batch.source, delimited)
    own = failed_rows.count_added_columns(names)
    columns = names[own:]
    if own:
        # What our own file of failed rows has in front says what was wrong; the rest is as it was sent, but guarded.
        columns = [unguard(name) for name in columns]
        delimited = replace(delimited, guarded=True)
    fields = _fields(columns, format)
    file = cast(BinaryIO, _Behind(batch.source.file, start))
    return batch._replace(
        headers=tuple(Header(number, field) for number, field in enumerate([*[None] * own, *fields], 1)),
        delimited=delimited,
        source=replace(batch.source, file=file, size=batch.source.size - start),
        names=tuple(names[:own]) + tuple(columns),
    )


def _delimiter(source: Source) -> str:
    source.file.seek(0)
    head = source.file.read(HEAD)
    # No text has a NUL, while archives, spreadsheets and UTF-16 have them at once.
    if b"\0" in head:
        raise ApiError("unreadable_file")
    lines = re.split("[\r\n]+", head.decode(source.charset, "replace").lstrip("\ufeff \t\r\n"))
    line = _QUOTED.sub("", lines[0])
    return max(DELIMITERS, key=line.count)


def _fields(columns: Sequence[str], format: Format) -> list[Field | None]:
    # Spreadsheets write blank columns behind the last one; what stands in them is told as a problem.
    while columns and not columns[-1]:
        columns = columns[:-1]
    if len(columns) > MOST_COLUMNS:
        raise ApiError("too_many_columns", limit=MOST_COLUMNS)
    fields: list[Field | None] = []
    found: set[str] = set()
    for number, name in enumerate(columns, 1):
        if len(name) > LONGEST_NAME or _CONTROL.search(name):
            raise ApiError("bad_column", number=number, limit=LONGEST_NAME)
        field = format.field(name) if name else None
        if field is not None:
            if field.name in found:
                raise ApiError("column_twice", value=name)
            found.add(field.name)
        fields.append(field)
    for group in format.needed:
        if found.isdisjoint(group):
            raise ApiError("missing_column", value=" or ".join(group))
    return fields


class _Behind(io.RawIOBase):
    """A file from byte `start` on, as if it began there."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        super().__init__()
        self._file = file
        self._start = start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset + self._start if whence == io.SEEK_SET else offset, whence) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def read(self, size: int | None = -1) -> bytes:
        return self._file.read(-1 if size is None else size)
