"""Checking by column finds the same as taking rows one by one, a value at a time; and memory is flat."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importing.batch import Batch, Campaign, Delimited, Source
from importing.checking.check_rows import CheckedRows
from importing.disk_list import DiskList
from importing.errors import Problem
from importing.fields import Field, FieldDestination, FieldKind
from tests.properties.test_row_reader import plain_rows
from tests.support.read_rows import bytes_at_once
from tests.support.row_checks import COFFEE, POINTS, VISITS, Marked, headers

NAMES = "first_name code email custom_date card_number customer_username auto_add customer_PIN text pick list date"
VALUES = st.one_of(
    st.sampled_from(["", "", "a", "1", "0000-00-00", "2020-02-29", "2020-02-30", "2020-01-01 10:00:00", "gold"]),
    st.sampled_from(["Red,red", "x@y.z", "odd", "9,95", "2.0", "0", "1,000", "espresso", "\x01", "\uffff", "a\tb"]),
    st.sampled_from(['"', '"a"', '"a,b"', '"a"b', ' "c" ', "x" * 256, '""""', "\xa0", "\\", "SILVER", "é"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
LINES = st.tuples(st.lists(VALUES, max_size=8), st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))


def stored(field: Field, value: str, campaign: Campaign | None) -> tuple[Any, str]:
    """What is stored for a value, and the code of its problem: the rules once more, as plainly as can be."""
    if re.search("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", value):
        return None, "bad_character"
    if len(value) > field.limit:
        return None, "too_long"
    match field.kind:
        case FieldKind.KEY:
            return value or None, ""
        case FieldKind.SECRET:
            return value and Marked().customer_secret(value), ""
        case FieldKind.DATE | FieldKind.DATE_TIME:
            return stored_time(field.kind is FieldKind.DATE, value)
        case FieldKind.PICK | FieldKind.LIST:
            items = [value] if field.kind is FieldKind.PICK else [item.strip(" \t\xa0") for item in value.split(",")]
            choices = {choice.casefold(): choice for choice in field.choices}
            found = [choices.get(item.casefold(), "") for item in items if item]
            return (",".join(dict.fromkeys(found)), "") if all(found) else (None, "bad_choice")
        case FieldKind.AMOUNT:
            return added(value, campaign)
    return value, ""


def stored_time(only_date: bool, value: str) -> tuple[Any, str]:
    if value in ("", "0000-00-00") or (value == "0000-00-00 00:00:00" and not only_date):
        return "", ""
    layouts = ["%Y-%m-%d"] if only_date else ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S"]
    for layout in layouts:
        try:
            if datetime.strptime(value, layout).strftime(layout) == value:
                return value, ""
        except ValueError:
            pass
    return None, "bad_date" if only_date else "bad_date_time"


def added(value: str, campaign: Campaign | None) -> tuple[Any, str]:
    number = re.fullmatch(r"([0-9]*)[.,]?([0-9]{0,2})", value)
    is_number = bool(number) and value[-1:] not in (".", ",") and int(number[1] or "0") < 10_000_000  # type: ignore[index]
    is_number = is_number and (not number[2] or number[1] + number[2] != value)  # type: ignore[index]
    if value and re.fullmatch("[0-9]+", value):
        is_number = int(value) < 10_000_000
    hundredths = round(float(value.replace(",", ".")) * 100) if value and is_number else 0
    if not value or (is_number and not hundredths):
        return (None, None), ""
    if campaign is COFFEE:
        item = campaign.items.get(value.casefold())
        return ((100, item), "") if item else (None, "bad_item")
    if not is_number:
        return None, "bad_amount"
    if campaign is None:
        return None, "no_campaign_to_add_to"
    return (None, "bad_visits") if campaign is VISITS and hundredths % 100 else ((hundredths, None), "")


def one_by_one(batch: Batch, text: str) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]]]:
    good, said = [], []
    for row, cells in enumerate(plain_rows(text, batch.delimited), 1):
        if cells is None:
            said.append((row, "", "bad_quotes"))
            continue
        staged: dict[str, Any] = {"row": row}
        custom: dict[str, Any] = {}
        wrong = []
        for header, value in zip(batch.headers, cells, strict=False):
            field = header.field
            assert field is not None
            found, code = stored(field, value, batch.campaigns[0] if batch.campaigns else None)
            if code:
                wrong.append((row, field.name, code))
            elif field.kind is FieldKind.AMOUNT:
                staged["amount"], staged["item_id"] = found
            elif field.into is FieldDestination.CUSTOM:
                custom[field.name] = found or None
            else:
                staged[field.target] = found
            if field.kind is FieldKind.USERNAME:
                staged["username_key"] = value.casefold()
        if any(cells[len(batch.headers) :]):
            wrong.append((row, "", "too_many_columns"))
        staged["custom_fields"] = json.dumps(custom, ensure_ascii=False, separators=(",", ":")) if custom else None
        said += wrong
        if not wrong:
            good.append(staged)
    return good, said


