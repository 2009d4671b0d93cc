"""What the readers of forms pour their fields into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class Sink(Protocol):
    """Takes fields one after another: `begin`, then any number of `write`, then `end`. Each may raise a ApiError.

    `name` is as sent, without percent signs or quotes; b"" for a field without one. `filename` is not None for a file
    part of a multipart form (b"" where no file was chosen), `charset` what such a part declares for itself.
    """

    def unfamiliar(self, fields: Sequence[bytes]) -> Iterable[bytes]:
        """Of whole fields, as they stand in an urlencoded form, those that have to be taken apart, and then `take`n.

        Others are taken by now: a sink may know them by sight. Each is asked for when those before it are taken.
        """
        return fields

    def take(self, field: bytes, name: bytes, value: bytes) -> None:  # noqa: ARG002
        """A whole field, as it stood and taken apart: the same as `begin`, `write` and `end`."""
        self.begin(name)
        if value:
            self.write(value)
        self.end()

    def begin(self, name: bytes, filename: bytes | None = None, charset: str = "") -> None: ...

    def write(self, piece: bytes) -> None: ...

    def end(self) -> None: ...
