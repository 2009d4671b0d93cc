"""Reads `multipart/form-data` as a stream.

The framework's decoder reads part headers as UTF-8 only, so one Latin-1 letter in a file name makes the whole form
unreadable. And if a piece ends inside the last boundary, it leaves a CR at the end of the value.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from urllib.parse import unquote_to_bytes

from importing.errors import ApiError
from transport.form_sink import Sink

MAX_PART_HEADER = 16 * 1024
# Characters of a declared charset's name that are stored.
LONGEST_CHARSET_NAME = 40
_PADDING = 64  # blanks that may follow a boundary on its line

_AFTER_BOUNDARY = re.compile(rb"--|[ \t]{0,%d}(?=\r?\n)" % _PADDING)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_BOUNDARY = re.compile(r"""boundary\s*=\s*(?:"([^"]*)"|([^\s;,]*))""", re.IGNORECASE)
_OPENING = re.compile(rb"[\r\n]*--([^\r\n]{1,200})\r?\n((?:[^\r\n]+\r?\n)*?)content-disposition[ \t]*:", re.IGNORECASE)
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([^"';,\s]+)""", re.IGNORECASE)
_PARAMETER = re.compile(rb""";[ \t]*([^\s=;"]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[^;]*)""", re.DOTALL)


def opened_boundary(head: bytes) -> bytes:
    """The boundary that a body begins with, b"" if it begins with none."""
    match = _OPENING.match(head)
    return match[1].rstrip(b" \t") if match else b""


def declared_boundary(content_type: str) -> bytes:
    """The boundary of a Content-Type, b"" where it has none."""
    match = _BOUNDARY.search(content_type)
    return (match[1] or match[2] or "").strip().encode("latin-1", "replace") if match else b""


def declared_charset(content_type: str) -> str:
    """The `charset=` of a Content-Type, "" where it has none."""
    match = _CHARSET.search(content_type)
    return match[1] if match else ""


def first_charset_name(*names: str) -> str | None:
    """The first of the declared names that is not blank, shortened for the store; None where it cannot be stored."""
    name = next(filter(None, names), "")[:LONGEST_CHARSET_NAME]
    return name if name and name.isprintable() else None


class _State(Enum):
    PREAMBLE = auto()
    HEADER = auto()
    VALUE = auto()
    EPILOGUE = auto()


class Multipart:
    """Cuts pieces of any size into fields at lines that begin with `--` and the boundary.

    Such a line ends with CR LF or LF, and the line break before it is not part of the value (PHP's rule: a CR before
    the LF goes with it). Parts without a name are fields without a name. Raises `bad_form` for an endless part header
    and `body_incomplete`, at `close`, when the last boundary has not come.
    """

    def __init__(self, boundary: bytes, sink: Sink) -> None:
        self._sink = sink
        self._mark = b"\n--" + boundary
        # The last bytes of a value that are not written yet: an incomplete boundary line lies within them.
        self._window = len(self._mark) + _PADDING + 3
        self._state = _State.PREAMBLE
        self._buffer = b"\n"  # the first boundary needs no line break before it
        self._skip = 0  # bytes at the head of the buffer that may open a boundary but are not part of the value

    def feed(self, piece: bytes) -> None:
        self._buffer += piece
        while self._step():
            pass

    def close(self) -> None:
        self.feed(b"\r\n")  # the line break that some leave out after the last boundary
        # Some omit the two hyphens too: a boundary line at the very end shows that nothing is missing.
        if self._state is _State.HEADER and not self._buffer.strip():
            self._state = _State.EPILOGUE
        if self._state is not _State.EPILOGUE:
            raise ApiError("body_incomplete")

    def _step(self) -> bool:
        """Read one part of the buffer. Returns whether another step may be possible without more input."""
        if self._state is _State.HEADER:
            return self._read_header()
        if self._state is _State.EPILOGUE:
            self._buffer = b""
            return False
        return self._read_value()

    def _read_value(self) -> bool:
        """Read up to the next boundary line. The preamble is read as a value, and dropped."""
        boundary = self._find_boundary()
        if boundary is None:
            end = max(len(self._buffer) - self._window, 0)
            self._write_value(end)
            self._buffer = self._buffer[end:]
            self._skip = max(self._skip - end, 0)
            return False
        start, end, is_last = boundary
        self._write_value(start)
        if self._state is _State.VALUE:
            self._sink.end()
        self._buffer = self._buffer[end:]
        self._state = _State.EPILOGUE if is_last else _State.HEADER
        return True

    def _find_boundary(self) -> tuple[int, int, bool] | None:
        """Where the value ends, where the rest of the boundary line begins, and whether it is the last boundary."""
        start = self._buffer.find(self._mark)
        while start >= 0:
            match = _AFTER_BOUNDARY.match(self._buffer, start + len(self._mark))
            if match:
                end_of_value = start - 1 if start and self._buffer[start - 1 : start] == b"\r" else start
                return end_of_value, match.end(), match[0] == b"--"
            start = self._buffer.find(self._mark, start + 1)
        return None

    def _write_value(self, end: int) -> None:
        if self._state is _State.VALUE and end > self._skip:
            self._sink.write(self._buffer[self._skip : end])

    def _read_header(self) -> bool:
        """The buffer begins with the line break that ends the boundary line, so that an empty header is one, too."""
        match = _BLANK_LINE.search(self._buffer, 0, MAX_PART_HEADER)
        if match is None:
            if len(self._buffer) > MAX_PART_HEADER:
                raise ApiError("bad_form", reason=f"a part header is over {MAX_PART_HEADER} bytes")
            return False
        name, filename, charset = _part(self._buffer[: match.start()])
        self._sink.begin(name, filename, charset)
        # The line break of the blank line may also be the one before the next boundary: the value is empty then.
        break_at = self._buffer.rindex(b"\n", 0, match.end())
        if self._buffer[break_at - 1 : break_at] == b"\r":
            break_at -= 1
        self._skip = match.end() - break_at
        self._buffer = self._buffer[break_at:]
        self._state = _State.VALUE
        return True


def _part(header: bytes) -> tuple[bytes, bytes | None, str]:
    """A part's name (b"" where it has none), file name (None where it is no file) and declared charset."""
    disposition = content_type = b""
    for line in _FOLD.sub(b" ", header).split(b"\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            disposition = value.strip()
        elif name.strip().lower() == b"content-type":
            content_type = value
    parameters = {match[1].lower(): _unquoted(match[2]) for match in _PARAMETER.finditer(disposition)}
    name = parameters.get(b"name") or _extended(parameters.get(b"name*", b""))
    filename = parameters.get(b"filename", parameters.get(b"filename*"))
    return name, filename, declared_charset(content_type.decode("latin-1"))


def _unquoted(value: bytes) -> bytes:
    value = value.strip()
    if len(value) >= 2 and value[:1] in (b'"', b"'") and value[-1:] == value[:1]:
        return value[1:-1].replace(b'\\"', b'"')
    return value.strip(b'"')


def _extended(value: bytes) -> bytes:
    """`utf-8''name` of RFC 5987."""
    return unquote_to_bytes(value.rpartition(b"'")[2])
