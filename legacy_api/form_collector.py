"""Collects the fields of one request as raw bytes. Small fields stay in memory; the data go into a temporary file."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from io import SEEK_END
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from importing.batch import Source
from importing.errors import ApiError
from importing.reading.charset import UTF_8, Charset, CharsetDetector
from legacy_api.request_digest import is_protocol_field
from legacy_api.spool_budget import SpoolLoan
from transport.form_sink import Sink
from transport.multipart import first_charset_name

Admit = Callable[[Mapping[str, str]], None]

MAX_FIELDS = 10_000
MAX_FIELD_SIZE = 64 * 1024
MAX_FIELDS_SIZE = 8 * 1024 * 1024
DATA_SIZE_IN_MEMORY = 256 * 1024
DISK_FULL_RETRY_AFTER = 60  # seconds

_DATA = b"profiles_data"
_UNTRIMMED = b"delimiter"  # may be a tab
_SPELLINGS = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ.- ", b"abcdefghijklmnopqrstuvwxyz___")
_BOM = codecs.BOM_UTF8


def canonical_name(name: bytes) -> bytes:
    """The one spelling of a field name: lower case, no blanks around it, and `_` for `.`, `-` and a blank.

    A form that was written as a text file has line breaks after its `&`s, so they are dropped around a name too.
    Source: docs/protocol.md, Transport.
    """
    return name.strip(b" \t\r\n").translate(_SPELLINGS)


class SpooledData:
    """Writes `profiles_data` into an unlinked temporary file, without a BOM, and computes its hash."""

    def __init__(self, folder: Path | None) -> None:
        self._file = SpooledTemporaryFile(  # noqa: SIM115 - outlives this function
            max_size=DATA_SIZE_IN_MEMORY, dir=str(folder) if folder else None
        )
        self._hash = sha256()
        self._possible_bom: bytes | None = b""  # the first bytes, as long as they may be a BOM
        self.size = 0

    def write(self, piece: bytes, evidence: CharsetDetector, loan: SpoolLoan | None) -> None:
        """Add a piece. `loan` pays for its bytes; None: the sender is authenticated, and pays nothing."""
        if self._possible_bom is not None:
            piece = self._possible_bom + piece
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                self._possible_bom = piece
                return
            self._possible_bom = None
            piece = piece.removeprefix(_BOM)
        self._append(piece, evidence, loan)

    def end(self, evidence: CharsetDetector, loan: SpoolLoan | None) -> None:
        """Say that no more pieces come."""
        if self._possible_bom:
            self._append(self._possible_bom, evidence, loan)
        self._possible_bom = None
        try:
            self._file.flush()
        except OSError as error:
            raise _disk_full() from error

    def _append(self, piece: bytes, evidence: CharsetDetector, loan: SpoolLoan | None) -> None:
        evidence.take(piece, rereadable=True)
        if loan is not None:
            loan.grow(len(piece))
        self._hash.update(piece)
        self.size += len(piece)
        try:
            self._file.write(piece)
        except OSError as error:
            raise _disk_full() from error

    def source(self, charset: Charset) -> Source:
        """The data for the import core."""
        self._file.seek(0)
        return Source(cast(BinaryIO, self._file), charset.codec, self.size)

    def pieces(self) -> Iterator[bytes]:
        """The bytes so far. More can be written afterwards."""
        self._file.seek(0)
        while piece := self._file.read(DATA_SIZE_IN_MEMORY):
            yield piece
        self._file.seek(0, SEEK_END)

    def digest(self, charset: Charset) -> bytes:
        """The SHA-256 of the text as UTF-8. Data in another charset are read once more for it."""
        if charset is UTF_8:
            return self._hash.digest()
        text = codecs.getincrementaldecoder(charset.codec)()
        digest = sha256()
        for piece in self.pieces():
            digest.update(text.decode(piece).encode())
        return digest.digest()

    def close(self) -> None:
        """Remove the file."""
        # Closing writes what is still in the buffer, and the disk may be full.
        with suppress(OSError):
            self._file.close()


def _disk_full() -> ApiError:
    """The sender cannot do anything about it."""
    return ApiError("spool_full", retry_after=DISK_FULL_RETRY_AFTER)


class FormCollector(Sink):
    """Takes the fields of a query and a body. The last field of a name wins, in whatever spelling.

    `header_key` is the API key of the `api_access_key` header; it wins over a key in the form. `label` is the charset
    that the Content-Type declares. While `asks_early`, the collector calls `admit` when data begin to arrive, if all
    credentials have come.
    """

    def __init__(self, folder: Path | None, loan: SpoolLoan, admit: Admit, header_key: str, label: str) -> None:
        self.asks_early = False
        self._folder = folder
        self._loan: SpoolLoan | None = loan  # None once the sender is admitted
        self._admit = admit
        self._header_key = header_key
        self._label = label
        self._evidence = CharsetDetector()
        self._fields: dict[bytes, bytes] = {}  # by canonical name
        self._count = self._size = 0
        self._data: SpooledData | None = None
        # The present field.
        self._name = b""
        self._value: bytearray | None = None  # None: too long to be kept
        self._is_data = self._is_unchosen_file = self._is_ignored = False
        self._data_label = ""

    # The sink

    def begin(self, name: bytes, filename: bytes | None = None, charset: str = "") -> None:
        self._count += 1
        if self._count > MAX_FIELDS:
            raise ApiError("bad_form", reason=f"it has more than {MAX_FIELDS} fields")
        if not name.isascii():
            self._evidence.take(name)
            self._evidence.end()
        self._name = canonical_name(name)
        self._is_data = self._name == _DATA
        self._is_ignored = filename is not None and not self._is_data  # PHP keeps uploaded files apart from fields
        self._is_unchosen_file = filename == b""
        self._value = bytearray()
        if self._is_data:
            self._data_label = charset
            if not self._is_unchosen_file:
                self._begin_data()

    def write(self, piece: bytes) -> None:
        if self._is_ignored:
            return
        if self._is_data:
            if self._is_unchosen_file:
                self._is_unchosen_file = False
                self._begin_data()
            assert self._data is not None
            self._data.write(piece, self._evidence, self._loan)
            return
        self._evidence.take(piece)
        if self._value is not None:
            self._value += piece
            if len(self._value) > MAX_FIELD_SIZE:
                self._value = None
                self._refuse_if_known(self._name, f"{self._name.decode('latin-1')} is over {MAX_FIELD_SIZE} bytes")

    def end(self) -> None:
        if self._is_data and not self._is_unchosen_file:
            assert self._data is not None
            self._data.end(self._evidence, self._loan)
        self._evidence.end()
        if not self._is_data and not self._is_ignored and self._value is not None and self._name:
            self._keep(self._name, bytes(self._value))

    # The result

    @property
    def is_empty(self) -> bool:
        """Whether no field of the protocol has come."""
        return self._data is None and not any(is_protocol_field(name.decode("latin-1")) for name in self._fields)

    @property
    def charset(self) -> Charset:
        """The charset of the fields and the data."""
        self._complete_evidence()
        return self._evidence.charset(self._charset_labels)

    @property
    def declared_charset(self) -> str | None:
        """What the sender says of the charset, None where it says nothing."""
        return first_charset_name(*self._charset_labels)

    @property
    def _charset_labels(self) -> tuple[str, str, str]:
        # A label with characters beyond ASCII names no charset.
        return self._label, self._ascii_text(b"_charset_"), self._data_label

    def fields(self) -> dict[str, str]:
        """The fields so far, decoded and trimmed. The one API key that counts is `user_api_key`."""
        codec = self.charset.codec
        fields: dict[str, str] = {}
        for name, value in self._fields.items():
            text = value.decode(codec)
            fields[name.decode(codec)] = text if name == _UNTRIMMED else text.strip()
        password = fields.pop("user_password", "")
        if key := self._header_key or fields.get("user_api_key") or password:
            fields["user_api_key"] = key
        return fields

    def data(self, charset: Charset) -> Source | None:
        """The data for the import core; None if there are none."""
        return None if self._data is None else self._data.source(charset)

    def digest(self, charset: Charset) -> bytes:
        """The digest of the data; b"" if there are none."""
        return self._data.digest(charset) if self._data is not None and self._data.size else b""

    def close(self) -> None:
        """Remove the data."""
        if self._data is not None:
            self._complete_evidence()
            self._data.close()
            self._data = None

    # Its parts

    def _complete_evidence(self) -> None:
        if self._data is not None and self._evidence.is_partial:
            self._evidence.reread(self._data.pieces())

    def _begin_data(self) -> None:
        if self._loan is not None:
            if self.asks_early and self._has_credentials():
                self._admit(self.fields())
                self._loan.give_back()
                self._loan = None
            else:
                self._loan.give_back()  # the bytes of an earlier field of this name, which the new one replaces
        if self._data is not None:
            # The bytes of the earlier field still count for the charset.
            self._evidence.reread(self._data.pieces())
            self.close()
        self._data = SpooledData(self._folder)

    def _has_credentials(self) -> bool:
        """Whether all three have come, in ASCII. How other characters read is not known before the end of the request."""
        if not self._fields.get(b"user_api_key", b"").isascii():
            return False
        key = self._header_key or self._ascii_text(b"user_api_key") or self._ascii_text(b"user_password")
        return bool(key and key.isascii() and self._ascii_text(b"user_id") and self._ascii_text(b"account_id"))

    def _ascii_text(self, name: bytes) -> str:
        """The field's trimmed text; "" if it has other characters than ASCII, or has not come."""
        value = self._fields.get(name, b"")
        return value.decode().strip() if value.isascii() else ""

    def _keep(self, name: bytes, value: bytes) -> None:
        if name != _UNTRIMMED:
            value = value.strip()
        replaced = self._fields.get(name)
        size = self._size + len(value) + (len(name) if replaced is None else -len(replaced))
        if size > MAX_FIELDS_SIZE:
            self._refuse_if_known(name, f"its fields are over {MAX_FIELDS_SIZE} bytes")
            return
        self._size = size
        self._fields[name] = value

    def _refuse_if_known(self, name: bytes, reason: str) -> None:
        """Unknown fields are ignored, huge ones too: clients forward unrelated extras."""
        if is_protocol_field(name.decode("latin-1")):
            raise ApiError("bad_form", reason=reason)
