"""Bytes → rows, by examples. Source: docs/protocol.md, Rows."""

from __future__ import annotations

import io

import pytest

from importing.batch import Delimited, Source
from importing.errors import ApiError
from importing.reading import csv_records, row_reader
from importing.reading.charset import WINDOWS_1252
from importing.reading.column_layout import has_wider_row
from importing.reading.split_rows import RowFlaw
from tests.support.read_rows import bytes_at_once, read_rows

PIPE = Delimited("|")
TAB = Delimited("\t")
COMMA = Delimited(",", quotes=True)
FILE = Delimited(",", quotes=True, multiline=True)


def source(data: str | bytes, charset: str = "utf-8") -> Source:
    raw = data.encode() if isinstance(data, str) else data
    return Source(io.BytesIO(raw), charset, len(raw))


def rows(data: str | bytes, delimited: Delimited = PIPE, charset: str = "utf-8") -> list[list[str]]:
    found = list(read_rows(source(data, charset), delimited))
    assert [row.number for row in found] == list(range(1, len(found) + 1))
    assert not any(row.flaw for row in found), found
    return [row.cells for row in found]


def flaws(data: str, delimited: Delimited) -> list[tuple[int, list[str], RowFlaw]]:
    return [(number, cells, flaw) for number, cells, flaw in read_rows(source(data), delimited) if flaw]


def test_cr_lf_lf_and_cr_end_lines_mixed_too() -> None:
    assert rows("a\r\nb\nc\rd") == [["a"], ["b"], ["c"], ["d"]]
    assert rows("a\n\rb\r\r\nc\r") == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("character", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
def test_nothing_else_ends_a_line(character: str) -> None:
    assert rows(f"a{character}b\nc") == [[f"a{character}b"], ["c"]]


@pytest.mark.parametrize("line", ["", " ", "\t", "\xa0", "|||", " | \t|\xa0"])
def test_lines_of_nothing_but_blanks_and_delimiters_are_skipped_and_not_counted(line: str) -> None:
    assert rows(f"{line}\na|b\n{line}\r\n{line}\rc|d\n{line}") == [["a", "b"], ["c", "d"]]
    assert rows(f"{line}\n{line}") == []


def test_blanks_tabs_and_no_break_spaces_around_a_value_are_dropped_and_nothing_else() -> None:
    assert rows(" a b\t|\xa0 c\xa0|\u2003d\u3000|\x0be\n") == [["a b", "c", "\u2003d\u3000", "\x0be"]]


def test_with_tabs_the_line_is_cut_before_blanks_are_dropped() -> None:
    assert rows("a\t\t b \tc\t\n", TAB) == [["a", "", "b", "c", ""]]


@pytest.mark.parametrize("delimited", [PIPE, TAB])
def test_pipe_and_tab_quotes_are_plain_characters(delimited: Delimited) -> None:
    d = delimited.delimiter
    assert rows(f'"a{d}b"{d}"c"\n"d', delimited) == [['"a', 'b"', '"c"'], ['"d']]


@pytest.mark.parametrize("delimited", [COMMA, FILE])
@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ('"a,b",c', ["a,b", "c"]),
        ('"say ""hi""",c', ['say "hi"', "c"]),
        ('""', [""]),
        ('"",b,""', ["", "b", ""]),
        ('""""', ['"']),
        (' "a" ,\t"b"\xa0,c', ["a", "b", "c"]),
        ('" a ",b', ["a", "b"]),
        ('5" nail,a"b"c,d"', ['5" nail', 'a"b"c', 'd"']),
        ('a, "b,c" ,d', ["a", "b,c", "d"]),
        ('a,"b",', ["a", "b", ""]),
        ('a "b",c', ['a "b"', "c"]),
    ],
)
def test_comma_quotes_as_rfc_4180_says(line: str, cells: list[str], delimited: Delimited) -> None:
    assert rows(f"{line}\r\nnext,row", delimited) == [cells, ["next", "row"]]


def test_comma_a_line_of_empty_quotes_is_a_row() -> None:
    assert rows('""\n,,\n"",""', COMMA) == [[""], ["", ""]]


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ('a,"b,c', ["a", '"b,c']),
        ('a,"b""c', ["a", '"b""c']),
        ('a,"', ["a", '"']),
        ('"b"x,c', ['"b"x']),
        ('a, "b" x y ,c', ["a", '"b" x y ']),
        ('"a" "b",c', ['"a" "b"']),
    ],
)
@pytest.mark.parametrize("delimited", [COMMA, FILE])
def test_comma_a_stray_quote_spoils_one_row_only(line: str, cells: list[str], delimited: Delimited) -> None:
    data = f"1,2\n{line}\n3,4\n"
    assert flaws(data, delimited) == [(2, cells, RowFlaw.BAD_QUOTES)]
    found = list(read_rows(source(data), delimited))
    assert [row.cells for row in found if not row.flaw] == [["1", "2"], ["3", "4"]]


def test_in_files_a_quoted_value_may_span_lines_which_it_keeps_as_they_are() -> None:
    data = 'a,"b\r\nc\n\nd\re ""f""\n",g\r\n"h\n",\n'
    assert rows(data, FILE) == [["a", 'b\r\nc\n\nd\re "f"\n', "g"], ["h\n", ""]]


