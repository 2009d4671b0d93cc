"""The interface through which the readers of forms hand over fields."""

from __future__ import annotations

from typing import Protocol


class Sink(Protocol):
    """Takes fields one after another: `begin`, then any number of `write`, then `end`. Each may raise an ApiError.

    `name` is as sent, without percent signs or quotes; b"" for a field without a name. `filename` is None but for a file
    part of a multipart form (b"" if no file was chosen). `charset` is what such a part declares for itself.
    """

    def begin(self, name: bytes, filename: bytes | None = None, charset: str = "") -> None: ...

    def write(self, piece: bytes) -> None: ...

    def end(self) -> None: ...
