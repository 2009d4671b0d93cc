"""Reading in chunks: whatever their sizes, they are what one pass over the data is. Source: docs/decisions.md, Jobs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from importing.batch import Batch, Cursor, Delimited, Source
from importing.checking.check_rows import CheckedRows
from importing.checking.column_plan import plan_columns
from importing.disk_list import DiskList
from importing.errors import Problem
from importing.reading import charset, column_layout, csv_records
from importing.reading.row_reader import count_rows
from tests.support.read_rows import bytes_at_once
from tests.support.row_checks import Marked, headers

FILE = Delimited(",", True, True)
DELIMITED = st.sampled_from([Delimited("|"), Delimited(",", True), FILE, Delimited("\t", True, True, guarded=True)])
CHARSETS = st.sampled_from(["utf-8", "iso8859-2", charset.WINDOWS_1252.codec])
QUOTED = [
    '"é\nü",d\r\n',
    '"' + "long " * 10 + "\n",
    'a,"b\r\nc",d\n',
    '"a\n',
    'x,"y"z\r',
    '"a\n\nb"\n',
    '"a""b",c\n',
    '"',
    '""',
]
PLAIN = ["\r", "\n", "\r\n", ",", "|", "\t", " ", "\xa0", "é", "2020-01-01", "a@b", "long " * 5, "long " * 5 + "\n"]
PARTS = st.sampled_from([*QUOTED, *PLAIN, "1,\x01\n", "1,a,odd\n", "1,a,,,,,\n", "'=1"])
TEXTS = st.lists(PARTS, max_size=25).map("".join)
Told = tuple[list[tuple[object, ...]], list[Problem], list[Problem]]


def batch_of(text: str, codec: str, delimited: Delimited, bom: bool = False) -> Batch:
    data = (b"\xef\xbb\xbf" if bom else b"") + text.encode(codec, "replace")
    source = Source(io.BytesIO(data), codec, len(data))
    return Batch(1, "u", "voucherify", headers("code first_name email custom_date"), delimited, source)


def rows_of(batch: Batch, start: Cursor = Cursor()) -> int:
    longest = column_layout.max_row_characters(column_layout.column_fields(batch))
    return count_rows(batch.source, batch.delimited, longest, start)


def in_chunks(batch: Batch, piece: int, sizes: list[int]) -> tuple[Told, int, list[Cursor]]:
    """What is read in chunks of these sizes in turn (0: all the rest at once), the failed rows, and the cursors."""
    problems: DiskList[Problem] = DiskList()
    warnings: DiskList[Problem] = DiskList()
    rows: list[tuple[object, ...]] = []
    cursors = [Cursor()]
    failed, ended = 0, False
    while not ended:
        limit = sizes[len(cursors) % len(sizes)] or None
        checked = CheckedRows(batch, Marked(), problems, warnings, cursors[-1], limit)
        with bytes_at_once(piece):
            rows += [row for chunk in checked.chunks() for row in chunk]
        assert checked.cursor.rows == cursors[-1].rows + checked.rows
        assert checked.ended or (checked.cursor.position > cursors[-1].position and checked.rows >= (limit or 0))
        failed += checked.failed
        ended = checked.ended
        cursors.append(checked.cursor)
    assert cursors[-1].position == batch.source.size
    return (rows, list(problems), list(warnings)), failed, cursors


@contextmanager
def limits(longest: int, rereads: int) -> Iterator[None]:
    """No row is longer than so many characters, and no more of them are read again."""
    plan_columns.cache_clear()
    try:
        with (
            patch.object(column_layout, "MAX_ROW_CHARACTERS", longest),
            patch.object(csv_records, "MAX_REREAD_CHARACTERS", rereads),
        ):
            yield
    finally:
        plan_columns.cache_clear()


@given(
    TEXTS, CHARSETS, DELIMITED, st.booleans(), st.integers(1, 40), st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.integers(6, 40), st.sampled_from([0, 20, 8_000_000]),
)  # fmt: skip
@example('"a\nb\nc\nd\n"e,f\n' * 3, "utf-8", FILE, False, 7, [1], 40, 20)
@example('"é\né"\n1,b\n2,c\n', "utf-8", FILE, False, 1000, [1], 40, 8_000_000)
@example('"a\n' + "x" * 30 + '\n"b\nc"\n', "utf-8", FILE, False, 4, [0], 10, 20)
@example("é,\r\né\r\n", "utf-8", FILE, True, 4, [1], 40, 0)
def test_chunks_one_after_the_other_are_one_pass(
    text: str, codec: str, delimited: Delimited, bom: bool, piece: int, sizes: list[int], longest: int, rereads: int
) -> None:
    batch = batch_of(text, codec, delimited, bom)
    with limits(longest, rereads):
        at_once, failed_at_once, ends = in_chunks(batch, 1000, [0])
        assert len(ends) == 2
        told, failed, cursors = in_chunks(batch, piece, sizes)
        assert (told, failed) == (at_once, failed_at_once)
        assert cursors[-1].rows == ends[-1].rows == rows_of(batch)
        for cursor in cursors:
            with bytes_at_once(piece):
                assert rows_of(batch, cursor) == ends[-1].rows - cursor.rows


def test_a_chunk_ends_before_a_quoted_value_that_is_open_and_reads_it_whole_in_the_next() -> None:
    batch = batch_of('1,a\n2,b\n3,"c\nd"\n4,e\n', "utf-8", FILE)
    (rows, problems, _), _, cursors = in_chunks(batch, 12, [2])
    assert [row[:3] for row in rows] == [(1, "1", "a"), (2, "2", "b"), (3, "3", "c\nd"), (4, "4", "e")]
    assert not problems
    assert cursors[1] == Cursor(8, 2, 8_000_000)


@pytest.mark.parametrize("bytes_at_once", [50, 100_000])
def test_what_quotes_may_make_read_again_is_one_bound_for_all_chunks(bytes_at_once: int) -> None:
    batch = batch_of('"a\n' + "b,c\n" * 30 + '"d\n' + "e,f\n" * 30, "utf-8", FILE)
    with patch.object(csv_records, "MAX_REREAD_CHARACTERS", 100):
        _, _, cursors = in_chunks(batch, bytes_at_once, [5])
    assert cursors[-1].rows == 62
    assert cursors[-1].rereads is not None
    assert cursors[-1].rereads <= 0


def test_headers_laid_out_side_by_side_mean_the_same_without_another_look_at_the_data() -> None:
    batch = batch_of("1|x|a\n2|y|b\n", "utf-8", Delimited("|"))._replace(headers=headers("code 3=first_name"))
    once = batch._replace(headers=column_layout.close_gaps(batch.headers, batch.source, batch.delimited))
    assert [header.position for header in once.headers] == [1, 2, 3]
    with patch.object(column_layout, "has_wider_row", side_effect=AssertionError):
        checked = CheckedRows(once, Marked(), DiskList(), DiskList())
    assert [row for chunk in checked.chunks() for row in chunk] == [(1, "1", "a"), (2, "2", "b")]


def test_a_long_file_of_quoted_values_is_counted_as_it_is_numbered() -> None:
    text = "".join(f'{i},"na""me\n{i}",x@y.de\r\n' for i in range(20_000)) + "\n , \n" + '"never closed\n,\na\n'
    batch = batch_of(text, "utf-8", FILE)
    assert rows_of(batch) == 20_002 == in_chunks(batch, 65_536, [0])[2][-1].rows
