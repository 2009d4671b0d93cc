"""All ways of cutting rows agree, wherever pieces end, with a parser that takes one character at a time."""

from __future__ import annotations

import io
import re
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from importing.batch import Delimited, Source
from importing.reading import row_reader
from importing.reading.column_layout import has_wider_row
from importing.reading.split_rows import (
    QuotedRow,
    RowBlock,
    RowCells,
    RowFlaw,
    split_block,
    split_by_column,
    split_closed_row,
    split_row,
)
from tests.support.read_rows import bytes_at_once, read_rows

BLANKS = " \t\xa0"
TEXTS = st.text(st.sampled_from('ab,,|\t \xa0"""\r\n\n\x0bé😀'), max_size=60)
DELIMITED = st.sampled_from(
    [Delimited("|"), Delimited("\t"), Delimited(",", True), Delimited(",", True, True), Delimited("\t", True, True)]
)


def source(text: str) -> Source:
    data = text.encode()
    return Source(io.BytesIO(data), "utf-8", len(data))


def cells_of(line: str, delimiter: str) -> list[str] | None:
    """One line with quotes, a character at a time: its cells, None where its quotes are misplaced or not closed."""
    cells: list[str] = []
    value, state = "", "before"
    for character in [*line, delimiter]:
        if state == "inside":
            if character == '"':
                state = "quote"
            else:
                value += character
        elif state == "quote" and character == '"':
            value, state = value + '"', "inside"
        elif character == delimiter:
            cells.append(value.strip(BLANKS))
            value, state = "", "before"
        elif state in ("quote", "after"):
            if character not in BLANKS:
                return None
            state = "after"
        elif state == "before" and character == '"' and not value.strip(BLANKS):
            value, state = "", "inside"
        else:
            value += character
    return cells if state == "before" else None


def plain_rows(text: str, delimited: Delimited) -> list[list[str] | None]:
    lines = re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))
    lines = [line for line in lines if line.strip(BLANKS + delimited.delimiter)]
    if delimited.quotes:
        return [cells_of(line, delimited.delimiter) for line in lines]
    return [[cell.strip(BLANKS) for cell in line.split(delimited.delimiter)] for line in lines]


def found_rows(blocks: list[RowBlock], delimiter: str) -> list[list[str] | None]:
    found: dict[int, list[str] | None] = {}
    for block in blocks:
        for group in split_block(block, delimiter, row_reader.ALL_CELLS):
            for index, number in enumerate(group.numbers):
                found[number] = group.row(index).values
        for number, _ in block.flawed:
            found[number] = None
    assert sorted(found) == list(range(1, len(found) + 1))
    return [found[number] for number in sorted(found)]


@given(
    TEXTS, st.sampled_from([Delimited("|"), Delimited("\t"), Delimited(",", True)]), st.integers(1, 70), st.booleans()
)
@example('a," b', Delimited(",", True), 3, True)
def test_lines_are_cut_as_one_character_at_a_time_would(
    text: str, delimited: Delimited, piece: int, by_column: bool
) -> None:
    with bytes_at_once(piece):
        blocks = list(row_reader.read_blocks(source(text), delimited, by_column=by_column))
    assert found_rows(blocks, delimited.delimiter) == plain_rows(text, delimited)


@given(TEXTS, DELIMITED, st.integers(1, 30), st.integers(1, 40), st.integers(1, 4))
def test_where_the_pieces_end_changes_nothing(
    text: str, delimited: Delimited, piece: int, longest: int, limit: int
) -> None:
    def told(piece: int, by_column: bool = False) -> list[tuple[int, list[str], RowFlaw]]:
        rows = []
        with bytes_at_once(piece):
            blocks = list(
                row_reader.read_blocks(source(text), delimited, longest=longest, limit=limit, by_column=by_column)
            )
        for block in blocks:
            for group in split_block(block, delimited.delimiter, limit):
                rows += [(n, group.row(i).values, RowFlaw.NONE) for i, n in enumerate(group.numbers)]
            rows += [(n, cells.values, cells.flaw) for n, cells in block.flawed]
        return sorted(rows)

    assert told(piece) == told(1000) == told(piece, True) == told(1000, True)


