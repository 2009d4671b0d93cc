"""A file to import: its charset, its columns, and the position of the reader."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from importing import failed_rows
from importing.batch import Delimited, Header, Source
from importing.errors import ApiError
from importing.fields import Field
from importing.reading import row_reader
from importing.reading.charset import CharsetDetector
from legacy_api.headers import headers

PIECE = 256 * 1024
WORDS: Mapping[str, str] = {"pipe": "|", "comma": ",", "tab": "\t", "semicolon": ";"}


class DataFile(io.FileIO):
    """A file from byte `start` on, as if it began there. After each read it calls `watch` with its position."""

    def __init__(self, path: Path) -> None:
        self.start = 0
        self.watch: Callable[[int], None] = lambda _position: None
        super().__init__(path)

    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(offset + self.start if whence == io.SEEK_SET else offset, whence) - self.start

    def tell(self) -> int:
        return super().tell() - self.start

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(-1 if size is None else size)
        self.watch(self.tell())
        return data

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self.watch(self.tell())
        return count


@contextmanager
def on_disk(path: str, folder: Path) -> Iterator[Path]:
    """The file itself where it can be read twice; else (a pipe, or "-" for standard input) a temporary copy of it."""
    if path != "-" and Path(path).is_file():
        yield Path(path)
        return
    with tempfile.NamedTemporaryFile(dir=folder) as copy:
        with click.open_file(path, "rb") as source:
            while piece := source.read(PIECE):
                copy.write(piece)
        copy.flush()
        yield Path(copy.name)


def charset_of(path: Path) -> tuple[str, str]:
    """The charset's name and codec: UTF-8 where all of the file is valid, else Windows-1252."""
    evidence = CharsetDetector()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            evidence.take(piece)
    evidence.end()
    charset = evidence.charset(())
    return charset.name, charset.codec


def delimiter_of(word: str | None, path: Path) -> str:
    """The delimiter: a word or the character itself. Without one, a comma, or a tab in a file named .tsv."""
    if word is None:
        return "\t" if path.suffix.lower() == ".tsv" else ","
    delimiter = WORDS.get(word.lower(), "\t" if word == "\\t" else word)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise click.UsageError("Invalid delimiter: use comma, semicolon, pipe, tab or any one character.")
    return delimiter


def data_in(file: DataFile, codec: str, delimited: Delimited, column_names: Sequence[str]) -> tuple[Source, list[str]]:
    """The data of a file and the names of its columns: those given, else those in the first line, which is no data."""
    source = Source(file, codec, os.fstat(file.fileno()).st_size)
    if column_names:
        return source, list(column_names)
    names, file.start = row_reader.read_first_row(source, delimited)
    return Source(file, codec, source.size - file.start), names


def named_columns(names: Sequence[str], custom: Mapping[str, Field]) -> tuple[Header, ...]:
    """The headers that the names mean; errors name columns by number. Columns that an export added are ignored."""
    added = failed_rows.count_added_columns(names)
    names = [*[""] * added, *names[added:]]
    while names and not names[-1]:
        names = names[:-1]
    try:
        return headers({f"profiles_header_{number}": name for number, name in enumerate(names, 1)}, custom)
    except ApiError as error:
        if error.code == "no_header":
            raise click.ClickException("The file names no column that is known.") from None
        raise click.ClickException(error.message.replace("profiles_header_", "column ")) from None
