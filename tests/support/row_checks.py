"""What the tests of rows share: batches of a few, checked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from importing.batch import Batch, Campaign, CampaignType, Delimited, Header, Source
from importing.checking.check_rows import CheckedRows
from importing.disk_list import DiskList
from importing.errors import Problem
from importing.fields import FIELD_BY_NAME, Field, FieldDestination, FieldKind, make_custom_field

PIPE = Delimited("|")
COMMA = Delimited(",", quotes=True)
CUSTOM = {
    "text": make_custom_field(1, "Text", FieldKind.TEXT),
    "unique": make_custom_field(2, "Unique", FieldKind.TEXT, unique=True),
    "date": make_custom_field(3, "Date", FieldKind.DATE_TIME),
    "pick": make_custom_field(4, "Pick", FieldKind.PICK, ("Gold", "SILVER", "gold plus")),
    "list": make_custom_field(5, "List", FieldKind.LIST, ("Red", "Green", "Straße")),
    "free": Field("nick", into=FieldDestination.ATTRIBUTE, column="nick%name"),
}
POINTS = Campaign(1, "p", "Points", CampaignType.POINTS)
VISITS = Campaign(2, "v", "Visits", CampaignType.EVENTS)
COFFEE = Campaign(3, "b", "Coffee", CampaignType.BUYX, {"espresso": 7, "42": 7, "straße".casefold(): 8})


class Marked:
    """Digests that show what they are of."""

    def customer_secret(self, value: str) -> str:
        return f"digest of {value}"


@dataclass
class Done:
    checked: CheckedRows
    rows: list[tuple[object, ...]]
    problems: list[Problem]
    warnings: list[Problem]

    def column(self, name: str) -> list[object]:
        index = self.checked.columns.index(name)
        return [row[index] for row in self.rows]

    @property
    def said(self) -> list[tuple[int, str, str, str]]:
        return [(problem.row, problem.field, problem.code, problem.value) for problem in self.problems]


def headers(names: str) -> tuple[Header, ...]:
    """Headers from words: a name, `3=name` where numbers matter, `-` for an unused column."""
    found: list[Header] = []
    for word in names.split():
        number, _, name = word.rpartition("=")
        position = int(number) if number else (found[-1].position + 1 if found else 1)
        found.append(Header(position, None if name == "-" else CUSTOM.get(name) or FIELD_BY_NAME[name.lower()]))
    return tuple(found)


def batch(names: str, text: str, delimited: Delimited = PIPE, campaigns: Sequence[Campaign] = (POINTS,)) -> Batch:
    data = text.encode()
    source = Source(io.BytesIO(data), "utf-8", len(data))
    return Batch(1, "user", "legacy", headers(names), delimited, source, campaigns=tuple(campaigns))


def done(names: str, text: str, delimited: Delimited = PIPE, campaigns: Sequence[Campaign] = (POINTS,)) -> Done:
    problems: DiskList[Problem] = DiskList()
    warnings: DiskList[Problem] = DiskList()
    checked = CheckedRows(batch(names, text, delimited, campaigns), Marked(), problems, warnings)
    rows = [row for chunk in checked.chunks() for row in chunk]
    assert checked.rows - checked.failed == len(rows)
    assert checked.failed == len({problem.row for problem in problems})
    return Done(checked, rows, list(problems), list(warnings))


def one(name: str, value: str, campaign: Campaign | None = POINTS) -> tuple[object, str]:
    """What is stored for one value, and the code of its problem."""
    found = done(f"code {name}", f"1|{value}", campaigns=[campaign] if campaign else [])
    stored = found.rows[0][2:] if found.rows else None
    return stored, found.problems[0].code if found.problems else ""