@given(
    st.lists(st.lists(st.text("ab \t", max_size=3), min_size=2, max_size=3), min_size=1, max_size=6), st.integers(0, 9)
)
def test_rows_of_one_width_come_by_column(table: list[list[str]], limit: int) -> None:
    text = "".join("|".join(row) + "\n" for row in table)
    columns = split_by_column(text, "|", 3)
    trimmed = [[value.strip(BLANKS) for value in row] for row in table]
    if len({len(row) for row in table}) > 1 or not all(map(any, trimmed)):
        assert columns is None
        return
    assert columns is not None
    assert [list(row) for row in zip(*columns, strict=True)] == trimmed
    [block] = row_reader.read_blocks(source(text), Delimited("|"), limit=3, by_column=True)
    assert block.may_exceed(limit) == any(len("|".join(row)) > limit for row in table)


@given(TEXTS, st.sampled_from([",", "\t"]), st.integers(1, 4))
def test_many_records_at_once_are_cut_as_one_by_one(text: str, delimiter: str, limit: int) -> None:
    def told() -> list[tuple[int, list[str], RowFlaw]]:
        blocks = list(row_reader.read_blocks(source(text), Delimited(delimiter, True, True), limit=limit))
        rows = [(n, c.values, c.flaw) for block in blocks for n, c in block.flawed]
        for group in (group for block in blocks for group in split_block(block, delimiter, limit)):
            rows += [(n, group.row(i).values, RowFlaw.NONE) for i, n in enumerate(group.numbers)]
        return sorted(rows)

    at_once = told()
    with patch.object(row_reader, "MAX_CHARACTERS_AT_ONCE", -1):
        assert at_once == told()


@given(TEXTS, DELIMITED)
def test_what_a_block_says_of_its_values_is_true(text: str, delimited: Delimited) -> None:
    for block in row_reader.read_blocks(source(text), delimited):
        for group in split_block(block, delimited.delimiter, row_reader.ALL_CELLS):
            for value in (value for column in group.columns for value in column):
                assert not value or block.may_exceed(len(value) - 1)
                assert set(value) <= set(block.text)


@given(st.text(st.sampled_from('ab, \t\xa0"""'), max_size=30), st.integers(0, 5))
def test_the_standard_librarys_reader_and_ours_say_the_same(line: str, limit: int) -> None:
    quoted = QuotedRow(",", limit)
    quoted.feed(line)
    ours = quoted.cells()
    theirs = split_closed_row(line, ",", limit) if line else None
    assert theirs in (None, ours)
    if line and '"' in line:
        assert split_row(line, ",", True, limit) == ours


@given(st.lists(st.lists(st.text('a,"\n\r', max_size=6), min_size=1, max_size=4), max_size=8), st.integers(1, 50))
def test_files_written_as_rfc_4180_says_are_read_back(table: list[list[str]], piece: int) -> None:
    text = "".join(",".join('"' + value.replace('"', '""') + '"' for value in row) + "\r\n" for row in table)
    with bytes_at_once(piece):
        blocks = list(row_reader.read_blocks(source(text), Delimited(",", True, True)))
    assert found_rows(blocks, ",") == table


@given(TEXTS, DELIMITED)
def test_the_first_row_is_the_first_row(text: str, delimited: Delimited) -> None:
    rows = list(read_rows(source(text), delimited))
    if not rows or rows[0].flaw:
        return
    cells, start = row_reader.read_first_row(source(text), delimited)
    rest = [row.cells for row in read_rows(source(text), delimited, start)]
    assert [cells, *rest] == [row.cells for row in rows]


@given(TEXTS, DELIMITED, st.integers(0, 4))
def test_wider_is_what_the_rows_say(text: str, delimited: Delimited, columns: int) -> None:
    rows = list(read_rows(source(text), delimited))
    wide = any(any(row.cells[columns:]) for row in rows if not row.flaw)
    assert has_wider_row(source(text), delimited, columns) == wide


def test_cells_are_told_by_their_values() -> None:
    assert split_row("a|b|c|d", "|", False, 2) == RowCells(["a", "b", "c"])
    assert split_row("a|b| | c |d", "|", False, 2) == RowCells(["a", "b", "c"])
    assert split_row("a|b||", "|", False, 2) == RowCells(["a", "b", ""])
    assert split_row('a,b,"",c', ",", True, 2) == RowCells(["a", "b", "c"])
