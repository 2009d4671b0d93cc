"""Long lists with flat memory: short ones stay in memory, long ones are written to an unlinked temporary file."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

ITEMS_PER_CHUNK = 500
BYTES_IN_MEMORY = 256 * 1024


class DiskList(Generic[Item]):
    """A list that can be appended to and iterated any number of times. Beyond 256 kB it is on disk.

    The file is unlinked and only this process has it open, so unpickling reads nothing that anybody else wrote.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._recent: list[Item] = []
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._length = 0
        for item in items:
            self.append(item)

    def __del__(self) -> None:
        # Lists are passed on until a reply is sent, and only the last reference can close the file.
        if self._file is not None:
            self._file.close()

    def append(self, item: Item) -> None:
        self._recent.append(item)
        self._length += 1
        if len(self._recent) >= ITEMS_PER_CHUNK:
            if self._file is None:
                self._file = tempfile.SpooledTemporaryFile(max_size=BYTES_IN_MEMORY)  # noqa: SIM115
            self._file.seek(0, 2)
            pickle.dump(self._recent, self._file, protocol=pickle.HIGHEST_PROTOCOL)
            self._recent = []

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        for chunk in self.chunks():
            yield from chunk

    def chunks(self) -> Iterator[list[Item]]:
        """The items, up to 500 at once."""
        position = 0
        if self._file is not None:
            end = self._file.seek(0, 2)
            while position < end:
                self._file.seek(position)
                chunk: list[Item] = pickle.load(self._file)  # noqa: S301 - our own unlinked file
                position = self._file.tell()
                yield chunk
        if self._recent:
            yield list(self._recent)
