"""Which field stands in which column of the data: what gaps in the headers' numbers mean."""

from __future__ import annotations

from importing.batch import Batch
from importing.decode import wider
from importing.fields import Field


def layout(batch: Batch) -> tuple[Field | None, ...]:
    """The field of each column, None for an unused one.

    With a gap in the numbers the widest row decides for the whole batch: wider than the count of headers, and the
    missing numbers are unused columns; else the headers stand side by side. Source: docs/protocol.md, Headers.
    """
    headers = batch.headers
    last = headers[-1].position if headers else 0
    if last == len(headers) or not wider(batch.source, batch.delimited, len(headers)):
        return tuple(header.field for header in headers)
    by_position = {header.position: header.field for header in headers}
    return tuple(by_position.get(position) for position in range(1, last + 1))
