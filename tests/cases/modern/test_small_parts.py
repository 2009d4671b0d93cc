"""The small parts of the modern protocols: ids, replies in pieces, the moments of queries."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from modern_api.grid import batch_id, job_id
from modern_api.json_stream import ITEMS_AT_ONCE, PIECE_SIZE, json_pieces
from modern_api.voucherify import VoucherifyListQuery

BATCH_IDS = st.binary(min_size=10, max_size=10).map(bytes.hex)


@given(BATCH_IDS)
def test_job_ids_are_uuids_that_give_the_batch_back(batch: str) -> None:
    kind, _, text = job_id(batch).partition(":")
    made = uuid.UUID(text)
    assert (kind, str(made), made.version, made.variant) == ("Job", text, 8, uuid.RFC_4122)
    assert batch_id(job_id(batch)) == batch
    assert batch_id(f"Job:{text.upper()}") == batch


@given(st.uuids())
def test_other_uuids_are_no_job_ids(other: uuid.UUID) -> None:
    assert batch_id(f"Job:{other}") is None or job_id(batch_id(f"Job:{other}") or "") == f"Job:{other}"
    assert batch_id(str(other)) is None


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def lazily(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: lazily(member) for name, member in value.items()}
    return iter(value) if isinstance(value, list) else value


@given(st.dictionaries(st.text(), JSON))
def test_what_is_written_as_it_is_read_is_the_same_document(document: dict[str, Any]) -> None:
    assert json.loads(b"".join(json_pieces(lazily(document)))) == document


@pytest.mark.parametrize("count", [0, 1, ITEMS_AT_ONCE - 1, ITEMS_AT_ONCE, ITEMS_AT_ONCE + 1, 3 * ITEMS_AT_ONCE])
def test_long_lists_come_in_pieces(count: int) -> None:
    rows = [{"row": n, "text": "x" * 200} for n in range(count)]
    pieces = list(json_pieces({"a": 1, "rows": iter(rows), "b": {"c": iter([])}}))
    assert json.loads(b"".join(pieces)) == {"a": 1, "rows": rows, "b": {"c": []}}
    # A piece is as long as it must be, and no longer than the items that are encoded at once.
    assert all(PIECE_SIZE <= len(piece) <= PIECE_SIZE + ITEMS_AT_ONCE * 300 for piece in pieces[:-1])


@given(st.datetimes(timezones=st.timezones()))
def test_moments_are_rounded_up_to_milliseconds(moment: datetime) -> None:
    loaded = VoucherifyListQuery().load({"end_date": moment.isoformat()})["end_date"]
    assert isinstance(loaded, int)
    # What `isoformat` writes of an offset is exact.
    exact = datetime.fromisoformat(moment.isoformat()) - datetime.fromtimestamp(0, UTC)
    assert timedelta(0) <= loaded * timedelta(milliseconds=1) - exact < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("sent", "milliseconds"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T02:00:00+0200", 0),
        ("1970-01-01T00:00:00.000001 0000", 1),
        ("1970-01-01T05:30:00 05:30", 0),
        ("1969-12-31T23:59:59.999", -1),
    ],
)
def test_moments_as_clients_write_them(sent: str, milliseconds: int) -> None:
    assert VoucherifyListQuery().load({"end_date": sent}) == {"limit": 10, "end_date": milliseconds}


@pytest.mark.parametrize("sent", ["", "x", "12", "1970-13-01", "1970-01-01T25:00", "now", "\0", "9" * 5000])
def test_what_is_no_moment(sent: str) -> None:
    with pytest.raises(ValidationError):
        VoucherifyListQuery().load({"end_date": sent})
