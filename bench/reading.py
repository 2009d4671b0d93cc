"""Reading a form alone, in a process of its own: `python -m bench.reading urlencoded|multipart FILE` prints what it took."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import BinaryIO

from bench import form
from bench.gateway import memory
from importing.batch import Delimited
from importing.reading.row_reader import read_blocks
from importing.reading.split_rows import split_block
from legacy_api.form import FormLimits, read_form

RUNS = 5
LIMITS = FormLimits(max_body=1 << 30)


class Stream:
    """A body as a server hands it over, read from its pieces' file."""

    def __init__(self, body: form.Body, data: BinaryIO | None) -> None:
        self._rest = [part for part in (body.start, data, body.end) if part]

    def read(self, size: int) -> bytes:
        """At most so many bytes."""
        while self._rest:
            part = self._rest[0]
            if isinstance(part, bytes):
                piece, rest = part[:size], part[size:]
                self._rest[:1] = [rest] if rest else []
            else:
                piece = part.read(size)
            if piece:
                return piece
            self._rest.pop(0)
        return b""


def read(body: form.Body) -> int:
    """From the body's bytes to cut rows; how many they are."""
    assert body.file is not None
    with body.file.open("rb") as data:
        environ = {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": body.content_type,
            "CONTENT_LENGTH": str(body.length),
            "wsgi.input": Stream(body, data),
        }
        with read_form(environ, LIMITS, lambda _: None) as found:
            assert found.data is not None
            width = len(form.COLUMNS)
            return sum(
                len(group.numbers)
                for block in read_blocks(found.data, Delimited("|"), limit=width, by_column=True)
                for group in split_block(block, "|", width)
            )


def main(encoding: str, file: str) -> None:
    """Read it a few times."""
    body = form.with_data(encoding, form.batch_fields(), form.with_points(Path(file)))
    rows = read(body)
    idle = memory(os.getpid())
    seconds, processor = [], []
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
    for _ in range(RUNS):
        start, used = time.perf_counter(), time.process_time()
        assert read(body) == rows
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    found = {
        "rows": rows,
        "seconds": statistics.median(seconds),
        "processor": statistics.median(processor),
        "memory": memory(os.getpid(), "VmHWM") - idle,
        "runs": RUNS,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
