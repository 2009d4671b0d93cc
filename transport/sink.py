"""What the readers of forms pour their fields into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Sink(Protocol):
    """Takes fields one after another: `begin`, then any number of `write`, then `end`. Each may raise a Fault.

    `name` is as sent, without percent signs or quotes; b"" for a field without one. `filename` is not None for a file
    part of a multipart form (b"" where no file was chosen), `charset` what such a part declares for itself.
    """

    def take(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Whole fields, names and values: the same as `begin`, `write` and `end` for each of them."""
        for name, value in fields:
            self.begin(name)
            if value:
                self.write(value)
            self.end()

    def begin(self, name: bytes, filename: bytes | None = None, charset: str = "") -> None: ...

    def write(self, piece: bytes) -> None: ...

    def end(self) -> None: ...