@given(
    st.lists(LINES, max_size=12),
    st.lists(st.sampled_from(NAMES.split()), min_size=1, max_size=7, unique=True),
    st.sampled_from([Delimited("|"), Delimited(","), Delimited(",", quotes=True), Delimited("\t")]),
    st.sampled_from([POINTS, VISITS, COFFEE, None]),
    st.integers(1, 200),
)
def test_checking_by_column_finds_what_taking_rows_one_by_one_finds(
    lines: list[tuple[list[str], str]], names: list[str], delimited: Delimited, campaign: Campaign | None, piece: int
) -> None:
    text = "".join(delimited.delimiter.join(values) + end for values, end in lines)
    data = text.encode()
    source = Source(io.BytesIO(data), "utf-8", len(data))
    campaigns = (campaign,) if campaign else ()
    batch = Batch(1, "u", "legacy", headers(" ".join(names)), delimited, source, campaigns=campaigns)
    problems: DiskList[Problem] = DiskList()
    checked = CheckedRows(batch, Marked(), problems, DiskList())
    with bytes_at_once(piece):
        rows = [row for chunk in checked.chunks() for row in chunk]

    good, said = one_by_one(batch, text)
    assert [dict(zip(checked.columns, row, strict=True)) for row in rows] == [
        {name: row.get(name) for name in checked.columns} for row in good
    ]
    quoted = {row for row, _, code in said if code == "bad_quotes"}
    # The plain parser does not say what else is wrong before a misplaced quote, nor in which field it stands.
    assert {problem.row for problem in problems if problem.code == "bad_quotes"} == quoted
    told = [(problem.row, problem.field, problem.code) for problem in problems]
    assert [one for one in told if one[0] not in quoted] == [one for one in said if one[0] not in quoted]
    assert checked.rows == len(rows) + checked.failed
    assert checked.without_code == sum(not row.get("code") for row in good)
    assert checked.without_card == sum(not row.get("card_number") for row in good)


class Endless(io.RawIOBase):
    """A file of `head`, then `unit` again and again up to `size` bytes, then `tail`; nothing of it is kept."""

    def __init__(self, head: bytes, unit: bytes, size: int, tail: bytes) -> None:
        self._head, self._unit, self._size, self._tail = head, unit * (1 + 100_000 // len(unit)), size, tail
        self.seek(0)

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002 - only to the start or just after it
        self._left = self._size
        self._start = (self._head + self._unit)[offset:]
        self._begun = self._ended = False
        return offset

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002 - fewer bytes than asked for are right too
        if not self._begun:
            self._begun = True
            return self._start
        if self._left > 0:
            self._left -= len(self._unit)
            return self._unit
        self._ended, ended = True, self._ended
        return b"" if ended else self._tail


class Counted(DiskList[Problem]):
    """Problems that are counted and forgotten."""

    count = 0

    def append(self, item: Problem) -> None:  # noqa: ARG002
        self.count += 1


FILES = Delimited(",", quotes=True, multiline=True)


@pytest.mark.parametrize(
    ("delimited", "unit", "size", "rows", "failed"),
    [
        pytest.param(Delimited("|"), b"x", 50_000_000, 3, 1, id="one line"),
        pytest.param(Delimited("|"), " |\xa0".encode(), 50_000_000, 2, 0, id="one blank line"),
        pytest.param(Delimited("|"), b"ab|", 50_000_000, 3, 1, id="one line of many columns"),
        pytest.param(Delimited(",", True), b'""', 30_000_000, 3, 1, id="one quoted value"),
        pytest.param(FILES, b'""', 30_000_000, 3, 1, id="one quoted value in a file"),
        pytest.param(Delimited("|"), b"a|b\n", 1_500_000, None, 0, id="many rows"),
        pytest.param(FILES, b"a\n", 750_000, None, 1, id="one quote never closed in a file"),
    ],
)
def test_memory_is_flat(delimited: Delimited, unit: bytes, size: int, rows: int | None, failed: int) -> None:
    d = delimited.delimiter.encode()
    quote = b'"' if delimited.quotes else b""
    file: Any = Endless(b"1" + d + b"a\n" + quote, unit, size, b"\n2" + d + b"b\n")
    batch = Batch(1, "u", "legacy", headers("code first_name text"), delimited, Source(file, "utf-8", size))
    problems = Counted()
    checked = CheckedRows(batch, Marked(), problems, Counted())
    tracemalloc.start()
    try:
        for _ in checked.chunks():
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000
    assert rows in (None, checked.rows)
    assert (checked.failed, bool(problems.count)) == (failed, bool(failed))
