"""Failed rows as they were sent, and the file of them that can be mended and uploaded again."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing import failed_rows
from importing.batch import Batch, Cursor, Delimited, Header, Source
from importing.checking.check_rows import CheckedRows
from importing.disk_list import DiskList
from importing.errors import Problem
from importing.reading.row_reader import read_first_row
from tests.support.row_checks import COMMA, PIPE, Marked, batch

FILE = Delimited(",", quotes=True, multiline=True, guarded=True)


def cells(sent: Batch, *rows: int, start: Cursor = Cursor()) -> dict[int, list[str]]:
    return dict(failed_rows.reread_cells(sent, rows, start))


@pytest.mark.parametrize("delimited", [PIPE, COMMA, FILE])
def test_the_cells_of_the_rows_asked_for_are_read_again(delimited: Delimited) -> None:
    text = "1,a,x\n\n2, b \n3,c,z,more\n4,d,y\n".replace(",", delimited.delimiter)
    sent = batch("code first_name last_name", text, delimited)
    assert cells(sent, 2, 3) == {2: ["2", "b"], 3: ["3", "c", "z", "more"]}
    assert cells(sent, 1, 4) == {1: ["1", "a", "x"], 4: ["4", "d", "y"]}
    assert cells(sent) == {}


def test_a_chunk_is_read_again_from_its_beginning() -> None:
    sent = batch("code first_name", '1,a\n2,"b\nb"\n3,c\n', FILE)
    assert cells(sent, 3, start=Cursor(4, 1)) == {3: ["3", "c"]}


@pytest.mark.parametrize("delimited", [COMMA, FILE])
def test_a_row_with_misplaced_quotes_is_cut_as_if_they_were_none(delimited: Delimited) -> None:
    sent = batch("code first_name last_name", '1,"b"x,c\n2,"open,d\n3,e,"f,\n', delimited)
    assert cells(sent, 1, 2) == {1: ["1", '"b"x', "c"], 2: ["2", '"open', "d"]}
    assert cells(sent, 3) == {3: ["3", "e", '"f', ""]}


def test_secrets_are_masked_and_with_them_all_of_a_row_where_one_may_stand_anywhere() -> None:
    sent = batch("code customer_password customer_PIN", '1,secret,\n2,sec"ret\n3,"sec"ret,1\n4,sec,ret,77\n', FILE)
    mask = "********"
    assert cells(sent, 1, 2, 3, 4) == {
        1: ["1", mask, ""],
        2: ["2", mask],
        3: [mask] * 3,
        4: [mask] * 4,
    }


def test_a_masked_secret_that_comes_back_is_not_given() -> None:
    for delimited, kept in ((FILE, None), (COMMA, "digest of ********")):
        checked = CheckedRows(batch("code customer_PIN", "1,********\n", delimited), Marked(), DiskList(), DiskList())
        assert [row for chunk in checked.chunks() for row in chunk] == [(1, "1", kept)]


def test_a_mask_over_anything_else_that_comes_back_is_missing() -> None:
    problems: DiskList[Problem] = DiskList()
    checked = CheckedRows(
        batch("code customer_PIN", "********,********\n1,********\n", FILE), Marked(), problems, DiskList()
    )
    assert [row for chunk in checked.chunks() for row in chunk] == [(2, "1", None)]
    assert list(problems) == [Problem(1, "code", "missing_value")]


def test_one_line_a_row_with_all_that_is_wrong_in_front_and_nothing_that_a_spreadsheet_runs() -> None:
    problems = [Problem(2, "custom_date", "bad_date", "=1+1"), Problem(2, "", "too_many_columns", "x")]
    text = list(failed_rows.csv_lines(["code", "=name"], [(2, ["=1+1", 'a "b"', "x\ny"], problems), (7, ["c"], [])]))
    assert text == [
        "row,field,code,message,code,'=name\r\n",
        '2,custom_date,bad_date; too_many_columns,"Row 2, custom_date: ""=1+1"" is not a date (YYYY-MM-DD).; '
        'Row 2: ""x"" stands in a column without a header.",\'=1+1,"a ""b""","x\ny"\r\n',
        "7,,,,c\r\n",
    ]


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["row", "field", "code", "message", "code"], 4),
        (["Row", "FIELD", " code", "Message"], 4),
        (["row", "field", "code"], 0),
        (["code", "row", "field", "message"], 0),
        ([], 0),
    ],
)
def test_the_columns_in_front_are_known_by_their_names(names: list[str], count: int) -> None:
    assert failed_rows.count_added_columns(names) == count


VALUES = st.text(st.sampled_from("=+-@'\",\r\n\ta \uff1d"), max_size=6).map(lambda text: text.strip(" \t\xa0"))


@given(st.lists(VALUES, min_size=1, max_size=4).filter(any))
def test_a_file_of_failed_rows_that_is_uploaded_again_brings_the_same_cells(row: list[str]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerow(row)
    sent = batch("code", out.getvalue(), Delimited(",", True, True))
    assert cells(sent, 1) == {1: row}
    text = "".join(
        failed_rows.csv_lines([f"c{n}" for n in range(len(row))], [(1, row, [Problem(1, "c0", "too_long", "x", 1)])])
    )
    source = Source(io.BytesIO(text.encode()), "utf-8", len(text.encode()))
    names, start = read_first_row(source, FILE)
    front = failed_rows.count_added_columns(names)
    columns = tuple(Header(n, None) for n in range(1, front + 1))
    again = Batch(1, "u", "file", columns, FILE, source)
    assert front == 4
    assert dict(failed_rows.reread_cells(again, [1], Cursor(start)))[1][front:] == row
