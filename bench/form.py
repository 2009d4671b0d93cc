"""The forms that the benchmarks post: the protocol's fields, and a yardstick file's rows as the data of a body."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus, urlencode

USER, KEY, ACCOUNT, CAMPAIGN = "bench", "bench-key-0123456789", "bench", "club"
# A second account, whose terminals go on while the first one imports.
NEIGHBOUR = "neighbour"
COLUMNS = (
    "code",
    "card_number",
    "first_name",
    "last_name",
    "custom_date",
    "phone",
    "email",
    "street1",
    "city",
    "state",
    "postal_code",
    "custom_field_1",
    "auto_add",
)
BOUNDARY = "tillgate-bench-7d1f"
PIECE = 1 << 20
URLENCODED, MULTIPART = "urlencoded", "multipart"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Body:
    """A body of `length` bytes that can be sent any number of times: a beginning, the data's file, an end."""

    content_type: str
    start: bytes
    file: Path | None = None
    end: bytes = b""

    @property
    def length(self) -> int:
        return len(self.start) + (self.file.stat().st_size if self.file else 0) + len(self.end)

    def pieces(self) -> Iterator[bytes]:
        """The bytes, a piece at a time."""
        yield self.start
        if self.file is not None:
            with self.file.open("rb") as data:
                while piece := data.read(PIECE):
                    yield piece
        if self.end:
            yield self.end


def credentials(account: str = ACCOUNT) -> dict[str, str]:
    """What every call sends."""
    return {"API": "1.5", "user_id": account, "user_api_key": KEY, "account_id": account, "output": "json"}


def batch_fields(columns: Iterable[str] = COLUMNS, account: str = ACCOUNT, **more: str) -> dict[str, str]:
    """The fields of a `customers_batch` but for its data."""
    headers = {f"profiles_header_{number}": name for number, name in enumerate(columns, 1)}
    return {
        **credentials(account),
        "type": "customers_batch",
        "delimiter": "pipe",
        "overwrite_duplicates": "update",
        "campaigns_to_include": CAMPAIGN,
        **headers,
        **more,
    }


def of_fields(fields: Mapping[str, str]) -> Body:
    """An urlencoded body of fields alone."""
    return Body(FORM, urlencode(fields).encode())


def with_data(encoding: str, fields: Mapping[str, str], data: Path) -> Body:
    """A body with a file's rows as its data; the encoded data are kept beside the file."""
    if encoding == URLENCODED:
        encoded = _kept(data, "urlencoded", lambda piece: quote_plus(piece).encode())
        return Body(FORM, (urlencode(fields) + "&profiles_data=").encode(), encoded)
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{{}}"\r\n\r\n{{}}\r\n'
    parts = "".join(part.format(name, value) for name, value in fields.items())
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="profiles_data"\r\n\r\n'
    end = f"\r\n--{BOUNDARY}--\r\n".encode()
    return Body(f"multipart/form-data; boundary={BOUNDARY}", (parts + head).encode(), data, end)


def with_points(file: Path) -> Path:
    """A yardstick file with auto_add 25 behind every row."""
    return _kept(file, "points", lambda piece: piece.replace(b"\n", b"|25\n"))


def without_keys(file: Path) -> Path:
    """Its rows without code and card number: all new, so that a reply has to list a made code for each."""
    return _kept(file, "keyless", lambda piece: b"".join(_keyless(line) for line in piece.splitlines(keepends=True)))


def _keyless(line: bytes) -> bytes:
    return line.split(b"|", 2)[2].replace(b"\n", b"|25\n")


def _kept(file: Path, suffix: str, change: Callable[[bytes], bytes]) -> Path:
    """The file, changed by pieces of whole lines, made once."""
    made = file.with_suffix(f"{file.suffix}.{suffix}")
    if not made.exists():
        with file.open("rb") as data, made.open("wb") as out:
            while lines := data.readlines(PIECE):
                out.write(change(b"".join(lines)))
    return made
