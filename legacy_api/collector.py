"""Collects the fields of one request, raw, and spools its data: small fields stay in memory, data never do."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from io import SEEK_END
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from importing.batch import Source
from importing.errors import ApiError
from importing.reading.charset import UTF_8, Charset, CharsetDetector
from legacy_api.budget import Loan
from legacy_api.digest import APART, MEANING, SETTINGS, is_known
from transport.sink import Sink

Admit = Callable[[Mapping[str, str]], None]

MAX_FIELDS = 10_000
MAX_FIELD = 64 * 1024
MAX_FIELDS_SIZE = 8 * 1024 * 1024
IN_MEMORY = 256 * 1024
DISK_FULL_RETRY_AFTER = 60

# So many fields that senders repeat are known by sight, of so many bytes at most each.
FAMILIAR, FAMILIAR_SIZE = 2_000, 200

_DATA = b"profiles_data"
_UNTRIMMED = "delimiter"  # may be a tab
_SPELLINGS = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ.- ", b"abcdefghijklmnopqrstuvwxyz___")
_BOM = codecs.BOM_UTF8
# Names as they are nearly always sent.
_KNOWN = {name.encode(): name for name in MEANING | APART}
# A field as it stands in a form -> its canonical name, its value as `Collector.fields` has it, and their length. What a
# terminal sends with every batch is two dozen of such; never credentials, and nothing that says who somebody is.
_familiar: dict[bytes, tuple[str, str, int]] = {}


def canonical(name: bytes) -> bytes:
    """One spelling for all: lower case, blanks around dropped, `.`, `-` and blank as `_`. Source: docs/protocol.md, Transport.

    Line breaks around it are dropped too: a form that was written as a text file has them after its `&`s.
    """
    return name.strip(b" \t\r\n").translate(_SPELLINGS)


def _plain(name: bytes) -> str:
    """The canonical name of a small field of ASCII; "" for any other."""
    told = canonical(name)
    return told.decode() if name.isascii() and told != _DATA else ""


class Data:
    """`profiles_data` on its way into an unlinked temporary file: without a BOM, hashed as it passes."""

    def __init__(self, folder: Path | None) -> None:
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(folder) if folder else None)  # noqa: SIM115 - outlives this function
        self._hash = sha256()
        self._head: bytes | None = b""  # what may still turn out to be a BOM; None when that is decided
        self.size = 0

    def write(self, piece: bytes, evidence: CharsetDetector, loan: Loan | None) -> None:
        if self._head is not None:
            piece = self._head + piece
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                self._head = piece
                return
            self._head = None
            piece = piece.removeprefix(_BOM)
        self._pour(piece, evidence, loan)

    def end(self, evidence: CharsetDetector, loan: Loan | None) -> None:
        if self._head:
            self._pour(self._head, evidence, loan)
        self._head = None
        try:
            self._file.flush()
        except OSError as error:
            raise _disk_full() from error

    def _pour(self, piece: bytes, evidence: CharsetDetector, loan: Loan | None) -> None:
        evidence.take(piece, kept=True)
        if loan is not None:
            loan.grow(len(piece))
        self._hash.update(piece)
        self.size += len(piece)
        try:
            self._file.write(piece)
        except OSError as error:
            raise _disk_full() from error

    def source(self, charset: Charset) -> Source:
        self._file.seek(0)
        return Source(cast(BinaryIO, self._file), charset.codec, self.size)

    def pieces(self) -> Iterator[bytes]:
        """What has come so far. More of it can come behind that."""
        self._file.seek(0)
        while piece := self._file.read(IN_MEMORY):
            yield piece
        self._file.seek(0, SEEK_END)

    def digest(self, charset: Charset) -> bytes:
        """The SHA-256 of the text as UTF-8. Only another charset has to be read once more for that."""
        if charset is UTF_8:
            return self._hash.digest()
        text = codecs.getincrementaldecoder(charset.codec)()
        digest = sha256()
        for piece in self.pieces():
            digest.update(text.decode(piece).encode())
        return digest.digest()

    def close(self) -> None:
        # What is still in its buffer may find the disk full once more.
        with suppress(OSError):
            self._file.close()


def _disk_full() -> ApiError:
    """Nothing that the sender could mend."""
    return ApiError("spool_full", retry_after=DISK_FULL_RETRY_AFTER)


class Collector(Sink):
    """The sink of a request's query and body. The last field of a name wins, in whatever spelling.

    `header_key`: the API key of the `api_access_key` header, which wins over the form's. `label`: the charset that the
    Content-Type declares. While `early`, `admit` is asked when data begin to arrive, if all credentials have come.
    """

    def __init__(self, folder: Path | None, loan: Loan, admit: Admit, header_key: str, label: str) -> None:
        self.early = False
        self._folder = folder
        self._loan: Loan | None = loan  # None once admitted
        self._admit = admit
        self._header_key = header_key
        self._labels = [label]
        self._evidence = CharsetDetector()
        # Those of ASCII alone, which reads the same in every charset, are there as they will be told; the others raw.
        self._plain: dict[str, str] = {}
        self._raw: dict[bytes, bytes] = {}
        self._count = self._size = 0
        self._data: Data | None = None
        self._name = b""
        self._value: list[bytes] | None = None  # None: not kept
        self._value_size = 0
        self._writes_data = self._unchosen = self._ignored = False
        self._part_label = ""
        self._told: tuple[int, Charset, dict[str, str]] | None = None

    # The sink

    def unfamiliar(self, fields: Sequence[bytes]) -> Iterator[bytes]:
        # A small batch has two dozen fields, which bit by bit would be a quarter of its work.
        every = iter(fields)
        if self._raw or self._count + len(fields) > MAX_FIELDS:
            yield from every
        plain, find = self._plain, _familiar.get
        for field in every:
            known = find(field)
            if known is None or known[0] in plain:
                yield field
                if self._raw:  # what a familiar one may have to take the place of
                    yield from every
                continue
            name, plain[name], size = known
            self._count += 1
            self._size += size

    def take(self, field: bytes, name: bytes, value: bytes) -> None:
        told = _KNOWN.get(name) or _plain(name)
        if not told or not value.isascii() or len(value) > MAX_FIELD or self._count >= MAX_FIELDS:
            super().take(field, name, value)
            return
        self._count += 1
        self._keep_text(told, value.decode())
        if told in SETTINGS and len(field) <= FAMILIAR_SIZE and told in self._plain:
            if len(_familiar) >= FAMILIAR:
                _familiar.clear()
            kept = self._plain[told]
            _familiar[field] = (told, kept, len(told) + len(kept))

    def begin(self, name: bytes, filename: bytes | None = None, charset: str = "") -> None:
        self._count += 1
        if self._count > MAX_FIELDS:
            raise ApiError("bad_form", reason=f"it has more than {MAX_FIELDS} fields")
        if not name.isascii():
            self._evidence.take(name)
            self._evidence.end()
        self._name = canonical(name)
        self._writes_data = self._name == _DATA
        self._ignored = filename is not None and not self._writes_data  # PHP keeps uploaded files apart from fields
        self._unchosen = filename == b""
        self._value, self._value_size = [], 0
        if self._writes_data:
            self._part_label = charset
            if not self._unchosen:
                self._begin_data()

    def write(self, piece: bytes) -> None:
        if self._ignored:
            return
        if self._writes_data:
            if self._unchosen:
                self._unchosen = False
                self._begin_data()
            assert self._data is not None
            self._data.write(piece, self._evidence, self._loan)
            return
        self._evidence.take(piece)
        self._value_size += len(piece)
        if self._value is not None:
            self._value.append(piece)
            if self._value_size > MAX_FIELD:
                self._value = None
                told = self._name.decode("latin-1")
                self._refuse_if_known(told, f"{told} is over {MAX_FIELD} bytes")

    def end(self) -> None:
        if self._writes_data and not self._unchosen:
            assert self._data is not None
            self._data.end(self._evidence, self._loan)
        self._evidence.end()
        if not self._writes_data and not self._ignored and self._value is not None and self._name:
            self._keep(self._name, b"".join(self._value))

    # What came of it

    @property
    def is_empty(self) -> bool:
        """Whether nothing that the protocol knows has come."""
        names = (*self._plain, *(name.decode("latin-1") for name in self._raw))
        return self._data is None and not any(map(is_known, names))

    @property
    def charset(self) -> Charset:
        self._look_again()
        # A label with other characters than ASCII's names none.
        return self._evidence.charset((*self._labels, self._plain.get("_charset_", ""), self._part_label))

    def fields(self) -> dict[str, str]:
        """The fields so far, decoded and trimmed, with one API key under the name `user_api_key`."""
        charset = self.charset
        if self._told is not None and self._told[:2] == (self._count, charset):
            return self._told[2]
        fields = self._plain.copy()
        for raw_name, raw_value in self._raw.items():
            name, value = raw_name.decode(charset.codec), raw_value.decode(charset.codec)
            fields[name] = value if name == _UNTRIMMED else value.strip()
        password = fields.pop("user_password", "")
        if key := self._header_key or fields.get("user_api_key") or password:
            fields["user_api_key"] = key
        self._told = (self._count, charset, fields)
        return fields

    def data(self, charset: Charset) -> Source | None:
        return None if self._data is None else self._data.source(charset)

    def digest(self, charset: Charset) -> bytes:
        """Of the data; b"" where there are none."""
        return self._data.digest(charset) if self._data is not None and self._data.size else b""

    def close(self) -> None:
        if self._data is not None:
            self._look_again()
            self._data.close()
            self._data = None

    # Its parts

    def _look_again(self) -> None:
        if self._data is not None and self._evidence.is_partial:
            self._evidence.again(self._data.pieces())

    def _begin_data(self) -> None:
        if self._loan is not None:
            if self.early and self._has_credentials():
                self._admit(self.fields())
                self._loan.give_back()
                self._loan = None
            else:
                self._loan.give_back()  # of an earlier field of the name, which the new one replaces
        if self._data is not None:
            # What an earlier field of the name says about the charset counts on.
            self._evidence.again(self._data.pieces())
            self.close()
        self._data = Data(self._folder)

    def _has_credentials(self) -> bool:
        """All three have come, in ASCII: how other characters read is not known before the end of the request."""
        if b"user_api_key" in self._raw:
            return False
        told = self._plain.get
        key = self._header_key or told("user_api_key") or told("user_password")
        return bool(key and key.isascii() and told("user_id") and told("account_id"))

    def _keep(self, name: bytes, value: bytes) -> None:
        told = name.decode("latin-1")
        if name.isascii() and value.isascii():
            self._keep_text(told, value.decode())
        elif self._makes_room(told, len(value)):
            if name.isascii():
                self._plain[told] = ""  # its place among the others
            self._raw[name] = value

    def _keep_text(self, told: str, text: str) -> None:
        kept = text if told == _UNTRIMMED else text.strip()
        if self._makes_room(told, len(kept)):
            if self._raw:
                self._raw.pop(told.encode(), None)
            self._plain[told] = kept

    def _makes_room(self, told: str, length: int) -> bool:
        """Whether a value of that length still fits, in place of an earlier one of the name."""
        replaced: str | bytes | None = self._plain.get(told)
        if self._raw:
            replaced = self._raw.get(told.encode("latin-1"), replaced)
        size = self._size + length + (len(told) if replaced is None else -len(replaced))
        if size > MAX_FIELDS_SIZE:
            self._refuse_if_known(told, f"its fields are over {MAX_FIELDS_SIZE} bytes")
            return False
        self._size = size
        return True

    def _refuse_if_known(self, told: str, reason: str) -> None:
        """Unknown fields are ignored, huge ones too: clients forward unrelated extras."""
        if is_known(told):
            raise ApiError("bad_form", reason=reason)
