"""Which charset data is in: one for the whole of it, decided on raw bytes. Source: docs/protocol.md, Transport.

Importing this module registers the codec `tillgate-1252`, so that `codecs.getincrementaldecoder` knows it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Charset:
    """A charset as people call it, and the name of the Python codec that reads it."""

    name: str
    codec: str


UTF_8 = Charset("UTF-8", "utf-8")
WINDOWS_1252 = Charset("Windows-1252", "tillgate-1252")

_ASCII = bytes(range(128))
# Own patterns and no `codecs.lookup`: it imports modules by, and remembers for good, whatever name a stranger sends.
_UTF_8 = re.compile(r"(?:x-|unicode-1-1-)?utf[-_]?8")
_ISO_8859 = re.compile(r"(?:cs|x-)?iso[-_ ]?8859[-_: ]?(\d{1,2})(?::\d{4})?")
_LATIN = re.compile(r"(?:iso[-_])?l(?:atin)?[-_ ]?(\d{1,2})")
_WINDOWS = re.compile(r"(?:x-)?(?:windows|win|cp|ms)[-_ ]?(125[0-8])")
_LATIN_PARTS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 9, 6: 10, 7: 13, 8: 14, 9: 15, 10: 16}
_ISO_PARTS = frozenset(range(1, 17)) - {12}


def find_charset(label: str) -> Charset | None:
    """The charset that a declared name means; None for a name that is not known, which is then ignored.

    >>> known("iso-8859-2"), known("latin1"), known("koi8-r")
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
    if part == 1:  # browsers read it so, and who declares it sends Windows' quotes and euro signs
        return WINDOWS_1252
    return Charset(f"ISO-8859-{part}", f"iso8859-{part}") if part in _ISO_PARTS else None


class CharsetDetector:
    """What raw bytes, piece by piece, say about their charset. Memory is flat.

    A name or a value is `take`n in any number of pieces and closed by `end`, for a character never spans two of them.
    Of pieces that are `kept` somewhere, and can be looked at `again`, the bytes are not noted yet: only a charset that is
    not UTF-8 asks for them.
    """

    def __init__(self) -> None:
        self._utf8 = True
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._unfinished = False
        self._seen = _ASCII
        self._unseen = False

    def take(self, piece: bytes, *, kept: bool = False) -> None:
        if piece.isascii() and not self._unfinished:
            return
        if kept:
            self._unseen = True
        else:
            self._note(piece)
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
        """Whether what is kept has to be looked at again before the charset is told."""
        return self._unseen and not self._utf8

    def again(self, pieces: Iterable[bytes]) -> None:
        """Look at all that was kept."""
        for piece in pieces:
            self._note(piece)
        self._unseen = False

    def _note(self, piece: bytes) -> None:
        if unseen := piece.translate(None, self._seen):
            self._seen += bytes(set(unseen))

    def charset(self, labels: Iterable[str]) -> Charset:
        """UTF-8 where all is valid, else the first known and fitting of the declared `labels`, else Windows-1252."""
        if self._utf8:
            return UTF_8
        for label in labels:
            charset = find_charset(label)
            if charset is not None and charset is not UTF_8 and self._fits(charset):
                return charset
        return WINDOWS_1252

    def _fits(self, charset: Charset) -> bool:
        try:
            self._seen.decode(charset.codec)
        except UnicodeDecodeError:
            return False
        return True


# Windows-1252, its five undefined bytes as in Latin-1: what browsers do. Python's own cp1252 refuses those five.
_TABLE = "".join(
    chr(byte) if byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else bytes([byte]).decode("cp1252") for byte in range(256)
)
_ENCODING = codecs.charmap_build(_TABLE)


def _decode_1252(data: bytes, errors: str = "strict") -> tuple[str, int]:
    return codecs.charmap_decode(data, errors, _TABLE)


def _encode_1252(text: str, errors: str = "strict") -> tuple[bytes, int]:
    return codecs.charmap_encode(text, errors, _ENCODING)


class _IncrementalEncoder(codecs.IncrementalEncoder):
    def encode(self, input: str, final: bool = False) -> bytes:  # noqa: ARG002 - the base class's signature
        return _encode_1252(input, self.errors)[0]


class _IncrementalDecoder(codecs.IncrementalDecoder):
    def decode(self, input: bytes, final: bool = False) -> str:  # type: ignore[override]  # noqa: ARG002
        return _decode_1252(input, self.errors)[0]


class _StreamWriter(codecs.StreamWriter):
    encode = staticmethod(_encode_1252)  # type: ignore[assignment]


class _StreamReader(codecs.StreamReader):
    decode = staticmethod(_decode_1252)  # type: ignore[assignment]


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != WINDOWS_1252.codec:
        return None
    return codecs.CodecInfo(
        name=WINDOWS_1252.codec,
        encode=_encode_1252,
        decode=_decode_1252,  # type: ignore[arg-type]
        incrementalencoder=_IncrementalEncoder,
        incrementaldecoder=_IncrementalDecoder,
        streamwriter=_StreamWriter,
        streamreader=_StreamReader,
    )


codecs.register(_find_codec)