def test_in_files_the_row_after_an_unclosed_quote_may_span_lines() -> None:
    data = '"nail 5,x\nb,"two\nlines",y\nc\n'
    found = list(read_rows(source(data), FILE))
    assert [(row.cells, row.flaw) for row in found] == [
        (['"nail 5,x'], RowFlaw.BAD_QUOTES),
        (["b", "two\nlines", "y"], RowFlaw.NONE),
        (["c"], RowFlaw.NONE),
    ]


def test_in_files_what_is_read_again_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "MAX_REREAD_CHARACTERS", 100)
    data = 'a","""\n' * 50 + 'b,"two\nlines"\n'
    found = list(read_rows(source(data), FILE))
    # Quotes do not span lines any more by then: the last two lines are rows of their own.
    assert [row.cells for row in found[-2:]] == [["b", '"two'], ['lines"']]
    assert len(found) == 52


@pytest.mark.parametrize(
    ("charset", "data"),
    [("utf-8", "Zoë|€|😀".encode()), (WINDOWS_1252.codec, b"Zo\xeb|\x80|\x81"), ("iso8859-2", b"\xe8|\xf8|\xa0\xb9")],
)
@pytest.mark.parametrize("piece", [1, 2, 3, 5, 1000])
def test_characters_may_lie_across_the_border_of_two_pieces(charset: str, data: bytes, piece: int) -> None:
    data = b"1|2\r\n" + data + b"\r\n\r\n3|4\r"
    with bytes_at_once(piece):
        blocks = list(row_reader.read_blocks(source(data, charset), PIPE))
    first, second, *_ = data.decode(charset).split("\r\n")
    assert [line for block in blocks for line in block.lines] == [first, second, "3|4"]


@pytest.mark.parametrize("charset", ["utf-8", WINDOWS_1252.codec])
def test_a_bom_at_the_start_is_dropped(charset: str) -> None:
    assert rows(b"\xef\xbb\xbfa|b\nc", charset=charset) == [["a", "b"], ["c"]]
    assert rows("a|\ufeffb\n\ufeffc") == [["a", "\ufeffb"], ["\ufeffc"]]


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_of_a_line_that_is_too_long_only_the_beginning_is_kept(piece: int, end: str) -> None:
    data = "1|2\n" + "ab|" * 10 + end + ("3|4" if end else "")
    with bytes_at_once(piece):
        blocks = list(row_reader.read_blocks(source(data), PIPE, longest=7))
    flawed = [row for block in blocks for row in block.flawed]
    assert [(number, cells.values, cells.flaw) for number, cells in flawed] == [
        (2, ["ab", "ab", "a"], RowFlaw.LINE_TOO_LONG)
    ]
    assert sum(len(block.lines) for block in blocks) == (3 if end else 2)


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("delimited", [PIPE, Delimited("|", quotes=True, multiline=True)])
def test_a_long_line_of_blanks_is_skipped_like_a_short_one(piece: int, delimited: Delimited) -> None:
    data = "1|2\n" + " |" * 50 + "\r\n3|4\n" + "\t" * 50
    with bytes_at_once(piece):
        blocks = list(row_reader.read_blocks(source(data), delimited, longest=7))
    assert [(block.first, list(block.lines)) for block in blocks if block.lines][-1][1][-1] == "3|4"


@pytest.mark.parametrize(
    ("data", "delimited", "cells", "rest"),
    [
        (b"code,First Name\r\n1,2\r\n", FILE, ["code", "First Name"], b"1,2\r\n"),
        (b'\r\n,,\n"co""de"," a\nb "\r1,2', FILE, ['co"de', "a\nb"], b"1,2"),
        ("\ufeffcode;Zoë\n1".encode(), Delimited(";", True, True), ["code", "Zoë"], b"1"),
        ("Zoë\tx\n1".encode("cp1252"), TAB, ["Zoë", "x"], b"1"),
        (b"code", PIPE, ["code"], b""),
        (b'a"b,c\nd', COMMA, ['a"b', "c"], b"d"),
    ],
)
def test_the_first_row_and_where_the_next_one_starts(
    data: bytes, delimited: Delimited, cells: list[str], rest: bytes
) -> None:
    charset = "utf-8" if data.isascii() or b"\xc3" in data else "cp1252"
    found, start = row_reader.read_first_row(source(data, charset), delimited)
    assert (found, data[start:]) == (cells, rest)
    remaining = [row.cells for row in read_rows(source(data, charset), delimited, start)]
    assert remaining == rows(rest, delimited, charset)


@pytest.mark.parametrize(
    ("data", "code"),
    [("", "no_data"), ("\n , \n", "no_data"), ('a,"b\nc', "bad_header_line"), ('"a"b', "bad_header_line")],
)
def test_a_first_row_that_is_none(data: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        row_reader.read_first_row(source(data), FILE)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("data", "delimited", "columns"),
    [
        ("a|b\nc", PIPE, 2),
        ("a|b| |\t\n", PIPE, 2),
        ("||c|", PIPE, 3),
        ("", PIPE, 0),
        ('"a,b,c",d', COMMA, 2),
        ('a,"",""\n', COMMA, 1),
        ('a,b\n"x,y,z,a', COMMA, 2),
        ('a,b\n"x\n",y,z', FILE, 3),
    ],
)
def test_the_widest_row_without_its_trailing_blank_columns(data: str, delimited: Delimited, columns: int) -> None:
    assert not has_wider_row(source(data), delimited, columns)
    assert not columns or has_wider_row(source(data), delimited, columns - 1)
