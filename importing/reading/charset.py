"""The charset of data: one for all of it, decided from raw bytes. Source: docs/protocol.md, Transport.

Importing this module registers the codec `tillgate-1252`, so that `codecs.getincrementaldecoder` knows it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Charset:
    """A charset: the name that people use, and the name of the Python codec that reads it."""

    name: str
    codec: str


UTF_8 = Charset("UTF-8", "utf-8")
WINDOWS_1252 = Charset("Windows-1252", "tillgate-1252")

# Patterns instead of `codecs.lookup`, which imports a module for any name that a stranger sends, and caches it for good.
_UTF_8 = re.compile(r"(?:x-|unicode-1-1-)?utf[-_]?8")
_ISO_8859 = re.compile(r"(?:cs|x-)?iso[-_ ]?8859[-_: ]?(\d{1,2})(?::\d{4})?")
_LATIN = re.compile(r"(?:iso[-_])?l(?:atin)?[-_ ]?(\d{1,2})")
_WINDOWS = re.compile(r"(?:x-)?(?:windows|win|cp|ms)[-_ ]?(125[0-8])")
_LATIN_PARTS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 9, 6: 10, 7: 13, 8: 14, 9: 15, 10: 16}
_ISO_PARTS = frozenset(range(1, 17)) - {12}


def find_charset(label: str) -> Charset | None:
    """The charset that a declared name means; None for an unknown name, which is then ignored.

    >>> find_charset("iso-8859-2"), find_charset("latin1"), find_charset("koi8-r")
    (Charset(name='ISO-8859-2', codec='iso8859-2'), Charset(name='Windows-1252', codec='tillgate-1252'), None)
    """
    label = label.strip().lower()
    if _UTF_8.fullmatch(label):
        return UTF_8
    if match := _WINDOWS.fullmatch(label):
        return WINDOWS_1252 if match[1] == "1252" else Charset(f"Windows-{match[1]}", f"cp{match[1]}")
    if match := _ISO_8859.fullmatch(label):
        part = int(match[1])
    elif match := _LATIN.fullmatch(label):
        part = _LATIN_PARTS.get(int(match[1]), 0)
    else:
        return None
    if part == 1:  # as browsers do: senders who declare Latin-1 send the quotes and euro signs of Windows-1252
        return WINDOWS_1252
    return Charset(f"ISO-8859-{part}", f"iso8859-{part}") if part in _ISO_PARTS else None


class CharsetDetector:
    """Decides the charset of raw bytes that come piece by piece. Memory is flat.

    A name or a value is `take`n in any number of pieces and closed by `end`, for a character never spans two of them.
    The bytes of `rereadable` pieces, which the caller stores, are not collected at once: only a charset other than UTF-8
    needs them. Then `is_partial` is true, and `reread` collects them.
    """

    def __init__(self) -> None:
        self._utf8 = True
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._unfinished = False
        self._bytes = bytes(range(128))  # every different byte so far
        self._has_uncollected = False

    def take(self, piece: bytes, *, rereadable: bool = False) -> None:
        if piece.isascii() and not self._unfinished:
            return
        if rereadable:
            self._has_uncollected = True
        else:
            self._collect(piece)
        if not self._utf8:
            return
        try:
            self._decoder.decode(piece)
            self._unfinished = bool(self._decoder.getstate()[0])
        except UnicodeDecodeError:
            self._utf8 = self._unfinished = False

    def end(self) -> None:
        if self._unfinished:
            self._utf8 = self._unfinished = False

    @property
    def is_partial(self) -> bool:
        """Whether `reread` must come before `charset`."""
        return self._has_uncollected and not self._utf8

    def reread(self, pieces: Iterable[bytes]) -> None:
        """Collect the bytes of all rereadable pieces."""
        for piece in pieces:
            self._collect(piece)
        self._has_uncollected = False

    def _collect(self, piece: bytes) -> None:
        if new := piece.translate(None, self._bytes):
            self._bytes += bytes(set(new))

    def charset(self, labels: Iterable[str]) -> Charset:
        """UTF-8 if all bytes are valid, else the first of the declared `labels` that is known and fits, else Windows-1252."""
        if self._utf8:
            return UTF_8
        for label in labels:
            charset = find_charset(label)
            if charset is not None and charset is not UTF_8 and self._fits(charset):
                return charset
        return WINDOWS_1252

    def _fits(self, charset: Charset) -> bool:
        try:
            self._bytes.decode(charset.codec)
        except UnicodeDecodeError:
            return False
        return True


# Windows-1252 with its five undefined bytes as in Latin-1, as browsers do. Python's own cp1252 refuses those five.
_TABLE = "".join(
    chr(byte) if byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else bytes([byte]).decode("cp1252") for byte in range(256)
)
_ENCODING = codecs.charmap_build(_TABLE)


def _decode_1252(data: bytes, errors: str = "strict") -> tuple[str, int]:
    return codecs.charmap_decode(data, errors, _TABLE)


def _encode_1252(text: str, errors: str = "strict") -> tuple[bytes, int]:
    return codecs.charmap_encode(text, errors, _ENCODING)


class _IncrementalDecoder(codecs.IncrementalDecoder):
    def decode(self, input: bytes, final: bool = False) -> str:  # type: ignore[override]  # noqa: ARG002
        return _decode_1252(input, self.errors)[0]


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != WINDOWS_1252.codec:
        return None
    return codecs.CodecInfo(_encode_1252, _decode_1252, incrementaldecoder=_IncrementalDecoder, name=WINDOWS_1252.codec)  # type: ignore[arg-type]


codecs.register(_find_codec)
