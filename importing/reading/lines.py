"""Bytes → texts of whole lines, streaming: memory grows neither with the data nor with a line."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from importing.batch import Source
from importing.reading.charset import UTF_8

READ_BYTES = 64 * 1024  # that are read at once
LINE_END = re.compile(r"\r\n|\r|\n")


class WholeLines(NamedTuple):
    """Some whole lines; `end` is the byte behind them.

    `truncated`: one line that is too long. `text` is its beginning, "" where the whole line is blank; the rest is skipped.
    """

    text: str
    end: int
    truncated: bool = False


def read_whole_lines(source: Source, start: int, longest: int, blank: str) -> Iterator[WholeLines]:
    """The lines from byte `start` on, which begins one. Of lines of more than `longest` characters only the beginning.

    `blank`: the characters of which blank lines consist. Raises UnicodeDecodeError.
    """
    count_bytes = byte_counter(source)
    end = 0
    unfinished_line: list[str] = []
    size = 0
    beginning: str | None = None
    only_blanks = True
    for text, end in read_text(source, start):
        if beginning is not None:
            line_end = LINE_END.search(text)
            only_blanks = only_blanks and not text[: line_end.start() if line_end else None].strip(blank)
            if line_end is None:
                continue
            text = text[line_end.end() :]
            yield WholeLines("" if only_blanks else beginning, end - count_bytes(text), True)
            beginning = None
        lines_end = max(text.rfind("\n"), text.rfind("\r")) + 1
        rest = text[lines_end:]
        if lines_end:
            # The rest is short: its bytes are counted sooner than those of the lines.
            yield WholeLines("".join(unfinished_line) + text[:lines_end], end - count_bytes(rest))
            unfinished_line, size = [], 0
        unfinished_line.append(rest)
        size += len(rest)
        if size > longest:
            line = "".join(unfinished_line)
            beginning, only_blanks = line[:longest], not line.strip(blank)
            unfinished_line, size = [], 0
    if beginning is not None:
        yield WholeLines("" if only_blanks else beginning, end, True)
    elif size:
        yield WholeLines("".join(unfinished_line), end)


def read_text(source: Source, start: int = 0) -> Iterator[tuple[str, int]]:
    """The text in pieces, each with the byte behind it, without a BOM. A CR LF is never split. Raises UnicodeDecodeError."""
    decoder = codecs.getincrementaldecoder(source.charset)()
    end = start or count_bom_bytes(source)
    source.file.seek(end)
    carriage_return = ""
    while raw := source.file.read(READ_BYTES):
        end += len(raw)
        text = carriage_return + decoder.decode(raw)
        carriage_return = "\r" if text.endswith("\r") else ""
        if text := text.removesuffix(carriage_return):
            yield text, end - len(carriage_return) - len(decoder.getstate()[0])
    if text := carriage_return + decoder.decode(b"", final=True):
        yield text, end


def count_bom_bytes(source: Source) -> int:
    """How many bytes of a BOM the source begins with. A BOM is no part of the text, whatever the charset."""
    source.file.seek(0)
    return len(codecs.BOM_UTF8) if source.file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0


def byte_counter(source: Source) -> Callable[[str], int]:
    """A function to the bytes that a text has in the source. All charsets but UTF-8 have one byte a character."""
    return _count_utf_8_bytes if codecs.lookup(source.charset).name == UTF_8.codec else len


def _count_utf_8_bytes(text: str) -> int:
    # Python stores whether a text is ASCII, so `isascii` costs nothing.
    return len(text) if text.isascii() else len(text.encode())
